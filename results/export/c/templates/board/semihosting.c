/* Characters and the exit status to the debugger or emulator (Arm semihosting). */
#include "semihosting.h"

#include <stdint.h>

#include "../console.h"

#define SYS_WRITE0        0x04u
#define SYS_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT  0x20026u

static void request(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void console_write(const char *text) { request(SYS_WRITE0, text); }

void semihosting_exit(int status)
{
    const uint32_t arguments[2] = {APPLICATION_EXIT, (uint32_t)status};
    request(SYS_EXIT_EXTENDED, arguments);
    for (;;) {
    }
}
