/* A sum of terms that batch norms normalise, and the sums that the batch norms' gradients need: each in one pass.
 *
 * Terms are read in blocks of some pixels of an edge, one term after another, as processors fetch ahead what lies in a row.
 */
#include "vectors.h"

#define WIDEST 1024            /* values of a block, but for edges that have more channels */

typedef struct {
    int64_t images, pixels, channels, edges;
} extent;

/* Whether all are in float32, and their channels fill vectors: `plain` below, which the compiler must know. */
static int are_plain(const map *maps, int64_t count, const extent *x) {
    for (int64_t k = 0; k < count; k++)
        if (maps[k].bfloat16) return 0;
    return x->channels % NATIVE == 0;
}

static int64_t pixels_of_block(int64_t padded, int64_t pixels) {
    int64_t block = padded < WIDEST ? WIDEST / padded : 1;
    return block < pixels ? block : pixels;
}

INLINE vector take(const map *t, int64_t offset, int64_t channels, int plain) {
    return plain ? *(const unaligned *)((const float *)t->data + offset) : read(t, offset, channels);
}

INLINE void put(const map *t, int64_t offset, int64_t channels, vector value, int plain) {
    if (plain) *(unaligned *)((float *)t->data + offset) = value;
    else write(t, offset, channels, value);
}

/* Adds `scale` * term, or the term, to a block [pixels, padded]; writes it where it is the `first`. */
INLINE void add_block(float *block, const map *t, const float *scale, int first, int64_t offset, int64_t pixels,
                      int64_t channels, int64_t padded, int plain) {
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < channels; c += NATIVE) {
            vector *to = (vector *)(block + p * padded + c), value = take(t, offset + p * t->pixel + c, channels - c, plain);
            if (scale) value *= *(const vector *)(scale + c);
            *to = first ? value : *to + value;
        }
}

INLINE void write_block(const map *t, const float *block, const float *shift, int64_t offset, int64_t pixels,
                        int64_t channels, int64_t padded, int plain) {
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < channels; c += NATIVE) {
            vector value = *(const vector *)(block + p * padded + c);
            if (shift) value += *(const vector *)(shift + c);
            put(t, offset + p * t->pixel + c, channels - c, value, plain);
        }
}

/* [rows, edges * channels] to [rows, edges, padded]. */
static float *padded_rows(const float *from, int64_t rows, int64_t padded, const extent *x) {
    float *to = floats(rows * x->edges * padded);
    if (!to) return NULL;
    memset(to, 0, 4 * rows * x->edges * padded);
    for (int64_t row = 0; row < rows * x->edges; row++)
        memcpy(to + row * padded, from + row * x->channels, 4 * x->channels);
    return to;
}

/* outputs = shift + sum over k of  scales[k] * terms[k],  with scales and shift for each of edges * channels.
 * Returns 1 where there is no memory, else 0. */
int normalised_sum(const map *outputs, const map *terms, int64_t count, const float *scales, const float *shift,
                   const extent *x, int threads) {
    int plain = are_plain(terms, count, x) && are_plain(outputs, 1, x), failed = 0;
    int64_t padded = (x->channels + NATIVE - 1) / NATIVE * NATIVE, size = pixels_of_block(padded, x->pixels);
    float *scale = padded_rows(scales, count, padded, x), *start = padded_rows(shift, 1, padded, x);
    #pragma omp parallel num_threads(threads) if (scale && start)
    {
        float *block = floats(size * padded);
        int ready = scale && start && block;
        if (!ready) {
            #pragma omp atomic write
            failed = 1;
        }
        #pragma omp for
        for (int64_t image = 0; image < x->images; image++)
            for (int64_t from = 0; ready && from < x->pixels; from += size)
                for (int64_t e = 0; e < x->edges; e++) {
                    int64_t pixels = x->pixels - from < size ? x->pixels - from : size;
                    for (int64_t k = 0; k < count; k++) {
                        const map *t = &terms[k];
                        int64_t offset = image * t->image + e * t->edge + from * t->pixel;
                        const float *here = scale + (k * x->edges + e) * padded;
                        if (plain) add_block(block, t, here, k == 0, offset, pixels, x->channels, padded, 1);
                        else add_block(block, t, here, k == 0, offset, pixels, x->channels, padded, 0);
                    }
                    int64_t offset = image * outputs->image + e * outputs->edge + from * outputs->pixel;
                    if (plain) write_block(outputs, block, start + e * padded, offset, pixels, x->channels, padded, 1);
                    else write_block(outputs, block, start + e * padded, offset, pixels, x->channels, padded, 0);
                }
        free(block);
    }
    free(scale), free(start);
    return failed;
}

/* Adds to sums [padded] those of the products of a block of the gradient with term - mean; of the gradient alone where
 * there is no term. */
INLINE void add_products(float *sums, const float *gradient, const map *t, const float *mean, int64_t offset, int64_t pixels,
                         int64_t channels, int64_t padded, int plain) {
    for (int64_t c = 0; c < channels; c += NATIVE) {
        vector sum[2] = { *(vector *)(sums + c), { 0 } }, middle = { 0 }; /* two, so that one need not wait for the other */
        if (t) middle = *(const vector *)(mean + c);
        for (int64_t p = 0; p < pixels; p += 2)
            for (int64_t next = p; next < p + 2 && next < pixels; next++) {
                vector g = *(const vector *)(gradient + next * padded + c);
                sum[next - p] += t ? g * (take(t, offset + next * t->pixel + c, channels - c, plain) - middle) : g;
            }
        *(vector *)(sums + c) = sum[0] + sum[1];
    }
}

/* sums[0] are the sums of a gradient over images and pixels, sums[1 + k] those of its products with terms[k] - mean[k], for
 * each of edges * channels; gathered[j] is the gradient times weights[j], [edges], added over the edges. An image is
 * summed in float32, images in float64. Returns 1 where there is no memory, else 0. */
int normalised_sums(double *sums, const map *gathered, int64_t gathered_count, const float *weights, const map *gradient,
                    const map *terms, int64_t count, const float *mean, const extent *x, int threads) {
    int64_t padded = (x->channels + NATIVE - 1) / NATIVE * NATIVE, size = pixels_of_block(padded, x->pixels);
    int64_t rows = (1 + count) * x->edges;
    int plain = are_plain(terms, count, x) && are_plain(gradient, 1, x) && are_plain(gathered, gathered_count, x);
    float *means = padded_rows(mean, count, padded, x), *parts = floats(x->images * rows * padded);
    int failed = 0;
    if (parts) memset(parts, 0, 4 * x->images * rows * padded);
    #pragma omp parallel num_threads(threads) if (means && parts)
    {
        float *block = floats(size * padded), *added = floats(gathered_count * size * padded + padded);
        int ready = means && parts && block && added;
        if (!ready) {
            #pragma omp atomic write
            failed = 1;
        }
        #pragma omp for
        for (int64_t image = 0; image < x->images; image++)
            for (int64_t from = 0; ready && from < x->pixels; from += size) {
                int64_t pixels = x->pixels - from < size ? x->pixels - from : size;
                for (int64_t e = 0; e < x->edges; e++) {
                    float *part = parts + (image * rows + e) * padded;
                    int64_t offset = image * gradient->image + e * gradient->edge + from * gradient->pixel;
                    if (plain) add_block(block, gradient, NULL, 1, offset, pixels, x->channels, padded, 1);
                    else add_block(block, gradient, NULL, 1, offset, pixels, x->channels, padded, 0);
                    add_products(part, block, NULL, NULL, 0, pixels, x->channels, padded, 1);
                    for (int64_t k = 0; k < count; k++) {
                        const map *t = &terms[k];
                        int64_t there = image * t->image + e * t->edge + from * t->pixel;
                        const float *middle = means + (k * x->edges + e) * padded;
                        part += x->edges * padded;
                        if (plain) add_products(part, block, t, middle, there, pixels, x->channels, padded, 1);
                        else add_products(part, block, t, middle, there, pixels, x->channels, padded, 0);
                    }
                    for (int64_t j = 0; j < gathered_count; j++)
                        for (int64_t each = 0; each < pixels * padded; each += NATIVE) {
                            vector *to = (vector *)(added + j * size * padded + each);
                            vector value = weights[j * x->edges + e] * *(const vector *)(block + each);
                            *to = e ? *to + value : value;
                        }
                }
                for (int64_t j = 0; j < gathered_count; j++) {
                    const map *t = &gathered[j];
                    int64_t there = image * t->image + from * t->pixel;
                    if (plain) write_block(t, added + j * size * padded, NULL, there, pixels, x->channels, padded, 1);
                    else write_block(t, added + j * size * padded, NULL, there, pixels, x->channels, padded, 0);
                }
            }
        free(block), free(added);
    }
    for (int64_t row = 0; !failed && row < rows; row++)
        for (int64_t c = 0; c < x->channels; c++) {
            double sum = 0;
            for (int64_t image = 0; image < x->images; image++) sum += parts[(image * rows + row) * padded + c];
            sums[row * x->channels + c] = sum;
        }
    free(means), free(parts);
    return failed;
}
