#include <zlib.h>
const char *v(void){return zlibVersion();}
