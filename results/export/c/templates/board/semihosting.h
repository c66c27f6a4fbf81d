/* The end of a program under a debugger or emulator. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

void semihosting_exit(int status) __attribute__((noreturn));

#endif
