/* Images to try @NAME@ on: @WHAT@. */
#include "@NAME@_example.h"

#include <stdint.h>

#include "@NAME@.h"

#define PIXELS (@PREFIX@_INPUT_HEIGHT * @PREFIX@_INPUT_WIDTH)

static const uint8_t labels[@PREFIX@_EXAMPLES] = {
@LABELS@
};

/* A value is pixel * scale + shift, by channel. */
static const float scales[@PREFIX@_INPUT_CHANNELS] = {@SCALES@};
static const float shifts[@PREFIX@_INPUT_CHANNELS] = {@SHIFTS@};

static const uint8_t pixels[@PREFIX@_EXAMPLES][@PREFIX@_INPUT_SIZE] = {
@PIXELS@
};

int @NAME@_example(int number, float *image)
{
    for (int channel = 0; channel < @PREFIX@_INPUT_CHANNELS; channel++)
        for (int i = channel * PIXELS; i < (channel + 1) * PIXELS; i++) {
            const float scaled = (float)pixels[number][i] * scales[channel];
            image[i] = scaled + shifts[channel];
        }
    return labels[number];
}
