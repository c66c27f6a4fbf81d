/* Characters to the terminal. */
#include <stdio.h>

#include "console.h"

void console_write(const char *text) { fputs(text, stdout); }
