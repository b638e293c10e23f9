/* Attention of training, included by `fused.c`: grouped queries over a prefix and a window, in blocks of 32 × 32.

Everything stands on its side: scores are keys × queries, so that what belongs to a query (the largest score, the sum)
belongs to a lane, and a block of shares is the second factor of one product and the first of another without being
turned. A block that nobody may look at is left out. The backward pass makes the shares again from the logarithm of
their sums (Dao 2023).

A first factor lies in rows; a second one in pairs of rows, `[rows / 2][columns][2]`, as the tile unit wants it. */

#pragma once

#include "rounded.h"

#include <math.h>
#include <stdlib.h>

#if defined(__AMX_BF16__) && defined(__linux__)
#define TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { SIDE = 32 };

/* --- products ----------------------------------------------------------------------------------------------------- */

#if TILES
static int tiles_allowed(void) { /* the kernel gives the tile unit to those who ask */
    static int answer;
    if (!answer) answer = syscall(SYS_arch_prctl, 0x1023, 18) ? -1 : 1;
    return answer > 0;
}
#endif

static void begin_products(void) {
#if TILES
    if (!tiles_allowed()) return;
    struct __attribute__((packed)) { uint8_t palette, start, unused[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {1};
    for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = 16;
    _tile_loadconfig(&shape);
#endif
}

static void end_products(void) {
#if TILES
    if (tiles_allowed()) _tile_release();
#endif
}

static inline vf dot(vf sum, uint32_t a, vu b) { /* a pair of the first factor, 16 of the second */
#if defined(__AVX512BF16__)
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
#else
    vu low = (vu){} + (a << 16), high = (vu){} + (a & 0xffff0000);
    return sum + (vf)low * (vf)(b << 16) + (vf)high * (vf)(b & 0xffff0000);
#endif
}

/* c `[32][32]` = (more ? c : 0) + a `[32][32 · steps]` · b in pairs `[16 · steps][32][2]`. Strides in numbers; b's in
pairs. */
static void multiply(
    const uint16_t *a, int64_t stride_a, const uint32_t *b, int64_t stride_b, float *c, int64_t stride_c, int steps,
    int more
) {
#if TILES
    if (tiles_allowed()) {
        if (more) {
            _tile_loadd(0, c, 4 * stride_c);
            _tile_loadd(1, c + 16, 4 * stride_c);
            _tile_loadd(2, c + 16 * stride_c, 4 * stride_c);
            _tile_loadd(3, c + 16 * stride_c + 16, 4 * stride_c);
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (int i = 0; i < steps; i++, a += 32, b += 16 * stride_b) {
            _tile_loadd(4, a, 2 * stride_a);
            _tile_loadd(6, b, 4 * stride_b);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, b + 16, 4 * stride_b);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, a + 16 * stride_a, 2 * stride_a);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, c, 4 * stride_c);
        _tile_stored(1, c + 16, 4 * stride_c);
        _tile_stored(2, c + 16 * stride_c, 4 * stride_c);
        _tile_stored(3, c + 16 * stride_c + 16, 4 * stride_c);
        return;
    }
#endif
    for (int r = 0; r < SIDE; r += 8, a += 8 * stride_a, c += 8 * stride_c) {
        vf sums[8][2];
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 2; j++) sums[i][j] = more ? *(vf *)(c + i * stride_c + 16 * j) : splat(0);
        for (int k = 0; k < 16 * steps; k++) {
            vu left = *(const vu *)(b + k * stride_b), right = *(const vu *)(b + k * stride_b + 16);
            for (int i = 0; i < 8; i++) {
                uint32_t pair;
                memcpy(&pair, a + i * stride_a + 2 * k, 4);
                sums[i][0] = dot(sums[i][0], pair, left);
                sums[i][1] = dot(sums[i][1], pair, right);
            }
        }
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 2; j++) *(vf *)(c + i * stride_c + 16 * j) = sums[i][j];
    }
}

/* --- layouts ------------------------------------------------------------------------------------------------------ */

/* The sizes of one head, and room of one thread; lengths rounded up to 32, what is missing is zero. */
typedef struct {
    int positions, prefix, window, size, depth, length; /* size of a head, rounded; positions, rounded */
    uint16_t *keys, *values;       /* [length][depth] */
    uint16_t *keys_on_side, *values_on_side; /* [depth][length] */
    uint16_t *queries, *given;     /* [length][depth] */
    uint32_t *query_dims, *given_dims; /* in pairs of dimensions: [depth / 2][length] */
    uint32_t *query_rows, *given_rows; /* in pairs of rows: [length / 2][depth] */
    float *scores, *slopes;        /* [length][32] */
    uint32_t *pairs;               /* [length / 2][32] */
    uint16_t *shares, *changes;    /* [32][length] */
    float *made, *dqueries;        /* [depth][32], [depth][length] */
    float *dkeys, *dvalues;        /* [length][depth] */
    void *all;
} Head;

static int begin_head(Head *h, int positions, int prefix, int window, int size) {
    int depth = (size + SIDE - 1) / SIDE * SIDE, length = (positions + SIDE - 1) / SIDE * SIDE;
    size_t whole = (size_t)depth * length, strip = (size_t)SIDE * length;
    *h = (Head){.positions = positions, .prefix = prefix, .window = window, .size = size, .depth = depth, .length = length};
    /* in bytes */
    size_t sizes[] = {2 * whole, 2 * whole, 2 * whole, 2 * whole, 2 * whole, 2 * whole, 2 * whole, 2 * whole, 2 * whole,
                      2 * whole, 4 * strip, 4 * strip, 2 * strip, 2 * strip, 2 * strip, 4 * depth * SIDE, 4 * whole,
                      4 * whole, 4 * whole};
    void **fields[] = {(void **)&h->keys, (void **)&h->values, (void **)&h->keys_on_side, (void **)&h->values_on_side,
                       (void **)&h->queries, (void **)&h->given, (void **)&h->query_dims, (void **)&h->given_dims,
                       (void **)&h->query_rows, (void **)&h->given_rows, (void **)&h->scores, (void **)&h->slopes,
                       (void **)&h->pairs, (void **)&h->shares, (void **)&h->changes, (void **)&h->made,
                       (void **)&h->dqueries, (void **)&h->dkeys, (void **)&h->dvalues};
    size_t total = 0, at = 0;
    int count = sizeof sizes / sizeof *sizes;
    for (int i = 0; i < count; i++) total += (sizes[i] + 63) / 64 * 64;
    if (posix_memalign(&h->all, 64, total)) return h->all = NULL, 0;
    for (int i = 0; i < count; at += (sizes[i] + 63) / 64 * 64, i++) *fields[i] = (char *)h->all + at;
    return 1;
}

/* Rows `[positions][size]` → `[length][depth]`. */
static void take(const Head *h, const uint16_t *x, uint16_t *out) {
    memset(out, 0, sizeof(uint16_t) * h->length * h->depth);
    for (int r = 0; r < h->positions; r++) memcpy(out + (int64_t)r * h->depth, x + (int64_t)r * h->size, 2 * h->size);
}

static void on_side(const Head *h, const uint16_t *x, uint16_t *out) {
    for (int r = 0; r < h->length; r += 16)
        for (int c = 0; c < h->depth; c += 16) {
            vs tile[16];
            for (int i = 0; i < 16; i++) tile[i] = *(const vs *)(x + (int64_t)(r + i) * h->depth + c);
            turn_tile(tile);
            for (int i = 0; i < 16; i++) *(vs *)(out + (int64_t)(c + i) * h->length + r) = tile[i];
        }
}

static inline vu pair(vs even, vs odd) { return __builtin_convertvector(even, vu) | __builtin_convertvector(odd, vu) << 16; }

static void in_pairs_of_rows(const Head *h, const uint16_t *x, uint32_t *out) {
    for (int r = 0; r < h->length; r += 2)
        for (int c = 0; c < h->depth; c += 16)
            *(vu *)(out + (int64_t)r / 2 * h->depth + c) =
                pair(*(const vs *)(x + (int64_t)r * h->depth + c), *(const vs *)(x + (int64_t)(r + 1) * h->depth + c));
}

static void in_pairs_of_dims(const Head *h, const uint16_t *x, uint32_t *out) {
    for (int r = 0; r < h->length; r += 16)
        for (int c = 0; c < h->depth; c += 16) {
            vs tile[16];
            for (int i = 0; i < 16; i++) tile[i] = *(const vs *)(x + (int64_t)(r + i) * h->depth + c);
            turn_tile(tile);
            for (int i = 0; i < 16; i += 2) *(vu *)(out + (int64_t)(c + i) / 2 * h->length + r) = pair(tile[i], tile[i + 1]);
        }
}

/* Whether any of 32 queries from q on may look at any of 32 keys from k on. */
static inline int meet(const Head *h, int k, int q) {
    return k < h->prefix || (k < q + SIDE && k + SIDE - 1 + h->window > q);
}

/* Whether all of them may look at all of those. */
static inline int meet_all(const Head *h, int k, int q) {
    return k + SIDE <= h->prefix || (k + SIDE - 1 <= q && k + h->window > q + SIDE - 1);
}

static const vi LANE = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Which of 16 queries from q on may look at key k: at the prefix all, at a frame itself and those `window` after it. */
static inline vi sees(const Head *h, int k, int q) {
    vi query = LANE + q;
    return k < h->prefix ? (vi){} - 1 : (query >= k) & (query < k + h->window);
}

/* --- forward ------------------------------------------------------------------------------------------------------ */

/* 32 queries from q on over the keys taken → mixtures `[positions][size]`, log Σ exp of their scores. */
static void attend(const Head *h, int q, uint16_t *mixed, float *total) {
    int count = 0, first[2] = {0, 0}, steps[2] = {0, 0}, runs = 0, last = -1;
    vf most[2] = {splat(-1e30f), splat(-1e30f)}, sums[2] = {splat(0), splat(0)};
    for (int k = 0; k < h->length; k += SIDE) {
        if (!meet(h, k, q)) continue;
        if (last != k - SIDE || !runs) first[runs++] = k;
        steps[runs - 1]++;
        last = k;
        float *scores = h->scores + (int64_t)count++ * SIDE * SIDE;
        multiply(h->keys + (int64_t)k * h->depth, h->depth, h->query_dims + q, h->length, scores, SIDE, h->depth / 32, 0);
        for (int r = 0, whole = meet_all(h, k, q); r < SIDE; r++)
            for (int j = 0; j < 2; j++) {
                vf *at = (vf *)(scores + r * SIDE + 16 * j);
                if (!whole) *at = pick(sees(h, k + r, q + 16 * j), *at, splat(-1e30f));
                most[j] = pick(*at > most[j], *at, most[j]);
            }
    }
    for (int r = 0; r < count * SIDE; r += 2)
        for (int j = 0; j < 2; j++) {
            vf even = near_exp(*(vf *)(h->scores + r * SIDE + 16 * j) - most[j]);
            vf odd = near_exp(*(vf *)(h->scores + (r + 1) * SIDE + 16 * j) - most[j]);
            sums[j] += even + odd;
            *(vu *)(h->pairs + r / 2 * SIDE + 16 * j) = pair(rounded(even), rounded(odd));
        }
    float each[SIDE];
    for (int j = 0; j < 2; j++) *(vf *)(each + 16 * j) = sums[j];
    for (int i = 0; i < SIDE && q + i < h->positions; i++) total[q + i] = most[i / 16][i % 16] + logf(each[i]);
    for (int d = 0; d < h->depth; d += SIDE) {
        int done = 0;
        for (int i = 0; i < runs; done += steps[i++])
            multiply(h->values_on_side + (int64_t)d * h->length + first[i], h->length, h->pairs + done * 16 * SIDE, SIDE,
                     h->made, SIDE, steps[i], i);
        for (int part = 0; part < SIDE; part += 16)
            for (int j = 0; j < 2; j++) {
                vs tile[16];
                vf by = 1.0f / sums[j];
                for (int i = 0; i < 16; i++) tile[i] = rounded(*(vf *)(h->made + (part + i) * SIDE + 16 * j) * by);
                turn_tile(tile);
                int width = h->size - d - part < 16 ? h->size - d - part : 16;
                for (int i = 0; i < 16 && q + 16 * j + i < h->positions && width > 0; i++)
                    memcpy(mixed + (int64_t)(q + 16 * j + i) * h->size + d + part, tile + i, 2 * width);
            }
    }
}

/* --- backward ----------------------------------------------------------------------------------------------------- */

/* 32 keys from k on: their gradients and those of their values grow by one head's, as do the queries' on their side.
`total` and `along` of each query, `[length]`: log Σ exp, and Σ gradient of the mixture · mixture. */
static void attend_back(const Head *h, int k, const float *total, const float *along) {
    int first = -1, steps = 0;
    for (int q = 0; q < h->length; q += SIDE) {
        if (!meet(h, k, q)) continue;
        if (first < 0) first = q;
        steps++;
        multiply(h->keys + (int64_t)k * h->depth, h->depth, h->query_dims + q, h->length, h->scores, SIDE, h->depth / 32, 0);
        multiply(h->values + (int64_t)k * h->depth, h->depth, h->given_dims + q, h->length, h->slopes, SIDE, h->depth / 32, 0);
        for (int r = 0, whole = meet_all(h, k, q); r < SIDE; r += 2)
            for (int j = 0; j < 2; j++) {
                vs both[2];
                for (int i = 0; i < 2; i++) {
                    int at = (r + i) * SIDE + 16 * j, where = q + 16 * j;
                    vf share = near_exp(*(vf *)(h->scores + at) - *(const vf *)(total + where));
                    if (!whole) share = pick(sees(h, k + r + i, where), share, splat(0));
                    *(vs *)(h->shares + (int64_t)(r + i) * h->length + where) = rounded(share);
                    both[i] = rounded(share * (*(vf *)(h->slopes + at) - *(const vf *)(along + where)));
                    *(vs *)(h->changes + (int64_t)(r + i) * h->length + where) = both[i];
                }
                *(vu *)(h->pairs + r / 2 * SIDE + 16 * j) = pair(both[0], both[1]);
            }
        for (int d = 0; d < h->depth; d += SIDE)
            multiply(h->keys_on_side + (int64_t)d * h->length + k, h->length, h->pairs, SIDE,
                     h->dqueries + (int64_t)d * h->length + q, h->length, 1, 1);
    }
    for (int d = 0; first >= 0 && d < h->depth; d += SIDE) {
        int64_t at = (int64_t)k * h->depth + d, row = (int64_t)first / 2 * h->depth + d;
        multiply(h->shares + first, h->length, h->given_rows + row, h->depth, h->dvalues + at, h->depth, steps, 1);
        multiply(h->changes + first, h->length, h->query_rows + row, h->depth, h->dkeys + at, h->depth, steps, 1);
    }
}

/* Gradients of the queries `[depth][length]` → `[positions][size]`. */
static void give_queries(const Head *h, uint16_t *out) {
    for (int d = 0; d < h->size; d += 16)
        for (int q = 0; q < h->length; q += 16) {
            vs tile[16];
            for (int i = 0; i < 16; i++) tile[i] = rounded(*(vf *)(h->dqueries + (int64_t)(d + i) * h->length + q));
            turn_tile(tile);
            int width = h->size - d < 16 ? h->size - d : 16;
            for (int i = 0; i < 16 && q + i < h->positions; i++)
                memcpy(out + (int64_t)(q + i) * h->size + d, tile + i, 2 * width);
        }
}
