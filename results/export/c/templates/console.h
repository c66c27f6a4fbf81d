/* What the example and the self-test print with; no stdio, so that it runs on a board. */
#ifndef CONSOLE_H
#define CONSOLE_H

void console_text(const char *text);
void console_integer(long value);
void console_number(float value); /* seven significant digits */

/* Where the characters go: console_host.c or board/semihosting.c. */
void console_write(const char *text);

#endif
