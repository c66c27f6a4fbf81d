/* The constants of @NAME@: weights, biases, and numbers of channels. */
#ifndef @PREFIX@_DATA_H
#define @PREFIX@_DATA_H

#include <stdint.h>

@DECLARATIONS@

#endif
