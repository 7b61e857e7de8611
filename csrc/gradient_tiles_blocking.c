/* How gradient_tiles.c cuts its work, and whether that pays. */
#include "gradient_tiles.h"

enum {
    BAND_TILES = 48,            /* whose panels of a point stay in a first-level cache */
    SUM_BYTES = 1280 << 10,     /* of an item */
    MOST_SLICE_BYTES = 4 << 20, /* of sums that wait for each other */
    LEAST_ITEMS = 8,            /* fewer are cut into slices of their strips */
    TRANSFORM_CYCLES = 320,     /* a tile of one vector of channels, there */
    BACK_CYCLES = 260,          /* and the sums back */
    TILE_CYCLES = 45,           /* of one call of a product, besides its sums */
    THREAD_CYCLES = 20000,      /* that pay for waking one more thread */
};

/* Tiles of as many outputs as the kernel has taps. */
static int kind_of(const npc_problem *problem) {
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (rows.kernel != columns.kernel || rows.stride != 1 || columns.stride != 1) return -1;
    switch (rows.kernel) {
    case 3: return NPC_WINOGRAD_3X3;
    case 4: return NPC_WINOGRAD_4X4;
    case 5: return NPC_WINOGRAD_5X5;
    default: return -1;
    }
}

/* Every phase has pixels, and those of columns share a strip. */
static int takes_phases(const npc_problem *problem) {
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    return rows.dilation <= rows.output && columns.dilation <= npc_min(columns.output, BAND_TILES);
}

static int takes(const npc_problem *problem, const npc_kernels *kernels) {
    return !problem->strict && problem->parts == 1 && npc_is_compute(problem->scalar, problem->compute) &&
           problem->padding_mode == NPC_PADDING_ZEROS && kernels->winograd.gather && kind_of(problem) >= 0 &&
           kernels->winograd.input[kind_of(problem)] && takes_phases(problem);
}

static npc_gradient_phases cut_axis(const npc_axis *axis, int64_t tile) {
    npc_gradient_phases cut = {.phases = axis->dilation};
    cut.tiles = npc_ceil_div(npc_ceil_div(axis->output, cut.phases), tile);
    cut.longer = npc_min(cut.phases, axis->output - (cut.tiles - 1) * tile * cut.phases);
    return cut;
}

/* The most of a strip, in all phases. */
static int64_t strip_tiles(const npc_gradient_tiles *t) {
    return npc_min(t->width * t->across.phases, npc_gradient_phases_tiles(&t->across));
}

static void cut_strips(npc_gradient_tiles *t, const npc_problem *problem) {
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    t->kind = kind_of(problem);
    t->taps = rows.kernel;
    t->tile = NPC_TILE_POINTS + 1 - t->taps;
    t->down = cut_axis(&rows, t->tile);
    t->across = cut_axis(&columns, t->tile);
    t->runs = npc_ceil_div(t->across.tiles, BAND_TILES / t->across.phases);
    t->width = npc_ceil_div(t->across.tiles, t->runs);
    t->strips = problem->batch * npc_outer_outputs(problem) * t->runs * npc_gradient_phases_tiles(&t->down);
    t->band = npc_clamp(BAND_TILES / strip_tiles(t), 1, t->strips);
    t->band_tiles = t->band * strip_tiles(t);
}

static int64_t item_sums(const npc_gradient_tiles *t, int64_t lanes) {
    return NPC_TILE_ALL_POINTS * npc_round_up(t->outputs, 2) * t->inputs * lanes * lanes;
}

static void count_blocks(npc_gradient_tiles *t, const npc_problem *problem, int64_t lanes) {
    t->output_blocks = npc_ceil_div(npc_group_outputs(problem), t->outputs * lanes);
    t->input_blocks = npc_ceil_div(npc_group_inputs(problem), t->inputs * lanes);
    t->items = problem->groups * t->output_blocks * t->input_blocks * npc_outer_taps(problem);
}

/* The longer side of an item in half; pairs of output vectors stay together. */
static int halve(npc_gradient_tiles *t) {
    if (t->inputs > 1 && t->inputs >= t->outputs)
        t->inputs = npc_ceil_div(t->inputs, 2);
    else if (t->outputs > 2)
        t->outputs = npc_round_up(npc_ceil_div(t->outputs, 2), 2);
    else
        return 0;
    return 1;
}

static void cut_items(npc_gradient_tiles *t, const npc_problem *problem, const npc_kernels *kernels) {
    const int64_t lanes = kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    t->outputs = npc_ceil_div(npc_group_outputs(problem), lanes);
    t->inputs = npc_ceil_div(npc_group_inputs(problem), lanes);
    while (item_sums(t, lanes) * size > SUM_BYTES && halve(t)) continue;
    count_blocks(t, problem, lanes);
    const int64_t room = MOST_SLICE_BYTES / (item_sums(t, lanes) * size);
    t->slices = npc_clamp(npc_min(LEAST_ITEMS, room) / t->items, 1, npc_max(1, t->strips / t->band));
}

/* Rough cycles of one thread. */
static double cycles_of(const npc_gradient_tiles *t, const npc_problem *problem, const npc_kernels *kernels) {
    const double lanes = kernels->lanes, tiles = (double)t->strips * (double)strip_tiles(t);
    const double outputs = (double)npc_ceil_div(npc_group_outputs(problem), kernels->lanes);
    const double inputs = (double)npc_ceil_div(npc_group_inputs(problem), kernels->lanes);
    const double groups = (double)problem->groups * (double)npc_outer_taps(problem);
    const double parts = (double)npc_ceil_div(kernels->lanes, kernels->pixels) * (outputs + 1) / 2;
    const double bands = (double)npc_ceil_div(t->strips, t->band);
    const double products =
        NPC_TILE_ALL_POINTS * inputs * (tiles * outputs * lanes + bands * parts * TILE_CYCLES);
    const double there =
        tiles * TRANSFORM_CYCLES * (inputs * (double)t->output_blocks + outputs * (double)t->input_blocks);
    return groups * (products + there + inputs * lanes * outputs * BACK_CYCLES);
}

static void cut_memory(npc_gradient_tiles *t, const npc_problem *problem, int64_t lanes) {
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    t->point = (t->band_tiles | 1) * lanes; /* no power of two, which would crowd one set of a cache */
    t->row = npc_round_up((t->width * t->tile + t->taps - 1) * t->across.phases, lanes) * lanes;
    const int64_t stored =
        (NPC_TILE_ALL_POINTS + npc_round_up(NPC_TILE_STORED * t->taps * t->taps, lanes)) * lanes;
    t->pixel_bytes = npc_aligned_bytes(npc_max(NPC_TILE_POINTS * t->row, stored) * size);
    t->offset_bytes = npc_aligned_bytes(t->band_tiles * (int64_t)sizeof(int64_t));
    t->input_bytes = npc_aligned_bytes(t->inputs * NPC_TILE_ALL_POINTS * t->point * size);
    t->gradient_bytes =
        npc_aligned_bytes(npc_round_up(t->outputs, 2) * NPC_TILE_ALL_POINTS * t->point * size);
    t->sum_bytes = npc_aligned_bytes(item_sums(t, lanes) * size);
    t->thread_bytes = (size_t)(NPC_TILE_HEAD + t->pixel_bytes + t->offset_bytes + t->input_bytes +
                               t->gradient_bytes + (t->slices > 1 ? 0 : t->sum_bytes));
    t->slice_bytes = t->slices > 1 ? (size_t)(t->items * t->slices * t->sum_bytes) : 0;
}

int npc_gradient_tiles_make(npc_gradient_tiles *t, const npc_problem *problem, const npc_kernels *kernels,
                            int threads, double cycles) {
    if (!takes(problem, kernels)) return 0;
    cut_strips(t, problem);
    cut_items(t, problem, kernels);
    const double needed = cycles_of(t, problem, kernels);
    if (needed > cycles) return 0;
    t->threads = (int)npc_clamp((int64_t)(needed / THREAD_CYCLES), 1, threads);
    while (t->threads > 1 && t->items * t->slices < 2 * t->threads && halve(t))
        count_blocks(t, problem, kernels->lanes);
    t->threads = (int)npc_min(t->threads, t->items * t->slices);
    cut_memory(t, problem, kernels->lanes);
    return 1;
}

size_t npc_gradient_tiles_workspace(const npc_gradient_tiles *t) {
    return t->slice_bytes + (size_t)t->threads * t->thread_bytes;
}
