/* Vectors of as many floats as a register holds, by the vector types of GCC and Clang, and pixels in float32 or bfloat16. */
#ifndef VECTORS_H
#define VECTORS_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined __AVX512F__
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

/* To the nearest bfloat16, ties to even. */
INLINE uint16_t narrowed(float value) {
    union { float number; uint32_t bits; } both = { value };
    return value != value ? 0x7fc0 : (both.bits + 0x7fff + (both.bits >> 16 & 1)) >> 16;
}

/* A value for each image, edge, pixel and channel, the channels beside each other; the distances between two images, edges
 * and pixels are in elements, and edges that share their channels have none between them. */
typedef struct {
    void *data;
    int64_t image, edge, pixel, bfloat16;
} map;

/* NATIVE channels of a pixel, or the first `channels` of them where there are fewer, and zeros. */
INLINE vector read(const map *t, int64_t offset, int64_t channels) {
    if (channels >= NATIVE && !t->bfloat16) return *(const unaligned *)((const float *)t->data + offset);
    if (channels >= NATIVE)
        return (vector)(__builtin_convertvector(*(const halves *)((const uint16_t *)t->data + offset), bits) << 16);
    float some[NATIVE] __attribute__((aligned(64))) = { 0 };
    int64_t lane = 0;
    if (channels >= NATIVE / 2 && !t->bfloat16) { /* at once, as the compiler knows how many */
        memcpy(some, (const float *)t->data + offset, 2 * NATIVE);
        lane = NATIVE / 2;
    }
    for (; lane < channels; lane++)
        some[lane] = t->bfloat16 ? widened(((const uint16_t *)t->data)[offset + lane]) : ((const float *)t->data)[offset + lane];
    return *(const vector *)some;
}

/* The same of an array of floats. */
INLINE vector read_floats(const float *from, int64_t channels) {
    const map all = { (float *)from, 0, 0, 0, 0 };
    return read(&all, 0, channels);
}

INLINE void write(const map *t, int64_t offset, int64_t channels, vector value) {
    if (channels >= NATIVE && !t->bfloat16) {
        *(unaligned *)((float *)t->data + offset) = value;
    } else if (channels >= NATIVE) {
        bits number = (bits)value, rounded = (number + 0x7fff + (number >> 16 & 1)) >> 16, nan = (bits)(value != value);
        *(halves *)((uint16_t *)t->data + offset) = __builtin_convertvector((nan & 0x7fc0) | (~nan & rounded), halves);
    } else {
        int64_t lane = 0;
        if (channels >= NATIVE / 2 && !t->bfloat16) {
            memcpy((float *)t->data + offset, &value, 2 * NATIVE);
            lane = NATIVE / 2;
        }
        for (; lane < channels; lane++) {
            if (t->bfloat16) ((uint16_t *)t->data)[offset + lane] = narrowed(value[lane]);
            else ((float *)t->data)[offset + lane] = value[lane];
        }
    }
}

/* Zero where `by` is not positive, else `value`; what is no number stays. */
INLINE vector rectified(vector value, vector by) {
    return (vector)((bits)value & ~(bits)(by <= 0));
}
#endif
