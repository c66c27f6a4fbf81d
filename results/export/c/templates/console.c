/* Numbers as text: see console.h. */
#include "console.h"

#include <math.h>

#define DIGITS 7

void console_text(const char *text) { console_write(text); }

void console_integer(long value)
{
    char text[24];
    char *at = text + sizeof text;
    unsigned long rest = value < 0 ? 0ul - (unsigned long)value : (unsigned long)value;
    *--at = '\0';
    do {
        *--at = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        *--at = '-';
    console_write(at);
}

void console_number(float value)
{
    char text[DIGITS + 2];
    double rest = fabs((double)value);
    int exponent = 0;
    if (!isfinite(value)) {
        console_write(isnan(value) ? "nan" : value < 0.0f ? "-inf" : "inf");
        return;
    }
    for (; rest >= 10.0; exponent++)
        rest /= 10.0;
    for (; rest > 0.0 && rest < 1.0; exponent--)
        rest *= 10.0;
    if (value < 0.0f)
        console_write("-");
    for (int i = 0, digit; i < DIGITS; i++) {
        digit = (int)rest;
        text[i == 0 ? 0 : i + 1] = (char)('0' + digit);
        rest = (rest - digit) * 10.0;
    }
    text[1] = '.';
    text[DIGITS + 1] = '\0';
    console_write(text);
    if (exponent != 0) {
        console_write("e");
        console_integer(exponent);
    }
}
