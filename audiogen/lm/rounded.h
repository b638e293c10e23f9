/* Numbers that are about to be rounded to bfloat16, for training (`fused.c`, `attention.h`): no more exact than that
needs. */

#pragma once

#include "vectors.h"

#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

static inline vs rounded(vf x) {
#if defined(__AVX512BF16__)
    return (vs)_mm512_cvtneps_pbh((__m512)x);
#else
    return narrow(x);
#endif
}

/* exp, within a few parts in a million. */
static inline vf near_exp(vf x) {
#if defined(__AVX512F__)
    __m512 turns = _mm512_mul_ps(_mm512_max_ps(_mm512_set1_ps(-126), (__m512)x), _mm512_set1_ps(1.44269504f));
    __m512 whole = _mm512_roundscale_ps(turns, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vf r = (vf)_mm512_sub_ps(turns, whole);
    vf p = 1.0f + r * (0.69312421f + r * (0.24024099f + r * (0.05590631f + r * 0.0095828f)));
    return (vf)_mm512_scalef_ps((__m512)p, whole);
#else
    return vexp(x);
#endif
}

/* 1 / x, within 6e-5 of it. */
static inline vf near_inverse(vf x) {
#if defined(__AVX512F__)
    return (vf)_mm512_rcp14_ps((__m512)x);
#else
    return 1.0f / x;
#endif
}

static inline vf load(const uint16_t *x) { return widen(*(const vs *)x); }
static inline void store(uint16_t *x, vf values) { *(vs *)x = rounded(values); }

/* 16 × 16: four rounds, each of which moves the last bit of (row, column) to the front. */
static inline void turn_tile(vs r[16]) {
    for (int round = 0; round < 4; round++) {
        vs t[16];
        for (int i = 0; i < 8; i++) {
            t[2 * i] = __builtin_shufflevector(
                r[i], r[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            t[2 * i + 1] = __builtin_shufflevector(
                r[i], r[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(r, t, sizeof t);
    }
}
