#include <stdio.h>
const char *probe_version(void);
int main(void) { return puts(probe_version()) < 0; }
