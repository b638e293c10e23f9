/* Training on the CPU: what stands between the matrix products of a block and after the heads, in one pass each.
`fused.py` calls it and does the products.

Matrices are rows after rows, bfloat16 in and out, float32 inside. The residual stream is float32. A matrix that the
backward pass multiplies by its rows comes out turned too (`_turned`, `[columns][rows up to a multiple of BLOCK]`),
since the products take twice as long when they have to turn it themselves. Widths are multiples of 16.

Threads share out rows; sums over rows are made a block at a time, then block after block, so results do not depend on
their number. */

#include "vectors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32 };

static inline vf load(const uint16_t *x) { return widen(*(const vs *)x); }
static inline void store(uint16_t *x, vf values) { *(vs *)x = narrow(values); }
static inline vf load_float(const float *x) { return *(const vf *)x; }
static inline int least(int a, int b) { return a < b ? a : b; }

/* The first `count` of 16 numbers, the rest zero. */
static inline vf load_some(const uint16_t *x, int count) {
    if (count >= 16) return load(x);
    uint16_t part[16] = {0};
    memcpy(part, x, 2 * count);
    return load(part);
}

static inline void store_some(uint16_t *x, vf values, int count) {
    if (count >= 16) {
        store(x, values);
        return;
    }
    vs part = narrow(values);
    memcpy(x, &part, 2 * count);
}

/* --- turning ------------------------------------------------------------------------------------------------------ */

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
            store(out + (int64_t)r * hidden + c, silu(load(gate + c)) * load(up + c));
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
            vf g = load(gate + c), d = load(given + c), share = 1.0f / (1.0f + vexp(-g));
            store(dgate + c, d * load(up + c) * share * (1.0f + g * (1.0f - share)));
            store(dup + c, d * g * share);
        }
    }
}

/* --- attention ---------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t batch, positions, prefix, heads, kv_heads, size, stretch; /* positions: those of the prefix among them */
} Shape;

static inline float wide(uint16_t h) {
    union { uint32_t bits; float value; } both = {.bits = (uint32_t)h << 16};
    return both.value;
}

static inline uint16_t near(float x) {
    union { float value; uint32_t bits; } both = {.value = x};
    return (uint16_t)((both.bits + 0x7fff + ((both.bits >> 16) & 1)) >> 16);
}

/* Where head h of a query lies: stretches of rows one after another, in each `[batch][heads][rows][size]`, so that the
heads of a group are the rows of one product. */
static inline int64_t place(const Shape *s, int b, int t, int h) {
    int first = t / s->stretch * s->stretch, rows = least(s->stretch, s->positions - first);
    return ((int64_t)s->batch * s->heads * first + ((int64_t)b * s->heads + h) * rows + (t - first)) * s->size;
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

/* Whom the rows of a stretch see: row i, which is position first + i, the prefix and the frames `window` back. The
columns are the prefix, then the positions from `start` on. */
typedef struct {
    int32_t matrices, rows, columns, first, prefix, start, window;
} Sight;

static inline void seen_by(const Sight *s, int row, int *low, int *high) { /* columns [0, prefix) and [low, high) */
    int position = s->first + row, shift = s->start - s->prefix, oldest = position - s->window + 1;
    *low = (oldest > s->start ? oldest : s->start) - shift;
    *high = position < s->prefix ? s->prefix : position + 1 - shift;
}

static const vi COUNT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Scores `[matrices][rows][columns]` → shares, in place. */
void softmax_forward(uint16_t *scores, const Sight *s, int threads) {
#pragma omp parallel num_threads(threads)
    {
        float *row = malloc(sizeof(float) * (s->columns + 16));
#pragma omp for schedule(static)
        for (int r = 0; r < s->matrices * s->rows; r++) {
            uint16_t *x = scores + (int64_t)r * s->columns;
            int low, high;
            seen_by(s, r % s->rows, &low, &high);
            vf most = splat(-INFINITY), total = splat(0);
            for (int c = 0; c < high; c += 16) {
                vi at = COUNT + c;
                vf value = load_some(x + c, s->columns - c);
                value = pick((at < s->prefix) | ((at >= low) & (at < high)), value, splat(-INFINITY));
                most = pick(value > most, value, most);
                *(vf *)(row + c) = value;
            }
            float top = most[0];
            for (int i = 1; i < 16; i++) top = most[i] > top ? most[i] : top;
            for (int c = 0; c < high; c += 16) {
                vf value = vexp(load_float(row + c) - top);
                total += value;
                *(vf *)(row + c) = value;
            }
            float by = 1.0f / sum_of(total);
            for (int c = 0; c < high; c += 16) store_some(x + c, load_float(row + c) * by, s->columns - c);
            int past = least((high + 15) / 16 * 16, s->columns);
            memset(x + past, 0, sizeof(uint16_t) * (s->columns - past));
        }
        free(row);
    }
}

/* Gradients of shares → of scores, in place: shares · (gradient - Σ shares · gradient). */
void softmax_backward(const uint16_t *shares, uint16_t *gradient, const Sight *s, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < s->matrices * s->rows; r++) {
        const uint16_t *share = shares + (int64_t)r * s->columns;
        uint16_t *x = gradient + (int64_t)r * s->columns;
        int low, high;
        seen_by(s, r % s->rows, &low, &high);
        vf sums = splat(0);
        for (int c = 0; c < high; c += 16)
            sums += load_some(share + c, s->columns - c) * load_some(x + c, s->columns - c);
        float mean = sum_of(sums);
        for (int c = 0; c < high; c += 16) {
            int left = s->columns - c;
            store_some(x + c, load_some(share + c, left) * (load_some(x + c, left) - mean), left);
        }
        int past = least((high + 15) / 16 * 16, s->columns);
        memset(x + past, 0, sizeof(uint16_t) * (s->columns - past));
    }
}

/* --- cross-entropy ------------------------------------------------------------------------------------------------ */

/* Logits `[rows][size]`, the target of row r at `targets[r · stride]` → log Σ exp of each row and its cross-entropy in
nats; 0 where the target is `ignored`. */
void entropy_forward(
    const uint16_t *logits, const int64_t *targets, int stride, float *total, float *loss, int rows, int size,
    int ignored, int threads
) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        const uint16_t *x = logits + (int64_t)r * size;
        int64_t target = targets[(int64_t)r * stride];
        vf most = splat(-INFINITY), sums = splat(0);
        for (int c = 0; c < size; c += 16) {
            vf value = load(x + c);
            most = pick(value > most, value, most);
        }
        float top = most[0];
        for (int i = 1; i < 16; i++) top = most[i] > top ? most[i] : top;
        for (int c = 0; c < size; c += 16) sums += vexp(load(x + c) - top);
        total[r] = top + logf(sum_of(sums));
        loss[r] = target == ignored ? 0.0f : total[r] - wide(x[target]);
    }
}

/* Logits → their gradient, in place: (softmax - one at the target) · scale. */
void entropy_backward(
    uint16_t *logits, const int64_t *targets, int stride, const float *total, float scale, int rows, int size,
    int ignored, int threads
) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int r = 0; r < rows; r++) {
        uint16_t *x = logits + (int64_t)r * size;
        int64_t target = targets[(int64_t)r * stride];
        if (target == ignored) {
            memset(x, 0, sizeof(uint16_t) * size);
            continue;
        }
        float own = (expf(wide(x[target]) - total[r]) - 1.0f) * scale;
        for (int c = 0; c < size; c += 16) store(x + c, vexp(load(x + c) - total[r]) * scale);
        x[target] = near(own);
    }
}

int interface_version(void) { return 1; }
