/* What depends on compiler and machine. To adapt: define a macro before this file does, for example
   -D'TS_FMA(a,b,c)=((a)*(b)+(c))'. */
#ifndef TS_PORT_H
#define TS_PORT_H

/* a * b + c in one instruction where the machine has one. -std=c99 forbids a compiler to contract the expression by
   itself (-ffp-contract=off). */
#ifndef TS_FMA
#ifdef __FP_FAST_FMAF
#define TS_FMA(a, b, c) __builtin_fmaf((a), (b), (c))
#else
#define TS_FMA(a, b, c) ((a) * (b) + (c))
#endif
#endif

/* The larger and the smaller of two numbers, in one instruction where the machine has one: FPv5, which no macro names,
   but which all Cortex-M with double precision have. */
#ifndef TS_MAX
#if defined(__ARM_ARCH_7EM__) && defined(__ARM_FP) && (__ARM_FP & 8)
#define TS_MAX(a, b) __builtin_fmaxf((a), (b))
#define TS_MIN(a, b) __builtin_fminf((a), (b))
#else
#define TS_MAX(a, b) ((a) < (b) ? (b) : (a))
#define TS_MIN(a, b) ((a) > (b) ? (b) : (a))
#endif
#endif

/* Helpers whose arguments are constants at the place of the call: without inlining they would be slow, not wrong. */
#ifndef TS_INLINE
#ifdef __GNUC__
#define TS_INLINE static inline __attribute__((always_inline))
#else
#define TS_INLINE static inline
#endif
#endif

#endif
