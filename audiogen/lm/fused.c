/* Training on the CPU: what stands between the matrix products of a block and after the heads, in one pass each.
`fused.py` calls it and does the products.

Matrices are rows after rows, bfloat16 in and out, float32 inside. The residual stream is float32. A matrix that the
backward pass multiplies by its rows comes out turned too (`_turned`, `[columns][rows up to a multiple of BLOCK]`),
since the products take twice as long when they have to turn it themselves. Widths are multiples of 16.

Threads share out rows; sums over rows are made a block at a time, then block after block, so results do not depend on
their number. */

#include "attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
enum { BLOCK = 32 };

static inline vf load_float(const float *x) { return *(const vf *)x; }
static inline int least(int a, int b) { return a < b ? a : b; }

/* --- turning ------------------------------------------------------------------------------------------------------ */

/* A block of rows of x `[rows][columns]` into `out`, whose rows are `stride` apart; missing rows are zeros. */
static void turn_block(const uint16_t *x, int rows, int columns, int first, uint16_t *out, int stride) {
    for (int c = 0; c < columns; c += 16)
        for (int half = 0; half < BLOCK; half += 16) {
            vs tile[16];
            for (int i = 0; i < 16; i++) {
                int row = first + half + i;
                tile[i] = row < rows ? *(const vs *)(x + (int64_t)row * columns + c) : (vs){0};
            }
            turn_tile(tile);
            for (int i = 0; i < 16; i++) *(vs *)(out + (int64_t)(c + i) * stride + first + half) = tile[i];
        }
}

static inline int stride_of(int rows) { return (rows + BLOCK - 1) / BLOCK * BLOCK; }

void turn(const uint16_t *x, uint16_t *turned, int rows, int columns, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int first = 0; first < rows; first += BLOCK) turn_block(x, rows, columns, first, turned, stride_of(rows));
}

/* x `[rows][columns]` → out `[columns][rows]`, float32; both multiples of 16. */
void turn_to_float(const uint16_t *x, float *out, int rows, int columns, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int c = 0; c < columns; c += 16)
        for (int r = 0; r < rows; r += 16) {
            vs tile[16];
            for (int i = 0; i < 16; i++) tile[i] = *(const vs *)(x + (int64_t)(r + i) * columns + c);
            turn_tile(tile);
            for (int i = 0; i < 16; i++) *(vf *)(out + (int64_t)(c + i) * rows + r) = widen(tile[i]);
        }
}

/* --- residual stream and RMSNorm (Zhang and Sennrich 2019) -------------------------------------------------------- */

/* out = x + more, float32 and bfloat16. */
void add(const float *x, const uint16_t *more, float *out, int rows, int width, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++)
        for (int64_t c = (int64_t)r * width; c < (int64_t)(r + 1) * width; c += 16)
            *(vf *)(out + c) = load_float(x + c) + load(more + c);
}

/* Rounded to bfloat16, as it is and turned. */
void round_off(const float *x, uint16_t *out, uint16_t *turned, int rows, int width, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int first = 0; first < rows; first += BLOCK) {
        for (int64_t c = (int64_t)first * width; c < (int64_t)least(first + BLOCK, rows) * width; c += 16)
            store(out + c, load_float(x + c));
        turn_block(out, rows, width, first, turned, stride_of(rows));
    }
}

/* y = x / rms(x) · gain; `inverse` is 1 / rms of each row. With `more`, x + more is normalised, and written to `sum`. */
void norm_forward(
    const float *x, const uint16_t *more, const float *gain, float *sum, uint16_t *y, uint16_t *turned, float *inverse,
    int rows, int width, float epsilon, int threads
) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int first = 0; first < rows; first += BLOCK) {
        for (int r = first; r < least(first + BLOCK, rows); r++) {
            int64_t at = (int64_t)r * width;
            const float *row = x + at;
            vf squares = splat(0);
            if (more) {
                for (int c = 0; c < width; c += 16)
                    *(vf *)(sum + at + c) = load_float(row + c) + load(more + at + c);
                row = sum + at;
            }
            for (int c = 0; c < width; c += 16) squares += load_float(row + c) * load_float(row + c);
            inverse[r] = 1.0f / sqrtf(sum_of(squares) / width + epsilon);
            for (int c = 0; c < width; c += 16)
                store(y + at + c, load_float(row + c) * inverse[r] * load_float(gain + c));
        }
        if (turned) turn_block(y, rows, width, first, turned, stride_of(rows));
    }
}

/* dx = before + inverse · gain · dy - x · inverse³ / width · Σ gain · dy · x; `before` may be none. dx rounded comes out
too, as it is and turned, where it is asked for. `parts` is room for `[blocks][width]`. */
void norm_backward(
    const uint16_t *dy, const float *x, const float *inverse, const float *gain, const float *before, float *dx,
    uint16_t *rounded, uint16_t *turned, float *parts, float *dgain, int rows, int width, int threads
) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int first = 0; first < rows; first += BLOCK) {
        float *part = parts + (int64_t)(first / BLOCK) * width;
        memset(part, 0, sizeof(float) * width);
        for (int r = first; r < least(first + BLOCK, rows); r++) {
            int64_t at = (int64_t)r * width;
            vf along = splat(0);
            float by = inverse[r];
            for (int c = 0; c < width; c += 16) {
                vf product = load(dy + at + c) * load_float(x + at + c);
                along += product * load_float(gain + c);
                *(vf *)(part + c) += product * by;
            }
            float back = sum_of(along) * by * by * by / width;
            for (int c = 0; c < width; c += 16) {
                vf found = load(dy + at + c) * load_float(gain + c) * by - load_float(x + at + c) * back;
                if (before) found += load_float(before + at + c);
                *(vf *)(dx + at + c) = found;
                if (rounded) store(rounded + at + c, found);
            }
        }
        if (rounded) turn_block(rounded, rows, width, first, turned, stride_of(rows));
    }
    memset(dgain, 0, sizeof(float) * width);
    for (int first = 0; first < rows; first += BLOCK)
        for (int c = 0; c < width; c += 16)
            *(vf *)(dgain + c) += load_float(parts + (int64_t)(first / BLOCK) * width + c);
}

/* --- SwiGLU (Shazeer 2020) ---------------------------------------------------------------------------------------- */

/* Gate and up `[rows][2 · hidden]` → silu(gate) · up. */
void swiglu_forward(const uint16_t *gate_up, uint16_t *out, int rows, int hidden, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        const uint16_t *gate = gate_up + (int64_t)r * 2 * hidden, *up = gate + hidden;
        for (int c = 0; c < hidden; c += 16)
            store(out + (int64_t)r * hidden + c, load(gate + c) * near_inverse(1.0f + near_exp(-load(gate + c))) * load(up + c));
    }
}

void swiglu_backward(
    const uint16_t *gate_up, const uint16_t *dout, uint16_t *dgate_up, int rows, int hidden, int threads
) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        const uint16_t *gate = gate_up + (int64_t)r * 2 * hidden, *up = gate + hidden;
        const uint16_t *given = dout + (int64_t)r * hidden;
        uint16_t *dgate = dgate_up + (int64_t)r * 2 * hidden, *dup = dgate + hidden;
        for (int c = 0; c < hidden; c += 16) {
            vf g = load(gate + c), d = load(given + c), share = near_inverse(1.0f + near_exp(-g));
            store(dgate + c, d * load(up + c) * share * (1.0f + g * (1.0f - share)));
            store(dup + c, d * g * share);
        }
    }
}

/* --- attention ---------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t batch, positions, prefix, window, heads, kv_heads, size; /* positions: those of the prefix among them */
} Shape;

static inline float wide(uint16_t h) {
    union { uint32_t bits; float value; } both = {.bits = (uint32_t)h << 16};
    return both.value;
}

static inline uint16_t near(float x) {
    union { float value; uint32_t bits; } both = {.value = x};
    return (uint16_t)((both.bits + 0x7fff + ((both.bits >> 16) & 1)) >> 16);
}

/* Where head h of a query lies: `[batch][heads][positions][size]`. */
static inline int64_t place(const Shape *s, int b, int t, int h) {
    return (((int64_t)b * s->heads + h) * s->positions + t) * s->size;
}

/* A head of a position: its second half turned (RoPE, Su et al. 2021) where there are angles, times `scale`. */
static inline void turn_head(
    const uint16_t *restrict in, uint16_t *restrict out, const float *cos, const float *sin, int size, float scale
) {
    int quarter = size / 4;
    const uint16_t *a = in + size / 2, *b = a + quarter;
    uint16_t *x = out + size / 2, *y = x + quarter;
    for (int i = 0; i < size / 2; i++) out[i] = near(wide(in[i]) * scale);
    for (int i = 0; i < quarter; i++) {
        float p = wide(a[i]) * scale, q = wide(b[i]) * scale;
        x[i] = near(cos ? p * cos[i] - q * sin[i] : p);
        y[i] = near(cos ? p * sin[i] + q * cos[i] : q);
    }
}

/* Queries, keys and values of each position `[batch · positions][(heads + 2 kv_heads) · size]` → queries where `place`
says, divided by √size; keys and values `[batch][kv_heads][positions][size]`. Frames are turned; the turned half of the
prefix's keys is zero. */
void part_heads(
    const uint16_t *qkv, const float *cos, const float *sin, uint16_t *q, uint16_t *k, uint16_t *v, const Shape *s,
    int threads
) {
    int size = s->size, all = s->heads + 2 * s->kv_heads;
    float scale = 1.0f / sqrtf((float)size);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < s->batch * s->positions; r++) {
        int b = r / s->positions, t = r % s->positions, frame = t - s->prefix;
        const float *c = frame < 0 ? NULL : cos + (int64_t)frame * (size / 4);
        const float *i = frame < 0 ? NULL : sin + (int64_t)frame * (size / 4);
        const uint16_t *in = qkv + (int64_t)r * all * size;
        for (int h = 0; h < s->heads; h++, in += size) turn_head(in, q + place(s, b, t, h), c, i, size, scale);
        for (int h = 0; h < s->kv_heads; h++, in += size) {
            int64_t at = (((int64_t)b * s->kv_heads + h) * s->positions + t) * size;
            turn_head(in, k + at, c, i, size, 1.0f);
            if (frame < 0) memset(k + at + size / 2, 0, size); /* half of them, of two bytes each */
            memcpy(v + at, in + s->kv_heads * size, 2 * size);
        }
    }
}

/* The other way: gradients of the parted queries, and of keys and values in float32, → of `qkv`. */
void join_heads(
    const uint16_t *dq, const float *dk, const float *dv, const float *cos, const float *sin, uint16_t *dqkv,
    const Shape *s, int threads
) {
    int size = s->size, half = size / 2, quarter = size / 4, all = s->heads + 2 * s->kv_heads;
    float scale = 1.0f / sqrtf((float)size);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < s->batch * s->positions; r++) {
        int b = r / s->positions, t = r % s->positions, frame = t - s->prefix;
        const float *c = frame < 0 ? NULL : cos + (int64_t)frame * quarter;
        float back[quarter];
        for (int i = 0; i < quarter; i++) back[i] = frame < 0 ? 0.0f : -sin[(int64_t)frame * quarter + i];
        uint16_t *out = dqkv + (int64_t)r * all * size;
        for (int h = 0; h < s->heads; h++, out += size) turn_head(dq + place(s, b, t, h), out, c, back, size, scale);
        for (int h = 0; h < s->kv_heads; h++, out += size) {
            int64_t at = (((int64_t)b * s->kv_heads + h) * s->positions + t) * size;
            const float *key = dk + at, *value = dv + at;
            for (int i = 0; i < half; i++) out[i] = near(key[i]);
            for (int i = 0; i < quarter; i++) {
                float p = key[half + i], q = key[half + quarter + i];
                out[half + i] = near(c ? p * c[i] - q * back[i] : 0.0f);
                out[half + quarter + i] = near(c ? p * back[i] + q * c[i] : 0.0f);
            }
            for (int i = 0; i < size; i++) out[s->kv_heads * size + i] = near(value[i]);
        }
    }
}

/* Mixtures where `place` says → `[batch · positions][heads · size]`. */
void gather_heads(const uint16_t *x, uint16_t *out, const Shape *s, int threads) {
    int size = s->size;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < s->batch * s->positions; r++)
        for (int h = 0; h < s->heads; h++)
            memcpy(out + ((int64_t)r * s->heads + h) * size, x + place(s, r / s->positions, r % s->positions, h),
                   2 * size);
}

/* The other way. */
void scatter_heads(const uint16_t *x, uint16_t *out, const Shape *s, int threads) {
    int size = s->size;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < s->batch * s->positions; r++)
        for (int h = 0; h < s->heads; h++)
            memcpy(out + place(s, r / s->positions, r % s->positions, h), x + ((int64_t)r * s->heads + h) * size,
                   2 * size);
}

/* Queries `[batch][heads][positions][size]`, keys and values `[batch][kv_heads][positions][size]` → mixtures as the
queries lie, and log Σ exp of the scores of each, `[batch][heads][positions]`. Returns 0 when memory is short. */
int attend_forward(
    const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *mixed, float *total, const Shape *s, int threads
) {
    int group = s->heads / s->kv_heads, well = 1;
    int64_t one = (int64_t)s->positions * s->size;
#pragma omp parallel num_threads(threads) reduction(&& : well)
    {
        Head h;
        well = begin_head(&h, s->positions, s->prefix, s->window, s->size);
        begin_products();
#pragma omp for schedule(static)
        for (int i = 0; i < s->batch * s->kv_heads; i++) {
            if (!well) continue;
            take(&h, k + i * one, h.keys);
            take(&h, v + i * one, h.values);
            on_side(&h, h.values, h.values_on_side);
            for (int64_t own = (int64_t)i * group; own < (int64_t)(i + 1) * group; own++) {
                take(&h, q + own * one, h.queries);
                in_pairs_of_dims(&h, h.queries, h.query_dims);
                for (int row = 0; row < s->positions; row += SIDE)
                    attend(&h, row, mixed + own * one, total + own * s->positions);
            }
        }
        end_products();
        if (well) free(h.all);
    }
    return well;
}

/* ... and the gradient of the mixtures → gradients of queries; of keys and values in float32. */
int attend_backward(
    const uint16_t *q, const uint16_t *k, const uint16_t *v, const uint16_t *mixed, const float *total,
    const uint16_t *dmixed, uint16_t *dq, float *dk, float *dv, const Shape *s, int threads
) {
    int group = s->heads / s->kv_heads, well = 1;
    int64_t one = (int64_t)s->positions * s->size;
#pragma omp parallel num_threads(threads) reduction(&& : well)
    {
        Head h;
        well = begin_head(&h, s->positions, s->prefix, s->window, s->size);
        float *sums = well ? calloc(2 * h.length, sizeof(float)) : NULL;
        well = well && sums;
        begin_products();
#pragma omp for schedule(static)
        for (int i = 0; i < s->batch * s->kv_heads; i++) {
            if (!well) continue;
            take(&h, k + i * one, h.keys);
            take(&h, v + i * one, h.values);
            on_side(&h, h.keys, h.keys_on_side);
            memset(h.dkeys, 0, sizeof(float) * h.length * h.depth);
            memset(h.dvalues, 0, sizeof(float) * h.length * h.depth);
            for (int64_t own = (int64_t)i * group; own < (int64_t)(i + 1) * group; own++) {
                take(&h, q + own * one, h.queries);
                in_pairs_of_dims(&h, h.queries, h.query_dims);
                in_pairs_of_rows(&h, h.queries, h.query_rows);
                take(&h, dmixed + own * one, h.given);
                in_pairs_of_dims(&h, h.given, h.given_dims);
                in_pairs_of_rows(&h, h.given, h.given_rows);
                memcpy(sums, total + own * s->positions, sizeof(float) * s->positions);
                for (int t = 0; t < s->positions; t++) {
                    const uint16_t *a = mixed + own * one + (int64_t)t * s->size, *b = h.given + (int64_t)t * h.depth;
                    vf along = splat(0);
                    float rest = 0;
                    int c = 0;
                    for (; c + 16 <= s->size; c += 16) along += load(a + c) * load(b + c);
                    for (; c < s->size; c++) rest += wide(a[c]) * wide(b[c]);
                    sums[h.length + t] = sum_of(along) + rest;
                }
                memset(h.dqueries, 0, sizeof(float) * h.length * h.depth);
                for (int key = 0; key < s->positions; key += SIDE) attend_back(&h, key, sums, sums + h.length);
                give_queries(&h, dq + own * one);
            }
            for (int t = 0; t < s->positions; t++) {
                memcpy(dk + i * one + (int64_t)t * s->size, h.dkeys + (int64_t)t * h.depth, sizeof(float) * s->size);
                memcpy(dv + i * one + (int64_t)t * s->size, h.dvalues + (int64_t)t * h.depth, sizeof(float) * s->size);
            }
        }
        end_products();
        free(sums);
        if (h.all) free(h.all);
    }
    return well;
}

/* --- cross-entropy ------------------------------------------------------------------------------------------------ */

/* Logits `[rows][size]`, the target of each row → log Σ exp of it and its cross-entropy in nats; 0 where the target is
`ignored`. */
void entropy_forward(
    const uint16_t *logits, const int64_t *targets, float *total, float *loss, int rows, int size, int ignored,
    int threads
) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        const uint16_t *x = logits + (int64_t)r * size;
        vf most = splat(-INFINITY), sums = splat(0);
        for (int c = 0; c < size; c += 16) {
            vf value = load(x + c);
            most = pick(value > most, value, most);
        }
        float top = most[0];
        for (int i = 1; i < 16; i++) top = most[i] > top ? most[i] : top;
        for (int c = 0; c < size; c += 16) sums += vexp(load(x + c) - top);
        total[r] = top + logf(sum_of(sums));
        loss[r] = targets[r] == ignored ? 0.0f : total[r] - wide(x[targets[r]]);
    }
}

/* Logits → their gradient, in place: (softmax - one at the target) · scale, of which each of `books` rows in turn has
its own. */
void entropy_backward(
    uint16_t *logits, const int64_t *targets, const float *total, const float *scales, int books, int rows, int size,
    int ignored, int threads
) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        uint16_t *x = logits + (int64_t)r * size;
        float scale = scales[r % books];
        if (targets[r] == ignored) {
            memset(x, 0, sizeof(uint16_t) * size);
            continue;
        }
        float own = (expf(wide(x[targets[r]]) - total[r]) - 1.0f) * scale;
        for (int c = 0; c < size; c += 16) store(x + c, near_exp(load(x + c) - total[r]) * scale);
        x[targets[r]] = near(own);
    }
}

int interface_version(void) { return 1; }
