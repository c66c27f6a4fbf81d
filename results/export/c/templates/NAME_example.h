/* Images to try @NAME@ on. */
#ifndef @PREFIX@_EXAMPLE_H
#define @PREFIX@_EXAMPLE_H

#define @PREFIX@_EXAMPLES @EXAMPLES@

/* Write example 0 .. @PREFIX@_EXAMPLES - 1 as @NAME@ takes it; returns its label. */
int @NAME@_example(int number, float *image);

#endif
