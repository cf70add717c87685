/* Separable convolutions: normalise, ReLU, depthwise convolution, pointwise convolution, in one pass over the memory.
 *
 *     outputs[e] = P_e (D_e * relu(scale_e inputs_e + shift_e)),    e = 1 ... edges
 *
 * or without D_e, where `depthwise` is null and the kernel 1.
 *
 * An image of an edge goes through all of it while the caches hold it; only what batch norms must see whole, the outputs
 * before they are normalised, is written. The backward pass computes what lies between again. The batch norms'
 * gradients are affine in the gradient to what they made and in what they read, so that they are computed pixel by pixel
 * where they are used. Sums over a batch are taken in slices, as in weight_gradient.c: their bits do not depend on the
 * number of threads.
 */
#include "image.h"

typedef struct {
    int64_t images, height, width, channels, out_channels; /* of an edge */
    int64_t edges;
    int64_t kernel, stride, padding, dilation;
} shape;

/* What follows from a shape. A `padded` number of channels fills vectors. */
typedef struct {
    int64_t padded, out_padded, taps, out_height, out_width, out_pixels;
    int64_t rows, columns;               /* of the inputs with zeros around them */
    int64_t border, out_rows, out_columns; /* of the gradients with zeros around them */
    int64_t input_size, between_size, output_size, gradient_size, matrix_size;
    int64_t all, all_out;                /* channels of all edges */
} sizes;

static sizes sizes_of(const shape *s) {
    sizes z;
    int64_t reach = (s->kernel - 1) * s->dilation;
    z.padded = (s->channels + NATIVE - 1) / NATIVE * NATIVE;
    z.out_padded = (s->out_channels + NATIVE - 1) / NATIVE * NATIVE;
    z.taps = s->kernel * s->kernel;
    z.out_height = (s->height + 2 * s->padding - reach - 1) / s->stride + 1;
    z.out_width = (s->width + 2 * s->padding - reach - 1) / s->stride + 1;
    z.out_pixels = z.out_height * z.out_width;
    z.rows = s->height + 2 * s->padding;
    z.columns = s->width + 2 * s->padding;
    z.border = s->stride == 1 ? reach - s->padding : 0;
    z.out_rows = z.out_height + 2 * z.border;
    z.out_columns = z.out_width + 2 * z.border;
    z.input_size = z.rows * z.columns * z.padded;
    z.between_size = z.out_pixels * z.padded;
    z.output_size = z.out_pixels * z.out_padded;
    z.gradient_size = z.out_rows * z.out_columns * z.padded;
    z.matrix_size = z.padded * z.out_padded;
    z.all = s->edges * s->channels;
    z.all_out = s->edges * s->out_channels;
    return z;
}

/* [edges * channels, taps] to [edges][taps][padded], in reverse order of the taps where `flipped`. */
static void pack_depthwise(float *to, const float *weights, const shape *s, const sizes *z, int flipped) {
    memset(to, 0, 4 * s->edges * z->taps * z->padded);
    for (int64_t e = 0; e < s->edges; e++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t tap = 0; tap < z->taps; tap++)
                to[(e * z->taps + (flipped ? z->taps - 1 - tap : tap)) * z->padded + c] =
                    weights[(e * s->channels + c) * z->taps + tap];
}

/* [edges * outputs, inputs] to [edges][inputs][outputs], or [edges][outputs][inputs] where not `transposed`, padded. */
static void pack_pointwise(float *to, const float *weights, const shape *s, const sizes *z, int transposed) {
    memset(to, 0, 4 * s->edges * z->matrix_size);
    for (int64_t e = 0; e < s->edges; e++)
        for (int64_t out = 0; out < s->out_channels; out++)
            for (int64_t in = 0; in < s->channels; in++)
                to[e * z->matrix_size + (transposed ? in * z->out_padded + out : out * z->padded + in)] =
                    weights[(e * s->out_channels + out) * s->channels + in];
}

/* relu(scale * inputs + shift) of an image into the middle of [rows][columns][padded], around which zeros lie. */
static void activate(float *to, const map *inputs, int64_t image, int64_t edge, const float *scale, const float *shift,
                     const shape *s, const sizes *z) {
    int64_t offset = image * inputs->image + edge * inputs->edge, first = edge * s->channels;
    for (int64_t c = 0; c < s->channels; c += NATIVE) {
        int64_t here = s->channels - c;
        vector a = { 0 }, b = { 0 };
        if (scale) a = read_floats(scale + first + c, here), b = read_floats(shift + first + c, here);
        for (int64_t y = 0; y < s->height; y++) {
            float *row = to + ((y + s->padding) * z->columns + s->padding) * z->padded + c;
            for (int64_t x = 0; x < s->width; x++) {
                vector value = read(inputs, offset + (y * s->width + x) * inputs->pixel + c, here);
                if (scale) value = value * a + b;
                *(vector *)(row + x * z->padded) = rectified(value, value);
            }
        }
    }
}

/* Writes an image of an edge, and of each of its channels the mean and the sum of squares of distances from it. */
static void store(const map *outputs, double *moments, const float *from, int64_t image, int64_t edge, const shape *s,
                  const sizes *z) {
    int64_t offset = image * outputs->image + edge * outputs->edge;
    for (int64_t c = 0; c < s->out_channels; c += NATIVE) {
        vector pivot = *(const vector *)(from + c), sum = { 0 }, squares = { 0 }; /* near the mean, so that little cancels */
        for (int64_t p = 0; p < z->out_pixels; p++) {
            vector value = *(const vector *)(from + p * z->out_padded + c), distance = value - pivot;
            write(outputs, offset + p * outputs->pixel + c, s->out_channels - c, value);
            sum += distance;
            squares += distance * distance;
        }
        for (int64_t lane = 0; lane < NATIVE && c + lane < s->out_channels; lane++) {
            double mean = sum[lane] / (double)z->out_pixels;
            moments[2 * (c + lane)] = pivot[lane] + mean;
            moments[2 * (c + lane) + 1] = squares[lane] - sum[lane] * mean;
        }
    }
}

/* Writes outputs and their mean and variance, [edges * channels] each; scale and shift, as many, may be null.
 * Returns 1 where there is no memory, else 0. */
int separable_forward(const map *outputs, float *mean, float *variance, const map *inputs, const float *scale,
                      const float *shift, const float *depthwise, const float *pointwise, const shape *s, int threads) {
    const sizes z = sizes_of(s);
    float *depthwise_packed = floats(s->edges * z.taps * z.padded), *matrices = floats(s->edges * z.matrix_size);
    double *moments = malloc(sizeof(double) * 2 * s->images * z.all_out);
    int failed = !depthwise_packed || !matrices || !moments;
    if (!failed) {
        if (depthwise) pack_depthwise(depthwise_packed, depthwise, s, &z, 0);
        pack_pointwise(matrices, pointwise, s, &z, 1);
    }
    #pragma omp parallel num_threads(threads) if (!failed)
    {
        float *input = floats(z.input_size), *between = floats(z.between_size), *made = floats(z.output_size);
        int ready = !failed && input && between && made;
        if (!ready) {
            #pragma omp atomic write
            failed = 1;
        } else
            memset(input, 0, 4 * z.input_size);
        #pragma omp for schedule(dynamic)
        for (int64_t image = 0; image < s->images; image++)
            for (int64_t e = 0; ready && e < s->edges; e++) {
                if (e == 0 || inputs->edge) activate(input, inputs, image, e, scale, shift, s, &z);
                if (depthwise)
                    OF_KERNEL[s->kernel].convolve(between, input, depthwise_packed + e * z.taps * z.padded, z.padded, z.columns,
                                                  z.out_height, z.out_width, s->stride, s->dilation, 0);
                product(made, depthwise ? between : input, matrices + e * z.matrix_size, s->channels, z.padded, z.out_padded,
                        z.out_pixels);
                store(outputs, moments + 2 * (image * z.all_out + e * s->out_channels), made, image, e, s, &z);
            }
        free(input), free(between), free(made);
    }
    for (int64_t c = 0; !failed && c < z.all_out; c++) {
        double sum = 0, squares = 0, distances = 0;
        for (int64_t image = 0; image < s->images; image++) sum += moments[2 * (image * z.all_out + c)];
        sum /= s->images;
        for (int64_t image = 0; image < s->images; image++) {
            double distance = moments[2 * (image * z.all_out + c)] - sum;
            squares += moments[2 * (image * z.all_out + c) + 1];
            distances += distance * distance;
        }
        mean[c] = sum;
        variance[c] = (squares / z.out_pixels + distances) / s->images;
    }
    free(depthwise_packed), free(matrices), free(moments);
    return failed;
}

/* The gradient of a batch norm to what it read: `of_gradient` * gradient + `of_outputs` * outputs + `constant`. */
typedef struct {
    const float *of_gradient, *of_outputs, *constant;
} affine;

/* Gradient of the outputs before they are normalised, [out_pixels, padded]. */
static void gradient_of_norm(float *to, const map *gradient, const map *outputs, const affine *norm, int64_t image,
                             int64_t edge, const shape *s, const sizes *z) {
    int64_t from = image * gradient->image + edge * gradient->edge, made = image * outputs->image + edge * outputs->edge;
    for (int64_t c = 0; c < s->out_channels; c += NATIVE) {
        int64_t here = s->out_channels - c, channel = edge * s->out_channels + c;
        vector scale = read_floats(norm->of_gradient + channel, here), share = read_floats(norm->of_outputs + channel, here),
               constant = read_floats(norm->constant + channel, here);
        for (int64_t p = 0; p < z->out_pixels; p++)
            *(vector *)(to + p * z->out_padded + c) = scale * read(gradient, from + p * gradient->pixel + c, here) +
                                                  share * read(outputs, made + p * outputs->pixel + c, here) + constant;
    }
}

/* Writes or adds the gradient of an image to what ReLU read, whose outputs are `activated`; and, with means of the inputs
 * that a batch norm made from others, its sum and that of its products with the inputs' distances from their means. */
static void store_gradient(const map *to, int64_t add, double *sums, const float *from, int64_t columns,
                           const float *activated, const map *inputs, const float *mean, int64_t image, int64_t edge,
                           const shape *s, const sizes *z) {
    int64_t there = image * to->image + edge * to->edge, read_from = image * inputs->image + edge * inputs->edge;
    for (int64_t c = 0; c < s->channels; c += NATIVE) {
        int64_t here = s->channels - c, channel = edge * s->channels + c;
        vector sum = { 0 }, products = { 0 }, middle = { 0 };
        if (mean) middle = read_floats(mean + channel, here);
        for (int64_t y = 0; y < s->height; y++)
            for (int64_t x = 0; x < s->width; x++) {
                int64_t pixel = y * s->width + x, target = there + pixel * to->pixel + c;
                vector by = *(const vector *)(activated + (y * z->columns + x) * z->padded + c);
                vector value = rectified(*(const vector *)(from + (y * columns + x) * z->padded + c), by);
                if (mean) {
                    sum += value;
                    products += value * (read(inputs, read_from + pixel * inputs->pixel + c, here) - middle);
                }
                if (add) value += read(to, target, here);
                write(to, target, here, value);
            }
        for (int64_t lane = 0; mean && lane < NATIVE && lane < here; lane++) {
            sums[channel + lane] += sum[lane];
            sums[z->all + channel + lane] += products[lane];
        }
    }
}

/* Adds all slices of `size` values to the first. */
static void add_slices(float *parts, int64_t slices, int64_t size) {
    for (int64_t slice = 1; slice < slices; slice++)
        for (int64_t each = 0; each < size; each++) parts[each] += parts[slice * size + each];
}

/* [edges][taps][padded] to [edges * channels, taps]. */
static void unpack_depthwise(float *to, const float *from, const shape *s, const sizes *z) {
    for (int64_t e = 0; e < s->edges; e++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t tap = 0; tap < z->taps; tap++)
                to[(e * s->channels + c) * z->taps + tap] = from[(e * z->taps + tap) * z->padded + c];
}

/* [edges][out_padded][padded] to [edges * out_channels, channels]. */
static void unpack_pointwise(float *to, const float *from, const shape *s, const sizes *z) {
    for (int64_t e = 0; e < s->edges; e++)
        for (int64_t out = 0; out < s->out_channels; out++)
            memcpy(to + (e * s->out_channels + out) * s->channels, from + e * z->matrix_size + out * z->padded,
                   4 * s->channels);
}

/* The gradients to what `separable_forward` got.
 *
 * Writes `of_inputs`, the gradient to what ReLU read, before scale and shift; or adds to it, with `add`. With `mean`, that of
 * the inputs, `sums` [2][edges * channels] are its sums and those of its products with inputs - mean. `of_depthwise` and
 * `of_pointwise` may be null. Returns 1 where there is no memory, else 0. */
int separable_backward(const map *of_inputs, int64_t add, double *sums, float *of_depthwise, float *of_pointwise,
                       const map *gradient, const map *outputs, const affine *norm, const map *inputs,
                       const float *scale, const float *shift, const float *mean, const float *depthwise,
                       const float *pointwise, const shape *s, int threads) {
    const sizes z = sizes_of(s);
    int64_t slices = s->images < SLICES ? s->images : SLICES, square = z.matrix_size, tap_size = z.taps * z.padded;
    float *forward = floats(s->edges * tap_size), *backward = floats(s->edges * tap_size), *matrices = floats(s->edges * square);
    float *taps_of_slices = floats(slices * s->edges * tap_size), *matrices_of_slices = floats(slices * s->edges * square);
    double *sums_of_slices = calloc(2 * slices * z.all, sizeof(double));
    int failed = !forward || !backward || !matrices || !taps_of_slices || !matrices_of_slices || !sums_of_slices;
    if (!failed) {
        if (depthwise) pack_depthwise(forward, depthwise, s, &z, 0);
        if (depthwise) pack_depthwise(backward, depthwise, s, &z, s->stride == 1);
        pack_pointwise(matrices, pointwise, s, &z, 0);
        memset(taps_of_slices, 0, 4 * slices * s->edges * tap_size);
        memset(matrices_of_slices, 0, 4 * slices * s->edges * square);
    }
    #pragma omp parallel num_threads(threads) if (!failed)
    {
        float *input = floats(z.input_size), *between = floats(z.between_size), *made = floats(z.output_size);
        float *bordered = floats(z.gradient_size), *found = floats(z.input_size);
        int ready = !failed && input && between && made && bordered && found;
        if (!ready) {
            #pragma omp atomic write
            failed = 1;
        } else {
            memset(input, 0, 4 * z.input_size);
            memset(made, 0, 4 * z.output_size);
            memset(bordered, 0, 4 * z.gradient_size);
        }
        float *middle = bordered + (z.border * z.out_columns + z.border) * z.padded;
        #pragma omp for schedule(dynamic)
        for (int64_t slice = 0; slice < slices; slice++)
            for (int64_t image = slice * s->images / slices; ready && image < (slice + 1) * s->images / slices; image++)
                for (int64_t e = 0; e < s->edges; e++) {
                    int64_t part = slice * s->edges + e;
                    int fresh = e == 0 || inputs->edge;
                    if (fresh) activate(input, inputs, image, e, scale, shift, s, &z);
                    gradient_of_norm(made, gradient, outputs, norm, image, e, s, &z);
                    for (int64_t y = 0; y < z.out_height; y++)
                        product(middle + y * z.out_columns * z.padded, made + y * z.out_width * z.out_padded,
                                matrices + e * square, s->out_channels, z.out_padded, z.padded, z.out_width);
                    if (of_pointwise) {
                        if (depthwise)
                            OF_KERNEL[s->kernel].convolve(between, input, forward + e * tap_size, z.padded, z.columns,
                                                          z.out_height, z.out_width, s->stride, s->dilation, 0);
                        pointwise_sums(matrices_of_slices + part * square, made, depthwise ? between : input, z.out_padded,
                                       z.padded, z.out_pixels);
                    }
                    if (of_depthwise)
                        OF_KERNEL[s->kernel].sums(taps_of_slices + part * tap_size, input, middle, z.padded, z.columns,
                                                  z.out_columns, z.out_height, z.out_width, s->stride, s->dilation);
                    if (depthwise && s->stride == 1)
                        OF_KERNEL[s->kernel].convolve(found, bordered, backward + e * tap_size, z.padded, z.out_columns,
                                                      s->height, s->width, 1, s->dilation, !fresh);
                    else if (depthwise) {
                        if (fresh) memset(found, 0, 4 * z.input_size);
                        OF_KERNEL[s->kernel].scatter(found, middle, backward + e * tap_size, z.padded, z.columns, z.out_height,
                                                     z.out_width, s->stride, s->dilation);
                    }
                    if (!inputs->edge && e + 1 < s->edges) continue;
                    int64_t corner = (s->padding * z.columns + s->padding) * z.padded;
                    store_gradient(of_inputs, add, sums_of_slices + 2 * slice * z.all,
                                   !depthwise ? bordered : s->stride == 1 ? found : found + corner,
                                   s->stride == 1 ? s->width : z.columns, input + corner, inputs, mean, image,
                                   inputs->edge ? e : 0, s, &z);
                }
        free(input), free(between), free(made), free(bordered), free(found);
    }
    if (!failed) {
        add_slices(taps_of_slices, slices, s->edges * tap_size);
        add_slices(matrices_of_slices, slices, s->edges * square);
        if (of_depthwise) unpack_depthwise(of_depthwise, taps_of_slices, s, &z);
        if (of_pointwise) unpack_pointwise(of_pointwise, matrices_of_slices, s, &z);
        for (int64_t each = 0; mean && each < 2 * z.all; each++) {
            sums[each] = 0;
            for (int64_t slice = 0; slice < slices; slice++) sums[each] += sums_of_slices[2 * slice * z.all + each];
        }
    }
    free(forward), free(backward), free(matrices), free(taps_of_slices), free(matrices_of_slices), free(sums_of_slices);
    return failed;
}
