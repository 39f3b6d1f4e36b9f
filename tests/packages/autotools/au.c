int au(void){return 0;}
