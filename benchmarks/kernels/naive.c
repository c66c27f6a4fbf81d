/* The loops that anyone would write first: see naive.h. Compilers know the size of the usual filters, as they would in
   code that is generated for one network. */
#include "naive.h"

#include <math.h>
#include <string.h>

static inline __attribute__((always_inline)) void
conv(float *out, const float *in, const float *w, const float *bias, const ts_conv_shape *s, int depthwise, int k)
{
    const int ins = depthwise ? 1 : s->in_channels;
    for (int o = 0; o < s->out_channels; o++)
        for (int oy = 0; oy < s->out_height; oy++)
            for (int ox = 0; ox < s->out_width; ox++) {
                float sum = bias[o];
                for (int i = 0; i < ins; i++)
                    for (int ky = 0; ky < k; ky++) {
                        const int y = oy * s->stride + ky - s->pad_top;
                        if (y < 0 || y >= s->in_height)
                            continue;
                        for (int kx = 0; kx < k; kx++) {
                            const int x = ox * s->stride + kx - s->pad_left;
                            if (x < 0 || x >= s->in_width)
                                continue;
                            sum += in[((depthwise ? o : i) * s->in_height + y) * s->in_width + x] *
                                   w[((o * ins + i) * k + ky) * k + kx];
                        }
                    }
                out[(o * s->out_height + oy) * s->out_width + ox] = sum;
            }
}

void naive_conv(float *out, const float *in, const float *w, const float *bias, const ts_conv_shape *s, int depthwise)
{
    if (s->kernel_h == 3)
        conv(out, in, w, bias, s, depthwise, 3);
    else if (s->kernel_h == 5)
        conv(out, in, w, bias, s, depthwise, 5);
    else
        conv(out, in, w, bias, s, depthwise, s->kernel_h);
}

static inline __attribute__((always_inline)) void
conv_dx(float *gin, const float *gout, const float *w, const ts_conv_shape *s, int depthwise, int k)
{
    const int ins = depthwise ? 1 : s->in_channels;
    memset(gin, 0, sizeof(float) * (size_t)(s->in_channels * s->in_height * s->in_width));
    for (int o = 0; o < s->out_channels; o++)
        for (int oy = 0; oy < s->out_height; oy++)
            for (int ox = 0; ox < s->out_width; ox++) {
                const float g = gout[(o * s->out_height + oy) * s->out_width + ox];
                for (int i = 0; i < ins; i++)
                    for (int ky = 0; ky < k; ky++) {
                        const int y = oy * s->stride + ky - s->pad_top;
                        if (y < 0 || y >= s->in_height)
                            continue;
                        for (int kx = 0; kx < k; kx++) {
                            const int x = ox * s->stride + kx - s->pad_left;
                            if (x < 0 || x >= s->in_width)
                                continue;
                            gin[((depthwise ? o : i) * s->in_height + y) * s->in_width + x] +=
                                g * w[((o * ins + i) * k + ky) * k + kx];
                        }
                    }
            }
}

void naive_conv_dx(float *gin, const float *gout, const float *w, const ts_conv_shape *s, int depthwise)
{
    if (s->kernel_h == 3)
        conv_dx(gin, gout, w, s, depthwise, 3);
    else if (s->kernel_h == 5)
        conv_dx(gin, gout, w, s, depthwise, 5);
    else
        conv_dx(gin, gout, w, s, depthwise, s->kernel_h);
}

static inline __attribute__((always_inline)) void
conv_dw(float *dst, const float *gout, const float *in, const ts_conv_shape *s, int depthwise, int k)
{
    const int ins = depthwise ? 1 : s->in_channels;
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < ins; i++)
            for (int ky = 0; ky < k; ky++)
                for (int kx = 0; kx < k; kx++) {
                    float sum = 0.0f;
                    for (int oy = 0; oy < s->out_height; oy++) {
                        const int y = oy * s->stride + ky - s->pad_top;
                        if (y < 0 || y >= s->in_height)
                            continue;
                        for (int ox = 0; ox < s->out_width; ox++) {
                            const int x = ox * s->stride + kx - s->pad_left;
                            if (x < 0 || x >= s->in_width)
                                continue;
                            sum += gout[(o * s->out_height + oy) * s->out_width + ox] *
                                   in[((depthwise ? o : i) * s->in_height + y) * s->in_width + x];
                        }
                    }
                    dst[((o * ins + i) * k + ky) * k + kx] += sum;
                }
}

void naive_conv_dw(float *dst, const float *gout, const float *in, const ts_conv_shape *s, int depthwise)
{
    if (s->kernel_h == 3)
        conv_dw(dst, gout, in, s, depthwise, 3);
    else if (s->kernel_h == 5)
        conv_dw(dst, gout, in, s, depthwise, 5);
    else
        conv_dw(dst, gout, in, s, depthwise, s->kernel_h);
}

void naive_pointwise(float *out, const float *in, const float *w, const float *bias, int ins, int outs, int pixels)
{
    for (int o = 0; o < outs; o++)
        for (int p = 0; p < pixels; p++) {
            float sum = bias[o];
            for (int i = 0; i < ins; i++)
                sum += w[o * ins + i] * in[i * pixels + p];
            out[o * pixels + p] = sum;
        }
}

void naive_pointwise_dx(float *gin, const float *gout, const float *w, int ins, int outs, int pixels)
{
    for (int i = 0; i < ins; i++)
        for (int p = 0; p < pixels; p++) {
            float sum = 0.0f;
            for (int o = 0; o < outs; o++)
                sum += w[o * ins + i] * gout[o * pixels + p];
            gin[i * pixels + p] = sum;
        }
}

void naive_pointwise_dw(float *dst, const float *gout, const float *in, int ins, int outs, int pixels)
{
    for (int o = 0; o < outs; o++)
        for (int i = 0; i < ins; i++) {
            float sum = 0.0f;
            for (int p = 0; p < pixels; p++)
                sum += gout[o * pixels + p] * in[i * pixels + p];
            dst[o * ins + i] += sum;
        }
}

void naive_linear(float *out, const float *in, const float *w, const float *bias, int ins, int outs)
{
    for (int o = 0; o < outs; o++) {
        float sum = bias[o];
        for (int i = 0; i < ins; i++)
            sum += w[o * ins + i] * in[i];
        out[o] = sum;
    }
}

void naive_linear_dx(float *gin, const float *gout, const float *w, int ins, int outs)
{
    for (int i = 0; i < ins; i++) {
        float sum = 0.0f;
        for (int o = 0; o < outs; o++)
            sum += w[o * ins + i] * gout[o];
        gin[i] = sum;
    }
}

void naive_linear_dw(float *dst, const float *gout, const float *in, int ins, int outs)
{
    for (int o = 0; o < outs; o++)
        for (int i = 0; i < ins; i++)
            dst[o * ins + i] += gout[o] * in[i];
}

void naive_relu6(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i] > 6.0f ? 6.0f : x[i];
}

void naive_relu6_mask(float *x, uint8_t *mask, int count)
{
    for (int i = 0; i < count; i++) {
        if (i % 8 == 0)
            mask[i / 8] = 0;
        if (x[i] > 0.0f && x[i] < 6.0f)
            mask[i / 8] = (uint8_t)(mask[i / 8] | 1 << i % 8);
        x[i] = x[i] < 0.0f ? 0.0f : x[i] > 6.0f ? 6.0f : x[i];
    }
}

void naive_mask_backward(float *g, const uint8_t *mask, int count)
{
    for (int i = 0; i < count; i++)
        if (!(mask[i / 8] >> i % 8 & 1))
            g[i] = 0.0f;
}

void naive_hardswish(float *x, int count)
{
    for (int i = 0; i < count; i++) {
        const float y = x[i] + 3.0f;
        x[i] = x[i] * (y < 0.0f ? 0.0f : y > 6.0f ? 6.0f : y) / 6.0f;
    }
}

void naive_add(float *out, const float *a, int count)
{
    for (int i = 0; i < count; i++)
        out[i] += a[i];
}

void naive_axpy(float *y, float factor, const float *x, int count)
{
    for (int i = 0; i < count; i++)
        y[i] += factor * x[i];
}

void naive_channel_sum(float *dst, const float *g, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        for (int p = 0; p < pixels; p++)
            dst[c] += g[c * pixels + p];
}

void naive_scale_channels(float *out, const float *in, const float *scale, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        for (int p = 0; p < pixels; p++)
            out[c * pixels + p] = in[c * pixels + p] * scale[c];
}

void naive_mean(float *out, const float *in, int channels, int pixels)
{
    for (int c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (int p = 0; p < pixels; p++)
            sum += in[c * pixels + p];
        out[c] = sum / (float)pixels;
    }
}

void naive_group_norm(float *out, const float *in, const float *gamma, const float *beta, float *mean, float *inv_std,
                      int groups, int channels, int pixels)
{
    const int count = channels / groups * pixels;
    for (int n = 0; n < groups; n++) {
        float sum = 0.0f, squares = 0.0f;
        for (int i = n * count; i < (n + 1) * count; i++)
            sum += in[i];
        mean[n] = sum / (float)count;
        for (int i = n * count; i < (n + 1) * count; i++)
            squares += (in[i] - mean[n]) * (in[i] - mean[n]);
        inv_std[n] = 1.0f / sqrtf(squares / (float)count + 1e-5f);
        for (int i = n * count; i < (n + 1) * count; i++)
            out[i] = (in[i] - mean[n]) * inv_std[n] * gamma[i / pixels] + beta[i / pixels];
    }
}

void naive_avg_pool(float *out, const float *in, int channels, int height, int width, int kernel)
{
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < height / kernel; y++)
            for (int x = 0; x < width / kernel; x++) {
                float sum = 0.0f;
                for (int ky = 0; ky < kernel; ky++)
                    for (int kx = 0; kx < kernel; kx++)
                        sum += in[(c * height + y * kernel + ky) * width + x * kernel + kx];
                out[(c * (height / kernel) + y) * (width / kernel) + x] = sum / (float)(kernel * kernel);
            }
}

void naive_silu(float *x, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = x[i] / (1.0f + expf(-x[i]));
}

void naive_bilinear(float *out, const float *in, int channels, int in_h, int in_w, int out_h, int out_w)
{
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < out_h; y++)
            for (int x = 0; x < out_w; x++) {
                const float v = fmaxf(((float)y + 0.5f) * (float)in_h / (float)out_h - 0.5f, 0.0f);
                const float h = fmaxf(((float)x + 0.5f) * (float)in_w / (float)out_w - 0.5f, 0.0f);
                const int y0 = (int)v, x0 = (int)h;
                const int y1 = y0 < in_h - 1 ? y0 + 1 : y0, x1 = x0 < in_w - 1 ? x0 + 1 : x0;
                const float dy = v - (float)y0, dx = h - (float)x0, *map = in + c * in_h * in_w;
                out[(c * out_h + y) * out_w + x] =
                    (1 - dy) * ((1 - dx) * map[y0 * in_w + x0] + dx * map[y0 * in_w + x1]) +
                    dy * ((1 - dx) * map[y1 * in_w + x0] + dx * map[y1 * in_w + x1]);
            }
}

void naive_group_norm_dx(float *gin, const float *gout, const float *x, const float *gamma, const float *mean,
                         const float *inv_std, int groups, int channels, int pixels)
{
    const int count = channels / groups * pixels;
    for (int n = 0; n < groups; n++) {
        float sum = 0.0f, product = 0.0f;
        for (int i = n * count; i < (n + 1) * count; i++) {
            sum += gout[i] * gamma[i / pixels];
            product += gout[i] * gamma[i / pixels] * (x[i] - mean[n]) * inv_std[n];
        }
        for (int i = n * count; i < (n + 1) * count; i++)
            gin[i] = inv_std[n] * (gout[i] * gamma[i / pixels] - sum / (float)count -
                                   (x[i] - mean[n]) * inv_std[n] * product / (float)count);
    }
}
