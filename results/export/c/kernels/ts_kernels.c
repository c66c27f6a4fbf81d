/* Kernels of on-device training in float32: see ts_kernels.h. */
#include "ts_kernels.h"

#include <math.h>

#include "ts_port.h"

/* ---- Helpers ---------------------------------------------------------------------------------------------------- */

static int min_int(int a, int b) { return a < b ? a : b; }

/* The place of the first listed channel that is not below `channel`. */
static int lower_bound(const uint16_t *index, int count, int channel)
{
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (index[middle] < channel)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The place of a channel among those that train along its axis, -1 if it does not. */
static int trained_place(const ts_weight *w, int channel)
{
    if (w->index == NULL)
        return channel;
    const int place = lower_bound(w->index, w->count, channel);
    return place < w->count && w->index[place] == channel ? place : -1;
}

/* Places first .. end - 1 of the channels that train and lie in a range. */
static void trained_places(const ts_weight *w, ts_range range, int *first, int *end)
{
    *first = range.first;
    *end = range.first + range.count;
    if (w->index != NULL) {
        *first = lower_bound(w->index, w->count, *first);
        *end = lower_bound(w->index, w->count, *end);
    }
}

/* Where the filter from input `in` (of its group) to output `out` begins in `trained`; -1 if it does not train. */
static int trained_filter(const ts_weight *w, const ts_conv_shape *s, int out, int in)
{
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups, area = s->kernel_h * s->kernel_w;
    if (w->trained == NULL)
        return -1;
    if (w->index == NULL)
        return (out * ins + in) * area;
    const int place = trained_place(w, w->axis == TS_OUT ? out : out / outs * ins + in);
    if (place < 0)
        return -1;
    if (w->axis == TS_OUT)
        return (place * ins + in) * area;
    return (s->groups == 1 ? out * w->count + place : place * outs + out % outs) * area;
}

/* The filter from input `in` (of its group) to output `out`. */
static const float *filter(const ts_weight *w, const ts_conv_shape *s, int out, int in)
{
    const int at = trained_filter(w, s, out, in);
    if (at >= 0)
        return w->trained + at;
    return w->frozen + (out * (s->in_channels / s->groups) + in) * s->kernel_h * s->kernel_w;
}

/* A layer without space as a convolution. */
static ts_conv_shape matrix_shape(int in_channels, int out_channels)
{
    const ts_conv_shape s = {in_channels, out_channels, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1};
    return s;
}

static void fill(float *x, float value, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = value;
}

static void copy(float *out, const float *in, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = in[i];
}

static float sum(const float *x, int count)
{
    float total = 0.0f;
    for (int i = 0; i < count; i++)
        total += x[i];
    return total;
}

static float dot(const float *a, const float *b, int count)
{
    float total = 0.0f;
    for (int i = 0; i < count; i++)
        total = TS_FMA(a[i], b[i], total);
    return total;
}

/* ---- Forward: layers with weights ------------------------------------------------------------------------------- */

void ts_pointwise(float *out, const float *in, const ts_weight *w, const float *bias, int in_channels,
                  int out_channels, int pixels)
{
    const ts_conv_shape s = matrix_shape(in_channels, out_channels);
    for (int o = 0; o < out_channels; o++) {
        fill(out + o * pixels, bias == NULL ? 0.0f : bias[o], pixels);
        for (int i = 0; i < in_channels; i++)
            ts_axpy(out + o * pixels, *filter(w, &s, o, i), in + i * pixels, pixels);
    }
}

/* out += the convolution of one channel by one filter. */
static void convolve_channel(float *out, const float *in, const float *weight, const ts_conv_shape *s)
{
    for (int oy = 0; oy < s->out_height; oy++)
        for (int ox = 0; ox < s->out_width; ox++) {
            float total = 0.0f;
            for (int ky = 0; ky < s->kernel_h; ky++) {
                const int iy = oy * s->stride - s->pad_top + ky;
                if (iy < 0 || iy >= s->in_height)
                    continue;
                for (int kx = 0; kx < s->kernel_w; kx++) {
                    const int ix = ox * s->stride - s->pad_left + kx;
                    if (ix >= 0 && ix < s->in_width)
                        total = TS_FMA(weight[ky * s->kernel_w + kx], in[iy * s->in_width + ix], total);
                }
            }
            out[oy * s->out_width + ox] += total;
        }
}

void ts_depthwise(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s,
                  float *scratch)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    for (int c = 0; c < s->out_channels; c++) {
        const float *x = in + c * in_pixels;
        if (out == in) {
            copy(scratch, x, in_pixels);
            x = scratch;
        }
        fill(out + c * out_pixels, bias == NULL ? 0.0f : bias[c], out_pixels);
        convolve_channel(out + c * out_pixels, x, filter(w, s, c, 0), s);
    }
}

void ts_conv(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups;
    for (int o = 0; o < s->out_channels; o++) {
        fill(out + o * out_pixels, bias == NULL ? 0.0f : bias[o], out_pixels);
        for (int i = 0; i < ins; i++)
            convolve_channel(out + o * out_pixels, in + (o / outs * ins + i) * in_pixels, filter(w, s, o, i), s);
    }
}

void ts_linear(float *out, const float *in, const ts_weight *w, const float *bias, int in_features, int out_features)
{
    ts_pointwise(out, in, w, bias, in_features, out_features, 1);
}

/* ---- Forward: norms --------------------------------------------------------------------------------------------- */

void ts_affine(float *x, const float *scale, const float *shift, int channels, int pixels)
{
    for (int c = 0; c < channels; c++) {
        const float a = scale == NULL ? 1.0f : scale[c], b = shift == NULL ? 0.0f : shift[c];
        for (int p = 0; p < pixels; p++)
            x[c * pixels + p] = TS_FMA(x[c * pixels + p], a, b);
    }
}

/* out = (in - mean) * slope + shift */
static void normalise(float *out, const float *in, float mean, float slope, float shift, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = TS_FMA(in[i] - mean, slope, shift);
}

void ts_batch_norm(float *x, const float *gamma, const float *beta, const float *mean, const float *inv_std,
                   int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        normalise(x + c * pixels, x + c * pixels, mean[c], inv_std[c] * gamma[c], beta[c], pixels);
}

static void normalise_or_add(float *out, const float *in, float mean, float slope, float shift, int count, int add)
{
    if (!add)
        normalise(out, in, mean, slope, shift, count);
    else
        for (int i = 0; i < count; i++)
            out[i] += TS_FMA(in[i] - mean, slope, shift);
}

void ts_add_batch_norm(float *out, const float *in, const float *gamma, const float *beta, const float *mean,
                       const float *inv_std, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        normalise_or_add(out + c * pixels, in + c * pixels, mean[c], inv_std[c] * gamma[c], beta[c], pixels, 1);
}

void ts_batch_norm_train(float *out, const float *in, const float *gamma, const float *beta, float *running,
                         float momentum, float *mean, float *inv_std, int channels, int pixels, float eps, int add)
{
    for (int c = 0; c < channels; c++) {
        const float *x = in + c * pixels;
        const float centre = sum(x, pixels) / (float)pixels;
        float squares = 0.0f;
        for (int i = 0; i < pixels; i++) {
            const float centred = x[i] - centre;
            squares = TS_FMA(centred, centred, squares);
        }
        const float inverse = 1.0f / sqrtf(squares / (float)pixels + eps);
        running[c] += momentum * (centre - running[c]);
        running[channels + c] += momentum * (squares / (float)(pixels - 1) - running[channels + c]);
        normalise_or_add(out + c * pixels, x, centre, inverse * gamma[c], beta[c], pixels, add);
        if (mean != NULL) {
            mean[c] = centre;
            inv_std[c] = inverse;
        }
    }
}

void ts_batch_norm_predict(float *out, const float *in, const float *gamma, const float *beta, const float *running,
                           int channels, int pixels, float eps, int add)
{
    for (int c = 0; c < channels; c++) {
        const float slope = gamma[c] / sqrtf(running[channels + c] + eps);
        normalise_or_add(out + c * pixels, in + c * pixels, running[c], slope, beta[c], pixels, add);
    }
}

void ts_group_norm(float *out, const float *in, const float *gamma, const float *beta, float *mean, float *inv_std,
                   int groups, int channels, int pixels, float eps)
{
    const int group = channels / groups, count = group * pixels;
    for (int n = 0; n < groups; n++) {
        const float *x = in + n * count;
        const float centre = sum(x, count) / (float)count;
        float squares = 0.0f;
        for (int i = 0; i < count; i++) {
            const float centred = x[i] - centre;
            squares = TS_FMA(centred, centred, squares);
        }
        const float inverse = 1.0f / sqrtf(squares / (float)count + eps);
        for (int c = n * group; c < (n + 1) * group; c++)
            normalise(out + c * pixels, in + c * pixels, centre, inverse * gamma[c], beta[c], pixels);
        if (mean != NULL) {
            mean[n] = centre;
            inv_std[n] = inverse;
        }
    }
}

/* ---- Forward: activations --------------------------------------------------------------------------------------- */

/* What is not a number stays so, as in PyTorch: a training that diverges says so by its loss. */
TS_INLINE float relu(float x) { return x < 0.0f ? 0.0f : x; }
TS_INLINE float relu6(float x) { return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x; }
TS_INLINE float hardsigmoid(float x) { return relu6(x + 3.0f) / 6.0f; }
TS_INLINE float hardswish(float x) { return x * relu6(x + 3.0f) / 6.0f; }
TS_INLINE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
TS_INLINE float silu(float x) { return x * sigmoid(x); }

void ts_relu(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = relu(x[i]);
}

void ts_relu6(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = relu6(x[i]);
}

void ts_hardsigmoid(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = hardsigmoid(x[i]);
}

void ts_sigmoid(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = sigmoid(x[i]);
}

void ts_hardswish(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = hardswish(x[i]);
}

void ts_silu(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = silu(x[i]);
}

void ts_hardswish_to(float *out, const float *in, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = hardswish(in[i]);
}

void ts_silu_to(float *out, const float *in, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = silu(in[i]);
}

/* One byte of a mask: bit i says whether low < x[i] < high, of at most 8 elements. */
TS_INLINE uint8_t between(const float *x, float low, float high, int count)
{
    unsigned bits = 0;
    for (int i = 0; i < count; i++)
        bits |= (unsigned)(x[i] > low && x[i] < high) << i;
    return (uint8_t)bits;
}

void ts_relu_mask(float *x, uint8_t *mask, int count)
{
    for (int i = 0; i < count; i += 8)
        mask[i / 8] = between(x + i, 0.0f, INFINITY, min_int(8, count - i));
    ts_relu(x, count);
}

void ts_relu6_mask(float *x, uint8_t *mask, int count)
{
    for (int i = 0; i < count; i += 8)
        mask[i / 8] = between(x + i, 0.0f, 6.0f, min_int(8, count - i));
    ts_relu6(x, count);
}

void ts_hardsigmoid_mask(float *x, uint8_t *mask, int count)
{
    for (int i = 0; i < count; i += 8)
        mask[i / 8] = between(x + i, -3.0f, 3.0f, min_int(8, count - i));
    ts_hardsigmoid(x, count);
}

void ts_sign_mask(const float *x, uint8_t *mask, int count)
{
    for (int i = 0; i < count; i += 8) {
        unsigned bits = 0;
        for (int bit = 0; bit < min_int(8, count - i); bit++)
            bits |= (unsigned)(x[i + bit] >= 0.0f) << bit;
        mask[i / 8] = (uint8_t)bits;
    }
}

/* ---- Forward: the rest ------------------------------------------------------------------------------------------ */

void ts_add(float *out, const float *a, int count)
{
    for (int i = 0; i < count; i++)
        out[i] += a[i];
}

void ts_mean(float *out, const float *in, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        out[c] = sum(in + c * pixels, pixels) / (float)pixels;
}

void ts_avg_pool(float *out, const float *in, int channels, int height, int width, int kernel)
{
    for (int c = 0; c < channels; c++)
        for (int y = 0; y + kernel <= height; y += kernel)
            for (int x = 0; x + kernel <= width; x += kernel) {
                float total = 0.0f;
                for (int ky = 0; ky < kernel; ky++)
                    total += sum(in + (c * height + y + ky) * width + x, kernel);
                *out++ = total / (float)(kernel * kernel);
            }
}

/* Two neighbours along an axis and the weight of the second, of output position `at`. */
typedef struct {
    int low, high;
    float part;
} neighbours;

static neighbours neighbours_of(int at, int in_size, int out_size)
{
    const float scale = (float)in_size / (float)out_size;
    const float place = fmaxf(((float)at + 0.5f) * scale - 0.5f, 0.0f);
    neighbours n;
    n.low = min_int((int)place, in_size - 1);
    n.high = min_int(n.low + 1, in_size - 1);
    n.part = place - (float)n.low;
    return n;
}

void ts_bilinear(float *out, const float *in, int channels, int in_h, int in_w, int out_h, int out_w, int add)
{
    for (int y = 0; y < out_h; y++) {
        const neighbours v = neighbours_of(y, in_h, out_h);
        for (int x = 0; x < out_w; x++) {
            const neighbours h = neighbours_of(x, in_w, out_w);
            for (int c = 0; c < channels; c++) {
                const float *above = in + (c * in_h + v.low) * in_w, *below = in + (c * in_h + v.high) * in_w;
                const float first = (1.0f - h.part) * above[h.low] + h.part * above[h.high];
                const float second = (1.0f - h.part) * below[h.low] + h.part * below[h.high];
                const float value = (1.0f - v.part) * first + v.part * second;
                float *place = out + (c * out_h + y) * out_w + x;
                *place = add ? *place + value : value;
            }
        }
    }
}

void ts_scale_channels(float *out, const float *in, const float *scale, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        for (int p = c * pixels; p < (c + 1) * pixels; p++)
            out[p] = in[p] * scale[c];
}

void ts_gather(float *out, const float *in, const uint16_t *index, int count, int pixels)
{
    for (int n = 0; n < count; n++)
        copy(out + n * pixels, in + index[n] * pixels, pixels);
}

/* ---- Loss ------------------------------------------------------------------------------------------------------- */

float ts_cross_entropy(float *gradient, const float *logits, int label, int classes)
{
    float largest = logits[0], total = 0.0f;
    for (int n = 1; n < classes; n++)
        largest = fmaxf(largest, logits[n]);
    const float margin = largest - logits[label];
    for (int n = 0; n < classes; n++) {
        gradient[n] = expf(logits[n] - largest);
        total += gradient[n];
    }
    for (int n = 0; n < classes; n++)
        gradient[n] /= total;
    gradient[label] -= 1.0f;
    return logf(total) + margin;
}

/* ---- Backward: layers with weights ------------------------------------------------------------------------------ */

void ts_pointwise_dx(float *gin, const float *gout, const ts_weight *w, int in_channels, int out_channels, ts_range in,
                     ts_range out, int pixels, int add)
{
    const ts_conv_shape s = matrix_shape(in_channels, out_channels);
    if (!add)
        ts_zero(gin, in.count * pixels);
    for (int i = 0; i < in.count; i++)
        for (int o = 0; o < out.count; o++)
            ts_axpy(gin + i * pixels, *filter(w, &s, out.first + o, in.first + i), gout + o * pixels, pixels);
}

void ts_pointwise_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w, int in_channels,
                     int out_channels, ts_range in_range, ts_range out_range, int pixels)
{
    const ts_conv_shape s = matrix_shape(in_channels, out_channels);
    const int kept = w->index != NULL && w->axis == TS_IN;
    for (int o = out_range.first; o < out_range.first + out_range.count; o++)
        for (int i = in_range.first; i < in_range.first + in_range.count; i++) {
            const int at = trained_filter(w, &s, o, i);
            const float *x = in + (kept ? trained_place(w, i) : i) * pixels;
            if (at >= 0)
                dst[at] += factor * dot(gout + (o - out_range.first) * pixels, x, pixels);
        }
}

/* gin += the input gradient of one channel by one filter. */
static void convolve_channel_dx(float *gin, const float *gout, const float *weight, const ts_conv_shape *s)
{
    for (int oy = 0; oy < s->out_height; oy++)
        for (int ox = 0; ox < s->out_width; ox++)
            for (int ky = 0; ky < s->kernel_h; ky++) {
                const int iy = oy * s->stride - s->pad_top + ky;
                if (iy < 0 || iy >= s->in_height)
                    continue;
                for (int kx = 0; kx < s->kernel_w; kx++) {
                    const int ix = ox * s->stride - s->pad_left + kx;
                    float *place = gin + iy * s->in_width + ix;
                    if (ix >= 0 && ix < s->in_width)
                        *place = TS_FMA(weight[ky * s->kernel_w + kx], gout[oy * s->out_width + ox], *place);
                }
            }
}

/* dst [kernel_h][kernel_w] += factor * the gradient of the filter of one channel. */
static void convolve_channel_dw(float *dst, float factor, const float *gout, const float *in, const ts_conv_shape *s)
{
    for (int ky = 0; ky < s->kernel_h; ky++)
        for (int kx = 0; kx < s->kernel_w; kx++) {
            float total = 0.0f;
            for (int oy = 0; oy < s->out_height; oy++) {
                const int iy = oy * s->stride - s->pad_top + ky;
                if (iy < 0 || iy >= s->in_height)
                    continue;
                for (int ox = 0; ox < s->out_width; ox++) {
                    const int ix = ox * s->stride - s->pad_left + kx;
                    if (ix >= 0 && ix < s->in_width)
                        total = TS_FMA(gout[oy * s->out_width + ox], in[iy * s->in_width + ix], total);
                }
            }
            dst[ky * s->kernel_w + kx] += factor * total;
        }
}

void ts_depthwise_dx(float *gin, const float *gout, const ts_weight *w, const ts_conv_shape *s, ts_range channels,
                     float *scratch)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    for (int c = 0; c < channels.count; c++) {
        const float *g = gout + c * out_pixels;
        if (gin == gout) {
            copy(scratch, g, out_pixels);
            g = scratch;
        }
        ts_zero(gin + c * in_pixels, in_pixels);
        convolve_channel_dx(gin + c * in_pixels, g, filter(w, s, channels.first + c, 0), s);
    }
}

void ts_depthwise_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w,
                     const ts_conv_shape *s, ts_range channels)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const int area = s->kernel_h * s->kernel_w;
    int first, end;
    trained_places(w, channels, &first, &end);
    for (int n = first; n < end; n++) {
        const int c = (w->index == NULL ? n : w->index[n]) - channels.first;
        convolve_channel_dw(dst + n * area, factor, gout + c * out_pixels, in + n * in_pixels, s);
    }
}

void ts_conv_dx(float *gin, const float *gout, const ts_weight *w, const ts_conv_shape *s, int add)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups;
    if (!add)
        ts_zero(gin, s->in_channels * in_pixels);
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < ins; i++)
            convolve_channel_dx(gin + (o / outs * ins + i) * in_pixels, gout + o * out_pixels, filter(w, s, o, i), s);
}

void ts_conv_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w,
                const ts_conv_shape *s)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups;
    const int kept = w->index != NULL && w->axis == TS_IN;
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < ins; i++) {
            const int at = trained_filter(w, s, o, i), channel = o / outs * ins + i;
            if (at >= 0)
                convolve_channel_dw(dst + at, factor, gout + o * out_pixels,
                                    in + (kept ? trained_place(w, channel) : channel) * in_pixels, s);
        }
}

void ts_linear_dx(float *gin, const float *gout, const ts_weight *w, int in_features, int out_features, int add)
{
    const ts_range in = {0, in_features}, out = {0, out_features};
    ts_pointwise_dx(gin, gout, w, in_features, out_features, in, out, 1, add);
}

void ts_linear_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w, int in_features,
                  int out_features)
{
    const ts_range ins = {0, in_features}, outs = {0, out_features};
    ts_pointwise_dw(dst, factor, gout, in, w, in_features, out_features, ins, outs, 1);
}

void ts_channel_sum(float *dst, float factor, const float *g, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        dst[c] += factor * sum(g + c * pixels, pixels);
}

/* ---- Backward: norms -------------------------------------------------------------------------------------------- */

/* Sum of g * (x - mean). */
static float dot_centred(const float *g, const float *x, float mean, int count)
{
    float total = 0.0f;
    for (int i = 0; i < count; i++)
        total = TS_FMA(g[i], x[i] - mean, total);
    return total;
}

void ts_scale_gradient(float *dst, float factor, const float *g, const float *x, const float *mean,
                       const float *inv_std, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        dst[c] += factor * inv_std[c] * dot_centred(g + c * pixels, x + c * pixels, mean[c], pixels);
}

/* With n = (x - mean) * inv_std and d = gamma * gout: gin = inv_std * (d - mean of d - n * mean of d * n). */
void ts_group_norm_dx(float *gin, const float *gout, const float *x, const float *gamma, const float *mean,
                      const float *inv_std, int groups, int channels, int pixels)
{
    const int group = channels / groups;
    for (int n = 0; n < groups; n++) {
        float d = 0.0f, dn = 0.0f;
        for (int c = n * group; c < (n + 1) * group; c++) {
            d = TS_FMA(gamma[c], sum(gout + c * pixels, pixels), d);
            dn = TS_FMA(gamma[c], dot_centred(gout + c * pixels, x + c * pixels, mean[n], pixels), dn);
        }
        const float count = (float)(group * pixels);
        const float offset = inv_std[n] * d / count, slope = inv_std[n] * inv_std[n] * inv_std[n] * dn / count;
        for (int c = n * group; c < (n + 1) * group; c++)
            for (int p = c * pixels; p < (c + 1) * pixels; p++)
                gin[p] = TS_FMA(gamma[c] * inv_std[n], gout[p], -TS_FMA(slope, x[p] - mean[n], offset));
    }
}

void ts_group_norm_dscale(float *dst, float factor, const float *gout, const float *x, const float *mean,
                          const float *inv_std, int groups, int channels, int pixels)
{
    const int group = channels / groups;
    for (int c = 0; c < channels; c++) {
        const int n = c / group;
        dst[c] += factor * inv_std[n] * dot_centred(gout + c * pixels, x + c * pixels, mean[n], pixels);
    }
}

/* ---- Backward: activations -------------------------------------------------------------------------------------- */

void ts_mask_backward(float *g, const uint8_t *mask, int first_bit, int count, float slope)
{
    for (int i = 0; i < count; i++) {
        const int bit = first_bit + i;
        g[i] = (mask[bit / 8] >> (bit % 8)) & 1 ? g[i] * slope : 0.0f;
    }
}

void ts_relu_backward(float *g, const float *y, int count)
{
    for (int i = 0; i < count; i++)
        if (y[i] <= 0.0f)
            g[i] = 0.0f;
}

void ts_relu6_backward(float *g, const float *y, int count)
{
    for (int i = 0; i < count; i++)
        if (y[i] <= 0.0f || y[i] >= 6.0f)
            g[i] = 0.0f;
}

void ts_sigmoid_backward(float *g, const float *y, int count)
{
    for (int i = 0; i < count; i++)
        g[i] *= y[i] * (1.0f - y[i]);
}

void ts_hardswish_backward(float *g, const float *x, int count)
{
    for (int i = 0; i < count; i++) {
        if (x[i] <= -3.0f)
            g[i] = 0.0f;
        else if (x[i] < 3.0f)
            g[i] *= x[i] / 3.0f + 0.5f;
    }
}

void ts_silu_backward(float *g, const float *x, int count)
{
    for (int i = 0; i < count; i++) {
        const float s = sigmoid(x[i]);
        g[i] *= s * TS_FMA(x[i], 1.0f - s, 1.0f);
    }
}

/* ---- Backward: the rest ----------------------------------------------------------------------------------------- */

void ts_mean_dx(float *gin, const float *gout, int channels, int pixels, int add)
{
    for (int c = 0; c < channels; c++) {
        const float share = gout[c] / (float)pixels;
        for (int p = c * pixels; p < (c + 1) * pixels; p++)
            gin[p] = add ? gin[p] + share : share;
    }
}

void ts_avg_pool_dx(float *gin, const float *gout, int channels, int height, int width, int kernel, int add)
{
    const int out_h = height / kernel, out_w = width / kernel;
    if (!add)
        ts_zero(gin, channels * height * width);
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < out_h * kernel; y++)
            for (int x = 0; x < out_w * kernel; x++)
                gin[(c * height + y) * width + x] +=
                    gout[(c * out_h + y / kernel) * out_w + x / kernel] / (float)(kernel * kernel);
}

void ts_bilinear_dx(float *gin, const float *gout, int channels, int in_h, int in_w, int out_h, int out_w)
{
    ts_zero(gin, channels * in_h * in_w);
    for (int y = 0; y < out_h; y++) {
        const neighbours v = neighbours_of(y, in_h, out_h);
        for (int x = 0; x < out_w; x++) {
            const neighbours h = neighbours_of(x, in_w, out_w);
            for (int c = 0; c < channels; c++) {
                float *above = gin + (c * in_h + v.low) * in_w, *below = gin + (c * in_h + v.high) * in_w;
                const float g = gout[(c * out_h + y) * out_w + x];
                above[h.low] += (1.0f - v.part) * (1.0f - h.part) * g;
                above[h.high] += (1.0f - v.part) * h.part * g;
                below[h.low] += v.part * (1.0f - h.part) * g;
                below[h.high] += v.part * h.part * g;
            }
        }
    }
}

void ts_dot_channels(float *out, const float *g, const float *x, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        out[c] = dot(g + c * pixels, x + c * pixels, pixels);
}

/* ---- Weights that train ------------------------------------------------------------------------------------------ */

void ts_load_weight(const ts_weight *w, const ts_conv_shape *s)
{
    const int ins = s->in_channels / s->groups, area = s->kernel_h * s->kernel_w;
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < ins; i++) {
            const int at = trained_filter(w, s, o, i);
            if (at >= 0)
                copy(w->trained + at, w->frozen + (o * ins + i) * area, area);
        }
}

/* ---- Update ----------------------------------------------------------------------------------------------------- */

void ts_axpy(float *y, float factor, const float *x, int count)
{
    for (int i = 0; i < count; i++)
        y[i] = TS_FMA(factor, x[i], y[i]);
}

void ts_decay(float *x, float factor, int count)
{
    for (int i = 0; i < count; i++)
        x[i] *= factor;
}

void ts_zero(float *x, int count) { fill(x, 0.0f, count); }

uint32_t ts_crc32(uint32_t crc, const void *data, size_t size)
{
    /* Of four bits at a time: a table of 64 bytes. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    const uint8_t *bytes = data;
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}

/* ---- Row by row ------------------------------------------------------------------------------------------------- */

/* The rows of a map that a stage reads: a ring of lines, or the map itself. */
typedef struct {
    const float *first; /* row 0 */
    int lines;          /* rows r and r + lines lie in the same place */
    int row_step;       /* floats from a row to the next */
    int channel_step;   /* floats from a channel to the next within a row */
} rows;

static const float *row_at(const rows *of, int row) { return of->first + row % of->lines * of->row_step; }

static void activate(float *x, uint8_t act, int count)
{
    switch (act) {
    case TS_RELU: ts_relu(x, count); break;
    case TS_RELU6: ts_relu6(x, count); break;
    case TS_HARDSWISH: ts_hardswish(x, count); break;
    case TS_SILU: ts_silu(x, count); break;
    case TS_HARDSIGMOID: ts_hardsigmoid(x, count); break;
    case TS_SIGMOID: ts_sigmoid(x, count); break;
    default: break;
    }
}

/* out [out_width] += row `row` of the convolution of channel `channel` by one filter. */
static void convolve_row(float *out, const rows *in, int channel, const float *weight, const ts_conv_shape *s, int row)
{
    for (int ky = 0; ky < s->kernel_h; ky++) {
        const int iy = row * s->stride - s->pad_top + ky;
        if (iy < 0 || iy >= s->in_height)
            continue;
        const float *x = row_at(in, iy) + channel * in->channel_step;
        for (int ox = 0; ox < s->out_width; ox++)
            for (int kx = 0; kx < s->kernel_w; kx++) {
                const int ix = ox * s->stride - s->pad_left + kx;
                if (ix >= 0 && ix < s->in_width)
                    out[ox] = TS_FMA(weight[ky * s->kernel_w + kx], x[ix], out[ox]);
            }
    }
}

static void add_row(float *out, int out_step, const rows *a, const rows *b, const ts_conv_shape *s, int row)
{
    for (int c = 0; c < s->out_channels; c++) {
        copy(out + c * out_step, row_at(a, row) + c * a->channel_step, s->out_width);
        ts_add(out + c * out_step, row_at(b, row) + c * b->channel_step, s->out_width);
    }
}

static void conv_row(float *out, int out_step, const rows *in, const ts_row_stage *stage, int row)
{
    const ts_conv_shape *s = &stage->shape;
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups, area = s->kernel_h * s->kernel_w;
    for (int o = 0; o < s->out_channels; o++) {
        fill(out + o * out_step, stage->bias == NULL ? 0.0f : stage->bias[o], s->out_width);
        for (int i = 0; i < ins; i++)
            convolve_row(out + o * out_step, in, o / outs * ins + i, stage->weight + (o * ins + i) * area, s, row);
    }
}

/* How many rows of its input a stage needs for its row `row`. */
static int rows_needed(const ts_row_stage *stage, int row)
{
    const ts_conv_shape *s = &stage->shape;
    if (stage->kind == TS_ROW_ADD || stage->kind == TS_ROW_POINTWISE)
        return row + 1;
    return min_int(s->in_height, row * s->stride - s->pad_top + s->kernel_h);
}

/* Whether the next row of a stage can be computed. produced[-1] is of the source. */
static int is_ready(const ts_row_stage *stage, const int *produced, int row)
{
    if (row >= stage->shape.out_height || produced[stage->input] < rows_needed(stage, row))
        return 0;
    return stage->kind != TS_ROW_ADD || produced[stage->other] > row;
}

/* The most downstream stage whose next row can be computed; -1, the source, if there is none. */
static int next_stage(const ts_row_stage *stages, int count, const int *produced)
{
    int n = count - 1;
    while (n >= 0 && !is_ready(stages + n, produced, produced[n]))
        n--;
    return n;
}

/* What does not change while rows are computed. */
typedef struct {
    const float *in;
    const ts_row_stage *stages;
    int source_lines;
    float *scratch;
} row_plan;

/* The rows of stage n; n = -1: of the source. */
static rows rows_of(const row_plan *plan, int n)
{
    const ts_row_stage *stage = plan->stages + (n < 0 ? 0 : n);
    const ts_conv_shape *s = &stage->shape;
    if (n >= 0) {
        const rows ring = {plan->scratch + stage->offset, stage->lines, s->out_channels * s->out_width, s->out_width};
        return ring;
    }
    if (plan->in == NULL) {
        const rows ring = {plan->scratch, plan->source_lines, s->in_channels * s->in_width, s->in_width};
        return ring;
    }
    const rows map = {plan->in, s->in_height, s->in_width, s->in_height * s->in_width};
    return map;
}

/* Row `row` of a stage, whose channels begin out_step floats apart. */
static void compute_row(float *out, int out_step, const row_plan *plan, const ts_row_stage *stage, int row)
{
    const rows in = rows_of(plan, stage->input);
    if (stage->kind == TS_ROW_ADD) {
        const rows other = rows_of(plan, stage->other);
        add_row(out, out_step, &in, &other, &stage->shape, row);
    } else {
        conv_row(out, out_step, &in, stage, row);
    }
    for (int c = 0; c < stage->shape.out_channels; c++)
        activate(out + c * out_step, stage->act, stage->shape.out_width);
}

void ts_rows(float *out, const float *in, ts_row_source source, void *context, int source_lines,
             const ts_row_stage *stages, int count, int *state, float *scratch)
{
    const row_plan plan = {in, stages, source_lines, scratch};
    const ts_conv_shape *first = &stages[0].shape, *last = &stages[count - 1].shape;
    int *produced = state + 1; /* produced[-1] is of the source */
    for (int n = -1; n < count; n++)
        produced[n] = 0;
    if (in != NULL)
        produced[-1] = first->in_height;
    while (produced[count - 1] < last->out_height) {
        const int n = next_stage(stages, count, produced), row = produced[n]++;
        if (n < 0) {
            source(context, row, scratch + row % source_lines * first->in_channels * first->in_width);
        } else if (n == count - 1) {
            compute_row(out + row * last->out_width, last->out_height * last->out_width, &plan, stages + n, row);
        } else {
            const ts_conv_shape *s = &stages[n].shape;
            const int at = row % stages[n].lines * s->out_channels * s->out_width;
            compute_row(scratch + stages[n].offset + at, s->out_width, &plan, stages + n, row);
        }
    }
}
