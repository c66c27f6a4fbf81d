/* Kernels of on-device training in float32, one image at a time: forward, backward, update.

   A map is planar, [channel][row][column], contiguous; `pixels` is rows * columns. A weight is
   [out][in / groups][kernel_h][kernel_w]. No heap, no recursion; a call takes at most 2.1 KB of stack (gcc 12 for the
   Cortex-M7, -O2 and -O3). Pointers to outputs and inputs share no memory unless a comment says so. Nothing is checked:
   sizes come from a generator.

   Filters of 3, 5 or 7 a side with stride 1 or 2 are fast, and so are pointwise layers; all other filters are right, but
   slow.

   Which element may be trained follows Lin et al., "On-Device Training Under 256KB Memory" (2022): whole weights, or
   some channels of them; what the backward pass keeps follows Cai et al., "TinyTL" (2020). */
#ifndef TS_KERNELS_H
#define TS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Shapes and weights ---------------------------------------------------------------------------------------- */

enum { TS_OUT = 0, TS_IN = 1 };

/* A weight, of which nothing, everything, or some channels along one axis train.

   `trained` is laid out as follows, where `ins` and `outs` are channels a group:
     index NULL            as the weight
     TS_OUT                [count][ins][kernel_h][kernel_w]
     TS_IN, one group      [out][count][kernel_h][kernel_w]
     TS_IN, more groups    [count][outs][kernel_h][kernel_w]; index counts input channels over all groups */
typedef struct {
    const float *frozen;   /* the whole weight as exported, in flash; unread where all of it trains */
    float *trained;        /* what trains; NULL: nothing */
    const uint16_t *index; /* channels that train, ascending; NULL: all of them */
    uint16_t count;        /* how many */
    uint8_t axis;          /* TS_OUT or TS_IN; TS_OUT of a depthwise weight */
} ts_weight;

/* Channels first .. first + count - 1. */
typedef struct {
    int first, count;
} ts_range;

/* A convolution. Pads may differ on opposite sides: those below and right follow from the sizes. */
typedef struct {
    int in_channels, out_channels, groups, kernel_h, kernel_w, stride, pad_top, pad_left;
    int in_height, in_width, out_height, out_width;
} ts_conv_shape;

/* ---- Forward: layers with weights. `bias` ([out_channels]) may be NULL. ----------------------------------------- */

/* out [out_channels][pixels] = weight in + bias; in [in_channels][pixels]. */
void ts_pointwise(float *out, const float *in, const ts_weight *w, const float *bias, int in_channels,
                  int out_channels, int pixels);

/* Every channel alone. out == in is allowed where out_height * out_width <= in_height * in_width (the output then lies
   at the start of the input): scratch is one input channel, unused and possibly NULL otherwise. */
void ts_depthwise(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s,
                  float *scratch);

/* The same of some channels, where a block runs a few of them at a time: `out` and `in` begin at the first channel of
   their range, weights and bias at channel 0. add: out += instead of out =, and bias is not read: an output that
   several ranges of inputs make takes its bias with the first. */
void ts_pointwise_part(float *out, const float *in, const ts_weight *w, const float *bias, int in_channels,
                       int out_channels, ts_range in_range, ts_range out_range, int pixels, int add);
void ts_depthwise_part(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s,
                       ts_range channels, float *scratch);

/* Any convolution, dense or grouped. */
void ts_conv(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s);

/* out [out_features] = weight in + bias; in [in_features]. */
void ts_linear(float *out, const float *in, const ts_weight *w, const float *bias, int in_features, int out_features);

/* ---- Forward: norms --------------------------------------------------------------------------------------------- */

/* x [channels][pixels] = x * scale[channel] + shift[channel]; either may be NULL. */
void ts_affine(float *x, const float *scale, const float *shift, int channels, int pixels);

/* x = (x - mean) * inv_std * gamma + beta, all of them [channels]. */
void ts_batch_norm(float *x, const float *gamma, const float *beta, const float *mean, const float *inv_std,
                   int channels, int pixels);

/* out += (in - mean) * inv_std * gamma + beta */
void ts_add_batch_norm(float *out, const float *in, const float *gamma, const float *beta, const float *mean,
                       const float *inv_std, int channels, int pixels);

/* A batch norm on the statistics of this one map, as PyTorch's in training: the (biased) variance normalises;
   running_mean and running_var move towards the mean and the unbiased variance by `momentum`. mean and inv_std
   ([channels]) are kept for the backward pass, unless they are NULL; that is ts_group_norm's, of as many groups as
   channels. out == in is allowed. add: out += instead of out =. */
void ts_batch_norm_train(float *out, const float *in, const float *gamma, const float *beta, float *running_mean,
                         float *running_var, float momentum, float *mean, float *inv_std, int channels, int pixels,
                         float eps, int add);

/* The same on its running statistics. */
void ts_batch_norm_predict(float *out, const float *in, const float *gamma, const float *beta,
                           const float *running_mean, const float *running_var, int channels, int pixels, float eps,
                           int add);

/* Groups of channels / groups consecutive channels are normalised over their own mean and (biased) variance, which are
   kept in mean and inv_std, both [groups], unless they are NULL. gamma and beta: [channels]. out == in is allowed. */
void ts_group_norm(float *out, const float *in, const float *gamma, const float *beta, float *mean, float *inv_std,
                   int groups, int channels, int pixels, float eps);

/* ---- Forward: activations, in place, as PyTorch defines them ---------------------------------------------------- */

void ts_relu(float *x, int count);
void ts_relu6(float *x, int count);
void ts_hardswish(float *x, int count);
void ts_silu(float *x, int count);
void ts_hardsigmoid(float *x, int count);
void ts_sigmoid(float *x, int count);

/* The same where the input is kept. */
void ts_hardswish_to(float *out, const float *in, int count);
void ts_silu_to(float *out, const float *in, int count);

/* The same in place, and one bit an element (bit i % 8, from the lowest, of byte i / 8) that says where the derivative
   is not 0: x > 0; 0 < x < 6; -3 < x < 3. mask: (count + 7) / 8 bytes; bits past the last are 0. */
void ts_relu_mask(float *x, uint8_t *mask, int count);
void ts_relu6_mask(float *x, uint8_t *mask, int count);
void ts_hardsigmoid_mask(float *x, uint8_t *mask, int count);

/* Bits that say where x >= 0, which stand for the derivative of any activation (MobileTL, Chiang et al. 2023). */
void ts_sign_mask(const float *x, uint8_t *mask, int count);

/* The same where element 0 has bit first_bit: bits below it stay, those above the last in its byte become 0. So parts of
   a map come in order. */
void ts_relu_mask_part(float *x, uint8_t *mask, int first_bit, int count);
void ts_relu6_mask_part(float *x, uint8_t *mask, int first_bit, int count);
void ts_hardsigmoid_mask_part(float *x, uint8_t *mask, int first_bit, int count);
void ts_sign_mask_part(const float *x, uint8_t *mask, int first_bit, int count);

/* ---- Forward: the rest ------------------------------------------------------------------------------------------ */

/* out += a */
void ts_add(float *out, const float *a, int count);

/* out [channels] = mean of each channel. */
void ts_mean(float *out, const float *in, int channels, int pixels);

/* Windows of kernel x kernel, stride kernel; rows and columns that fill no window are left out. */
void ts_avg_pool(float *out, const float *in, int channels, int height, int width, int kernel);

/* Bilinear interpolation to out_h x out_w, as PyTorch's with align_corners=False. add: out += instead of out =. */
void ts_bilinear(float *out, const float *in, int channels, int in_h, int in_w, int out_h, int out_w, int add);

/* out = in * scale[channel]: squeeze and excite, and the input gradient of an affine. out == in is allowed. */
void ts_scale_channels(float *out, const float *in, const float *scale, int channels, int pixels);

/* out [count][pixels] = the channels of in that index names. */
void ts_gather(float *out, const float *in, const uint16_t *index, int count, int pixels);

/* The same of those that lie in a range, where `in` begins; `out` begins at the first that index names. */
void ts_gather_part(float *out, const float *in, const uint16_t *index, int count, ts_range channels, int pixels);

/* ---- Loss ------------------------------------------------------------------------------------------------------- */

/* Cross entropy of softmax(logits [classes]) at one label, which is returned; gradient [classes] is that of the
   logits. gradient == logits is allowed. */
float ts_cross_entropy(float *gradient, const float *logits, int label, int classes);

/* ---- Backward: layers with weights -------------------------------------------------------------------------------

   Where a kernel takes ranges of channels, gradients (gin, gout) begin at the first channel of the range; weights,
   `in` and dst begin at channel 0. `in` is what the forward pass kept: all channels, or those of w->index where only
   they are read, in its order (TS_IN, and TS_OUT of a depthwise layer).

   Gradients of weights are added: dst += factor * gradient, where dst is laid out as w->trained. So a caller gathers
   gradients over a micro-batch (dst a buffer, factor 1 / batch), or updates at once (dst w->trained, factor minus the
   learning rate); dx of a layer must then run before its dw. add: gin += instead of gin =. */

/* gin [in.count][pixels] = transposed weight gout; gout [out.count][pixels]. Only outputs in `out` are summed over. */
void ts_pointwise_dx(float *gin, const float *gout, const ts_weight *w, int in_channels, int out_channels, ts_range in,
                     ts_range out, int pixels, int add);

/* gout [out_range.count][pixels]. Gradients of weights outside of the ranges are left alone. */
void ts_pointwise_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w, int in_channels,
                     int out_channels, ts_range in_range, ts_range out_range, int pixels);

/* gin == gout is allowed where a channel of both is equally large: scratch is one output channel, unused and possibly
   NULL otherwise. */
void ts_depthwise_dx(float *gin, const float *gout, const ts_weight *w, const ts_conv_shape *s, ts_range channels,
                     float *scratch);
void ts_depthwise_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w,
                     const ts_conv_shape *s, ts_range channels);

void ts_conv_dx(float *gin, const float *gout, const ts_weight *w, const ts_conv_shape *s, int add);
void ts_conv_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w,
                const ts_conv_shape *s);

void ts_linear_dx(float *gin, const float *gout, const ts_weight *w, int in_features, int out_features, int add);
void ts_linear_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w, int in_features,
                  int out_features);

/* dst [channels] += factor * sum of each channel: the gradient of biases and shifts. */
void ts_channel_sum(float *dst, float factor, const float *g, int channels, int pixels);

/* ---- Backward: norms -------------------------------------------------------------------------------------------- */

/* dst [channels] += factor * sum of g * (x - mean) * inv_std: the gradient of a batch norm's scale; x is its input. */
void ts_scale_gradient(float *dst, float factor, const float *g, const float *x, const float *mean,
                       const float *inv_std, int channels, int pixels);

/* x is the norm's input; mean and inv_std ([groups]) are what the forward pass kept. gin == gout is allowed. */
void ts_group_norm_dx(float *gin, const float *gout, const float *x, const float *gamma, const float *mean,
                      const float *inv_std, int groups, int channels, int pixels);
void ts_group_norm_dscale(float *dst, float factor, const float *gout, const float *x, const float *mean,
                          const float *inv_std, int groups, int channels, int pixels);

/* ---- Backward: activations. g is the gradient of the output and becomes that of the input. ----------------------- */

/* g = g * slope where the bit is set, else 0. Element 0 has bit first_bit. slope: 1, or 1 / 6 of a hard sigmoid. */
void ts_mask_backward(float *g, const uint8_t *mask, int first_bit, int count, float slope);

/* By the output y: g where y > 0; where 0 < y < 6; g * y * (1 - y). */
void ts_relu_backward(float *g, const float *y, int count);
void ts_relu6_backward(float *g, const float *y, int count);
void ts_sigmoid_backward(float *g, const float *y, int count);

/* By the input x. */
void ts_hardswish_backward(float *g, const float *x, int count);
void ts_silu_backward(float *g, const float *x, int count);

/* ---- Backward: the rest ------------------------------------------------------------------------------------------ */

void ts_mean_dx(float *gin, const float *gout, int channels, int pixels, int add);
void ts_avg_pool_dx(float *gin, const float *gout, int channels, int height, int width, int kernel, int add);

/* gin [channels][in_h][in_w] of gout [channels][out_h][out_w]. */
void ts_bilinear_dx(float *gin, const float *gout, int channels, int in_h, int in_w, int out_h, int out_w);

/* out [channels] = sum of g * x of each channel: the gradient of a squeeze-and-excite scale. */
void ts_dot_channels(float *out, const float *g, const float *x, int channels, int pixels);

/* ---- Weights that train ------------------------------------------------------------------------------------------ */

/* w->trained = those of the values as exported that train. */
void ts_load_weight(const ts_weight *w, const ts_conv_shape *s);

/* ---- Update ------------------------------------------------------------------------------------------------------ */

/* y += factor * x */
void ts_axpy(float *y, float factor, const float *x, int count);

/* x *= factor */
void ts_decay(float *x, float factor, int count);

void ts_zero(float *x, int count);

/* CRC-32 as zlib's: begin with crc = 0, go on with what was returned. */
uint32_t ts_crc32(uint32_t crc, const void *data, size_t size);

/* ---- Row by row ---------------------------------------------------------------------------------------------------

   A stretch of frozen layers is computed through rings of lines, so that only the last map exists as a whole and
   nothing is computed twice (Lin et al., "MCUNetV2" (2021) computes overlapping patches instead). */

enum { TS_ROW_CONV, TS_ROW_DEPTHWISE, TS_ROW_POINTWISE, TS_ROW_ADD };
enum { TS_NONE, TS_RELU, TS_RELU6, TS_HARDSWISH, TS_SILU, TS_HARDSIGMOID, TS_SIGMOID };

/* One layer. Its line is [channel][column]; row r lies in line r % lines of its ring. `shape` is filled in completely
   for every kind (of a sum: kernel 1, stride 1, no pads). Stage 0 reads the source. */
typedef struct {
    uint8_t kind;               /* TS_ROW_CONV (dense or grouped), TS_ROW_DEPTHWISE, TS_ROW_POINTWISE, TS_ROW_ADD */
    uint8_t act;                /* TS_NONE, TS_RELU, ...: applied behind the bias */
    int8_t input, other;        /* earlier stages whose lines are read, -1: the source; other: of a sum only */
    ts_conv_shape shape;
    const float *weight, *bias; /* norms are folded into both; bias may be NULL */
    int lines;                  /* of this stage's ring; unused in the last stage, which writes the map `out` */
    int offset;                 /* where the ring begins in the scratch, in floats */
} ts_row_stage;

/* Writes row `row` of the source, [channel][column]. */
typedef void (*ts_row_source)(void *context, int row, float *line);

/* Computes the map `out` of the last stage.

   The source is the whole map `in`; or, where `in` is NULL, what `source` delivers, into a ring of source_lines lines
   at the beginning of the scratch. It is called once a row, in order, until the last stage is done.

   While the last stage is not done, the most downstream stage whose input rows are all there computes its next row; if
   none can, the source delivers its next row. A stage of kernel k needs rows r * stride - pad .. r * stride - pad + k -
   1 of its input, clipped to the map, for its row r. A ring must have as many lines as, at any time, rows produced
   minus the oldest row that a reader still needs.

   state: count + 1 integers, whatever they hold. */
void ts_rows(float *out, const float *in, ts_row_source source, void *context, int source_lines,
             const ts_row_stage *stages, int count, int *state, float *scratch);

#ifdef __cplusplus
}
#endif

#endif
