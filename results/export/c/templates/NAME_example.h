/* Images to try @NAME@ on. */
#ifndef @PREFIX@_EXAMPLE_H
#define @PREFIX@_EXAMPLE_H

#include "@NAME@.h"

#define @PREFIX@_EXAMPLES @EXAMPLES@

/* Of example 0 .. @PREFIX@_EXAMPLES - 1. */
int @NAME@_example_label(int number);

/* Have @NAME@ learn from an example, or answer it. */
@NAME@_status @NAME@_example_step(int number, float *loss);
@NAME@_status @NAME@_example_predict(int number, float *logits);

#endif
