/* The loops that anyone would write first, against which the kernels are counted. */
#ifndef NAIVE_H
#define NAIVE_H

#include <stdint.h>

#include "ts_kernels.h"

/* Dense convolutions by depthwise != 0 of every channel alone. */
void naive_conv(float *out, const float *in, const float *w, const float *bias, const ts_conv_shape *s, int depthwise);
void naive_conv_dx(float *gin, const float *gout, const float *w, const ts_conv_shape *s, int depthwise);
void naive_conv_dw(float *dst, const float *gout, const float *in, const ts_conv_shape *s, int depthwise);

void naive_pointwise(float *out, const float *in, const float *w, const float *bias, int ins, int outs, int pixels);
void naive_pointwise_dx(float *gin, const float *gout, const float *w, int ins, int outs, int pixels);
void naive_pointwise_dw(float *dst, const float *gout, const float *in, int ins, int outs, int pixels);

void naive_linear(float *out, const float *in, const float *w, const float *bias, int ins, int outs);
void naive_linear_dx(float *gin, const float *gout, const float *w, int ins, int outs);
void naive_linear_dw(float *dst, const float *gout, const float *in, int ins, int outs);

void naive_relu6(float *x, int count);
void naive_relu6_mask(float *x, uint8_t *mask, int count);
void naive_mask_backward(float *g, const uint8_t *mask, int count);
void naive_hardswish(float *x, int count);
void naive_add(float *out, const float *a, int count);
void naive_axpy(float *y, float factor, const float *x, int count);
void naive_channel_sum(float *dst, const float *g, int channels, int pixels);
void naive_scale_channels(float *out, const float *in, const float *scale, int channels, int pixels);
void naive_mean(float *out, const float *in, int channels, int pixels);
void naive_group_norm(float *out, const float *in, const float *gamma, const float *beta, float *mean, float *inv_std,
                      int groups, int channels, int pixels);
void naive_silu(float *x, int count);
void naive_bilinear(float *out, const float *in, int channels, int in_h, int in_w, int out_h, int out_w);
void naive_group_norm_dx(float *gin, const float *gout, const float *x, const float *gamma, const float *mean,
                         const float *inv_std, int groups, int channels, int pixels);
void naive_avg_pool(float *out, const float *in, int channels, int height, int width, int kernel);

#endif
