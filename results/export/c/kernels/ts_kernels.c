/* Kernels of on-device training in float32: see ts_kernels.h. */
#include "ts_kernels.h"

#include <math.h>
#include <string.h>

#include "ts_port.h"

/* ---- Helpers ---------------------------------------------------------------------------------------------------- */

TS_INLINE int min_int(int a, int b) { return a < b ? a : b; }
TS_INLINE int max_int(int a, int b) { return a > b ? a : b; }

/* Four neighbours in registers: with four of them and what they are multiplied by, the 32 registers of the FPU are in
   use, and an operand that was loaded once is used four times. */
typedef struct {
    float a, b, c, d;
} quad;

TS_INLINE quad four(float x)
{
    const quad q = {x, x, x, x};
    return q;
}

/* x[0], x[step], x[2 * step], x[3 * step] */
TS_INLINE quad load(const float *x, int step)
{
    const quad q = {x[0], x[step], x[2 * step], x[3 * step]};
    return q;
}

/* The first `count`, at most four. */
TS_INLINE quad load_some(const float *x, int count)
{
    if (count >= 4)
        return load(x, 1);
    quad q = {x[0], 0.0f, 0.0f, 0.0f};
    if (count > 1)
        q.b = x[1];
    if (count > 2)
        q.c = x[2];
    return q;
}

TS_INLINE void store(float *x, quad q)
{
    x[0] = q.a;
    x[1] = q.b;
    x[2] = q.c;
    x[3] = q.d;
}

TS_INLINE void store_some(float *x, quad q, int count)
{
    if (count >= 4) {
        store(x, q);
        return;
    }
    x[0] = q.a;
    if (count > 1)
        x[1] = q.b;
    if (count > 2)
        x[2] = q.c;
}

TS_INLINE quad times(quad x, float factor)
{
    const quad q = {x.a * factor, x.b * factor, x.c * factor, x.d * factor};
    return q;
}

/* sum + factor * x */
TS_INLINE quad plus(quad sum, float factor, quad x)
{
    const quad q = {TS_FMA(factor, x.a, sum.a), TS_FMA(factor, x.b, sum.b), TS_FMA(factor, x.c, sum.c),
                    TS_FMA(factor, x.d, sum.d)};
    return q;
}

TS_INLINE void fill(float *x, float value, int count)
{
    int i = 0;
    for (; i + 4 <= count; i += 4)
        store(x + i, four(value));
    for (; i < count; i++)
        x[i] = value;
}

TS_INLINE void copy(float *out, const float *in, int count)
{
    int i = 0;
    for (; i + 4 <= count; i += 4)
        store(out + i, load(in + i, 1));
    for (; i < count; i++)
        out[i] = in[i];
}

/* sum + the products of four pairs */
TS_INLINE float dot(float sum, quad a, quad b)
{
    return TS_FMA(a.d, b.d, TS_FMA(a.c, b.c, TS_FMA(a.b, b.b, TS_FMA(a.a, b.a, sum))));
}

/* Sums are in four parts, which do not wait for each other, and whose rounding errors are smaller. */
TS_INLINE quad plus_products(quad sum, quad a, quad b)
{
    const quad q = {TS_FMA(a.a, b.a, sum.a), TS_FMA(a.b, b.b, sum.b), TS_FMA(a.c, b.c, sum.c),
                    TS_FMA(a.d, b.d, sum.d)};
    return q;
}

TS_INLINE float total_of(quad q) { return (q.a + q.b) + (q.c + q.d); }

static float sum(const float *x, int count)
{
    quad parts = four(0.0f);
    int i = 0;
    for (; i + 4 <= count; i += 4)
        parts = plus(parts, 1.0f, load(x + i, 1));
    for (; i < count; i++)
        parts.a += x[i];
    return total_of(parts);
}

/* ---- Weights of which a part trains ----------------------------------------------------------------------------- */

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

/* Whether some channels along `axis` train, but not all of the weight. */
TS_INLINE int trains_partly(const ts_weight *w, int axis)
{
    return w->trained != NULL && w->index != NULL && w->axis == axis;
}

/* The place of a channel among those that train along its axis, -1 if it does not. */
static int trained_place(const ts_weight *w, int channel)
{
    if (w->index == NULL)
        return channel;
    const int place = lower_bound(w->index, w->count, channel);
    return place < w->count && w->index[place] == channel ? place : -1;
}

/* The places in `trained`, along an axis, of the channels of a range: channel numbers themselves where all train. */
static ts_range trained_places(const ts_weight *w, int axis, ts_range channels)
{
    if (!trains_partly(w, axis))
        return channels;
    ts_range places;
    places.first = lower_bound(w->index, w->count, channels.first);
    places.count = lower_bound(w->index, w->count, channels.first + channels.count) - places.first;
    return places;
}

/* The channel at a place. */
TS_INLINE int trained_channel(const ts_weight *w, int axis, int place)
{
    return trains_partly(w, axis) ? w->index[place] : place;
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

/* Row `out` of a matrix [out][ins]; where columns train, without them. */
static const float *matrix_row(const ts_weight *w, int out, int ins)
{
    if (w->trained == NULL || trains_partly(w, TS_IN))
        return w->frozen + out * ins;
    const int place = trained_place(w, out);
    return place < 0 ? w->frozen + out * ins : w->trained + place * ins;
}

/* Row `out`, where `before` is the one before it: they seldom lie apart. */
static const float *next_row(const ts_weight *w, const float *before, int out, int ins)
{
    return trains_partly(w, TS_OUT) ? matrix_row(w, out, ins) : before + ins;
}

/* ---- Products of matrices: pointwise and linear layers ---------------------------------------------------------- */

/* Depth of a packed strip: 4 * 96 floats are 1.5 KiB of stack. */
enum { STRIP = 96 };

/* strip [inputs.count][4] = four rows of a weight, transposed. Where there are fewer, the last one is repeated. */
static void pack_outputs(float *strip, const ts_weight *w, int in_channels, ts_range outputs, ts_range inputs)
{
    const int first = outputs.first, last = outputs.count - 1;
    const float *row0 = matrix_row(w, first, in_channels);
    const float *row1 = last < 1 ? row0 : next_row(w, row0, first + 1, in_channels);
    const float *row2 = last < 2 ? row1 : next_row(w, row1, first + 2, in_channels);
    const float *row3 = last < 3 ? row2 : next_row(w, row2, first + 3, in_channels);
    row0 += inputs.first, row1 += inputs.first, row2 += inputs.first, row3 += inputs.first;
    for (int k = 0; k < inputs.count; k++) {
        const quad column = {*row0++, *row1++, *row2++, *row3++};
        store(strip + 4 * k, column);
    }
    if (!trains_partly(w, TS_IN))
        return;
    const ts_range places = trained_places(w, TS_IN, inputs);
    for (int place = places.first; place < places.first + places.count; place++)
        for (int r = 0; r <= last; r++)
            strip[4 * (w->index[place] - inputs.first) + r] = w->trained[(first + r) * w->count + place];
}

/* strip [outputs.count][4] = four columns of a weight; columns past the last are 0. */
static void pack_inputs(float *strip, const ts_weight *w, int in_channels, ts_range inputs, ts_range outputs)
{
    const float *row = matrix_row(w, outputs.first, in_channels) + inputs.first;
    for (int k = 0; k < outputs.count; k++, row += in_channels) {
        if (trains_partly(w, TS_OUT))
            row = matrix_row(w, outputs.first + k, in_channels) + inputs.first;
        store(strip + 4 * k, load_some(row, inputs.count));
    }
    if (!trains_partly(w, TS_IN))
        return;
    const ts_range places = trained_places(w, TS_IN, inputs);
    for (int place = places.first; place < places.first + places.count; place++) {
        const float *column = w->trained + outputs.first * w->count + place;
        for (int k = 0; k < outputs.count; k++)
            strip[4 * k + w->index[place] - inputs.first] = column[k * w->count];
    }
}

/* out [rows][pixels] += packed strip [depth][4], transposed, times in [depth][pixels]; rows: at most 4, which the 16
   sums and what they read fill the registers with. */
static void multiply_strip(float *out, int out_step, int rows, const float *strip, const float *in, int in_step,
                           int depth, int pixels)
{
    float *out0 = out, *out1 = rows > 1 ? out0 + out_step : out0, *out2 = rows > 2 ? out1 + out_step : out1;
    float *out3 = rows > 3 ? out2 + out_step : out2;
    int p = 0;
    for (; p + 4 <= pixels; p += 4) {
        quad row0 = load(out0 + p, 1), row1 = load(out1 + p, 1), row2 = load(out2 + p, 1), row3 = load(out3 + p, 1);
        const float *x = in + p, *w = strip;
        for (int k = 0; k < depth; k++, x += in_step, w += 4) {
            const quad q = load(x, 1);
            row0 = plus(row0, w[0], q);
            row1 = plus(row1, w[1], q);
            row2 = plus(row2, w[2], q);
            row3 = plus(row3, w[3], q);
        }
        /* Backwards, as rows past the last lie on it. */
        store(out3 + p, row3);
        store(out2 + p, row2);
        store(out1 + p, row1);
        store(out0 + p, row0);
    }
    for (; p < pixels; p++) {
        quad column = {out0[p], out1[p], out2[p], out3[p]};
        const float *x = in + p, *w = strip;
        for (int k = 0; k < depth; k++, x += in_step, w += 4)
            column = plus(column, *x, load(w, 1));
        out3[p] = column.d;
        out2[p] = column.c;
        out1[p] = column.b;
        out0[p] = column.a;
    }
}

/* out [outs.count] = the part of a weight in the ranges, times in [ins.count], + bias; add: out += it. Channels begin
   out_step and in_step floats apart. */
static void multiply(float *out, int out_step, const float *in, int in_step, const ts_weight *w, const float *bias,
                     int in_channels, ts_range ins, ts_range outs, int pixels, int add)
{
    float strip[4 * STRIP];
    for (int o = 0; o < outs.count; o += 4) {
        const ts_range outputs = {outs.first + o, min_int(4, outs.count - o)};
        for (int n = 0; n < outputs.count && !add; n++)
            fill(out + (o + n) * out_step, bias == NULL ? 0.0f : bias[outputs.first + n], pixels);
        for (int i = 0; i < ins.count; i += STRIP) {
            const ts_range inputs = {ins.first + i, min_int(STRIP, ins.count - i)};
            pack_outputs(strip, w, in_channels, outputs, inputs);
            multiply_strip(out + o * out_step, out_step, outputs.count, strip, in + i * in_step, in_step, inputs.count,
                           pixels);
        }
    }
}

/* out[0 .. rows - 1] += products of rows of a weight and x; rows: at most 4. */
static void multiply_rows(float *out, int rows, const ts_weight *w, int first, const float *x, int count)
{
    const float *w0 = matrix_row(w, first, count);
    const float *w1 = rows > 1 ? next_row(w, w0, first + 1, count) : w0;
    const float *w2 = rows > 2 ? next_row(w, w1, first + 2, count) : w1;
    const float *w3 = rows > 3 ? next_row(w, w2, first + 3, count) : w2;
    quad total = load_some(out, rows);
    for (int i = 0; i < count; i++) {
        const quad column = {*w0++, *w1++, *w2++, *w3++};
        total = plus(total, *x++, column);
    }
    store_some(out, total, rows);
}

void ts_linear(float *out, const float *in, const ts_weight *w, const float *bias, int in_features, int out_features)
{
    const ts_range ins = {0, in_features}, outs = {0, out_features};
    if (trains_partly(w, TS_IN)) {
        multiply(out, 1, in, 1, w, bias, in_features, ins, outs, 1, 0);
        return;
    }
    for (int o = 0; o < out_features; o += 4) {
        const int rows = min_int(4, out_features - o);
        for (int n = o; n < o + rows; n++)
            out[n] = bias == NULL ? 0.0f : bias[n];
        multiply_rows(out + o, rows, w, o, in, in_features);
    }
}

void ts_pointwise(float *out, const float *in, const ts_weight *w, const float *bias, int in_channels,
                  int out_channels, int pixels)
{
    const ts_range ins = {0, in_channels}, outs = {0, out_channels};
    if (pixels == 1)
        ts_linear(out, in, w, bias, in_channels, out_channels);
    else
        multiply(out, pixels, in, pixels, w, bias, in_channels, ins, outs, pixels, 0);
}

void ts_pointwise_part(float *out, const float *in, const ts_weight *w, const float *bias, int in_channels,
                       int out_channels, ts_range in_range, ts_range out_range, int pixels, int add)
{
    (void)out_channels;
    multiply(out, pixels, in, pixels, w, bias, in_channels, in_range, out_range, pixels, add);
}

void ts_pointwise_dx(float *gin, const float *gout, const ts_weight *w, int in_channels, int out_channels, ts_range in,
                     ts_range out, int pixels, int add)
{
    float strip[4 * STRIP];
    (void)out_channels;
    if (!add)
        fill(gin, 0.0f, in.count * pixels);
    for (int i = 0; i < in.count; i += 4) {
        const ts_range inputs = {in.first + i, min_int(4, in.count - i)};
        for (int o = 0; o < out.count; o += STRIP) {
            const ts_range outputs = {out.first + o, min_int(STRIP, out.count - o)};
            pack_inputs(strip, w, in_channels, inputs, outputs);
            multiply_strip(gin + i * pixels, pixels, inputs.count, strip, gout + o * pixels, pixels, outputs.count,
                           pixels);
        }
    }
}

/* gin [count] += a transposed matrix, whose rows begin row_step floats apart, times gout [rows]. */
static void multiply_columns(float *gin, int count, const float *gout, int rows, const float *matrix, int row_step)
{
    int i = 0;
    for (; i + 8 <= count; i += 8) {
        quad low = load(gin + i, 1), high = load(gin + i + 4, 1);
        const float *w = matrix + i, *g = gout;
        for (int o = 0; o < rows; o++, w += row_step, g++) {
            low = plus(low, *g, load(w, 1));
            high = plus(high, *g, load(w + 4, 1));
        }
        store(gin + i, low);
        store(gin + i + 4, high);
    }
    for (; i < count; i++)
        for (int o = 0; o < rows; o++)
            gin[i] = TS_FMA(gout[o], matrix[o * row_step + i], gin[i]);
}

void ts_linear_dx(float *gin, const float *gout, const ts_weight *w, int in_features, int out_features, int add)
{
    const ts_range in = {0, in_features}, out = {0, out_features};
    if (trains_partly(w, TS_IN)) {
        ts_pointwise_dx(gin, gout, w, in_features, out_features, in, out, 1, add);
        return;
    }
    if (!add)
        fill(gin, 0.0f, in_features);
    /* Stretches of rows that lie behind each other. */
    for (int o = 0, end; o < out_features; o = end) {
        const float *row = matrix_row(w, o, in_features);
        end = o + 1;
        while (end < out_features && matrix_row(w, end, in_features) == row + (end - o) * in_features)
            end++;
        multiply_columns(gin, in_features, gout + o, end - o, row, in_features);
    }
}

/* dst[0 .. count - 1] += factor * q; count: at most 4. */
TS_INLINE void add_some(float *dst, float factor, quad q, int count)
{
    dst[0] = TS_FMA(factor, q.a, dst[0]);
    if (count > 1)
        dst[1] = TS_FMA(factor, q.b, dst[1]);
    if (count > 2)
        dst[2] = TS_FMA(factor, q.c, dst[2]);
    if (count > 3)
        dst[3] = TS_FMA(factor, q.d, dst[3]);
}

/* dst [rows][columns], whose rows begin row_length floats apart, += factor * products of the rows g and x
   [columns][pixels]; both at most 4: 16 sums of 8 operands in registers. */
static void gradient_block(float *dst, int row_length, float factor, const float *const g[4], int rows, const float *x,
                           int columns, int pixels)
{
    const float *g0 = g[0], *g1 = g[1], *g2 = g[2], *g3 = g[3];
    const float *x0 = x, *x1 = columns > 1 ? x0 + pixels : x0, *x2 = columns > 2 ? x1 + pixels : x1;
    const float *x3 = columns > 3 ? x2 + pixels : x2;
    quad row0 = four(0.0f), row1 = row0, row2 = row0, row3 = row0;
    for (int p = 0; p < pixels; p++) {
        const quad column = {*x0++, *x1++, *x2++, *x3++};
        row0 = plus(row0, *g0++, column);
        row1 = plus(row1, *g1++, column);
        row2 = plus(row2, *g2++, column);
        row3 = plus(row3, *g3++, column);
    }
    add_some(dst, factor, row0, columns);
    if (rows > 1)
        add_some(dst + row_length, factor, row1, columns);
    if (rows > 2)
        add_some(dst + 2 * row_length, factor, row2, columns);
    if (rows > 3)
        add_some(dst + 3 * row_length, factor, row3, columns);
}

/* Rows of dst at the places `outs`, `columns` floats each, += factor * g of the row's channel * x. g begins at channel
   `first`. */
static void add_outer_product(float *dst, int row_length, float factor, const float *g, int first, const ts_weight *w,
                              ts_range outs, const float *x, int columns)
{
    const int end = outs.first + outs.count;
    int o = outs.first;
    for (; o + 4 <= end; o += 4) {
        float *row0 = dst + o * row_length, *row1 = row0 + row_length, *row2 = row1 + row_length;
        float *row3 = row2 + row_length;
        float factors[4];
        for (int r = 0; r < 4; r++)
            factors[r] = factor * g[trained_channel(w, TS_OUT, o + r) - first];
        const quad f = load(factors, 1);
        for (int i = 0; i < columns; i++, row0++, row1++, row2++, row3++) {
            const float value = x[i];
            *row0 = TS_FMA(f.a, value, *row0);
            *row1 = TS_FMA(f.b, value, *row1);
            *row2 = TS_FMA(f.c, value, *row2);
            *row3 = TS_FMA(f.d, value, *row3);
        }
    }
    for (; o < end; o++)
        ts_axpy(dst + o * row_length, factor * g[trained_channel(w, TS_OUT, o) - first], x, columns);
}

void ts_pointwise_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w, int in_channels,
                     int out_channels, ts_range in_range, ts_range out_range, int pixels)
{
    const ts_range outs = trained_places(w, TS_OUT, out_range), ins = trained_places(w, TS_IN, in_range);
    const int row_length = trains_partly(w, TS_IN) ? w->count : in_channels;
    (void)out_channels;
    if (pixels == 1) {
        add_outer_product(dst + ins.first, row_length, factor, gout, out_range.first, w, outs, in + ins.first,
                          ins.count);
        return;
    }
    for (int o = outs.first; o < outs.first + outs.count; o += 4) {
        const int rows = min_int(4, outs.first + outs.count - o);
        const float *g[4];
        for (int r = 0; r < 4; r++)
            g[r] = gout + (trained_channel(w, TS_OUT, o + min_int(r, rows - 1)) - out_range.first) * pixels;
        for (int i = ins.first; i < ins.first + ins.count; i += 4)
            gradient_block(dst + o * row_length + i, row_length, factor, g, rows, in + i * pixels,
                           min_int(4, ins.first + ins.count - i), pixels);
    }
}

void ts_linear_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w, int in_features,
                  int out_features)
{
    const ts_range ins = {0, in_features}, outs = {0, out_features};
    ts_pointwise_dw(dst, factor, gout, in, w, in_features, out_features, ins, outs, 1);
}

/* ---- Convolutions: tiles ---------------------------------------------------------------------------------------- */

/* Rows of a map: the map itself, or lines of a ring. */
typedef struct {
    const float *first; /* row 0 of channel 0 */
    int lines;          /* rows r and r + lines lie in the same place */
    int row_step;       /* floats from a row to the next */
    int channel_step;   /* floats from a channel to the next within a row */
} rows;

TS_INLINE const float *row_at(const rows *of, int channel, int row)
{
    return of->first + row % of->lines * of->row_step + channel * of->channel_step;
}

static rows whole_map(const float *first, int height, int width)
{
    const rows r = {first, height, width, height * width};
    return r;
}

/* Where results go: `first` is row 0 of channel 0. */
typedef struct {
    float *first;
    int row_step, channel_step;
} target;

static target whole_target(float *first, int height, int width)
{
    const target t = {first, width, height * width};
    return t;
}

/* A tile is a copy of the inputs of some outputs, zeros of the padding included, so that no loop over a filter asks
   where it is. With 16 outputs a row, 1.2 KB have room for a row of the largest filter: of stride 2, or of stride 1
   beside turned filters. */
enum { TILE_COLUMNS = 16, TILE = 300, MAX_TAPS = 7 * 7, TURNED = 4 * 5 * 5 };

/* Some outputs of a convolution, and their tile. */
typedef struct {
    int row, column, rows, columns; /* of the outputs */
    int tile_row, tile_column;      /* of the map, where the tile begins */
    int tile_rows, pitch;           /* size of the tile */
} area;

/* The outputs from row `row` and column `column` on whose tile has room; none (no rows) at `end`. */
static area area_at(const ts_conv_shape *s, int row, int column, int end, int room)
{
    area a;
    a.row = row;
    a.column = column;
    a.columns = min_int(TILE_COLUMNS, s->out_width - column);
    a.pitch = ((a.columns + 3) / 4 * 4 - 1) * s->stride + s->kernel_w;
    a.rows = a.columns > 0 ? min_int(end - row, (room / a.pitch - s->kernel_h) / s->stride + 1) : 0;
    a.tile_row = row * s->stride - s->pad_top;
    a.tile_column = column * s->stride - s->pad_left;
    a.tile_rows = (a.rows - 1) * s->stride + s->kernel_h;
    return a;
}

/* The next one: downwards, then to the right. */
static area area_after(const ts_conv_shape *s, const area *a, int first, int end, int room)
{
    if (a->row + a->rows < end)
        return area_at(s, a->row + a->rows, a->column, end, room);
    return area_at(s, first, a->column + a->columns, end, room);
}

/* Put zeros where a tile leaves the map. */
static void clear_tile(float *tile, const area *a, const ts_conv_shape *s)
{
    if (a->tile_row < 0 || a->tile_row + a->tile_rows > s->in_height || a->tile_column < 0 ||
        a->tile_column + a->pitch > s->in_width)
        fill(tile, 0.0f, a->tile_rows * a->pitch);
}

/* Copy what of a channel lies under the tile; the rest of the tile stays. */
static void load_tile(float *tile, const area *a, const ts_conv_shape *s, const rows *map, int channel)
{
    const int left = max_int(0, -a->tile_column), right = min_int(a->pitch, s->in_width - a->tile_column);
    const int top = max_int(0, -a->tile_row), bottom = min_int(a->tile_rows, s->in_height - a->tile_row);
    for (int y = top; y < bottom; y++)
        copy(tile + y * a->pitch + left, row_at(map, channel, a->tile_row + y) + a->tile_column + left, right - left);
}

/* Filters of 3, 5 or 7 a side and strides of 1 and 2 are fast, any others right. */
static int is_usual(const ts_conv_shape *s)
{
    return s->kernel_h == s->kernel_w && (s->kernel_h == 3 || s->kernel_h == 5 || s->kernel_h == 7) && s->stride <= 2;
}

/* Outputs x, x + 1, x + 2, x + 3 of one row of a filter of k columns. */
TS_INLINE quad taps(quad sum, const float *x, const float *w, int k, int stride)
{
    sum = plus(sum, w[0], load(x, stride));
    sum = plus(sum, w[1], load(x + 1, stride));
    sum = plus(sum, w[2], load(x + 2, stride));
    if (k > 3) {
        sum = plus(sum, w[3], load(x + 3, stride));
        sum = plus(sum, w[4], load(x + 4, stride));
    }
    if (k > 5) {
        sum = plus(sum, w[5], load(x + 5, stride));
        sum = plus(sum, w[6], load(x + 6, stride));
    }
    return sum;
}

/* out = bias + one channel by one filter; bias NULL: out += it. k and stride are constants where it is called. */
TS_INLINE void filter_tile(float *out, int row_step, const float *tile, const area *a, const float *w,
                           const float *bias, int k, int stride)
{
    for (int y = 0; y < a->rows; y++)
        for (int x = 0; x < a->columns; x += 4) {
            const float *line = tile + y * stride * a->pitch + x * stride, *f = w;
            float *place = out + y * row_step + x;
            quad sum = bias == NULL ? load_some(place, a->columns - x) : four(*bias);
            if (k == 3) { /* its nine weights stay in registers */
                sum = taps(sum, line, f, k, stride);
                sum = taps(sum, line + a->pitch, f + 3, k, stride);
                sum = taps(sum, line + 2 * a->pitch, f + 6, k, stride);
            } else {
                for (int ky = 0; ky < k; ky++, line += a->pitch, f += k)
                    sum = taps(sum, line, f, k, stride);
            }
            store_some(place, sum, a->columns - x);
        }
}

/* The same for four outputs, channel_step floats apart: what is loaded from the tile serves four filters. */
TS_INLINE void filter_tile_by_four(float *out, int channel_step, int row_step, const float *tile, const area *a,
                                   const float *const w[4], int k, int stride)
{
    for (int y = 0; y < a->rows; y++)
        for (int x = 0; x < a->columns; x += 4) {
            const float *line = tile + y * stride * a->pitch + x * stride;
            const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
            const int count = a->columns - x;
            float *out0 = out + y * row_step + x, *out1 = out0 + channel_step, *out2 = out1 + channel_step;
            float *out3 = out2 + channel_step;
            quad sum0 = load_some(out0, count), sum1 = load_some(out1, count);
            quad sum2 = load_some(out2, count), sum3 = load_some(out3, count);
            for (int ky = 0; ky < k; ky++, line += a->pitch, w0 += k, w1 += k, w2 += k, w3 += k) {
                sum0 = taps(sum0, line, w0, k, stride);
                sum1 = taps(sum1, line, w1, k, stride);
                sum2 = taps(sum2, line, w2, k, stride);
                sum3 = taps(sum3, line, w3, k, stride);
            }
            store_some(out0, sum0, count);
            store_some(out1, sum1, count);
            store_some(out2, sum2, count);
            store_some(out3, sum3, count);
        }
}

/* sums [k][k] = products of the gradient of the outputs and what each tap of the filter read. */
TS_INLINE void correlate_tile(float *sums, const float *g, int row_step, const float *tile, const area *a, int k,
                              int stride)
{
    for (int ky = 0; ky < k; ky++, sums += k) {
        float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f, s4 = 0.0f, s5 = 0.0f, s6 = 0.0f;
        for (int y = 0; y < a->rows; y++) {
            const float *line = tile + (y * stride + ky) * a->pitch, *row = g + y * row_step;
            for (int x = 0; x < a->columns; x += 4, row += 4, line += 4 * stride) {
                const quad q = load_some(row, a->columns - x);
                s0 = dot(s0, q, load(line, stride));
                s1 = dot(s1, q, load(line + 1, stride));
                s2 = dot(s2, q, load(line + 2, stride));
                if (k > 3) {
                    s3 = dot(s3, q, load(line + 3, stride));
                    s4 = dot(s4, q, load(line + 4, stride));
                }
                if (k > 5) {
                    s5 = dot(s5, q, load(line + 5, stride));
                    s6 = dot(s6, q, load(line + 6, stride));
                }
            }
        }
        sums[0] = s0;
        sums[1] = s1;
        sums[2] = s2;
        if (k > 3) {
            sums[3] = s3;
            sums[4] = s4;
        }
        if (k > 5) {
            sums[5] = s5;
            sums[6] = s6;
        }
    }
}

/* One of these for every filter and stride, so that a compiler knows them. */
#define EACH_FILTER(k, stride, call)                                                                                   \
    do {                                                                                                               \
        if ((k) == 3 && (stride) == 1)                                                                                 \
            call(3, 1);                                                                                                \
        else if ((k) == 3)                                                                                             \
            call(3, 2);                                                                                                \
        else if ((k) == 5 && (stride) == 1)                                                                            \
            call(5, 1);                                                                                                \
        else if ((k) == 5)                                                                                             \
            call(5, 2);                                                                                                \
        else if ((stride) == 1)                                                                                        \
            call(7, 1);                                                                                                \
        else                                                                                                           \
            call(7, 2);                                                                                                \
    } while (0)

static void filter_any(float *out, int row_step, const float *tile, const area *a, const float *w, const float *bias,
                       const ts_conv_shape *s)
{
#define FILTER(k, stride) filter_tile(out, row_step, tile, a, w, bias, k, stride)
    EACH_FILTER(s->kernel_h, s->stride, FILTER);
#undef FILTER
}

static void filter_any_by_four(float *out, int channel_step, int row_step, const float *tile, const area *a,
                               const float *const w[4], const ts_conv_shape *s)
{
#define FILTER(k, stride) filter_tile_by_four(out, channel_step, row_step, tile, a, w, k, stride)
    EACH_FILTER(s->kernel_h, s->stride, FILTER);
#undef FILTER
}

static void correlate_any(float *sums, const float *g, int row_step, const float *tile, const area *a,
                          const ts_conv_shape *s)
{
#define CORRELATE(k, stride) correlate_tile(sums, g, row_step, tile, a, k, stride)
    EACH_FILTER(s->kernel_h, s->stride, CORRELATE);
#undef CORRELATE
}

/* The filter w turned by half a turn, at `turned`. */
static const float *turn(float *turned, const float *w, const ts_conv_shape *s)
{
    const int count = s->kernel_h * s->kernel_w;
    for (int n = 0; n < count; n++)
        turned[n] = w[count - 1 - n];
    return turned;
}

/* The convolution of stride 1 that is the input gradient of one of stride 1, by filters that are turned. */
static ts_conv_shape transposed(const ts_conv_shape *s)
{
    ts_conv_shape t = *s;
    t.in_channels = s->out_channels;
    t.out_channels = s->in_channels;
    t.in_height = s->out_height;
    t.in_width = s->out_width;
    t.out_height = s->in_height;
    t.out_width = s->in_width;
    t.pad_top = s->kernel_h - 1 - s->pad_top;
    t.pad_left = s->kernel_w - 1 - s->pad_left;
    return t;
}

/* Every channel of a range alone, rows first .. end - 1 of the outputs; `in` and `out` begin at the first channel of
   the range. turned: the input gradient, of stride 1, where `in` is the gradient of the outputs. */
static void filter_channels(const target *out, const rows *in, const ts_weight *w, const float *bias,
                            const ts_conv_shape *layer, ts_range channels, int turned, int first, int end)
{
    static const float zero = 0.0f;
    const ts_conv_shape s = turned ? transposed(layer) : *layer;
    const int room = turned ? TILE - MAX_TAPS : TILE;
    float tile[TILE], *turned_filter = tile + room;
    for (area a = area_at(&s, first, 0, end, room); a.rows > 0; a = area_after(&s, &a, first, end, room)) {
        clear_tile(tile, &a, &s);
        for (int c = 0; c < channels.count; c++) {
            const float *f = filter(w, layer, channels.first + c, 0);
            if (turned)
                f = turn(turned_filter, f, layer);
            load_tile(tile, &a, &s, in, c);
            filter_any(out->first + c * out->channel_step + a.row * out->row_step + a.column, out->row_step, tile, &a,
                       f, bias == NULL ? &zero : bias + channels.first + c, &s);
        }
    }
}

/* out += a dense or grouped convolution, rows first .. end - 1. turned: the input gradient, of stride 1. */
static void filter_densely(const target *out, const rows *in, const ts_weight *w, const ts_conv_shape *layer,
                           int turned, int first, int end)
{
    const ts_conv_shape s = turned ? transposed(layer) : *layer;
    const int ins = s.in_channels / s.groups, outs = s.out_channels / s.groups;
    const int room = turned ? TILE - TURNED : TILE, taps_count = s.kernel_h * s.kernel_w;
    const int at_once = turned && 4 * taps_count > TURNED ? 1 : 4;
    float tile[TILE], *turned_filters = tile + room;
    for (area a = area_at(&s, first, 0, end, room); a.rows > 0; a = area_after(&s, &a, first, end, room)) {
        clear_tile(tile, &a, &s);
        for (int i = 0; i < s.in_channels; i++) {
            const int group_end = (i / ins + 1) * outs;
            load_tile(tile, &a, &s, in, i);
            for (int o = group_end - outs, count; o < group_end; o += count) {
                float *place = out->first + o * out->channel_step + a.row * out->row_step + a.column;
                const float *f[4];
                count = group_end - o >= at_once ? at_once : 1;
                for (int n = 0; n < count; n++)
                    f[n] = turned ? turn(turned_filters + n * taps_count, filter(w, layer, i, (o + n) % outs), layer)
                                  : filter(w, layer, o + n, i % ins);
                if (count == 4)
                    filter_any_by_four(place, out->channel_step, out->row_step, tile, &a, f, &s);
                else
                    filter_any(place, out->row_step, tile, &a, f[0], NULL, &s);
            }
        }
    }
}

/* The input gradient of stride 2. Output 2m + n of it, n = 0 or 1, reads the taps n, n + 2, ... of the filter and the
   outputs m, m - 1, ... of the layer: so the gradient of the outputs is filtered twice a row and twice a column. As a
   convolution whose outputs are the m: */
static ts_conv_shape halves(const ts_conv_shape *s)
{
    ts_conv_shape h = *s;
    h.stride = 1;
    h.kernel_h = (s->kernel_h + 1) / 2;
    h.kernel_w = (s->kernel_w + 1) / 2;
    h.in_height = s->out_height;
    h.in_width = s->out_width;
    h.out_height = (s->in_height - 1 + s->pad_top) / 2 - s->pad_top / 2 + 1;
    h.out_width = (s->in_width - 1 + s->pad_left) / 2 - s->pad_left / 2 + 1;
    h.pad_top = h.kernel_h - 1 - s->pad_top / 2;
    h.pad_left = h.kernel_w - 1 - s->pad_left / 2;
    return h;
}

/* out [2 * columns] = a row of the gradient: taps parity, parity + 2, ... of the filter's columns. `tile` is where the
   last of the tile's rows that the gradient reads has the last of the columns that it reads. */
TS_INLINE void spread_row(float *out, const float *tile, const area *a, const float *w, int parity, int k)
{
    for (int x = 0; x < a->columns; x += 4) {
        const float *line = tile + x, *f = w + parity * k;
        quad even = four(0.0f), odd = even;
        for (int ky = parity; ky < k; ky += 2, line -= a->pitch, f += 2 * k) {
            even = plus(even, f[0], load(line, 1));
            odd = plus(odd, f[1], load(line, 1));
            even = plus(even, f[2], load(line - 1, 1));
            if (k > 3) {
                odd = plus(odd, f[3], load(line - 1, 1));
                even = plus(even, f[4], load(line - 2, 1));
            }
            if (k > 5) {
                odd = plus(odd, f[5], load(line - 2, 1));
                even = plus(even, f[6], load(line - 3, 1));
            }
        }
        const quad low = {even.a, odd.a, even.b, odd.b}, high = {even.c, odd.c, even.d, odd.d};
        store(out + 2 * x, low);
        store(out + 2 * x + 4, high);
    }
}

/* gin (a channel) = the gradient through one filter of the tile's outputs; add: += it. */
static void spread_tile(float *gin, const float *tile, const area *a, const float *w, const ts_conv_shape *s, int add)
{
    const int column = 2 * (a->column + s->pad_left / 2) - s->pad_left, reach = (s->kernel_h - 1) / 2;
    const int left = max_int(0, -column), count = min_int(2 * a->columns, s->in_width - column) - left;
    float line[2 * TILE_COLUMNS];
    for (int y = 0; y < 2 * a->rows; y++) {
        const int row = 2 * (a->row + s->pad_top / 2) + y - s->pad_top;
        const float *last = tile + (y / 2 + reach) * a->pitch + reach;
        if (row < 0 || row >= s->in_height)
            continue;
        if (s->kernel_h == 3)
            spread_row(line, last, a, w, y % 2, 3);
        else if (s->kernel_h == 5)
            spread_row(line, last, a, w, y % 2, 5);
        else
            spread_row(line, last, a, w, y % 2, 7);
        float *place = gin + row * s->in_width + column + left;
        if (add)
            ts_add(place, line + left, count);
        else
            copy(place, line + left, count);
    }
}

/* The input gradient of stride 2; gin and gout begin at the first channel of the range. */
static void spread_channels(float *gin, const rows *gout, const ts_weight *w, const ts_conv_shape *s,
                            ts_range channels)
{
    const ts_conv_shape h = halves(s);
    float tile[TILE];
    for (area a = area_at(&h, 0, 0, h.out_height, TILE); a.rows > 0; a = area_after(&h, &a, 0, h.out_height, TILE)) {
        clear_tile(tile, &a, &h);
        for (int c = 0; c < channels.count; c++) {
            const float *f = filter(w, s, channels.first + c, 0);
            load_tile(tile, &a, &h, gout, c);
            spread_tile(gin + c * s->in_height * s->in_width, tile, &a, f, s, 0);
        }
    }
}

/* gin += the input gradient of stride 2 of a dense or grouped convolution. */
static void spread_densely(float *gin, const rows *gout, const ts_weight *w, const ts_conv_shape *s)
{
    const ts_conv_shape h = halves(s);
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups;
    float tile[TILE];
    for (area a = area_at(&h, 0, 0, h.out_height, TILE); a.rows > 0; a = area_after(&h, &a, 0, h.out_height, TILE)) {
        clear_tile(tile, &a, &h);
        for (int o = 0; o < s->out_channels; o++) {
            float *plane = gin + o / outs * ins * s->in_height * s->in_width;
            load_tile(tile, &a, &h, gout, o);
            for (int i = 0; i < ins; i++, plane += s->in_height * s->in_width)
                spread_tile(plane, tile, &a, filter(w, s, o, i), s, 1);
        }
    }
}

/* ---- Convolutions: any filter and stride ------------------------------------------------------------------------ */

/* out += one channel by one filter, rows first .. end - 1. */
static void convolve(float *out, int row_step, const rows *in, int channel, const float *w, const ts_conv_shape *s,
                     int first, int end)
{
    for (int oy = first; oy < end; oy++)
        for (int ky = 0; ky < s->kernel_h; ky++) {
            const int iy = oy * s->stride - s->pad_top + ky;
            if (iy < 0 || iy >= s->in_height)
                continue;
            const float *x = row_at(in, channel, iy);
            for (int ox = 0; ox < s->out_width; ox++)
                for (int kx = 0; kx < s->kernel_w; kx++) {
                    const int ix = ox * s->stride - s->pad_left + kx;
                    float *place = out + oy * row_step + ox;
                    if (ix >= 0 && ix < s->in_width)
                        *place = TS_FMA(w[ky * s->kernel_w + kx], x[ix], *place);
                }
        }
}

/* gin += the input gradient of one channel by one filter. */
static void convolve_dx(float *gin, const float *gout, const float *w, const ts_conv_shape *s)
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
                        *place = TS_FMA(w[ky * s->kernel_w + kx], gout[oy * s->out_width + ox], *place);
                }
            }
}

/* dst [kernel_h][kernel_w] += factor * the gradient of the filter of one channel. */
static void convolve_dw(float *dst, float factor, const float *gout, const float *in, const ts_conv_shape *s)
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

/* ---- Convolutions ----------------------------------------------------------------------------------------------- */

/* Whether one tile holds all of a channel: then it may be overwritten, once it is in there. */
static int is_one_tile(const ts_conv_shape *s)
{
    const area a = area_at(s, 0, 0, s->out_height, TILE - MAX_TAPS);
    return is_usual(s) && a.rows == s->out_height && a.columns == s->out_width;
}

/* Rows first .. end - 1 of a depthwise layer; out and in begin at the first channel of the range. */
static void depthwise(const target *out, const rows *in, const ts_weight *w, const float *bias, const ts_conv_shape *s,
                      ts_range channels, int first, int end)
{
    if (is_usual(s)) {
        filter_channels(out, in, w, bias, s, channels, 0, first, end);
        return;
    }
    for (int c = 0; c < channels.count; c++) {
        float *plane = out->first + c * out->channel_step;
        for (int y = first; y < end; y++)
            fill(plane + y * out->row_step, bias == NULL ? 0.0f : bias[channels.first + c], s->out_width);
        convolve(plane, out->row_step, in, c, filter(w, s, channels.first + c, 0), s, first, end);
    }
}

void ts_depthwise_part(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s,
                       ts_range channels, float *scratch)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    if (out != in || is_one_tile(s)) {
        const target to = whole_target(out, s->out_height, s->out_width);
        const rows from = whole_map(in, s->in_height, s->in_width);
        depthwise(&to, &from, w, bias, s, channels, 0, s->out_height);
        return;
    }
    for (int c = 0; c < channels.count; c++) {
        const target to = whole_target(out + c * out_pixels, s->out_height, s->out_width);
        const rows from = whole_map(scratch, s->in_height, s->in_width);
        const ts_range one = {channels.first + c, 1};
        copy(scratch, in + c * in_pixels, in_pixels);
        depthwise(&to, &from, w, bias, s, one, 0, s->out_height);
    }
}

void ts_depthwise(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s,
                  float *scratch)
{
    const ts_range all = {0, s->out_channels};
    ts_depthwise_part(out, in, w, bias, s, all, scratch);
}

/* gin and gout begin at the first channel of the range, and are not the same memory unless one tile holds a channel. */
static void depthwise_dx(float *gin, const float *gout, const ts_weight *w, const ts_conv_shape *s, ts_range channels)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const rows from = whole_map(gout, s->out_height, s->out_width);
    if (is_usual(s) && s->stride == 1) {
        const target to = whole_target(gin, s->in_height, s->in_width);
        filter_channels(&to, &from, w, NULL, s, channels, 1, 0, s->in_height);
        return;
    }
    if (is_usual(s)) {
        spread_channels(gin, &from, w, s, channels);
        return;
    }
    fill(gin, 0.0f, channels.count * in_pixels);
    for (int c = 0; c < channels.count; c++)
        convolve_dx(gin + c * in_pixels, gout + c * out_pixels, filter(w, s, channels.first + c, 0), s);
}

void ts_depthwise_dx(float *gin, const float *gout, const ts_weight *w, const ts_conv_shape *s, ts_range channels,
                     float *scratch)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const ts_conv_shape t = transposed(s);
    if (gin != gout || (s->stride == 1 && is_one_tile(&t))) {
        depthwise_dx(gin, gout, w, s, channels);
        return;
    }
    for (int c = 0; c < channels.count; c++) {
        const ts_range one = {channels.first + c, 1};
        copy(scratch, gout + c * out_pixels, out_pixels);
        depthwise_dx(gin + c * in_pixels, scratch, w, s, one);
    }
}

/* dst [kernel_h][kernel_w] += factor * the part of the gradient of a filter that comes from one tile. */
static void add_filter_gradient(float *dst, float factor, const float *g, const float *tile, const area *a,
                                const ts_conv_shape *s)
{
    float sums[MAX_TAPS];
    correlate_any(sums, g + a->row * s->out_width + a->column, s->out_width, tile, a, s);
    ts_axpy(dst, factor, sums, s->kernel_h * s->kernel_w);
}

void ts_depthwise_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w,
                     const ts_conv_shape *s, ts_range channels)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const int taps_count = s->kernel_h * s->kernel_w;
    const ts_range places = trained_places(w, TS_OUT, channels);
    const rows map = whole_map(in, s->in_height, s->in_width);
    float tile[TILE];
    if (!is_usual(s)) {
        for (int n = places.first; n < places.first + places.count; n++)
            convolve_dw(dst + n * taps_count, factor,
                        gout + (trained_channel(w, TS_OUT, n) - channels.first) * out_pixels, in + n * in_pixels, s);
        return;
    }
    for (area a = area_at(s, 0, 0, s->out_height, TILE); a.rows > 0; a = area_after(s, &a, 0, s->out_height, TILE)) {
        clear_tile(tile, &a, s);
        for (int n = places.first; n < places.first + places.count; n++) {
            load_tile(tile, &a, s, &map, n);
            add_filter_gradient(dst + n * taps_count, factor,
                                gout + (trained_channel(w, TS_OUT, n) - channels.first) * out_pixels, tile, &a, s);
        }
    }
}

/* Rows first .. end - 1 of a dense or grouped convolution. */
static void conv(const target *out, const rows *in, const ts_weight *w, const float *bias, const ts_conv_shape *s,
                 int first, int end)
{
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups;
    for (int o = 0; o < s->out_channels; o++)
        for (int y = first; y < end; y++)
            fill(out->first + o * out->channel_step + y * out->row_step, bias == NULL ? 0.0f : bias[o], s->out_width);
    if (is_usual(s)) {
        filter_densely(out, in, w, s, 0, first, end);
        return;
    }
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < ins; i++)
            convolve(out->first + o * out->channel_step, out->row_step, in, o / outs * ins + i, filter(w, s, o, i), s,
                     first, end);
}

/* Whether a convolution is a product of matrices. */
static int is_pointwise(const ts_conv_shape *s)
{
    return s->kernel_h == 1 && s->kernel_w == 1 && s->stride == 1 && s->groups == 1 && s->pad_top == 0 &&
           s->pad_left == 0 && s->out_height == s->in_height && s->out_width == s->in_width;
}

void ts_conv(float *out, const float *in, const ts_weight *w, const float *bias, const ts_conv_shape *s)
{
    const target to = whole_target(out, s->out_height, s->out_width);
    const rows from = whole_map(in, s->in_height, s->in_width);
    if (is_pointwise(s))
        ts_pointwise(out, in, w, bias, s->in_channels, s->out_channels, s->out_height * s->out_width);
    else
        conv(&to, &from, w, bias, s, 0, s->out_height);
}

void ts_conv_dx(float *gin, const float *gout, const ts_weight *w, const ts_conv_shape *s, int add)
{
    const int in_pixels = s->in_height * s->in_width, out_pixels = s->out_height * s->out_width;
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups;
    const rows from = whole_map(gout, s->out_height, s->out_width);
    const ts_range all_in = {0, s->in_channels}, all_out = {0, s->out_channels};
    if (is_pointwise(s)) {
        ts_pointwise_dx(gin, gout, w, s->in_channels, s->out_channels, all_in, all_out, in_pixels, add);
        return;
    }
    if (!add)
        fill(gin, 0.0f, s->in_channels * in_pixels);
    if (is_usual(s) && s->stride == 1) {
        const target to = whole_target(gin, s->in_height, s->in_width);
        filter_densely(&to, &from, w, s, 1, 0, s->in_height);
    } else if (is_usual(s)) {
        spread_densely(gin, &from, w, s);
    } else {
        for (int o = 0; o < s->out_channels; o++)
            for (int i = 0; i < ins; i++)
                convolve_dx(gin + (o / outs * ins + i) * in_pixels, gout + o * out_pixels, filter(w, s, o, i), s);
    }
}

/* dst += factor * the gradient of the filters that read one kept channel, by its tile; tile NULL: by the map `in`. */
static void add_filter_gradients(float *dst, float factor, const float *gout, const float *in, const float *tile,
                                 const area *a, const ts_weight *w, const ts_conv_shape *s, int channel)
{
    const int ins = s->in_channels / s->groups, outs = s->out_channels / s->groups, group = channel / ins;
    for (int o = group * outs; o < (group + 1) * outs; o++) {
        const int at = trained_filter(w, s, o, channel % ins);
        const float *g = gout + o * s->out_height * s->out_width;
        if (at >= 0 && tile != NULL)
            add_filter_gradient(dst + at, factor, g, tile, a, s);
        else if (at >= 0)
            convolve_dw(dst + at, factor, g, in, s);
    }
}

void ts_conv_dw(float *dst, float factor, const float *gout, const float *in, const ts_weight *w,
                const ts_conv_shape *s)
{
    const int in_pixels = s->in_height * s->in_width;
    const ts_range all_in = {0, s->in_channels}, all_out = {0, s->out_channels};
    const ts_range kept = trained_places(w, TS_IN, all_in);
    const rows map = whole_map(in, s->in_height, s->in_width);
    float tile[TILE];
    if (is_pointwise(s)) {
        ts_pointwise_dw(dst, factor, gout, in, w, s->in_channels, s->out_channels, all_in, all_out, in_pixels);
        return;
    }
    if (!is_usual(s)) {
        for (int n = 0; n < kept.count; n++)
            add_filter_gradients(dst, factor, gout, in + n * in_pixels, NULL, NULL, w, s,
                                 trained_channel(w, TS_IN, n));
        return;
    }
    for (area a = area_at(s, 0, 0, s->out_height, TILE); a.rows > 0; a = area_after(s, &a, 0, s->out_height, TILE)) {
        clear_tile(tile, &a, s);
        for (int n = 0; n < kept.count; n++) {
            load_tile(tile, &a, s, &map, n);
            add_filter_gradients(dst, factor, gout, NULL, tile, &a, w, s, trained_channel(w, TS_IN, n));
        }
    }
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
    int i = 0;
    for (; i + 4 <= count; i += 4)
        store(out + i, plus(four(shift), slope, plus(load(in + i, 1), -1.0f, four(mean))));
    for (; i < count; i++)
        out[i] = TS_FMA(in[i] - mean, slope, shift);
}

/* Sum of (x - mean) squared. */
static float square_deviations(const float *x, float mean, int count)
{
    quad parts = four(0.0f);
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        const quad centred = plus(load(x + i, 1), -1.0f, four(mean));
        parts = plus_products(parts, centred, centred);
    }
    for (; i < count; i++)
        parts.a = TS_FMA(x[i] - mean, x[i] - mean, parts.a);
    return total_of(parts);
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

void ts_batch_norm_train(float *out, const float *in, const float *gamma, const float *beta, float *running_mean,
                         float *running_var, float momentum, float *mean, float *inv_std, int channels, int pixels,
                         float eps, int add)
{
    for (int c = 0; c < channels; c++) {
        const float *x = in + c * pixels;
        const float centre = sum(x, pixels) / (float)pixels, squares = square_deviations(x, centre, pixels);
        const float inverse = 1.0f / sqrtf(squares / (float)pixels + eps);
        running_mean[c] += momentum * (centre - running_mean[c]);
        running_var[c] += momentum * (squares / (float)(pixels - 1) - running_var[c]);
        normalise_or_add(out + c * pixels, x, centre, inverse * gamma[c], beta[c], pixels, add);
        if (mean != NULL) {
            mean[c] = centre;
            inv_std[c] = inverse;
        }
    }
}

void ts_batch_norm_predict(float *out, const float *in, const float *gamma, const float *beta,
                           const float *running_mean, const float *running_var, int channels, int pixels, float eps,
                           int add)
{
    for (int c = 0; c < channels; c++) {
        const float slope = gamma[c] / sqrtf(running_var[c] + eps);
        normalise_or_add(out + c * pixels, in + c * pixels, running_mean[c], slope, beta[c], pixels, add);
    }
}

void ts_group_norm(float *out, const float *in, const float *gamma, const float *beta, float *mean, float *inv_std,
                   int groups, int channels, int pixels, float eps)
{
    const int group = channels / groups, count = group * pixels;
    for (int n = 0; n < groups; n++) {
        const float *x = in + n * count;
        const float centre = sum(x, count) / (float)count;
        const float inverse = 1.0f / sqrtf(square_deviations(x, centre, count) / (float)count + eps);
        for (int c = n * group; c < (n + 1) * group; c++)
            normalise(out + c * pixels, in + c * pixels, centre, inverse * gamma[c], beta[c], pixels);
        if (mean != NULL) {
            mean[n] = centre;
            inv_std[n] = inverse;
        }
    }
}

/* ---- Forward: activations --------------------------------------------------------------------------------------- */

/* By 0 * x what is not a number stays so, as in PyTorch, and infinity joins it: a training that diverges says so by its
   loss. */
TS_INLINE float relu(float x) { return TS_FMA(0.0f, x, TS_MAX(x, 0.0f)); }
TS_INLINE float relu6(float x) { return TS_FMA(0.0f, x, TS_MIN(TS_MAX(x, 0.0f), 6.0f)); }
TS_INLINE float hardsigmoid(float x) { return relu6(x + 3.0f) * (1.0f / 6.0f); }
TS_INLINE float hardswish(float x) { return x * TS_MIN(TS_MAX(x + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f); }
TS_INLINE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
TS_INLINE float silu(float x) { return x * sigmoid(x); }

/* out = function(in), four at a time. */
#define FOR_EACH(out, in, count, function)                                                                             \
    do {                                                                                                               \
        int i = 0;                                                                                                     \
        for (; i + 4 <= (count); i += 4) {                                                                             \
            const quad q = load((in) + i, 1);                                                                          \
            const quad y = {function(q.a), function(q.b), function(q.c), function(q.d)};                               \
            store((out) + i, y);                                                                                       \
        }                                                                                                              \
        for (; i < (count); i++)                                                                                       \
            (out)[i] = function((in)[i]);                                                                              \
    } while (0)

void ts_relu(float *x, int count) { FOR_EACH(x, x, count, relu); }
void ts_relu6(float *x, int count) { FOR_EACH(x, x, count, relu6); }
void ts_hardsigmoid(float *x, int count) { FOR_EACH(x, x, count, hardsigmoid); }
void ts_hardswish(float *x, int count) { FOR_EACH(x, x, count, hardswish); }
void ts_hardswish_to(float *out, const float *in, int count) { FOR_EACH(out, in, count, hardswish); }

void ts_sigmoid(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = sigmoid(x[i]);
}

void ts_silu(float *x, int count) { ts_silu_to(x, x, count); }

void ts_silu_to(float *out, const float *in, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = silu(in[i]);
}

/* As integers the floats above 0 are in order, from 1 on, and all others lie above them: so one comparison says
   whether 0 < x <= the float whose bits are `last`. */
TS_INLINE unsigned positive_bit(const float *x, uint32_t last, int bit)
{
    uint32_t value;
    memcpy(&value, x, sizeof value);
    return value - 1u < last ? 1u << bit : 0u;
}

/* Bits of at most 8 elements, element 0 lowest. */
static unsigned positive_bits(const float *x, uint32_t last, int count)
{
    unsigned bits = 0;
    for (int n = 0; n < count; n++)
        bits |= positive_bit(x + n, last, n);
    return bits;
}

TS_INLINE unsigned eight_positive_bits(const float *x, uint32_t last)
{
    return positive_bit(x, last, 0) | positive_bit(x + 1, last, 1) | positive_bit(x + 2, last, 2) |
           positive_bit(x + 3, last, 3) | positive_bit(x + 4, last, 4) | positive_bit(x + 5, last, 5) |
           positive_bit(x + 6, last, 6) | positive_bit(x + 7, last, 7);
}

static unsigned between_bits(const float *x, float low, float high, int count)
{
    unsigned bits = 0;
    for (int n = 0; n < count; n++)
        bits |= (unsigned)(x[n] > low && x[n] < high) << n;
    return bits;
}

static unsigned sign_bits(const float *x, int count)
{
    unsigned bits = 0;
    for (int n = 0; n < count; n++)
        bits |= (unsigned)(x[n] >= 0.0f) << n;
    return bits;
}

/* How many of `count` bits from `bit` on lie in its byte. */
TS_INLINE int bits_in_byte(int bit, int count) { return min_int(8 - bit % 8, count); }

/* Set the bits of a byte from `bit` on, and leave those below. */
TS_INLINE void put_bits(uint8_t *mask, int bit, unsigned bits)
{
    const unsigned below = mask[bit / 8] & ((1u << bit % 8) - 1u);
    mask[bit / 8] = (uint8_t)(below | bits << bit % 8);
}

/* Bits from first_bit on that say where 0 < x <= the float whose bits are `last`. */
static void positive_mask(const float *x, uint8_t *mask, int first_bit, int count, uint32_t last)
{
    int i = 0;
    if (first_bit % 8 != 0) {
        i = bits_in_byte(first_bit, count);
        put_bits(mask, first_bit, positive_bits(x, last, i));
    }
    for (; i + 8 <= count; i += 8)
        mask[(first_bit + i) / 8] = (uint8_t)eight_positive_bits(x + i, last);
    if (i < count)
        put_bits(mask, first_bit + i, positive_bits(x + i, last, count - i));
}

void ts_relu_mask_part(float *x, uint8_t *mask, int first_bit, int count)
{
    positive_mask(x, mask, first_bit, count, 0x7f800000u /* infinity */);
    ts_relu(x, count);
}

void ts_relu6_mask_part(float *x, uint8_t *mask, int first_bit, int count)
{
    positive_mask(x, mask, first_bit, count, 0x40bfffffu /* the last one below 6 */);
    ts_relu6(x, count);
}

void ts_hardsigmoid_mask_part(float *x, uint8_t *mask, int first_bit, int count)
{
    for (int i = 0, n; i < count; i += n) {
        n = bits_in_byte(first_bit + i, count - i);
        put_bits(mask, first_bit + i, between_bits(x + i, -3.0f, 3.0f, n));
    }
    ts_hardsigmoid(x, count);
}

void ts_sign_mask_part(const float *x, uint8_t *mask, int first_bit, int count)
{
    for (int i = 0, n; i < count; i += n) {
        n = bits_in_byte(first_bit + i, count - i);
        put_bits(mask, first_bit + i, sign_bits(x + i, n));
    }
}

void ts_relu_mask(float *x, uint8_t *mask, int count) { ts_relu_mask_part(x, mask, 0, count); }
void ts_relu6_mask(float *x, uint8_t *mask, int count) { ts_relu6_mask_part(x, mask, 0, count); }
void ts_hardsigmoid_mask(float *x, uint8_t *mask, int count) { ts_hardsigmoid_mask_part(x, mask, 0, count); }
void ts_sign_mask(const float *x, uint8_t *mask, int count) { ts_sign_mask_part(x, mask, 0, count); }

/* ---- Forward: the rest ------------------------------------------------------------------------------------------ */

void ts_add(float *out, const float *a, int count) { ts_axpy(out, 1.0f, a, count); }

void ts_mean(float *out, const float *in, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        out[c] = sum(in + c * pixels, pixels) / (float)pixels;
}

void ts_avg_pool(float *out, const float *in, int channels, int height, int width, int kernel)
{
    const float share = 1.0f / (float)(kernel * kernel);
    for (int c = 0; c < channels; c++)
        for (int y = 0; y + kernel <= height; y += kernel)
            for (int x = 0; x + kernel <= width; x += kernel) {
                const float *window = in + (c * height + y) * width + x;
                float total = 0.0f;
                for (int ky = 0; ky < kernel; ky++)
                    for (int kx = 0; kx < kernel; kx++)
                        total += window[ky * width + kx];
                *out++ = total * share;
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

static void scale_to(float *out, const float *in, float factor, int count)
{
    int i = 0;
    for (; i + 4 <= count; i += 4)
        store(out + i, times(load(in + i, 1), factor));
    for (; i < count; i++)
        out[i] = in[i] * factor;
}

void ts_scale_channels(float *out, const float *in, const float *scale, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        scale_to(out + c * pixels, in + c * pixels, scale[c], pixels);
}

void ts_gather(float *out, const float *in, const uint16_t *index, int count, int pixels)
{
    for (int n = 0; n < count; n++)
        copy(out + n * pixels, in + index[n] * pixels, pixels);
}

void ts_gather_part(float *out, const float *in, const uint16_t *index, int count, ts_range channels, int pixels)
{
    const int end = lower_bound(index, count, channels.first + channels.count);
    for (int n = lower_bound(index, count, channels.first); n < end; n++)
        copy(out + n * pixels, in + (index[n] - channels.first) * pixels, pixels);
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

/* ---- Backward: sums and norms ----------------------------------------------------------------------------------- */

void ts_channel_sum(float *dst, float factor, const float *g, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        dst[c] += factor * sum(g + c * pixels, pixels);
}

/* Sum of g * (x - mean). */
static float dot_centred(const float *g, const float *x, float mean, int count)
{
    quad parts = four(0.0f);
    int i = 0;
    for (; i + 4 <= count; i += 4)
        parts = plus_products(parts, load(g + i, 1), plus(load(x + i, 1), -1.0f, four(mean)));
    for (; i < count; i++)
        parts.a = TS_FMA(g[i], x[i] - mean, parts.a);
    return total_of(parts);
}

void ts_scale_gradient(float *dst, float factor, const float *g, const float *x, const float *mean,
                       const float *inv_std, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        dst[c] += factor * inv_std[c] * dot_centred(g + c * pixels, x + c * pixels, mean[c], pixels);
}

/* gin = scale * g - slope * (x - mean) - offset */
static void project(float *gin, const float *g, const float *x, float scale, float slope, float mean, float offset,
                    int count)
{
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        const quad centred = plus(load(x + i, 1), -1.0f, four(mean));
        store(gin + i, plus(plus(four(-offset), -slope, centred), scale, load(g + i, 1)));
    }
    for (; i < count; i++)
        gin[i] = TS_FMA(scale, g[i], -TS_FMA(slope, x[i] - mean, offset));
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
            project(gin + c * pixels, gout + c * pixels, x + c * pixels, gamma[c] * inv_std[n], slope, mean[n], offset,
                    pixels);
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

/* x[n] = 0 where bit n is not set. */
static void keep_some(float *x, unsigned bits, int count)
{
    for (int n = 0; n < count; n++)
        if (!(bits >> n & 1u))
            x[n] = 0.0f;
}

static void keep_eight(float *x, unsigned bits)
{
    if (!(bits & 1u))
        x[0] = 0.0f;
    if (!(bits & 2u))
        x[1] = 0.0f;
    if (!(bits & 4u))
        x[2] = 0.0f;
    if (!(bits & 8u))
        x[3] = 0.0f;
    if (!(bits & 16u))
        x[4] = 0.0f;
    if (!(bits & 32u))
        x[5] = 0.0f;
    if (!(bits & 64u))
        x[6] = 0.0f;
    if (!(bits & 128u))
        x[7] = 0.0f;
}

void ts_mask_backward(float *g, const uint8_t *mask, int first_bit, int count, float slope)
{
    const uint8_t *byte = mask + first_bit / 8;
    int i = 0;
    if (first_bit % 8 != 0) {
        i = min_int(8 - first_bit % 8, count);
        keep_some(g, (unsigned)*byte++ >> first_bit % 8, i);
    }
    for (; i + 8 <= count; i += 8)
        keep_eight(g + i, *byte++);
    if (i < count)
        keep_some(g + i, *byte, count - i);
    if (slope != 1.0f)
        ts_decay(g, slope, count);
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
        out[c] = dot_centred(g + c * pixels, x + c * pixels, 0.0f, pixels);
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
    int i = 0;
    for (; i + 4 <= count; i += 4)
        store(y + i, plus(load(y + i, 1), factor, load(x + i, 1)));
    for (; i < count; i++)
        y[i] = TS_FMA(factor, x[i], y[i]);
}

void ts_decay(float *x, float factor, int count) { scale_to(x, x, factor, count); }

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

static void add_row(const target *out, const rows *a, const rows *b, const ts_conv_shape *s, int row)
{
    for (int c = 0; c < s->out_channels; c++) {
        float *line = out->first + c * out->channel_step + row * out->row_step;
        copy(line, row_at(a, c, row), s->out_width);
        ts_add(line, row_at(b, c, row), s->out_width);
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

/* The line of a ring where row `row` of a stage goes. */
static target ring_line(const row_plan *plan, int n, int row)
{
    const ts_row_stage *stage = plan->stages + n;
    const ts_conv_shape *s = &stage->shape;
    const target t = {plan->scratch + stage->offset + row % stage->lines * s->out_channels * s->out_width, 0,
                      s->out_width};
    return t;
}

/* Row `row` of a stage. */
static void compute_row(const target *out, const row_plan *plan, const ts_row_stage *stage, int row)
{
    const ts_conv_shape *s = &stage->shape;
    const ts_weight weight = {stage->weight, NULL, NULL, 0, TS_OUT};
    const rows in = rows_of(plan, stage->input);
    const ts_range all_in = {0, s->in_channels}, all = {0, s->out_channels};
    if (stage->kind == TS_ROW_ADD) {
        const rows other = rows_of(plan, stage->other);
        add_row(out, &in, &other, s, row);
    } else if (stage->kind == TS_ROW_DEPTHWISE) {
        depthwise(out, &in, &weight, stage->bias, s, all, row, row + 1);
    } else if (stage->kind == TS_ROW_POINTWISE) {
        multiply(out->first + row * out->row_step, out->channel_step, row_at(&in, 0, row), in.channel_step, &weight,
                 stage->bias, s->in_channels, all_in, all, s->out_width, 0);
    } else {
        conv(out, &in, &weight, stage->bias, s, row, row + 1);
    }
    for (int c = 0; c < s->out_channels; c++)
        activate(out->first + c * out->channel_step + row * out->row_step, stage->act, s->out_width);
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
            continue;
        }
        target to = whole_target(out, last->out_height, last->out_width);
        if (n < count - 1)
            to = ring_line(&plan, n, row);
        compute_row(&to, &plan, stages + n, row);
    }
}
