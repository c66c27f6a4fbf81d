/* Runs every case of cases.inc by the naive loops and by the kernels, checks that they agree, and prints per line:
   number of the case, instructions of the naive loops, instructions of the kernel. */
#include <math.h>

#include "board.h"
#include "naive.h"
#include "ts_kernels.h"

enum { FLOATS = 150000, ENOUGH_STEPS = 25000 };


static float input[FLOATS], gradient[FLOATS / 2], weights[FLOATS / 8], results[2][FLOATS];
static float vectors[4][2048];
static float scratch[1 << 14];
static uint8_t mask[2][FLOATS / 8];
static uint16_t index_list[1024];
static float trained[FLOATS / 8];

static ts_conv_shape shape; /* of the case that runs now */
static ts_weight weight; /* of what runs now */
static float *result;    /* of the naive loops or of the kernel */

#define S (&shape)
#define INS shape.in_channels
#define OUTS shape.out_channels
#define PIXELS (shape.out_height * shape.out_width)
#define COUNT (OUTS * PIXELS)
#define WHOLE_IN ((ts_range){0, INS})
#define WHOLE_OUT ((ts_range){0, OUTS})
#define BIAS vectors[0]
#define SCALE vectors[1]

/* Every job is a pair of functions without arguments, run_naive_NAME and run_kernel_NAME. */
#define JOB(name, naive, fast)                                                                                         \
    static void run_naive_##name(void) { naive; }                                                                          \
    static void run_kernel_##name(void) { fast; }

JOB(conv_forward, naive_conv(result, input, weights, BIAS, S, 0), ts_conv(result, input, &weight, BIAS, S))
JOB(conv_dx, naive_conv_dx(result, gradient, weights, S, 0), ts_conv_dx(result, gradient, &weight, S, 0))
JOB(conv_dw, naive_conv_dw(result, gradient, input, S, 0), ts_conv_dw(result, 1.0f, gradient, input, &weight, S))
JOB(depthwise_forward, naive_conv(result, input, weights, BIAS, S, 1),
    ts_depthwise(result, input, &weight, BIAS, S, scratch))
JOB(depthwise_dx, naive_conv_dx(result, gradient, weights, S, 1),
    ts_depthwise_dx(result, gradient, &weight, S, WHOLE_OUT, scratch))
JOB(depthwise_dw, naive_conv_dw(result, gradient, input, S, 1),
    ts_depthwise_dw(result, 1.0f, gradient, input, &weight, S, WHOLE_OUT))
JOB(pointwise_forward, naive_pointwise(result, input, weights, BIAS, INS, OUTS, PIXELS),
    ts_pointwise(result, input, &weight, BIAS, INS, OUTS, PIXELS))
JOB(pointwise_dx, naive_pointwise_dx(result, gradient, weights, INS, OUTS, PIXELS),
    ts_pointwise_dx(result, gradient, &weight, INS, OUTS, WHOLE_IN, WHOLE_OUT, PIXELS, 0))
JOB(pointwise_dw, naive_pointwise_dw(result, gradient, input, INS, OUTS, PIXELS),
    ts_pointwise_dw(result, 1.0f, gradient, input, &weight, INS, OUTS, WHOLE_IN, WHOLE_OUT, PIXELS))
JOB(linear_forward, naive_linear(result, input, weights, BIAS, INS, OUTS),
    ts_linear(result, input, &weight, BIAS, INS, OUTS))
JOB(linear_dx, naive_linear_dx(result, gradient, weights, INS, OUTS),
    ts_linear_dx(result, gradient, &weight, INS, OUTS, 0))
JOB(linear_dw, naive_linear_dw(result, gradient, input, INS, OUTS),
    ts_linear_dw(result, 1.0f, gradient, input, &weight, INS, OUTS))
JOB(relu6, naive_relu6(result, COUNT), ts_relu6(result, COUNT))
JOB(relu6_mask, naive_relu6_mask(result, mask[0], COUNT), ts_relu6_mask(result, mask[1], COUNT))
JOB(mask_backward, naive_mask_backward(result, (const uint8_t *)input, COUNT),
    ts_mask_backward(result, (const uint8_t *)input, 0, COUNT, 1.0f))
JOB(hardswish, naive_hardswish(result, COUNT), ts_hardswish(result, COUNT))
JOB(add, naive_add(result, input, COUNT), ts_add(result, input, COUNT))
JOB(axpy, naive_axpy(result, 0.5f, input, COUNT), ts_axpy(result, 0.5f, input, COUNT))
JOB(channel_sum, naive_channel_sum(result, input, OUTS, PIXELS), ts_channel_sum(result, 1.0f, input, OUTS, PIXELS))
JOB(scale_channels, naive_scale_channels(result, input, SCALE, OUTS, PIXELS),
    ts_scale_channels(result, input, SCALE, OUTS, PIXELS))
JOB(mean, naive_mean(result, input, OUTS, PIXELS), ts_mean(result, input, OUTS, PIXELS))
JOB(group_norm, naive_group_norm(result, input, SCALE, BIAS, vectors[2], vectors[3], OUTS / 8, OUTS, PIXELS),
    ts_group_norm(result, input, SCALE, BIAS, vectors[2], vectors[3], OUTS / 8, OUTS, PIXELS, 1e-5f))
JOB(silu, naive_silu(result, COUNT), ts_silu(result, COUNT))
JOB(bilinear, naive_bilinear(result, input, OUTS, S->out_height / 2, S->out_width / 2, S->out_height, S->out_width),
    ts_bilinear(result, input, OUTS, S->out_height / 2, S->out_width / 2, S->out_height, S->out_width, 0))
JOB(group_norm_dx,
    naive_group_norm_dx(result, input, gradient, SCALE, vectors[2], vectors[3], OUTS / 8, OUTS, PIXELS),
    ts_group_norm_dx(result, input, gradient, SCALE, vectors[2], vectors[3], OUTS / 8, OUTS, PIXELS))
JOB(avg_pool, naive_avg_pool(result, input, OUTS, 2 * S->out_height, 2 * S->out_width, 2),
    ts_avg_pool(result, input, OUTS, 2 * S->out_height, 2 * S->out_width, 2))

/* A stem and the first bottlenecks of a MobileNetV2, 3 -> 16 -> 8 -> 48 -> 8 channels, of an image four times as large
   as the output: here "naive" are the kernels map by map, and "fast" is ts_rows. */
enum { STAGES = 6, RING_FLOATS = 40000 };

static ts_row_stage stages[STAGES];
static int state[STAGES + 1];
static float big_map[FLOATS], rings[RING_FLOATS];

static void set_stages(void)
{
    static const int channels[STAGES + 1] = {3, 16, 16, 8, 48, 48, 8}, strides[STAGES] = {2, 1, 1, 1, 2, 1};
    static const uint8_t kinds[STAGES] = {TS_ROW_CONV,      TS_ROW_DEPTHWISE, TS_ROW_POINTWISE,
                                          TS_ROW_POINTWISE, TS_ROW_DEPTHWISE, TS_ROW_POINTWISE};
    int side = 4 * S->out_height, offset = 0;
    for (int n = 0; n < STAGES; n++) {
        const int k = kinds[n] == TS_ROW_POINTWISE ? 1 : 3, groups = kinds[n] == TS_ROW_DEPTHWISE ? channels[n] : 1;
        const int out_side = side / strides[n];
        const ts_row_stage stage = {kinds[n], kinds[n] != TS_ROW_POINTWISE || n == 3 ? TS_RELU6 : TS_NONE,
                                    (int8_t)(n - 1), -1,
                                    {channels[n], channels[n + 1], groups, k, k, strides[n], k / 2, k / 2, side, side,
                                     out_side, out_side},
                                    weights, BIAS, 3, offset};
        stages[n] = stage;
        offset += 3 * channels[n + 1] * out_side;
        side = out_side;
    }
}

static void map_by_map(void)
{
    const float *in = input;
    set_stages();
    for (int n = 0; n < STAGES; n++) {
        const ts_row_stage *stage = stages + n;
        const ts_weight w = {weights, NULL, NULL, 0, TS_OUT};
        const ts_conv_shape *s = &stage->shape;
        float *out = n % 2 ? result : big_map;
        const int pixels = s->out_height * s->out_width;
        if (stage->kind == TS_ROW_CONV)
            ts_conv(out, in, &w, BIAS, s);
        else if (stage->kind == TS_ROW_DEPTHWISE)
            ts_depthwise(out, in, &w, BIAS, s, scratch);
        else
            ts_pointwise(out, in, &w, BIAS, s->in_channels, s->out_channels, pixels);
        if (stage->act == TS_RELU6)
            ts_relu6(out, s->out_channels * pixels);
        in = out;
    }
}

static void row_by_row(void)
{
    set_stages();
    ts_rows(result, input, NULL, NULL, 0, stages, STAGES, state, rings);
}

JOB(rows, map_by_map(), row_by_row())

/* An inverted residual that expands six times, its ReLU6 masked: here "naive" are the kernels map by map, and "fast"
   are they a few channels at a time. */
enum { EXPANSION = 6, CHANNELS_AT_ONCE = 4 };

static void block_by_channels(float *maps, int at_once)
{
    const int middle = EXPANSION * INS;
    const ts_weight w = {weights, NULL, NULL, 0, TS_OUT};
    const ts_conv_shape filters = {middle, middle, middle, 3, 3, 1, 1, 1, S->out_height, S->out_width, S->out_height,
                                   S->out_width};
    for (int c = 0; c < middle; c += at_once) {
        const ts_range some = {c, at_once};
        ts_pointwise_part(maps, input, &w, BIAS, INS, middle, WHOLE_IN, some, PIXELS, 0);
        ts_relu6_mask_part(maps, mask[0], c * PIXELS, at_once * PIXELS);
        ts_depthwise_part(maps, maps, &w, BIAS, &filters, some, scratch);
        ts_relu6_mask_part(maps, mask[1], c * PIXELS, at_once * PIXELS);
        ts_pointwise_part(result, maps, &w, BIAS, middle, OUTS, some, WHOLE_OUT, PIXELS, c > 0);
    }
}

JOB(block, block_by_channels(big_map, EXPANSION * INS), block_by_channels(big_map, CHANNELS_AT_ONCE))

typedef void (*job)(void);

/* Instructions of one run: of as many as make the clock's step small, over their number. */
static uint32_t instructions(job run)
{
    uint32_t repeats = 0, steps;
    const uint32_t start = board_steps();
    do {
        run();
        repeats++;
        steps = board_steps() - start;
    } while (steps < ENOUGH_STEPS);
    return (uint32_t)((uint64_t)steps * BOARD_STEP / repeats);
}

/* Repeatable values between -1 and 1. */
static void scatter(float *x, int count)
{
    static uint32_t seed = 1;
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * (1.0f / 2147483648.0f);
    }
}

/* Of the first `count` results; all of them, so that what must not be written is compared too, where nothing is scratch. */
static int agree(int count)
{
    float largest = 1.0f, error = 0.0f;
    for (int i = 0; i < count; i++) {
        largest = fmaxf(largest, fabsf(results[0][i]));
        error = fmaxf(error, fabsf(results[0][i] - results[1][i]));
        if (isnan(results[0][i]) != isnan(results[1][i]))
            return 0;
    }
    return error <= 2e-5f * largest;
}

static void write_number(uint32_t value)
{
    char text[12], *digit = text + 11;
    *digit = '\0';
    do {
        *--digit = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    board_write(digit);
}

/* Which channels train: none, all, or every other one of an axis. */
static void set_weight(const char *trains)
{
    weight = (ts_weight){weights, NULL, NULL, 0, TS_OUT};
    if (trains[0] == 'a')
        weight.trained = weights;
    if (trains[0] == 'o' || trains[0] == 'i') {
        weight.axis = trains[0] == 'i' ? TS_IN : TS_OUT;
        const int total = weight.axis == TS_IN ? INS : OUTS;
        weight.count = (uint16_t)((total + 1) / 2);
        weight.index = index_list;
        weight.trained = trained;
        for (int n = 0; n < weight.count; n++)
            index_list[n] = (uint16_t)(2 * n);
        for (int n = 0; n < weight.count; n++)
            for (int m = 0; m < INS * OUTS / total; m++) {
                if (weight.axis == TS_OUT)
                    trained[n * INS + m] = weights[2 * n * INS + m];
                else
                    trained[m * weight.count + n] = weights[m * INS + 2 * n];
            }
    }
}

static int measure(uint32_t number, job naive, job fast, const char *trains)
{
    scatter(results[0], FLOATS);
    for (int i = 0; i < FLOATS; i++)
        results[1][i] = results[0][i];
    set_weight(trains);
    result = results[0];
    naive();
    result = results[1];
    fast();
    const int good = agree(fast == run_kernel_rows ? COUNT : FLOATS);
    /* What accumulates would grow without end, and numbers that are not normal would be met. */
    result = results[0];
    const uint32_t slow_count = instructions(naive);
    result = results[1];
    const uint32_t fast_count = instructions(fast);
    write_number(number);
    board_write(" ");
    write_number(slow_count);
    board_write(" ");
    write_number(fast_count);
    board_write(good ? " agree\n" : " differ\n");
    return good;
}

#define CASE(number, name, trains, ...)                                                                                \
    shape = (ts_conv_shape)__VA_ARGS__;                                                                            \
    good &= measure(number, run_naive_##name, run_kernel_##name, trains);

int main(void)
{
    int good = 1;
    scatter(input, FLOATS);
    scatter(gradient, FLOATS / 2);
    scatter(weights, FLOATS / 8);
    for (int n = 0; n < 4; n++)
        scatter(vectors[n], 2048);
#include "cases.inc"
    return good ? 0 : 1;
}
