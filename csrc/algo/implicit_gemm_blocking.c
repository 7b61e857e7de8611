/* How implicit_gemm.c cuts a problem, and what that costs. */
#include "implicit_gemm.h"

#include "cycles.h"

enum {
    /* Pixels in pieces: with a block's weights they stay in a second-level cache, and where all weights are few with more of the result. */
    BAND_BYTES = 768 << 10,
    FEW_BAND_BYTES = 384 << 10,
    FEW_WEIGHT_BYTES = 256 << 10,
    MOST_BAND_BYTES = 3 << 20,
    BAND_PIXELS = 1024, /* of more there are bands for several threads */
    WEIGHT_BYTES = 3 << 19,
    MOST_TAPS = 1 << 16,
    MOST_STRIDE = 16, /* or most of what is packed is never read */
};

int npc_implicit_gemm_turns(const npc_problem *problem) {
    return npc_taps(problem) > 1 || npc_columns(problem).stride > 1;
}

npc_gemm_pixels npc_gemm_pixels_of(const npc_problem *problem, int64_t rows, int64_t columns) {
    const npc_axis down = npc_rows(problem), across = npc_columns(problem);
    const int single = across.kernel == 1;
    npc_gemm_pixels pixels = {.rows = npc_phases_of(&down, down.kernel, rows),
                              .step = single ? across.stride : 1,
                              .stride = single ? 1 : across.stride};
    const int64_t reach = (columns - 1) * pixels.stride + (across.kernel - 1) * across.dilation + 1;
    pixels.extent = npc_ceil_div(reach, pixels.stride);
    pixels.pitch = pixels.extent * pixels.stride;
    pixels.count = npc_outer_taps(problem) * pixels.rows.phases * pixels.rows.extent * pixels.pitch;
    return pixels;
}

static int64_t channel_blocks(const npc_problem *problem) {
    return npc_ceil_div(npc_group_inputs(problem), NPC_PIECES_CHANNELS);
}

/* In floating point: sizes that no memory holds must not overflow before they are cut. */
static double band_bytes(const npc_problem *problem, int64_t rows, int64_t columns) {
    const npc_axis down = npc_rows(problem), across = npc_columns(problem);
    const npc_phases phases = npc_phases_of(&down, down.kernel, rows);
    const double stride = across.kernel == 1 ? 1 : (double)across.stride;
    const double reach =
        (double)(columns - 1) * stride + (double)(across.kernel - 1) * (double)across.dilation;
    return (double)npc_outer_taps(problem) * (double)phases.phases * (double)phases.extent *
           (reach + stride) * (double)channel_blocks(problem) * NPC_PIECES * NPC_GEMM_PIXEL_BYTES;
}

const char *npc_implicit_gemm_applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis columns = npc_columns(problem);
    if (!plan->isa->pieces) return "only for instruction sets that multiply tiles";
    if (problem->strict) return "precision is strict";
    if (problem->parts != 1 || problem->compute != NPC_COMPUTE_f32) return "only for float32 and float16";
    if (npc_taps(problem) > MOST_TAPS) return "too many taps";
    if (columns.kernel > 1 && columns.stride > MOST_STRIDE) return "too large a stride";
    if (band_bytes(problem, 1, NPC_GEMM_BLOCK) > MOST_BAND_BYTES)
        return "the input under one tile would not fit a cache";
    return NULL;
}

/* Bands of like size, an even number of them, for threads to share. */
static int64_t count_bands(int64_t all, int64_t most) {
    const int64_t bands = npc_ceil_div(all, npc_max(1, most));
    return bands > 1 && bands % 2 && bands < all ? bands + 1 : bands;
}

static double weight_bytes(const npc_problem *problem) {
    return (double)npc_implicit_gemm_blocks(problem) * (double)npc_implicit_gemm_steps(problem) *
           NPC_PIECES_STEP_BYTES;
}

/* The most of `all` that fit a band, which takes so many bytes with one and with two of them. */
static int64_t fitting(const npc_problem *problem, double one, double two, int64_t all) {
    const double most = weight_bytes(problem) < FEW_WEIGHT_BYTES ? FEW_BAND_BYTES : BAND_BYTES;
    if (one + (two - one) * (double)(all - 1) <= most) return all;
    return one >= most ? 1 : 1 + (int64_t)((most - one) / (two - one));
}

/* The number of threads must not decide on bands, whose pixels are scaled together. */
static void choose_band(const npc_problem *problem, npc_implicit_gemm_recipe *r) {
    const int64_t rows = npc_rows(problem).output, columns = npc_columns(problem).output;
    const int64_t tiles = npc_ceil_div(columns, NPC_GEMM_BLOCK);
    const int64_t wide = fitting(problem, band_bytes(problem, 1, NPC_GEMM_BLOCK),
                                 band_bytes(problem, 1, 2 * NPC_GEMM_BLOCK), tiles);
    const int64_t most = npc_min(wide, BAND_PIXELS / NPC_GEMM_BLOCK);
    r->column_bands = wide < tiles || tiles > 2 * most || rows == 1 ? count_bands(tiles, most) : 1;
    r->band_columns = npc_min(columns, npc_ceil_div(tiles, r->column_bands) * NPC_GEMM_BLOCK);
    r->column_bands = npc_ceil_div(columns, r->band_columns);
    const int64_t high = fitting(problem, band_bytes(problem, 1, r->band_columns),
                                 band_bytes(problem, 2, r->band_columns), rows);
    r->row_bands = count_bands(rows, npc_min(high, BAND_PIXELS / r->band_columns));
    r->band_rows = npc_ceil_div(rows, r->row_bands);
    r->row_bands = npc_ceil_div(rows, r->band_rows);
}

/* What an item takes: its pixels brought in pieces, and their products with a block of output channels. */
typedef struct {
    double pixels, block;
} item_cycles;

static item_cycles cycles_of(const npc_problem *problem, const npc_implicit_gemm_recipe *r) {
    const npc_gemm_pixels under = npc_gemm_pixels_of(problem, r->band_rows, r->band_columns);
    const double blocks = (double)channel_blocks(problem);
    const double elements = blocks * NPC_PIECES_CHANNELS * (double)under.count;
    const int64_t pixels = (r->band_rows - 1) * under.extent + r->band_columns;
    const double rows = elements / (double)under.pitch;
    const double tiles = (double)npc_ceil_div(pixels, NPC_PIECES_TILE) / 2;
    const double half = npc_group_outputs(problem) <= NPC_PIECES_TILE ? 0.5 : 1;
    const double runs = (double)(r->band_rows * npc_ceil_div(r->band_columns, NPC_GEMM_BLOCK));
    const double turn = (under.step > 1 ? 1.5 : 0.83) * elements + 5.6 * rows;
    const item_cycles cycles = {225 * blocks + (npc_implicit_gemm_turns(problem) ? turn : 0.49 * elements),
                                half * (tiles * (625 * (double)npc_implicit_gemm_steps(problem) + 94) +
                                        17.5 * NPC_GEMM_BLOCK * runs)};
    return cycles;
}

static int64_t bands_of(const npc_problem *problem, const npc_implicit_gemm_recipe *r) {
    return problem->groups * problem->batch * npc_outer_outputs(problem) * r->row_bands * r->column_bands;
}

/* Output channels are shared among threads, too, where bands are few; each packs the band's pixels again. */
static void choose_chunks(const npc_plan *plan, npc_implicit_gemm_recipe *r) {
    const npc_problem *problem = &plan->problem;
    const item_cycles cycles = cycles_of(problem, r);
    const int64_t all = npc_implicit_gemm_blocks(problem), bands = bands_of(problem, r);
    double best = 0;
    for (int64_t chunks = 1; chunks <= npc_min(all, 2 * plan->threads); chunks++) {
        const int64_t blocks = npc_ceil_div(all, chunks);
        const double time = (double)npc_ceil_div(bands * chunks, plan->threads) *
                            (cycles.pixels + (double)blocks * cycles.block);
        if (best > 0 && time >= best) continue;
        best = time;
        r->blocks = blocks;
    }
    r->chunks = npc_ceil_div(all, r->blocks);
}

npc_implicit_gemm_recipe npc_implicit_gemm_cut(const npc_plan *plan) {
    enum { TILE_BYTES = NPC_PIECES_TILE * NPC_GEMM_PIXEL_BYTES };
    const npc_problem *problem = &plan->problem;
    npc_implicit_gemm_recipe r = {.turned = npc_implicit_gemm_turns(problem)};
    choose_band(problem, &r);
    choose_chunks(plan, &r);
    const npc_gemm_pixels under = npc_gemm_pixels_of(problem, r.band_rows, r.band_columns);
    const int64_t size = (int64_t)sizeof(float), channels = NPC_PIECES_CHANNELS;
    const int64_t tiles =
        npc_ceil_div(under.count, NPC_PIECES_TILE) + r.turned; /* the last one's vectors write beyond it */
    r.row = r.turned ? under.stride * NPC_GEMM_PIXEL_BYTES : NPC_GEMM_PIXEL_BYTES;
    r.piece = r.turned ? tiles * TILE_BYTES : TILE_BYTES;
    r.tile = r.turned ? NPC_PIECES_TILE * r.row : NPC_PIECES * TILE_BYTES;
    r.channel_block = NPC_PIECES * tiles * TILE_BYTES;
    r.piece_bytes =
        channel_blocks(problem) * r.channel_block + 2 * r.tile; /* the last product reads beyond it */
    r.stage_bytes =
        npc_aligned_bytes((channels * (r.turned ? under.pitch : under.count) + NPC_MOST_LANES) * size);
    r.list_bytes = npc_aligned_bytes(npc_implicit_gemm_steps(problem) * (int64_t)sizeof(int64_t));
    r.sum_bytes = NPC_GEMM_BLOCK * NPC_GEMM_BLOCK * size;
    return r;
}

double npc_implicit_gemm_cycles(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    npc_implicit_gemm_recipe r = {0};
    choose_band(problem, &r);
    const item_cycles cycles = cycles_of(problem, &r);
    const double weights =
        (double)problem->output_channels * (double)npc_group_inputs(problem) * (double)npc_taps(problem);
    const double fresh = plan->prepacked ? 0 : weights * (npc_taps(problem) == 1 ? 2.55 : 3.3);
    const double blocks = (double)npc_implicit_gemm_blocks(problem);
    /* More weights than a second-level cache holds come from the last one for every band. */
    const double bytes = weight_bytes(problem), read = bytes > WEIGHT_BYTES ? 0.05 * bytes : 0;
    /* Fitted to problems on processors with two products of vectors a cycle, as cycles.c counts others there. */
    return (double)bands_of(problem, &r) * (cycles.pixels + blocks * cycles.block + read) + fresh +
           npc_turning_cycles(plan, 0) + 3000;
}
