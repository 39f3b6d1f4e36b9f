#include "au.h"
int main(void){return au();}
