/* AMX: the kernels `pieces` of kernels.h, beside those of AVX-512. */
#include "avx512.h"

enum {
    TILE = NPC_PIECES_TILE,
    ROW_BYTES = 64,
    TILE_BYTES = TILE * ROW_BYTES,
    ALL = 0xffff, /* lanes */
    AHEAD = 256, /* bytes of a row of pixels that are asked for before they are read */
};

_Static_assert(NPC_PIECES_STEP_BYTES == NPC_PIECES * 2 * TILE_BYTES, "two tiles of outputs a step");

/* As LDTILECFG reads it. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Constant: gcc does not see that the instruction reads all of it. */
static const tile_config config = {
    .palette = 1,
    .row_bytes = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES},
    .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};

static void begin(void) { _tile_loadconfig(&config); }

static void end(void) { _tile_release(); }

NPC_INLINE __mmask16 first_lanes(int64_t count) {
    return count >= 16 ? (__mmask16)0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* Rows of up to TILE words become columns of TILE: those that are masked or missing are zeros, never read. */
static NPC_NOINLINE void turn_words(const char *source, int64_t source_row, int64_t rows, __mmask16 mask,
                                    char *target, int64_t target_row) {
    __m512 v[TILE];
    NPC_UNROLL
    for (int i = 0; i < TILE; i++) v[i] = _mm512_maskz_loadu_ps(i < rows ? mask : 0, source + i * source_row);
    transpose_ps(v);
    NPC_UNROLL
    for (int i = 0; i < TILE; i++) _mm512_storeu_ps(target + i * target_row, v[i]);
}

/* Pieces of two vectors: in both halves of a row, or their lanes alternating. */
NPC_INLINE void split(__m512 low, __m512 high, char *target, int64_t piece, int alternate) {
    const __m512i halves = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                            7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    NPC_UNROLL
    for (int i = 0; i < NPC_PIECES; i++, target += piece) {
        const __m512i row = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        const __m512i pairs = _mm512_permutexvar_epi16(halves, row);
        _mm512_storeu_si512(target, alternate ? pairs : row);
        low = _mm512_sub_ps(low, _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)));
        high = _mm512_sub_ps(high, _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536))));
    }
}

/* The larger magnitudes; a NaN is not larger. */
#define LARGER 0xb
NPC_INLINE __m512 larger(__m512 a, __m512 b) { return _mm512_range_ps(a, b, LARGER); }

NPC_INLINE uint32_t largest_bits(__m512 v) { return _mm512_reduce_max_epu32(_mm512_castps_si512(v)); }

static uint32_t pixels(const npc_pieces_pixels *run) {
    const __m512 scale = _mm512_set1_ps(run->scale);
    const int scales = run->scale != 1;
    __m512 largest = _mm512_setzero_ps();
    __m512i kept[NPC_PIECES][TILE];
    char *target = run->target;
    for (int64_t at = 0; at < run->count; at += TILE, target += run->tile) {
        char *rows = run->turned ? (char *)kept : target;
        const int64_t piece = run->turned ? TILE_BYTES : run->piece;
        const __mmask16 mask = (__mmask16)(first_lanes(run->to - at) & ~first_lanes(run->from - at));
        const float *source = run->source + at;
        for (int c = 0; c < NPC_PIECES_CHANNELS;
             c += 2, rows += ROW_BYTES, source += 2 * run->source_stride) {
            __m512 low = _mm512_maskz_loadu_ps(c < run->channels ? mask : 0, source);
            __m512 high =
                _mm512_maskz_loadu_ps(c + 1 < run->channels ? mask : 0, source + run->source_stride);
            NPC_PREFETCH((const char *)source + AHEAD);
            NPC_PREFETCH((const char *)(source + run->source_stride) + AHEAD);
            largest = larger(largest, larger(low, high));
            if (scales) {
                low = _mm512_mul_ps(low, scale);
                high = _mm512_mul_ps(high, scale);
            }
            split(low, high, rows, piece, 1);
        }
        for (int i = 0; i < NPC_PIECES && run->turned; i++)
            turn_words((const char *)kept[i], ROW_BYTES, TILE, ALL, target + i * run->piece, ROW_BYTES);
    }
    return largest_bits(largest);
}

/* Half a row of a tile is the channels of a tap: of several taps, turned from those of each channel. */
static void weights_of_output(const npc_pieces_weights *run, int output) {
    const __m512 scale = _mm512_set1_ps(run->scales[output]);
    const float *source = run->source + output * run->output_stride;
    __m512 largest = _mm512_setzero_ps(), half[2][TILE];
    for (int64_t t = 0; t < run->taps; t += TILE) {
        const int64_t some = npc_min(TILE, run->taps - t);
        NPC_UNROLL
        for (int i = 0; i < 2; i++) {
            const int64_t channels = output < run->outputs ? npc_clamp(run->channels - i * TILE, 0, TILE) : 0;
            const float *first = source + i * TILE * run->channel_stride + t;
            if (run->taps == 1 && run->channel_stride == 1)
                half[i][0] = _mm512_maskz_loadu_ps(first_lanes(channels), first);
            else
                turn_words((const char *)first, run->channel_stride * (int64_t)sizeof *first, channels,
                           first_lanes(some), (char *)half[i], ROW_BYTES);
        }
        char *target = run->target + t * NPC_PIECES_STEP_BYTES + output * ROW_BYTES;
        for (int64_t tap = 0; tap < some; tap++, target += NPC_PIECES_STEP_BYTES) {
            const __m512 low = half[0][tap], high = half[1][tap];
            largest = larger(largest, larger(low, high));
            split(_mm512_mul_ps(low, scale), _mm512_mul_ps(high, scale), target, 2 * TILE_BYTES, 0);
        }
    }
    const uint32_t found = largest_bits(largest);
    if (found > run->largest[output]) run->largest[output] = found;
}

static void weights(const npc_pieces_weights *run) {
    const char *after = run->target + run->taps * NPC_PIECES_STEP_BYTES;
    for (int output = 0; output < 2 * TILE; output++) weights_of_output(run, output);
    for (char *tile = run->target; tile < after && run->turned; tile += TILE_BYTES)
        turn_words(tile, ROW_BYTES, TILE, ALL, tile, ROW_BYTES);
}

/* Sums are tiles 0 to 3, `rows` 4 and 5 and `columns` 6 and 7: outputs and pixels or, where these are turned, the other way round. */
#define LOAD_ROWS(piece)                                                                                     \
    _tile_loadd(4, row + (piece) * row_piece, row_bytes);                                                    \
    if (rows > 1) _tile_loadd(5, row + (piece) * row_piece + row_tile, row_bytes);
#define LOAD_COLUMNS(piece)                                                                                  \
    _tile_loadd(6, column + (piece) * column_piece, ROW_BYTES);                                              \
    if (columns > 1) _tile_loadd(7, column + (piece) * column_piece + column_tile, ROW_BYTES);
#define MULTIPLY                                                                                             \
    _tile_dpbf16ps(0, 4, 6);                                                                                 \
    if (rows > 1) _tile_dpbf16ps(2, 5, 6);                                                                   \
    if (columns > 1) _tile_dpbf16ps(1, 4, 7);                                                                \
    if (rows > 1 && columns > 1) _tile_dpbf16ps(3, 5, 7);

NPC_INLINE void multiply(const npc_pieces_product *given, const int rows, const int columns) {
    enum { WEIGHT_PIECE = NPC_PIECES_STEP_BYTES / NPC_PIECES, SUM_ROW = 2 * ROW_BYTES };
    const npc_pieces_product block = *given;
    const int64_t row_piece = block.turned ? block.piece : WEIGHT_PIECE,
                  column_piece = block.turned ? WEIGHT_PIECE : block.piece;
    const int64_t row_tile = block.turned ? block.tile : TILE_BYTES,
                  column_tile = block.turned ? TILE_BYTES : block.tile;
    const int64_t row_bytes = block.turned ? block.row : ROW_BYTES;
    float kept[4 * TILE * TILE];
    float *sums = block.turned ? kept : block.sums;
    const char *weight = block.weights;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t s = 0; s < block.steps; s++, weight += NPC_PIECES_STEP_BYTES) {
        const char *pixel = block.pixels + block.offsets[s];
        const char *row = block.turned ? pixel : weight, *column = block.turned ? weight : pixel;
        /* From one product to the next either rows or columns stay: loads take most where another thread shares the core. */
        LOAD_ROWS(0)
        LOAD_COLUMNS(2)
        MULTIPLY
        LOAD_COLUMNS(1)
        MULTIPLY
        LOAD_ROWS(1)
        MULTIPLY
        LOAD_COLUMNS(0)
        MULTIPLY
        LOAD_ROWS(0)
        MULTIPLY
        LOAD_ROWS(2)
        MULTIPLY
    }
    _tile_stored(0, sums, SUM_ROW);
    if (columns > 1) _tile_stored(1, sums + TILE, SUM_ROW);
    if (rows > 1) _tile_stored(2, sums + 2 * TILE * TILE, SUM_ROW);
    if (rows > 1 && columns > 1) _tile_stored(3, sums + 2 * TILE * TILE + TILE, SUM_ROW);
    for (int i = 0; i < rows * columns && block.turned; i++) {
        const int r = i / columns, c = i % columns;
        turn_words((const char *)(sums + (r * 2 * TILE + c) * TILE), SUM_ROW, TILE, ALL,
                   (char *)(block.sums + (c * 2 * TILE + r) * TILE), SUM_ROW);
    }
}

static void multiply_11(const npc_pieces_product *block) { multiply(block, 1, 1); }
static void multiply_22(const npc_pieces_product *block) { multiply(block, 2, 2); }
static void multiply_12(const npc_pieces_product *block) {
    if (block->turned)
        multiply(block, 2, 1);
    else
        multiply(block, 1, 2);
}
static void multiply_21(const npc_pieces_product *block) {
    if (block->turned)
        multiply(block, 1, 2);
    else
        multiply(block, 2, 1);
}

static uint32_t finish(const npc_pieces_finish *run) {
    enum { INFINITE = 0x7f800000 };
    const __m512 low = _mm512_set1_ps(run->low), high = _mm512_set1_ps(run->high), zero = _mm512_setzero_ps();
    const __mmask16 masks[2] = {first_lanes(run->count), first_lanes(run->count - TILE)};
    const float *sums = run->sums;
    float *target = run->target;
    __m512 finite = zero, largest = zero; /* finite: times zero what is not becomes NaN */
    for (int64_t m = 0; m < run->outputs; m++, sums += 2 * TILE, target += run->target_stride) {
        const __m512 factor = _mm512_set1_ps(run->factors[m]), bias = _mm512_set1_ps(run->bias[m]);
        NPC_UNROLL
        for (int i = 0; i < 2; i++) {
            const __m512 sum = _mm512_loadu_ps(sums + i * TILE);
            __m512 v = _mm512_fmadd_ps(sum, factor, bias);
            largest = _mm512_mask_range_ps(largest, masks[i], largest, sum, LARGER);
            finite = _mm512_mask3_fmadd_ps(v, zero, finite, masks[i]);
            if (run->clip) v = _mm512_min_ps(high, _mm512_max_ps(low, v)); /* a NaN stays */
            _mm512_mask_storeu_ps(target + i * TILE, masks[i], v);
        }
    }
    return _mm512_cmp_ps_mask(finite, finite, _CMP_UNORD_Q) ? INFINITE : largest_bits(largest);
}

static const npc_pieces pieces = {
    .begin = begin,
    .end = end,
    .pixels = pixels,
    .weights = weights,
    .product = {{multiply_11, multiply_12}, {multiply_21, multiply_22}},
    .finish = finish,
};

const npc_isa npc_isa_amx = {.name = "amx", .extends = &npc_isa_avx512, .pieces = &pieces};
