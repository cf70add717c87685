/* Vectors of as many floats as a register holds, by the vector types of GCC and Clang, and pixels in float32 or bfloat16. */
#ifndef VECTORS_H
#define VECTORS_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined __AVX512BW__ && defined __AVX512VL__
#include <immintrin.h>         /* loads and stores of some of a vector's numbers, for which the vector types have no words */
#define NATIVE 16
#define BLOCK 8                /* pixels whose sums stay in registers, two vectors of channels of each */
#define WIDER 12               /* the same of a matrix product, which needs no other registers */
#elif defined __AVX__
#define NATIVE 8
#define BLOCK 4
#define WIDER 6
#else
#define NATIVE 4
#define BLOCK 4
#define WIDER 6
#endif
#define SLICES 32              /* parts of a batch that are summed apart */

#define INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(4 * NATIVE)));
typedef float unaligned __attribute__((vector_size(4 * NATIVE), aligned(4)));
typedef uint32_t bits __attribute__((vector_size(4 * NATIVE)));
typedef uint16_t halves __attribute__((vector_size(2 * NATIVE), aligned(2)));

INLINE float *floats(int64_t count) {
    return aligned_alloc(64, (4 * count + 63) / 64 * 64);
}

INLINE float widened(uint16_t value) {
    union { uint32_t bits; float number; } both = { (uint32_t)value << 16 };
    return both.number;
}

/* A value for each image, edge, pixel and channel, the channels beside each other; the distances between two images, edges
 * and pixels are in elements, and edges that share their channels have none between them. */
typedef struct {
    void *data;
    int64_t image, edge, pixel, bfloat16;
} map;

/* The first `channels` of a pixel, fewer than NATIVE, and zeros. */
INLINE vector read_some(const map *t, int64_t offset, int64_t channels) {
#if NATIVE == 16
    __mmask16 mask = (1u << channels) - 1;
    if (!t->bfloat16) return (vector)_mm512_maskz_loadu_ps(mask, (const float *)t->data + offset);
    __m256i halves = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)t->data + offset);
    return (vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
#else
    float some[NATIVE] __attribute__((aligned(64))) = { 0 };
    int64_t lane = 0;
    if (channels >= NATIVE / 2 && !t->bfloat16) { /* at once, as the compiler knows how many */
        memcpy(some, (const float *)t->data + offset, 2 * NATIVE);
        lane = NATIVE / 2;
    }
    for (; lane < channels; lane++)
        some[lane] = t->bfloat16 ? widened(((const uint16_t *)t->data)[offset + lane]) : ((const float *)t->data)[offset + lane];
    return *(const vector *)some;
#endif
}

/* NATIVE channels of a pixel, or the first `channels` of them where there are fewer, and zeros. */
INLINE vector read(const map *t, int64_t offset, int64_t channels) {
    if (channels < NATIVE) return read_some(t, offset, channels);
    if (!t->bfloat16) return *(const unaligned *)((const float *)t->data + offset);
    return (vector)(__builtin_convertvector(*(const halves *)((const uint16_t *)t->data + offset), bits) << 16);
}

/* The same of an array of floats. */
INLINE vector read_floats(const float *from, int64_t channels) {
    const map all = { (float *)from, 0, 0, 0, 0 };
    return read(&all, 0, channels);
}

/* Each to the nearest bfloat16, ties to even. */
INLINE halves narrowed(vector values) {
    bits number = (bits)values, rounded = (number + 0x7fff + (number >> 16 & 1)) >> 16, nan = (bits)(values != values);
    return __builtin_convertvector((nan & 0x7fc0) | (~nan & rounded), halves);
}

/* The first `channels` of the values, fewer than NATIVE. */
INLINE void write_some(const map *t, int64_t offset, int64_t channels, vector values) {
#if NATIVE == 16
    __mmask16 mask = (1u << channels) - 1;
    if (!t->bfloat16) _mm512_mask_storeu_ps((float *)t->data + offset, mask, (__m512)values);
    else _mm256_mask_storeu_epi16((uint16_t *)t->data + offset, mask, (__m256i)narrowed(values));
#else
    halves narrow = narrowed(values);
    int64_t lane = 0;
    if (channels >= NATIVE / 2 && !t->bfloat16) {
        memcpy((float *)t->data + offset, &values, 2 * NATIVE);
        lane = NATIVE / 2;
    }
    for (; lane < channels; lane++) {
        if (t->bfloat16) ((uint16_t *)t->data)[offset + lane] = narrow[lane];
        else ((float *)t->data)[offset + lane] = values[lane];
    }
#endif
}

/* The values, or the first `channels` of them where there are fewer. */
INLINE void write(const map *t, int64_t offset, int64_t channels, vector values) {
    if (channels < NATIVE) write_some(t, offset, channels, values);
    else if (!t->bfloat16) *(unaligned *)((float *)t->data + offset) = values;
    else *(halves *)((uint16_t *)t->data + offset) = narrowed(values);
}

/* Zero where `by` is not positive, else `value`; what is no number stays. */
INLINE vector rectified(vector value, vector by) {
    return (vector)((bits)value & ~(bits)(by <= 0));
}
#endif
