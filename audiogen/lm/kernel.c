/* One step of a language model on the CPU, from codes to codes; `native.py` packs weights for it and calls it.

Every row of a batch is computed by the same instructions in the same order whatever stands beside it, and threads share
out columns and heads, never sums: a stream's codes depend neither on the batch nor on the number of threads.

Weights are int8 with a scale a channel (activations are quantised row by row, sums are exact) or bfloat16 (activations
rounded to it, sums in float32). Keys and values are bfloat16. Vectors are the compiler's own (GCC, Clang); AVX-512 and
AVX2 only speed up the inner products.

Layouts. A linear layer of N channels over K inputs is cut into tiles of 32 channels, each two panels of 16:
int8 [panel][K / 4][16][4], bfloat16 [panel][K / 2][16][2], K padded with zeros to a multiple of 4. Keys are
[position / 16][head_dim][16], values [position][head_dim padded to 16]. */

#include "vectors.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { ROWS = 8, READ_ROWS = 16 };
enum { GATED = 1, TURNED = 2, LAYER_NORM = 4, BFLOAT16 = 8 };
enum { STORE, ADD, ACTIVATE };

typedef struct {
    int32_t n, k; /* channels, inputs */
    const void *weight;
    const float *scale;   /* a channel; int8 only */
    const int32_t *shift; /* 128 times the sum of a channel's weights; int8 only */
} Linear;

typedef struct {
    const float *gain, *bias;
} Norm;

typedef struct {
    Norm norm1, norm2, norm3; /* norm2: before attention over the text */
    Linear qkv, out, text_q, text_kv, text_out, up, down;
} Layer;

typedef struct {
    int32_t flags, dim, depth, heads, kv_heads, head_dim, hidden, books, size, num_lanes, window;
    int32_t longest; /* positions that a row may see, prefix and text included */
    float epsilon;
    const Layer *layers;
    Norm norm;
    Linear heads_out, lanes_out;
    const float *codes;                 /* [books][size + 1][dim] */
    const float *lanes_in, *lanes_bias; /* [num_lanes][dim], [dim] */
    const float *lanes_out_bias;        /* [dim] */
    const float *positions;             /* [longest][dim], added to the input; or none */
    const double *frequencies;          /* [head_dim / 4] of turned heads */
} Model;

/* What one row remembers, layer after layer: keys and values of the prefix, then a ring of positions; and of the text. */
typedef struct {
    uint16_t *kv, *text;
    int32_t prefix_length, text_length;
} Memory;

typedef struct {
    Memory memory[2]; /* with the prompt, without it */
    int32_t rows, top_k;
    float guidance, temperature, top_p;
    int64_t position, first_draw;
    uint64_t seed;
    int64_t *last;         /* [books]: the codes of the position before */
    const float *lanes;    /* [steps][num_lanes] */
    const int64_t *forced; /* [steps][books]; -1: to be drawn */
    int64_t *drawn;        /* [steps][books] */
    float *logits;         /* [steps][books][size] guided, or none */
} Stream;

/* A row of a batch: which memory, where in it, what it may see. */
typedef struct {
    const Memory *memory;
    int32_t slot, seen, unturned;
    int64_t angle;
} Row;

typedef struct {
    const Model *model;
    int threads, rows;
    Row *row;
    float *x, *qkv, *mixed, *up, *logits;
    double *turns; /* [rows][2][head_dim / 4] */
    atomic_int arrived, phase, started;
} Work;

typedef struct {
    Work *work;
    int thread, phase;
    uint8_t *codes; /* quantised or rounded rows, this thread's own */
    float *scales, *scores;
} Worker;

/* --- small things ------------------------------------------------------------------------------------------------ */

static inline int up_to(int value, int unit) { return (value + unit - 1) / unit * unit; }

static void *room(size_t bytes) {
    void *found = NULL;
    return posix_memalign(&found, 64, bytes + 256) ? NULL : memset(found, 0, bytes + 256);
}

static inline vf gelu(vf x) { /* with erf of Abramowitz and Stegun 7.1.26, within 1.5e-7 */
    vf a = x * 0.70710678f;
    vf m = (vf)((vi)a & 0x7fffffff);
    vf t = 1.0f / (1.0f + 0.3275911f * m);
    vf p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    vf e = 1.0f - p * vexp(-m * m);
    return 0.5f * x * (1.0f + pick(a < 0.0f, -e, e));
}

static void wait_for_all(Worker *w) {
    Work *work = w->work;
    if (work->threads == 1) return;
    int phase = ++w->phase;
    if (atomic_fetch_add(&work->arrived, 1) == work->threads - 1) {
        atomic_store(&work->arrived, 0);
        atomic_store(&work->phase, phase);
        return;
    }
    for (int tries = 0; atomic_load_explicit(&work->phase, memory_order_acquire) != phase; tries++) {
        if (tries > 1000) sched_yield(); /* the other one has lost its core */
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
    }
}

static void share(const Worker *w, int count, int *first, int *last) {
    *first = (int)((int64_t)count * w->thread / w->work->threads);
    *last = (int)((int64_t)count * (w->thread + 1) / w->work->threads);
}

/* --- linear layers ------------------------------------------------------------------------------------------------ */

/* A row `[k]` for a linear layer: bfloat16, or uint8 of 128 + round(x / scale). */
static void prepare(const Model *model, const float *x, int k, uint8_t *out, float *scale) {
    if (model->flags & BFLOAT16) {
        uint16_t *to = (uint16_t *)out;
        for (int i = 0; i < k; i += 16) *(vs *)(to + i) = narrow(*(const vf *)(x + i));
        return;
    }
    vf most = {};
    for (int i = 0; i < k; i += 16) {
        vf m = (vf)(*(const vi *)(x + i) & 0x7fffffff);
        most = pick(m > most, m, most);
    }
    float top = 1e-30f;
    for (int i = 0; i < 16; i++) top = most[i] > top ? most[i] : top;
    *scale = top / 127.0f;
    float inverse = 127.0f / top;
    for (int i = 0; i < k; i += 16) {
        vi q = __builtin_convertvector(*(const vf *)(x + i) * inverse + 128.5f, vi);
        typedef uint8_t vb __attribute__((vector_size(16), aligned(1)));
        *(vb *)(out + i) = __builtin_convertvector(q, vb);
    }
}

static inline __attribute__((always_inline)) void products_int8(
    int rows, const uint8_t *a, int stride, const int8_t *w0, const int8_t *w1, int k4, vi sums[][2]) {
#if defined(__AVX512VNNI__)
    __m512i s[ROWS][2];
    for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = _mm512_setzero_si512();
    for (int i = 0; i < k4; i++) {
        __m512i v0 = _mm512_loadu_si512(w0 + 64 * i), v1 = _mm512_loadu_si512(w1 + 64 * i);
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, a + (size_t)r * stride + 4 * i, 4);
            __m512i b = _mm512_set1_epi32(four);
            s[r][0] = _mm512_dpbusd_epi32(s[r][0], b, v0);
            s[r][1] = _mm512_dpbusd_epi32(s[r][1], b, v1);
        }
    }
    for (int r = 0; r < rows; r++) sums[r][0] = (vi)s[r][0], sums[r][1] = (vi)s[r][1];
#elif defined(__AVX2__)
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < 2; p++) {
            const int8_t *w = p ? w1 : w0;
            __m256i s[4] = {};
            for (int i = 0; i < k4; i++) {
                int32_t four;
                memcpy(&four, a + (size_t)r * stride + 4 * i, 4);
                __m256i b = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
                for (int j = 0; j < 4; j++) {
                    __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 64 * i + 16 * j)));
                    s[j] = _mm256_add_epi32(s[j], _mm256_madd_epi16(b, v));
                }
            }
            for (int c = 0; c < 16; c++) {
                const int32_t *pair = (const int32_t *)&s[c / 4] + 2 * (c % 4);
                sums[r][p][c] = pair[0] + pair[1];
            }
        }
#else
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < 2; p++) {
            const int8_t *w = p ? w1 : w0;
            int32_t s[16] = {0};
            for (int i = 0; i < k4; i++)
                for (int c = 0; c < 16; c++)
                    for (int j = 0; j < 4; j++)
                        s[c] += (int32_t)a[(size_t)r * stride + 4 * i + j] * w[64 * i + 4 * c + j];
            for (int c = 0; c < 16; c++) sums[r][p][c] = s[c];
        }
#endif
}

static inline __attribute__((always_inline)) void products_bf16(
    int rows, const uint16_t *a, int stride, const uint16_t *w0, const uint16_t *w1, int k2, vf sums[][2]) {
#if defined(__AVX512BF16__)
    __m512 s[ROWS][2];
    for (int r = 0; r < rows; r++) s[r][0] = s[r][1] = _mm512_setzero_ps();
    for (int i = 0; i < k2; i++) {
        __m512bh v0 = (__m512bh)_mm512_loadu_si512(w0 + 32 * i), v1 = (__m512bh)_mm512_loadu_si512(w1 + 32 * i);
        for (int r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, a + (size_t)r * stride + 2 * i, 4);
            __m512bh b = (__m512bh)_mm512_set1_epi32(two);
            s[r][0] = _mm512_dpbf16_ps(s[r][0], v0, b);
            s[r][1] = _mm512_dpbf16_ps(s[r][1], v1, b);
        }
    }
    for (int r = 0; r < rows; r++) sums[r][0] = (vf)s[r][0], sums[r][1] = (vf)s[r][1];
#else
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = splat(0);
    for (int i = 0; i < k2; i++)
        for (int p = 0; p < 2; p++) {
            vu pairs = *(const vu *)((p ? w1 : w0) + 32 * i);
            vf even = (vf)(pairs << 16), odd = (vf)(pairs & 0xffff0000u);
            for (int r = 0; r < rows; r++) {
                uint32_t two;
                memcpy(&two, a + (size_t)r * stride + 2 * i, 4);
                union { uint32_t bits; float value; } x = {two << 16}, y = {two & 0xffff0000u};
                sums[r][p] += even * x.value;
                sums[r][p] += odd * y.value;
            }
        }
#endif
}

/* Every path ends here, so that one row's result is the same in every company. */
static __attribute__((noinline)) void finish(
    const Model *model, vf v0, vf v1, int what, float *y, int channel, int channels) {
    if (what == ACTIVATE && model->flags & GATED) { /* a tile is 16 gates and their 16 values */
        *(vf *)(y + channel / 2) = silu(v0) * v1;
        return;
    }
    for (int p = 0; p < 2 && channel + 16 * p < channels; p++) {
        vf v = p ? v1 : v0, *to = (vf *)(y + channel + 16 * p);
        *to = what == ADD ? *to + v : what == ACTIVATE ? gelu(v) : v;
    }
}

/* Rows of `a` (this thread's own copy) through this thread's tiles into `y` `[rows][stride_y]`. */
static void linear(const Worker *w, const Linear *layer, int rows, int what, float *y, int stride_y) {
    const Model *model = w->work->model;
    const int k = up_to(layer->k, 4), panels = up_to(layer->n, 32) / 16, stride = up_to(layer->k, 16);
    const int half = model->flags & BFLOAT16, n = up_to(layer->n, 16);
    int first, last;
    share(w, panels / 2, &first, &last);
    for (int tile = first; tile < last; tile++)
        for (int r = 0; r < rows; r += ROWS) {
            int count = rows - r < ROWS ? rows - r : ROWS, channel = 32 * tile;
            vi sums[ROWS][2];
            vf values[ROWS][2];
            if (half) {
                const uint16_t *w0 = (const uint16_t *)layer->weight + (size_t)2 * tile * k * 16, *w1 = w0 + k * 16;
                const uint16_t *a = (const uint16_t *)w->codes + (size_t)r * stride;
#define CASE(C) case C: products_bf16(C, a, stride, w0, w1, k / 2, values); break;
                switch (count) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
            } else {
                const int8_t *w0 = (const int8_t *)layer->weight + (size_t)2 * tile * k * 16, *w1 = w0 + k * 16;
                const uint8_t *a = w->codes + (size_t)r * stride;
#define CASE(C) case C: products_int8(C, a, stride, w0, w1, k / 4, sums); break;
                switch (count) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
                for (int i = 0; i < count; i++)
                    for (int p = 0; p < 2; p++) {
                        vi exact = sums[i][p] - *(const vi *)(layer->shift + channel + 16 * p);
                        values[i][p] = __builtin_convertvector(exact, vf) * w->scales[r + i] *
                                       *(const vf *)(layer->scale + channel + 16 * p);
                    }
            }
            for (int i = 0; i < count; i++)
                finish(model, values[i][0], values[i][1], what, y + (size_t)(r + i) * stride_y, channel, n);
        }
}

/* Normalise (or not, without a gain) each row `[k]` and make it ready for a linear layer. */
static void ready(Worker *w, const float *x, int stride_x, int rows, int k, const Norm *norm) {
    const Model *model = w->work->model;
    const int stride = up_to(k, 16), bytes = model->flags & BFLOAT16 ? 2 : 1;
    float *normed = w->scores;
    for (int r = 0; r < rows; r++) {
        const float *row = x + (size_t)r * stride_x;
        if (norm) {
            vf total = {}, square = {};
            if (model->flags & LAYER_NORM)
                for (int i = 0; i < k; i += 16) total += *(const vf *)(row + i);
            float mean = sum_of(total) / k;
            for (int i = 0; i < k; i += 16) {
                vf v = *(const vf *)(row + i) - mean;
                for (int j = k - i; j < 16; j++) v[j] = 0;
                square += v * v;
            }
            float by = 1.0f / sqrtf(sum_of(square) / k + model->epsilon);
            for (int i = 0; i < k; i += 16) {
                vf v = (*(const vf *)(row + i) - mean) * by * *(const vf *)(norm->gain + i);
                *(vf *)(normed + i) = norm->bias ? v + *(const vf *)(norm->bias + i) : v;
            }
            row = normed;
        }
        prepare(model, row, stride, w->codes + (size_t)r * stride * bytes, w->scales + r);
    }
}

/* --- attention ---------------------------------------------------------------------------------------------------- */

static size_t keys_size(const Model *m, int length) { return (size_t)up_to(length, 16) * m->head_dim; }
static size_t values_size(const Model *m, int length) { return (size_t)up_to(length, 16) * up_to(m->head_dim, 16); }

/* Keys of one head in one layer; its values follow them. */
static uint16_t *head_of(const Model *m, uint16_t *memory, int length, int layer, int head) {
    return memory + ((size_t)layer * m->kv_heads + head) * (keys_size(m, length) + values_size(m, length));
}

static void remember(const Model *m, uint16_t *keys, int length, int slot, const float *k, const float *v) {
    uint16_t *values = keys + keys_size(m, length), line[16];
    const int size = m->head_dim;
    for (int i = 0; i < size; i += 16) {
        *(vs *)line = narrow(*(const vf *)(k + i));
        for (int j = 0; j < 16 && i + j < size; j++)
            keys[((size_t)(slot / 16) * size + i + j) * 16 + slot % 16] = line[j];
        *(vs *)line = narrow(*(const vf *)(v + i));
        for (int j = 0; j < 16 && i + j < size; j++) values[(size_t)slot * up_to(size, 16) + i + j] = line[j];
    }
}

/* `count` queries `[count][head_dim]` of one key head over the first `seen` positions → `out`, of the same shape. */
static inline __attribute__((always_inline)) void attend_few(
    const Model *m, int count, const float *q, const uint16_t *keys, int length, int seen, float *scores, float *out) {
    const int size = m->head_dim, width = up_to(size, 16), blocks = up_to(seen, 16) / 16;
    const uint16_t *values = keys + keys_size(m, length);
    const float by = 1.0f / sqrtf((float)size);
    float total[4];
    vf most[4];
    for (int g = 0; g < count; g++) most[g] = splat(-INFINITY);
    for (int b = 0; b < blocks; b++) {
        vf s[4] = {};
        const uint16_t *block = keys + (size_t)b * size * 16;
        for (int i = 0; i < size; i++) {
            vf k = widen(*(const vs *)(block + 16 * i));
            for (int g = 0; g < count; g++) s[g] += k * q[g * size + i];
        }
        for (int g = 0; g < count; g++) {
            s[g] *= by;
            for (int j = seen - 16 * b; j < 16; j++) s[g][j] = -INFINITY;
            *(vf *)(scores + (size_t)(g * blocks + b) * 16) = s[g];
            most[g] = pick(s[g] > most[g], s[g], most[g]);
        }
    }
    for (int g = 0; g < count; g++) {
        float top = most[g][0];
        for (int i = 1; i < 16; i++) top = most[g][i] > top ? most[g][i] : top;
        vf sum = {};
        for (int b = 0; b < blocks; b++) {
            vf *s = (vf *)(scores + (size_t)(g * blocks + b) * 16);
            *s = vexp(*s - top);
            sum += *s;
        }
        total[g] = 1.0f / sum_of(sum);
    }
    for (int i = 0; i < width; i += 64) {
        vf mixed[4][4] = {};
        const int parts = (width - i < 64 ? width - i : 64) / 16;
        for (int t = 0; t < seen; t++) {
            const uint16_t *line = values + (size_t)t * width + i;
            for (int p = 0; p < parts; p++) {
                vf v = widen(*(const vs *)(line + 16 * p));
                for (int g = 0; g < count; g++) mixed[g][p] += v * scores[(size_t)g * blocks * 16 + t];
            }
        }
        for (int g = 0; g < count; g++)
            for (int p = 0; p < parts; p++) {
                vf v = mixed[g][p] * total[g];
                for (int j = 0; j < 16 && i + 16 * p + j < size; j++) out[g * size + i + 16 * p + j] = v[j];
            }
    }
}

static void attend(const Model *m, int count, const float *q, const uint16_t *keys, int length, int seen,
                   float *scores, float *out) {
    for (int g = 0; g < count; g += 4) {
        const float *from = q + (size_t)g * m->head_dim;
        float *to = out + (size_t)g * m->head_dim;
        switch (count - g) {
        case 1: attend_few(m, 1, from, keys, length, seen, scores, to); break;
        case 2: attend_few(m, 2, from, keys, length, seen, scores, to); break;
        case 3: attend_few(m, 3, from, keys, length, seen, scores, to); break;
        default: attend_few(m, 4, from, keys, length, seen, scores, to);
        }
    }
}

static void turn(const Model *m, float *head, const double *cos_sin) {
    const int quarter = m->head_dim / 4;
    float *a = head + 2 * quarter, *b = a + quarter;
    for (int i = 0; i < quarter; i++) {
        float c = (float)cos_sin[i], s = (float)cos_sin[quarter + i], old = a[i];
        a[i] = old * c - b[i] * s;
        b[i] = old * s + b[i] * c;
    }
}

/* Put keys and values of all rows in place and let each look back; a unit is one key head of one memory. */
static void self_attention(Worker *w, int layer) {
    Work *work = w->work;
    const Model *m = work->model;
    const int size = m->head_dim, group = m->heads / m->kv_heads;
    const int stride = up_to((m->heads + 2 * m->kv_heads) * size, 16), width = up_to(m->heads * size, 16);
    int first, last;
    share(w, work->rows * m->kv_heads, &first, &last);
    for (int unit = 0; unit < last; unit++) {
        const int r = unit / m->kv_heads, head = unit % m->kv_heads;
        const Row *row = work->row + r;
        if (r && row->memory == row[-1].memory) continue; /* done with the first row of this memory */
        if (unit < first) continue;
        const int length = row->memory->prefix_length + m->window;
        uint16_t *keys = head_of(m, row->memory->kv, length, layer, head);
        int rows = 1;
        while (r + rows < work->rows && row[rows].memory == row->memory) rows++;
        for (int i = 0; i < rows; i++) {
            float *base = work->qkv + (size_t)(r + i) * stride;
            float *k = base + (size_t)(m->heads + head) * size;
            if (m->flags & TURNED && row[i].unturned) memset(k + size / 2, 0, sizeof(float) * (size / 2));
            else if (m->flags & TURNED) {
                const double *by = work->turns + (size_t)(r + i) * (size / 2);
                turn(m, k, by);
                for (int g = 0; g < group; g++) turn(m, base + (size_t)(head * group + g) * size, by);
            }
            remember(m, keys, length, row[i].slot, k, base + (size_t)(m->heads + m->kv_heads + head) * size);
        }
        for (int i = 0; i < rows; i++)
            attend(m, group, work->qkv + (size_t)(r + i) * stride + (size_t)head * group * size, keys, length,
                   row[i].seen, w->scores, work->mixed + (size_t)(r + i) * width + (size_t)head * group * size);
    }
}

static void text_attention(Worker *w, int layer) {
    Work *work = w->work;
    const Model *m = work->model;
    const int width = up_to(m->heads * m->head_dim, 16), group = m->heads / m->kv_heads, size = group * m->head_dim;
    int first, last;
    share(w, work->rows * m->kv_heads, &first, &last);
    for (int unit = first; unit < last; unit++) {
        const int r = unit / m->kv_heads, head = unit % m->kv_heads;
        const Memory *memory = work->row[r].memory;
        float *out = work->mixed + (size_t)r * width + (size_t)head * size;
        if (memory->text_length)
            attend(m, group, work->qkv + (size_t)r * width + (size_t)head * size,
                   head_of(m, memory->text, memory->text_length, layer, head), memory->text_length,
                   memory->text_length, w->scores, out);
        else
            memset(out, 0, sizeof(float) * size); /* a text of zeros adds nothing */
    }
}

/* --- the step ----------------------------------------------------------------------------------------------------- */

/* All layers over `work->x` `[rows][dim]`, in place. */
static void run_layers(Worker *w) {
    Work *work = w->work;
    const Model *m = work->model;
    const int rows = work->rows, dim = up_to(m->dim, 16), width = up_to(m->heads * m->head_dim, 16);
    const int stride = up_to((m->heads + 2 * m->kv_heads) * m->head_dim, 16), hidden = up_to(m->hidden, 16);
    for (int index = 0; index < m->depth; index++) {
        const Layer *layer = m->layers + index;
        ready(w, work->x, dim, rows, m->dim, &layer->norm1);
        linear(w, &layer->qkv, rows, STORE, work->qkv, stride);
        wait_for_all(w);
        self_attention(w, index);
        wait_for_all(w);
        ready(w, work->mixed, width, rows, m->heads * m->head_dim, NULL);
        linear(w, &layer->out, rows, ADD, work->x, dim);
        wait_for_all(w);
        if (layer->text_q.n) {
            ready(w, work->x, dim, rows, m->dim, &layer->norm2);
            linear(w, &layer->text_q, rows, STORE, work->qkv, width);
            wait_for_all(w);
            text_attention(w, index);
            wait_for_all(w);
            ready(w, work->mixed, width, rows, m->heads * m->head_dim, NULL);
            linear(w, &layer->text_out, rows, ADD, work->x, dim);
            wait_for_all(w);
        }
        ready(w, work->x, dim, rows, m->dim, &layer->norm3);
        linear(w, &layer->up, rows, ACTIVATE, work->up, hidden);
        wait_for_all(w);
        ready(w, work->up, hidden, rows, m->hidden, NULL);
        linear(w, &layer->down, rows, ADD, work->x, dim);
        wait_for_all(w);
    }
}

/* The input of row `r`: codes of the position before, lanes (none: those of guidance's second row), position. */
static void embed(Worker *w, int r, const int64_t *codes, const float *lanes) {
    Work *work = w->work;
    const Model *m = work->model;
    const int dim = up_to(m->dim, 16);
    float *x = work->x + (size_t)r * dim;
    for (int i = 0; i < dim; i += 16) {
        vf v = {};
        for (int b = 0; b < m->books; b++)
            v += *(const vf *)(m->codes + ((size_t)b * (m->size + 1) + codes[b]) * dim + i);
        if (m->positions) v += *(const vf *)(m->positions + (size_t)work->row[r].slot * dim + i);
        *(vf *)(x + i) = v;
    }
    if (!m->num_lanes) return;
    float *up = work->up + (size_t)r * up_to(m->hidden > m->dim ? m->hidden : m->dim, 16);
    for (int i = 0; i < dim; i += 16) {
        vf v = *(const vf *)(m->lanes_bias + i);
        for (int j = 0; lanes && j < m->num_lanes; j++)
            if (lanes[j] != 0) v += lanes[j] * *(const vf *)(m->lanes_in + (size_t)j * dim + i);
        *(vf *)(up + i) = silu(v);
        *(vf *)(x + i) += *(const vf *)(m->lanes_out_bias + i);
    }
}

static void embedded(Worker *w) { /* the lanes' second layer, of all rows at once */
    Work *work = w->work;
    const Model *m = work->model;
    wait_for_all(w);
    if (!m->num_lanes) return;
    ready(w, work->up, up_to(m->hidden > m->dim ? m->hidden : m->dim, 16), work->rows, m->dim, NULL);
    linear(w, &m->lanes_out, work->rows, ADD, work->x, up_to(m->dim, 16));
    wait_for_all(w);
}

static uint64_t mix(uint64_t z) { /* splitmix64, Steele et al. 2014 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static double uniform(uint64_t seed, int64_t draw, int book) { /* as `sampling.uniform` */
    const uint64_t golden = 0x9e3779b97f4a7c15ull;
    return (double)(mix(mix(seed + golden) + golden * (uint64_t)(draw * 64 + book + 1)) >> 11) * 0x1p-53;
}

/* As `sampling.draw`: of `size` guided logits (overwritten) one code. */
static int64_t draw(const Stream *s, float *logits, int size, double u) {
    int32_t key[size];
    float top = -INFINITY;
    int best = 0;
    for (int i = 0; i < size; i++)
        if (logits[i] > top) top = logits[i], best = i;
    if (s->temperature == 0) return best;
    for (int i = 0; i < size; i++) { /* floats in the order of integers */
        int32_t bits = ((int32_t *)logits)[i];
        key[i] = bits ^ ((bits >> 31) & 0x7fffffff);
    }
    int32_t floor = INT32_MIN;
    if (s->top_k < size) { /* the greatest floor with at least top_k at or above it */
        int64_t low = INT32_MIN, high = INT32_MAX;
        while (low < high) {
            int64_t middle = (low + high + 1) >> 1;
            int count = 0;
            for (int i = 0; i < size; i++) count += key[i] >= (int32_t)middle;
            if (count >= s->top_k) low = middle;
            else high = middle - 1;
        }
        floor = (int32_t)low;
    }
    const float by = 1.0f / s->temperature;
    for (int i = 0; i < size; i += 16) {
        vf v = vexp((*(vf *)(logits + i) - top) * by);
        for (int j = 0; j < 16 && i + j < size; j++) logits[i + j] = key[i + j] >= floor ? v[j] : 0;
    }
    double total = 0;
    for (int i = 0; i < size; i++) total += logits[i];
    if (s->top_p < 1) { /* the greatest floor with at least top_p of the mass at or above it */
        int64_t low = floor, high = INT32_MAX;
        while (low < high) {
            int64_t middle = (low + high + 1) >> 1;
            float mass[16] = {0};
            for (int i = 0; i < size; i++) mass[i % 16] += key[i] >= (int32_t)middle ? logits[i] : 0;
            if (sum_of(*(vf *)mass) >= s->top_p * (float)total) low = middle;
            else high = middle - 1;
        }
        for (int i = 0; i < size; i++)
            if (key[i] < (int32_t)low) logits[i] = 0;
        total = 0;
        for (int i = 0; i < size; i++) total += logits[i];
    }
    double mass = 0, wanted = u * total;
    int found = best;
    for (int i = 0; i < size; i++)
        if (logits[i] > 0) {
            mass += logits[i];
            found = i;
            if (mass > wanted) break;
        }
    return found;
}

static void place(Work *work, int r, const Memory *memory, int64_t position, int given) {
    const Model *m = work->model;
    const int quarter = m->head_dim / 4;
    Row *row = work->row + r;
    row->memory = memory;
    row->unturned = given && m->flags & TURNED;
    const int prefix = memory->prefix_length;
    row->slot = given ? (int32_t)position : prefix + (int32_t)(position % m->window);
    /* a prefix with turned heads sees all of itself, another one what came before */
    row->seen = row->unturned ? prefix
                : given       ? (int32_t)position + 1
                              : prefix + (int32_t)(position + 1 < m->window ? position + 1 : m->window);
    for (int i = 0; m->flags & TURNED && i < quarter; i++) {
        double angle = (double)position * m->frequencies[i];
        work->turns[(size_t)r * 2 * quarter + i] = cos(angle);
        work->turns[(size_t)r * 2 * quarter + quarter + i] = sin(angle);
    }
}

typedef struct {
    Worker worker;
    Stream *streams;
    int count, steps, reading;
    Memory *memory;
    const float *given;
} Task;

/* `steps` positions of every stream. */
static void step_all(Task *t) {
    Worker *w = &t->worker;
    Work *work = w->work;
    const Model *m = work->model;
    const int logits = up_to(m->books * m->size, 32);
    int first, last;
    for (int step = 0; step < t->steps; step++) {
        share(w, work->rows, &first, &last);
        for (int i = 0, r = 0; i < t->count; i++)
            for (int side = 0; side < t->streams[i].rows; side++, r++) {
                Stream *s = t->streams + i;
                if (r < first || r >= last) continue;
                place(work, r, s->memory + side, s->position + step, 0);
                embed(w, r, step ? s->drawn + (size_t)(step - 1) * m->books : s->last,
                      side || !m->num_lanes ? NULL : s->lanes + (size_t)step * m->num_lanes);
            }
        embedded(w);
        run_layers(w);
        int needed = 0;
        for (int i = 0; i < t->count && !needed; i++)
            for (int b = 0; b < m->books; b++)
                needed |= t->streams[i].logits || t->streams[i].forced[(size_t)step * m->books + b] < 0;
        if (needed) {
            ready(w, work->x, up_to(m->dim, 16), work->rows, m->dim, &m->norm);
            linear(w, &m->heads_out, work->rows, STORE, work->logits, logits);
            wait_for_all(w);
        }
        share(w, t->count * m->books, &first, &last);
        for (int i = 0, r = 0; i < t->count; r += t->streams[i++].rows)
            for (int b = 0; b < m->books; b++) {
                Stream *s = t->streams + i;
                const int unit = i * m->books + b;
                if (unit < first || unit >= last) continue;
                int64_t forced = s->forced[(size_t)step * m->books + b], *to = s->drawn + (size_t)step * m->books + b;
                *to = forced;
                if (forced >= 0 && !s->logits) continue;
                float guided[up_to(m->size, 16)], *told = work->logits + (size_t)r * logits + (size_t)b * m->size;
                for (int j = 0; j < m->size; j++)
                    guided[j] = s->rows == 1 ? told[j] : told[logits + j] + s->guidance * (told[j] - told[logits + j]);
                if (s->logits)
                    memcpy(s->logits + ((size_t)step * m->books + b) * m->size, guided, sizeof(float) * m->size);
                if (forced >= 0) continue;
                *to = draw(s, guided, m->size, uniform(s->seed, s->first_draw + step, b));
            }
        wait_for_all(w);
    }
}

/* One stream's `steps` positions of which all codes are known: many rows at a time, nothing drawn. */
static void read_all(Task *t) {
    Worker *w = &t->worker;
    Work *work = w->work;
    const Model *m = work->model;
    Stream *s = t->streams;
    for (int side = 0; side < s->rows; side++)
        for (int start = 0; start < t->steps; start += READ_ROWS) {
            const int rows = t->steps - start < READ_ROWS ? t->steps - start : READ_ROWS;
            wait_for_all(w);
            if (!w->thread) work->rows = rows;
            for (int r = w->thread; r < rows; r += work->threads) {
                const int step = start + r;
                place(work, r, s->memory + side, s->position + step, 0);
                embed(w, r, step ? s->forced + (size_t)(step - 1) * m->books : s->last,
                      side || !m->num_lanes ? NULL : s->lanes + (size_t)step * m->num_lanes);
            }
            wait_for_all(w);
            embedded(w);
            run_layers(w);
        }
}

/* Inputs that are no codes: the prefix. */
static void give_all(Task *t) {
    Worker *w = &t->worker;
    Work *work = w->work;
    const Model *m = work->model;
    const int dim = up_to(m->dim, 16);
    const int at_once = m->flags & TURNED ? t->steps : READ_ROWS; /* one that sees all of itself goes as a whole */
    for (int start = 0; start < t->steps; start += at_once) {
        const int rows = t->steps - start < at_once ? t->steps - start : at_once;
        wait_for_all(w);
        if (!w->thread) {
            work->rows = rows;
            for (int r = 0; r < rows; r++) {
                place(work, r, t->memory, start + r, 1);
                float *x = work->x + (size_t)r * dim;
                memcpy(x, t->given + (size_t)(start + r) * dim, sizeof(float) * dim);
                for (int i = 0; m->positions && i < dim; i++) x[i] += m->positions[(size_t)(start + r) * dim + i];
            }
        }
        wait_for_all(w);
        run_layers(w);
    }
}

/* Keys and values of a text, of every layer. */
static void text_all(Task *t) {
    Worker *w = &t->worker;
    Work *work = w->work;
    const Model *m = work->model;
    const int size = m->head_dim, stride = up_to(2 * m->kv_heads * size, 16), length = t->steps;
    for (int start = 0; start < length; start += READ_ROWS) {
        const int rows = length - start < READ_ROWS ? length - start : READ_ROWS;
        for (int layer = 0; layer < m->depth; layer++) {
            ready(w, t->given + (size_t)start * up_to(m->dim, 16), up_to(m->dim, 16), rows, m->dim, NULL);
            linear(w, &m->layers[layer].text_kv, rows, STORE, work->qkv, stride);
            wait_for_all(w);
            int first, last;
            share(w, m->kv_heads, &first, &last);
            for (int head = first; head < last; head++)
                for (int r = 0; r < rows; r++) {
                    const float *k = work->qkv + (size_t)r * stride + (size_t)head * size;
                    remember(m, head_of(m, t->memory->text, length, layer, head), length, start + r, k,
                             k + (size_t)m->kv_heads * size);
                }
            wait_for_all(w);
        }
    }
}

static void *begin(void *task) {
    Task *t = task;
    while (!atomic_load_explicit(&t->worker.work->started, memory_order_acquire)) sched_yield();
    if (t->reading) read_all(t);
    else if (t->streams) step_all(t);
    else if (t->memory->text_length) text_all(t);
    else give_all(t);
    return NULL;
}

/* Run a task on `threads` threads; -1 when there is no memory. Threads are made anew: a call lasts milliseconds. */
static int run_task(const Model *m, Task task, int rows, int threads) {
    const int most = m->heads * m->head_dim > m->dim ? m->heads * m->head_dim : m->dim;
    const int wide = up_to(m->hidden > most ? m->hidden : most, 16);
    const int qkv = up_to((m->heads + 2 * m->kv_heads) * m->head_dim, 16);
    Work work = {.model = m, .threads = threads, .rows = rows};
    work.row = room(sizeof(Row) * rows);
    work.x = room(sizeof(float) * rows * up_to(m->dim, 16));
    work.qkv = room(sizeof(float) * rows * qkv);
    work.mixed = room(sizeof(float) * rows * up_to(m->heads * m->head_dim, 16));
    work.up = room(sizeof(float) * rows * wide);
    work.logits = room(sizeof(float) * rows * up_to(m->books * m->size, 32));
    work.turns = room(sizeof(double) * rows * m->head_dim);
    Task *tasks = room(sizeof(Task) * threads);
    pthread_t *others = room(sizeof(pthread_t) * threads);
    int failed = !work.row || !work.x || !work.qkv || !work.mixed || !work.up || !work.logits || !work.turns || !tasks ||
                 !others;
    for (int i = 0; !failed && i < threads; i++) {
        tasks[i] = task;
        tasks[i].worker = (Worker){.work = &work, .thread = i};
        tasks[i].worker.codes = room((size_t)rows * wide * 2);
        tasks[i].worker.scales = room(sizeof(float) * rows);
        tasks[i].worker.scores = room(sizeof(float) * (4 * (size_t)up_to(m->longest, 16) + wide));
        failed |= !tasks[i].worker.codes || !tasks[i].worker.scales || !tasks[i].worker.scores;
    }
    if (!failed) {
        int made = 1;
        while (made < threads && !pthread_create(others + made, NULL, begin, tasks + made)) made++;
        work.threads = made; /* as many as can be had */
        atomic_store(&work.started, 1);
        begin(tasks);
        for (int i = 1; i < made; i++) pthread_join(others[i], NULL);
    }
    for (int i = 0; tasks && i < threads; i++)
        free(tasks[i].worker.codes), free(tasks[i].worker.scales), free(tasks[i].worker.scores);
    free(work.row), free(work.x), free(work.qkv), free(work.mixed), free(work.up), free(work.logits);
    free(work.turns), free(tasks), free(others);
    return failed ? -1 : 0;
}

/* --- what native.py calls ------------------------------------------------------------------------------------------ */

/* Codes of the next `steps` positions of each stream. */
int run(const Model *m, Stream *streams, int count, int steps, int threads) {
    int rows = 0;
    for (int i = 0; i < count; i++) rows += streams[i].rows;
    return run_task(m, (Task){.streams = streams, .count = count, .steps = steps}, rows, threads);
}

/* Positions whose codes are all `forced`. */
int read_known(const Model *m, Stream *stream, int steps, int threads) {
    return run_task(m, (Task){.streams = stream, .count = 1, .steps = steps, .reading = 1}, READ_ROWS, threads);
}

/* The prefix `[prefix_length][dim padded to 16]` of one memory. */
int give_prefix(const Model *m, Memory *memory, const float *x, int threads) {
    Memory plain = *memory;
    plain.text_length = 0;
    const int length = memory->prefix_length, rows = length > READ_ROWS ? length : READ_ROWS;
    return run_task(m, (Task){.memory = &plain, .given = x, .steps = length}, rows, threads);
}

/* The text `[text_length][dim padded to 16]` of one memory. */
int give_text(const Model *m, Memory *memory, const float *x, int threads) {
    return run_task(m, (Task){.memory = memory, .given = x, .steps = memory->text_length}, READ_ROWS, threads);
}

/* uint16 values that keys and values of `length` positions take. */
int64_t memory_size(const Model *m, int length) {
    return (int64_t)(keys_size(m, length) + values_size(m, length)) * m->kv_heads * m->depth;
}

int interface_version(void) { return 1; }
