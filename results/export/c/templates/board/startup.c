/* Start-up of a Cortex-M7: memory, FPU, a guarded and painted stack, main, and how much of the stack it took.

   For a product take the vendor's start-up code instead: the linker script has the symbols that it expects. */
#include <stdint.h>

#include "../console.h"
#include "semihosting.h"

#define PAINT 0xa5a5a5a5u
#define STACK_OVERFLOW 42 /* exit status */
#define FAULT 43

#define CPACR    (*(volatile uint32_t *)0xe000ed88u)
#define SHCSR    (*(volatile uint32_t *)0xe000ed24u)
#define MPU_CTRL (*(volatile uint32_t *)0xe000ed94u)
#define MPU_RNR  (*(volatile uint32_t *)0xe000ed98u)
#define MPU_RBAR (*(volatile uint32_t *)0xe000ed9cu)
#define MPU_RASR (*(volatile uint32_t *)0xe000eda0u)

/* Of the linker script. */
extern uint32_t _sidata[], _sdata[], _edata[], _sbss[], _ebss[], _sstack[], _estack[];

int main(void);
void Reset_Handler(void);

static void start(void) __attribute__((noreturn, used));
static void stack_overflow(void) __attribute__((noreturn, used));

/* Nothing is on the stack while it is painted. */
__attribute__((naked)) void Reset_Handler(void)
{
    __asm__ volatile("ldr r0, =_sstack\n"
                     "ldr r1, =_estack\n"
                     "ldr r2, =0xa5a5a5a5\n"
                     "1: cmp r0, r1\n"
                     "it lo\n"
                     "strlo r2, [r0], #4\n"
                     "blo 1b\n"
                     "b start\n");
}

static void start(void)
{
    CPACR |= 0xfu << 20; /* full access to the FPU */
    __asm__ volatile("dsb\nisb" ::: "memory");
    for (uint32_t *to = _sdata, *from = _sidata; to < _edata;)
        *to++ = *from++;
    for (uint32_t *to = _sbss; to < _ebss;)
        *to++ = 0;

    /* The lowest 32 bytes of the stack may not be touched: an overflow is a fault, not a wrong number. */
    MPU_RNR = 0;
    MPU_RBAR = (uint32_t)_sstack;
    MPU_RASR = (4u << 1) | 1u;  /* 2^5 bytes, no access */
    MPU_CTRL = (1u << 2) | 1u;  /* everything else as without an MPU */
    SHCSR |= 1u << 16;          /* its faults have a handler of their own */
    __asm__ volatile("dsb\nisb" ::: "memory");

    const int status = main();

    MPU_CTRL = 0;
    __asm__ volatile("dsb\nisb" ::: "memory");
    const uint32_t *deepest = _sstack;
    while (deepest < _estack && *deepest == PAINT)
        deepest++;
    console_text("stack: ");
    console_integer((long)(4 * (_estack - deepest)));
    console_text(" of ");
    console_integer((long)(4 * (_estack - _sstack)));
    console_text(" bytes used\n");
    semihosting_exit(status);
}

static void stack_overflow(void)
{
    console_text("stack overflow\n");
    semihosting_exit(STACK_OVERFLOW);
}

/* The stack is full: begin it anew, and tell. */
__attribute__((naked)) static void MemManage_Handler(void)
{
    __asm__ volatile("ldr r0, =_estack\n"
                     "msr msp, r0\n"
                     "movs r0, #0\n"
                     "ldr r1, =0xe000ed94\n"
                     "str r0, [r1]\n"
                     "b stack_overflow\n");
}

static void Fault_Handler(void)
{
    console_text("fault\n");
    semihosting_exit(FAULT);
}

/* Where the stack begins, and the handlers of the processor's 15 exceptions. */
__attribute__((section(".isr_vector"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    _estack,
    {Reset_Handler, Fault_Handler, Fault_Handler, MemManage_Handler, Fault_Handler, Fault_Handler},
};
