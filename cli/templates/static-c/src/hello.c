#include <stdio.h>

int main(void) {
    puts("Hello from an image of one file.");
    return 0;
}
