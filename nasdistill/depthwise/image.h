/* Convolutions, products and their gradients of one image of an edge: [pixels, padded], `padded` channels filling vectors. */
#ifndef IMAGE_H
#define IMAGE_H
#include "vectors.h"

/* The sums of kernel * kernel taps for `count` pixels beside each other, of one vector of channels. */
INLINE void taps(float *to, const float *from, const float *weights, int kernel, int64_t padded, int64_t row, int64_t tap,
                 int64_t step, int count, int accumulate) {
    vector sum[BLOCK];
    for (int p = 0; p < count; p++) sum[p] = accumulate ? *(vector *)(to + p * padded) : (vector){ 0 };
    for (int i = 0; i < kernel; i++)
        for (int j = 0; j < kernel; j++) {
            vector weight = *(const vector *)(weights + (i * kernel + j) * padded);
            _Pragma("GCC unroll 8") for (int p = 0; p < count; p++)
                sum[p] += weight * *(const vector *)(from + i * row + j * tap + p * step);
        }
    for (int p = 0; p < count; p++) *(vector *)(to + p * padded) = sum[p];
}

/* The same of stride 1: a row of weights stays in registers, and each input is read once. */
INLINE void row_of_taps(float *to, const float *from, const float *weights, int kernel, int64_t padded, int64_t row,
                        int dilation, int count, int accumulate) {
    vector sum[2 * BLOCK];
    for (int p = 0; p < count; p++) sum[p] = accumulate ? *(vector *)(to + p * padded) : (vector){ 0 };
    for (int i = 0; i < kernel; i++) {
        vector weight[7];
        for (int j = 0; j < kernel; j++) weight[j] = *(const vector *)(weights + (i * kernel + j) * padded);
        _Pragma("GCC unroll 32") for (int x = 0; x < count + dilation * (kernel - 1); x++) {
            vector value = *(const vector *)(from + i * row + x * padded);
            _Pragma("GCC unroll 7") for (int j = 0; j < kernel; j++)
                if (0 <= x - dilation * j && x - dilation * j < count) sum[x - dilation * j] += weight[j] * value;
        }
    }
    for (int p = 0; p < count; p++) *(vector *)(to + p * padded) = sum[p];
}

/* A depthwise convolution of an image with zeros around it, [.., columns, padded], to [height * width, padded]. */
INLINE void convolve(float *to, const float *from, const float *weights, int kernel, int64_t padded, int64_t columns,
                     int64_t height, int64_t width, int64_t stride, int64_t dilation, int accumulate) {
    int64_t row = dilation * columns * padded, tap = dilation * padded, step = stride * padded, all = 2 * BLOCK;
    for (int64_t c = 0; c < padded; c += NATIVE)
        for (int64_t y = 0; y < height; y++)
            for (int64_t x = 0; x < width;) {
                float *there = to + (y * width + x) * padded + c;
                const float *here = from + (y * columns + x) * step + c;
                if (stride == 1 && dilation == 1 && x + all <= width) {
                    row_of_taps(there, here, weights + c, kernel, padded, row, 1, 2 * BLOCK, accumulate);
                    x += all;
                } else if (stride == 1 && dilation == 2 && x + all <= width) {
                    row_of_taps(there, here, weights + c, kernel, padded, row, 2, 2 * BLOCK, accumulate);
                    x += all;
                } else if (x + BLOCK <= width) {
                    taps(there, here, weights + c, kernel, padded, row, tap, step, BLOCK, accumulate);
                    x += BLOCK;
                } else {
                    taps(there, here, weights + c, kernel, padded, row, tap, step, 1, accumulate);
                    x++;
                }
            }
}

/* Its transpose for any stride: adds each pixel's share to all that it was made from, [.., columns, padded]. */
INLINE void scatter(float *to, const float *from, const float *weights, int kernel, int64_t padded, int64_t columns,
                    int64_t height, int64_t width, int64_t stride, int64_t dilation) {
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            for (int64_t c = 0; c < padded; c += NATIVE) {
                vector value = *(const vector *)(from + (y * width + x) * padded + c);
                float *there = to + (y * columns + x) * stride * padded + c;
                for (int i = 0; i < kernel; i++)
                    for (int j = 0; j < kernel; j++)
                        *(vector *)(there + (i * columns + j) * dilation * padded) +=
                            value * *(const vector *)(weights + (i * kernel + j) * padded + c);
            }
}

/* Adds to a row of taps the products of inputs and gradients, for `wide` vectors of channels. */
INLINE void tap_sums(float *sums, const float *inputs, const float *gradient, int kernel, int64_t padded, int64_t columns,
                     int64_t gradient_columns, int64_t height, int64_t width, int64_t stride, int64_t dilation, int wide) {
    vector sum[7][2];
    for (int j = 0; j < kernel; j++)
        for (int v = 0; v < wide; v++) sum[j][v] = *(vector *)(sums + j * padded + v * NATIVE);
    for (int64_t y = 0; y < height; y++) {
        const float *input = inputs + y * stride * columns * padded, *output = gradient + y * gradient_columns * padded;
        for (int64_t x = 0; x < width; x++, input += stride * padded, output += padded)
            for (int v = 0; v < wide; v++) {
                vector g = *(const vector *)(output + v * NATIVE);
                _Pragma("GCC unroll 7") for (int j = 0; j < kernel; j++)
                    sum[j][v] += g * *(const vector *)(input + j * dilation * padded + v * NATIVE);
            }
    }
    for (int j = 0; j < kernel; j++)
        for (int v = 0; v < wide; v++) *(vector *)(sums + j * padded + v * NATIVE) = sum[j][v];
}

/* Adds the gradient to the depthwise weights of an image, [taps, padded]. */
INLINE void depthwise_sums(float *sums, const float *inputs, const float *gradient, int kernel, int64_t padded,
                           int64_t columns, int64_t gradient_columns, int64_t height, int64_t width, int64_t stride,
                           int64_t dilation) {
    for (int i = 0; i < kernel; i++) {
        float *row = sums + i * kernel * padded;
        const float *from = inputs + i * dilation * columns * padded;
        for (int64_t c = 0; c < padded;) {
            if (kernel < 7 && c + NATIVE < padded) {
                tap_sums(row + c, from + c, gradient + c, kernel, padded, columns, gradient_columns, height, width, stride,
                         dilation, 2);
                c += 2 * NATIVE;
            } else {
                tap_sums(row + c, from + c, gradient + c, kernel, padded, columns, gradient_columns, height, width, stride,
                         dilation, 1);
                c += NATIVE;
            }
        }
    }
}

#define FOR_KERNEL(KERNEL) \
    static void convolve_##KERNEL(float *to, const float *from, const float *weights, int64_t padded, int64_t columns, \
                                  int64_t height, int64_t width, int64_t stride, int64_t dilation, int accumulate) { \
        convolve(to, from, weights, KERNEL, padded, columns, height, width, stride, dilation, accumulate); \
    } \
    static void scatter_##KERNEL(float *to, const float *from, const float *weights, int64_t padded, int64_t columns, \
                                 int64_t height, int64_t width, int64_t stride, int64_t dilation) { \
        scatter(to, from, weights, KERNEL, padded, columns, height, width, stride, dilation); \
    } \
    static void depthwise_sums_##KERNEL(float *sums, const float *inputs, const float *gradient, int64_t padded, \
                                        int64_t columns, int64_t gradient_columns, int64_t height, int64_t width, \
                                        int64_t stride, int64_t dilation) { \
        depthwise_sums(sums, inputs, gradient, KERNEL, padded, columns, gradient_columns, height, width, stride, dilation); \
    }
FOR_KERNEL(3)
FOR_KERNEL(5)
FOR_KERNEL(7)

/* By kernel, which the compiler must know to keep a kernel's sums in registers. */
static const struct {
    void (*convolve)(float *, const float *, const float *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int);
    void (*scatter)(float *, const float *, const float *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
    void (*sums)(float *, const float *, const float *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
} OF_KERNEL[] = {
    [3] = { convolve_3, scatter_3, depthwise_sums_3 },
    [5] = { convolve_5, scatter_5, depthwise_sums_5 },
    [7] = { convolve_7, scatter_7, depthwise_sums_7 },
};

/* Of `rest` rows, how many to take at once: few shall remain that are taken one by one. */
INLINE int64_t block(int64_t rest) {
    return rest >= WIDER && rest != 2 * BLOCK ? WIDER : rest >= BLOCK ? BLOCK : 1;
}

INLINE void rows_of_product(float *to, const float *left, const float *right, int64_t depth, int64_t left_row,
                            int64_t left_step, int64_t right_row, int accumulate, int count, int wide) {
    vector sum[WIDER][2];
    for (int m = 0; m < count; m++)
        for (int v = 0; v < wide; v++)
            sum[m][v] = accumulate ? *(vector *)(to + m * right_row + v * NATIVE) : (vector){ 0 };
    for (int64_t k = 0; k < depth; k++) {
        vector value[2];
        for (int v = 0; v < wide; v++) value[v] = *(const vector *)(right + k * right_row + v * NATIVE);
        _Pragma("GCC unroll 12") for (int m = 0; m < count; m++)
            for (int v = 0; v < wide; v++) sum[m][v] += left[m * left_row + k * left_step] * value[v];
    }
    for (int m = 0; m < count; m++)
        for (int v = 0; v < wide; v++) *(vector *)(to + m * right_row + v * NATIVE) = sum[m][v];
}

/* A matrix product: to[m, c] = sum over k < depth of left[m * left_row + k * left_step] * right[k, c], or added to it; for
 * m < rows and c < right_row, which fills vectors. */
INLINE void multiply(float *to, const float *left, const float *right, int64_t rows, int64_t depth, int64_t left_row,
                     int64_t left_step, int64_t right_row, int accumulate) {
#define ROWS(COUNT, WIDE) \
    rows_of_product(to + m * right_row + c, left + m * left_row, right + c, depth, left_row, left_step, right_row, accumulate, \
                    COUNT, WIDE)
    for (int64_t c = 0; c < right_row; c += 2 * NATIVE) {
        int both = c + NATIVE < right_row;
        for (int64_t m = 0, count; m < rows; m += count) {
            count = block(rows - m);
            if (count == WIDER) both ? ROWS(WIDER, 2) : ROWS(WIDER, 1);
            else if (count == BLOCK) both ? ROWS(BLOCK, 2) : ROWS(BLOCK, 1);
            else both ? ROWS(1, 2) : ROWS(1, 1);
        }
    }
#undef ROWS
}

/* [count, from_row] times [inputs, to_row] to [count, to_row]; rows have more values than `inputs` where they are padded. */
static void product(float *to, const float *from, const float *matrix, int64_t inputs, int64_t from_row, int64_t to_row,
                    int64_t count) {
    multiply(to, from, matrix, count, inputs, from_row, 1, to_row, 0);
}

/* Adds the transpose of [pixels, left_row] times [pixels, right_row] to [left_row, right_row]. */
static void pointwise_sums(float *sums, const float *left, const float *right, int64_t left_row, int64_t right_row,
                           int64_t pixels) {
    multiply(sums, left, right, left_row, pixels, 1, left_row, right_row, 1);
}
#endif
