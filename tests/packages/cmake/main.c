#include <stdio.h>
const char *v(void);
int main(void){printf("cgreet 1.0 zlib %s\n", v());return 0;}
