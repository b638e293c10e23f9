/* Vectors of 16 numbers, the compiler's own (GCC, Clang), bfloat16 and the functions that both kernels need. */

#pragma once

#include <stdint.h>

typedef float vf __attribute__((vector_size(64), aligned(4)));
typedef int32_t vi __attribute__((vector_size(64), aligned(4)));
typedef uint32_t vu __attribute__((vector_size(64), aligned(4)));
typedef uint16_t vs __attribute__((vector_size(32), aligned(2)));

static inline float sum_of(vf v) {
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = v[i] + v[i + 8];
    for (int w = 4; w; w /= 2)
        for (int i = 0; i < w; i++) s[i] += s[i + w];
    return s[0];
}

static inline vf splat(float x) { return (vf){} + x; }
static inline vf pick(vi where, vf a, vf b) { return (vf)(((vi)a & where) | ((vi)b & ~where)); }
static inline vf widen(vs h) { return (vf)(__builtin_convertvector(h, vu) << 16); }
static inline vs narrow(vf x) { /* to bfloat16, to nearest, ties to even */
    vu bits = (vu)x;
    return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, vs);
}

static inline vf vexp(vf x) { /* within 2 units in the last place; 0 below -87 */
    vi low = x < -87.0f;
    x = pick(low, splat(-87.0f), pick(x > 87.0f, splat(87.0f), x));
    vf n = x * 1.44269504f + 12582912.0f;
    vi e = (vi)n - 0x4b400000;
    n -= 12582912.0f;
    vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return pick(low, splat(0), (vf)((vi)p + (e << 23)));
}

static inline vf silu(vf x) { return x / (1.0f + vexp(-x)); }
