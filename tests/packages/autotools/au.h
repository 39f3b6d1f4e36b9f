int au(void);
