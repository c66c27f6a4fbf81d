/* Images to try @NAME@ on: @WHAT@. */
#include "@NAME@_example.h"

#include <stdint.h>

#define PIXELS (@PREFIX@_INPUT_HEIGHT * @PREFIX@_INPUT_WIDTH)

static const uint16_t labels[@PREFIX@_EXAMPLES] = {
@LABELS@
};

/* A value is pixel * scale + shift, by channel. */
static const float scales[@PREFIX@_INPUT_CHANNELS] = {@SCALES@};
static const float shifts[@PREFIX@_INPUT_CHANNELS] = {@SHIFTS@};

static const uint8_t pixels[@PREFIX@_EXAMPLES][@PREFIX@_INPUT_SIZE] = {
@PIXELS@
};

int @NAME@_example_label(int number) { return labels[number]; }

@!LINES@ /* The image, as @NAME@ takes it: put your camera in its place. */
@!LINES@ static const float *image_of(int number)
@!LINES@ {
@!LINES@     float *const image = @NAME@_image();
@!LINES@     for (int channel = 0; channel < @PREFIX@_INPUT_CHANNELS; channel++)
@!LINES@         for (int i = channel * PIXELS; i < (channel + 1) * PIXELS; i++) {
@!LINES@             const float scaled = (float)pixels[number][i] * scales[channel];
@!LINES@             image[i] = scaled + shifts[channel];
@!LINES@         }
@!LINES@     return image;
@!LINES@ }
@!LINES@
@!LINES@ @NAME@_status @NAME@_example_step(int number, float *loss)
@!LINES@ {
@!LINES@     return @NAME@_train_step(image_of(number), labels[number], loss);
@!LINES@ }
@!LINES@
@!LINES@ @NAME@_status @NAME@_example_predict(int number, float *logits)
@!LINES@ {
@!LINES@     return @NAME@_predict(image_of(number), logits);
@!LINES@ }
@?LINES@ /* A row of the image, as @NAME@ takes it: put your camera in its place. */
@?LINES@ static void row_of(void *context, int row, float *line)
@?LINES@ {
@?LINES@     const int *number = context;
@?LINES@     for (int channel = 0; channel < @PREFIX@_INPUT_CHANNELS; channel++)
@?LINES@         for (int column = 0; column < @PREFIX@_INPUT_WIDTH; column++) {
@?LINES@             const uint8_t pixel = pixels[*number][channel * PIXELS + row * @PREFIX@_INPUT_WIDTH + column];
@?LINES@             const float scaled = (float)pixel * scales[channel];
@?LINES@             *line++ = scaled + shifts[channel];
@?LINES@         }
@?LINES@ }
@?LINES@
@?LINES@ @NAME@_status @NAME@_example_step(int number, float *loss)
@?LINES@ {
@?LINES@     return @NAME@_train_step_rows(row_of, &number, labels[number], loss);
@?LINES@ }
@?LINES@
@?LINES@ @NAME@_status @NAME@_example_predict(int number, float *logits)
@?LINES@ {
@?LINES@     return @NAME@_predict_rows(row_of, &number, logits);
@?LINES@ }
