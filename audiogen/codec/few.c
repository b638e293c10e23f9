/* Layers of the codec's decoder for the few rows of one frame, one thread.

   With so few rows a layer takes as long as its weights take to be read. They are kept as the file has them, int8 with a
   scale a row, and become float32 on the way into the product: the same numbers in a quarter of the bytes. */

#include "vectors.h"

#include <math.h>
#include <stdlib.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16
#define ROWS 4
#define BLOCKS 4
#define MOST_ROWS 32

int interface_version(void) { return 1; }

typedef int8_t vb __attribute__((vector_size(16), aligned(1)));

static inline vf floats(const int8_t *levels) {
#ifdef __AVX512F__
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)levels)));
#else
    return __builtin_convertvector(__builtin_convertvector(*(const vb *)levels, vi), vf);
#endif
}

typedef struct {
    const int8_t *levels; /* [out / 16][in][16] */
    const float *scale, *bias;
    int32_t in, out;
} Linear;

/* `rows` rows against `blocks` times 16 outputs, from output `o` on, both known where this is written out. */
static inline __attribute__((always_inline)) void product(
    const Linear *at, int o, const float *x, float *y, const int rows, const int blocks) {
    vf sum[ROWS][BLOCKS];
    for (int b = 0; b < blocks; b++)
        for (int r = 0; r < rows; r++) sum[r][b] = splat(0);
    const int8_t *levels = at->levels + (int64_t)o * at->in;
    const int in = at->in;
    for (int k = 0; k < in; k++)
#pragma GCC unroll 4
        for (int b = 0; b < blocks; b++) {
            vf weight = floats(levels + ((int64_t)b * in + k) * LANES);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) sum[r][b] += x[r * in + k] * weight;
        }
    for (int b = 0; b < blocks; b++, o += LANES)
        for (int r = 0; r < rows; r++)
            *(vf *)(y + r * at->out + o) = sum[r][b] * *(const vf *)(at->scale + o) + *(const vf *)(at->bias + o);
}

/* y [rows, out] = x [rows, in] · Wᵀ + bias; `out` in whole vectors. */
void linear(const Linear *at, const float *x, float *y, int rows) {
    while (rows) {
        int many = rows >= ROWS, done = many ? ROWS : 1;
        for (int o = 0; o < at->out;) {
            int wide = at->out - o >= BLOCKS * LANES;
            if (many && wide) product(at, o, x, y, ROWS, BLOCKS);
            else if (many) product(at, o, x, y, ROWS, 1);
            else if (wide) product(at, o, x, y, 1, BLOCKS);
            else product(at, o, x, y, 1, 1);
            o += wide ? BLOCKS * LANES : LANES;
        }
        rows -= done, x += (int64_t)done * at->in, y += (int64_t)done * at->out;
    }
}

typedef struct {
    Linear up, down;
    const float *mix, *mix_bias; /* [taps][dim], [dim] */
    const float *gain, *shift;   /* of the norm */
    const float *scale;
    int32_t dim, taps;
    float epsilon;
} Block;

static void norm(const Block *at, float *x) {
    vf total = splat(0), squares = splat(0);
    for (int d = 0; d < at->dim; d += LANES) total += *(const vf *)(x + d);
    float mean = sum_of(total) / at->dim;
    for (int d = 0; d < at->dim; d += LANES) {
        vf away = *(const vf *)(x + d) - mean;
        squares += away * away;
    }
    float inverse = 1.0f / sqrtf(sum_of(squares) / at->dim + at->epsilon);
    for (int d = 0; d < at->dim; d += LANES)
        *(vf *)(x + d) =
            (*(const vf *)(x + d) - mean) * inverse * *(const vf *)(at->gain + d) + *(const vf *)(at->shift + d);
}

/* A block of ConvNeXt: `seen` [taps - 1 + rows, dim] → `out` [rows, dim]; −1 without memory for it. */
int convnext(const Block *at, const float *seen, float *out, int rows) {
    if (rows > MOST_ROWS) return -1;
    int hidden = at->up.out;
    float *inner = malloc(sizeof(float) * rows * (at->dim + hidden)), *mixed = inner + rows * hidden;
    if (!inner) return -1;
    for (int r = 0; r < rows; r++) {
        for (int d = 0; d < at->dim; d += LANES) {
            vf sum = *(const vf *)(at->mix_bias + d);
            for (int t = 0; t < at->taps; t++)
                sum += *(const vf *)(seen + (r + t) * at->dim + d) * *(const vf *)(at->mix + t * at->dim + d);
            *(vf *)(mixed + r * at->dim + d) = sum;
        }
        norm(at, mixed + r * at->dim);
    }
    linear(&at->up, mixed, inner, rows);
    for (int h = 0; h < rows * hidden; h += LANES) { /* GELU, tanh form: x · sigmoid(√(8/π) (x + 0.044715 x³)) */
        vf x = *(const vf *)(inner + h), slope = x * (1.5957691216f + 0.0713548162726f * x * x);
        *(vf *)(inner + h) = x / (1.0f + vexp(-slope));
    }
    linear(&at->down, inner, out, rows);
    for (int r = 0; r < rows; r++)
        for (int d = 0; d < at->dim; d += LANES) {
            vf *y = (vf *)(out + r * at->dim + d);
            *y = *(const vf *)(seen + (r + at->taps - 1) * at->dim + d) + *(const vf *)(at->scale + d) * *y;
        }
    free(inner);
    return 0;
}
