/* What depends on compiler and machine. To adapt: define a macro before this file does, e.g. -DTS_RESTRICT= . */
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

/* Helpers whose arguments are constants at the place of the call: without inlining they would be slow, not wrong. */
#ifndef TS_INLINE
#ifdef __GNUC__
#define TS_INLINE static inline __attribute__((always_inline))
#else
#define TS_INLINE static inline
#endif
#endif

/* Pointers that share no memory with any other. */
#ifndef TS_RESTRICT
#define TS_RESTRICT restrict
#endif

#endif
