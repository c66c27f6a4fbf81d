/* Start-up code, output and clock of a program in QEMU's mps2-an500: see board.h. */
#include "board.h"

#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define COUNTER (*(volatile uint32_t *)0x40028018u)

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

extern uint32_t data_begin[], data_end[], data_image[], bss_begin[], bss_end[], stack_top[];

int main(void);
void reset(void);

static void semihosting(uint32_t operation, const void *parameter)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = parameter;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static void leave(uint32_t status)
{
    const uint32_t block[2] = {APPLICATION_EXIT, status};
    semihosting(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

void reset(void)
{
    CPACR |= 0xFu << 20; /* the FPU is off after a reset */
    __asm__ volatile("dsb\n isb");
    for (uint32_t *to = data_begin, *from = data_image; to < data_end;)
        *to++ = *from++;
    for (uint32_t *to = bss_begin; to < bss_end;)
        *to++ = 0;
    leave((uint32_t)main());
}

static void fault(void) { leave(3); }

__attribute__((section(".vectors"), used)) static const void *const vectors[8] = {
    stack_top, (const void *)reset, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault};

uint32_t board_steps(void) { return COUNTER; }

void board_write(const char *text) { semihosting(SYS_WRITE0, text); }
