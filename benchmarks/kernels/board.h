/* What a program needs of QEMU's mps2-an500: its own memory, a voice, a clock. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Instructions since the start, in steps of 40: with -icount shift=0 an instruction takes a nanosecond, and the board's
   counter runs at 25 MHz. It wraps around after 1.7e11 instructions. */
#define BOARD_STEP 40u
uint32_t board_steps(void);

void board_write(const char *text);

#endif
