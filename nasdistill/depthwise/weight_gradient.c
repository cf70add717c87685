/* The gradient of a depthwise convolution to its weights.
 *
 *     gradient[c, i, j] = sum over n, y, x of  outputs'[n, c, y, x] * inputs[n, c, y * s + i * d - p, x * s + j * d - p]
 *
 * Bands of a few rows of GROUP * LANES channels are copied to float32 buffers that the caches hold, zeros around them,
 * the LANES channels of a pixel beside each other. The sums of a row of taps then stay in registers while a band is
 * passed over once for each row. Every slice of the batch sums its images in their order, and slices are summed in
 * theirs, so that the bits do not depend on the number of threads.
 *
 * Plain C11 with the vector types of GCC and Clang, so that one source serves all widths of registers.
 */
#include "vectors.h"

#define LANES 16
#define GROUP 4
#define WIDEST 7               /* taps in a row, at most */
#define CACHED (1 << 18)       /* bytes of a band of inputs that the second cache holds beside that of outputs */
#define PER_LANE (WIDEST * WIDEST * LANES)

/* Four dimensions with any strides, in elements; float32, or bfloat16 in 16 bits. */
typedef struct {
    const void *data;
    int64_t images, channels, height, width;
    int64_t image, channel, row, column;
    int64_t bfloat16;
} tensor;

static inline float number(const tensor *t, int64_t offset) {
    return t->bfloat16 ? widened(((const uint16_t *)t->data)[offset]) : ((const float *)t->data)[offset];
}

/* LANES channels of one pixel, which lie beside each other. */
static inline void copy_lanes(float *to, const tensor *t, int64_t offset) {
    if (t->bfloat16)
        for (int lane = 0; lane < LANES; lane++) to[lane] = widened(((const uint16_t *)t->data)[offset + lane]);
    else
        memcpy(to, (const float *)t->data + offset, 4 * LANES);
}

/* Rows `top` to `top + rows` and columns `left` to `left + width` of up to GROUP * LANES channels of an image: to
 * [GROUP][rows][width][LANES], where `size` floats lie between two of a group. Rows that the image lacks become zeros;
 * columns that it lacks are left as they are, zeros from the beginning. Memory is read in the order in which it lies. */
static void copy_band(float *to, int64_t size, const tensor *t, int64_t image, int64_t channel, int64_t channels,
                      int64_t top, int64_t rows, int64_t left, int64_t width) {
    int64_t parts = (channels + LANES - 1) / LANES, whole = t->channel == 1 ? channels / LANES : 0;
    int64_t above = top < 0 ? -top : 0, below = t->height - top < rows ? t->height - top : rows;
    int64_t from = left < 0 ? -left : 0, until = t->width - left < width ? t->width - left : width;
    int64_t offset = image * t->image + channel * t->channel + top * t->row + left * t->column;
    if (below < above) below = above = rows;
    for (int64_t part = 0; part < parts; part++) {
        memset(to + part * size, 0, 4 * above * width * LANES);
        memset(to + part * size + below * width * LANES, 0, 4 * (rows - below) * width * LANES);
    }
    for (int64_t row = above; row < below; row++)
        for (int64_t x = from; x < until; x++)
            for (int64_t part = 0; part < whole; part++)
                copy_lanes(to + part * size + (row * width + x) * LANES, t,
                           offset + row * t->row + x * t->column + part * LANES);
    for (int64_t lane = whole * LANES; lane < channels; lane++)
        for (int64_t row = above; row < below; row++)
            for (int64_t x = from; x < until; x++)
                to[lane / LANES * size + (row * width + x) * LANES + lane % LANES] =
                    number(t, offset + lane * t->channel + row * t->row + x * t->column);
}

/* Adds the sums of one row of TAPS taps over a band. VECTORS registers of channels go through it at a time: enough sums
 * that the processor need not wait for one before it adds to it again, and not more than it has registers for. */
#define SUM_ROW(TAPS, VECTORS) \
    static void sum_row_##TAPS(float *sums, const float *inputs, const float *outputs, int64_t rows, int64_t width, \
                               int64_t input_width, int64_t stride, int64_t dilation) { \
        for (int first = 0; first < LANES; first += VECTORS * NATIVE) { \
            vector sum[TAPS][VECTORS]; \
            for (int tap = 0; tap < TAPS; tap++) \
                for (int v = 0; v < VECTORS; v++) sum[tap][v] = *(vector *)(sums + tap * LANES + first + v * NATIVE); \
            for (int64_t row = 0; row < rows; row++) { \
                const float *output = outputs + row * width * LANES + first; \
                const float *input = inputs + row * stride * input_width * LANES + first; \
                for (int64_t x = 0; x < width; x++, output += LANES, input += stride * LANES) { \
                    _Pragma("GCC unroll 8") for (int tap = 0; tap < TAPS; tap++) \
                        _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++) \
                            sum[tap][v] += *(const vector *)(output + v * NATIVE) * \
                                           *(const vector *)(input + tap * dilation * LANES + v * NATIVE); \
                } \
            } \
            for (int tap = 0; tap < TAPS; tap++) \
                for (int v = 0; v < VECTORS; v++) *(vector *)(sums + tap * LANES + first + v * NATIVE) = sum[tap][v]; \
        } \
    }

#define BOTH (NATIVE < LANES ? 2 : 1)
SUM_ROW(3, BOTH)
SUM_ROW(5, BOTH)
SUM_ROW(7, 1)

typedef void (*row_sums)(float *, const float *, const float *, int64_t, int64_t, int64_t, int64_t, int64_t);

/* Writes [channels, kernel, kernel]; the kernel is 3, 5 or 7. Returns 1 where there is no memory, else 0. */
int depthwise_weight_gradient(float *gradient, const tensor *inputs, const tensor *outputs, int64_t kernel, int64_t stride,
                              int64_t padding, int64_t dilation, int threads) {
    row_sums sum_row = kernel == 3 ? sum_row_3 : kernel == 5 ? sum_row_5 : sum_row_7;
    int64_t taps = kernel * kernel, reach = (kernel - 1) * dilation;
    int64_t channels = inputs->channels, images = inputs->images, height = outputs->height, width = outputs->width;
    int64_t slices = images < SLICES ? images : SLICES, groups = (channels + GROUP * LANES - 1) / (GROUP * LANES);
    int64_t input_width = (width - 1) * stride + reach + 1;
    int64_t band = 1 + CACHED / (4 * GROUP * LANES * stride * input_width);
    if (band > height) band = height;
    int64_t input_size = ((band - 1) * stride + reach + 1) * input_width * LANES, output_size = band * width * LANES;
    float *partial = malloc(4 * slices * channels * taps);
    int failed = !partial;

    #pragma omp parallel num_threads(threads)
    {
        float *input_band = aligned_alloc(64, 4 * GROUP * input_size);
        float *output_band = aligned_alloc(64, 4 * GROUP * output_size);
        float *sums = aligned_alloc(64, 4 * GROUP * PER_LANE);
        int ready = partial && input_band && output_band && sums;
        if (!ready) {
            #pragma omp atomic write
            failed = 1;
        } else
            memset(input_band, 0, 4 * GROUP * input_size);
        #pragma omp for collapse(2) schedule(dynamic)
        for (int64_t slice = 0; slice < slices; slice++)
            for (int64_t group = 0; group < groups; group++) {
                if (!ready) continue;
                int64_t first = group * GROUP * LANES;
                int64_t here = channels - first < GROUP * LANES ? channels - first : GROUP * LANES;
                memset(sums, 0, 4 * GROUP * PER_LANE);
                for (int64_t n = slice * images / slices; n < (slice + 1) * images / slices; n++)
                    for (int64_t y = 0; y < height; y += band) {
                        int64_t rows = height - y < band ? height - y : band;
                        copy_band(input_band, input_size, inputs, n, first, here, y * stride - padding,
                                  (rows - 1) * stride + reach + 1, -padding, input_width);
                        copy_band(output_band, output_size, outputs, n, first, here, y, rows, 0, width);
                        for (int64_t part = 0; part * LANES < here; part++)
                            for (int64_t i = 0; i < kernel; i++)
                                sum_row(sums + part * PER_LANE + i * kernel * LANES,
                                        input_band + part * input_size + i * dilation * input_width * LANES,
                                        output_band + part * output_size, rows, width, input_width, stride, dilation);
                    }
                for (int64_t lane = 0; lane < here; lane++)
                    for (int64_t tap = 0; tap < taps; tap++)
                        partial[(slice * channels + first + lane) * taps + tap] =
                            sums[lane / LANES * PER_LANE + tap * LANES + lane % LANES];
            }
        free(input_band);
        free(output_band);
        free(sums);
    }
    if (!failed) {
        memset(gradient, 0, 4 * channels * taps);
        for (int64_t slice = 0; slice < slices; slice++)
            for (int64_t each = 0; each < channels * taps; each++) gradient[each] += partial[slice * channels * taps + each];
    }
    free(partial);
    return failed;
}
