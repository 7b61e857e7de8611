/* How winograd.c cuts a problem, and what that costs. */
#include "cycles.h"
#include "winograd.h"

enum {
    BAND_BYTES = 1 << 20, /* of transformed input: about the second-level cache */
    STREAMED_BAND_BYTES = 4 << 20, /* the same, where reading the weights costs more */
    FEWEST_TILES = 16, /* of a band, or weights would be read too often */
    MOST_TILES = 64,
    CACHED_BYTES = 1 << 20, /* of weights: more come from beyond the second-level cache */
};

const npc_winograd_shape npc_winograd_shapes[NPC_WINOGRAD_KINDS] = {
    [NPC_WINOGRAD_4X4] = {4, 4, 6, 6, 3, 3, 1, 6, 6},
    [NPC_WINOGRAD_2X2] = {2, 2, 4, 4, 3, 3, 1, 4, 4},
    [NPC_WINOGRAD_1X4] = {1, 4, 1, 6, 1, 3, 1, 1, 6},
    [NPC_WINOGRAD_4X1] = {4, 1, 6, 1, 3, 1, 1, 6, 1},
    [NPC_WINOGRAD_5X5] = {5, 5, 6, 6, 2, 2, 1, 6, 6},
    [NPC_WINOGRAD_3X3] = {3, 3, 6, 6, 4, 4, 1, 6, 6},
    [NPC_WINOGRAD_1X5] = {1, 5, 1, 6, 1, 2, 1, 1, 6},
    [NPC_WINOGRAD_5X1] = {5, 1, 6, 1, 2, 1, 1, 6, 1},
    [NPC_WINOGRAD_1X3] = {1, 3, 1, 6, 1, 4, 1, 1, 6},
    [NPC_WINOGRAD_3X1] = {3, 1, 6, 1, 4, 1, 1, 6, 1},
    [NPC_WINOGRAD_4X4_STRIDE_2] = {4, 4, 9, 9, 3, 3, 2, 6, 6},
};

#define PACK 16.0 /* tiles whose products take as long as writing all weights to memory */
#define SUMS 8.0 /* input channels whose products take as long as the rest for a point of a tile */
/* Cycles for a byte that another core wrote: between 0.1, where they have a cache in common, and 1.2, where they have none. */
#define EXCHANGE 0.4
#define CROWD 0.25 /* how much longer tiles take in a band that fills its cache than in a small one */

typedef struct {
    const npc_plan *plan;
    npc_winograd_recipe *recipe;
    int64_t vectors, blocks; /* vectors of input channels, blocks of output channels */
    /* In tiles: what a band costs besides its tiles, what so many lanes of a row of pixels, what threads that wait. */
    double turn, gather, meeting;
    double exchange; /* the same for a tile, where threads wrote a part of its points each */
    double share; /* of products in a tile's time */
    double best, packed_bytes; /* the least time so far; all weights */
    int64_t tile_bytes; /* of the points of a tile */
    int fits; /* the workspace of the best so far: one that does not is better than none */
    int64_t full; /* so many tiles are more than a cache holds */
} search;

/* Products of fewer wait for their sums. */
static double busy(double tiles) { return tiles > 3 ? tiles : 3; }

/* Time of all bands in tiles: what a thread does alone, or what all do together. */
static double time_alone(const search *s, int64_t bands, double tiles, double gather) {
    const int64_t turns = npc_ceil_div(bands, npc_min(s->plan->threads, bands));
    return (double)turns * (busy(tiles) + s->turn + gather);
}

static double time_together(const search *s, int64_t bands, double tiles, double gather) {
    const int64_t threads = s->plan->threads;
    const double before = (double)npc_ceil_div(s->vectors, threads) / (double)s->vectors;
    const double after = (double)npc_ceil_div(s->blocks, threads) / (double)s->blocks;
    return (double)bands * (before * (0.1 * tiles + gather) + after * (0.9 * busy(tiles) + s->turn) +
                            s->meeting + s->exchange * tiles);
}

/* Rows of pixels of a band, which overlap with those of its neighbours. */
static double time_to_gather(const search *s, int64_t rows, int64_t columns) {
    const npc_winograd_recipe *r = s->recipe;
    const int64_t height = npc_winograd_height(r), width = npc_winograd_width(r);
    const int64_t lanes = s->plan->kernels->lanes, dilation = npc_columns(&s->plan->problem).dilation;
    const int64_t extent = ((columns - 1) * npc_winograd_across(r) + width) * dilation;
    /* Short runs of many channels, each in a page of its own, are slow to reach. */
    return s->gather *
           (double)(((rows - 1) * npc_winograd_down(r) + height) * (npc_ceil_div(extent, lanes) + 6));
}

/* Where a band is all that reads its pixels: threads may share it. */
static int one_slice(const search *s) {
    return npc_outer_outputs(&s->plan->problem) == 1 && s->recipe->slots == 1;
}

/* Weights that all tiles take at once are transformed just before, and never written to memory. */
static int may_be_fresh(const search *s) { return !s->plan->prepacked && one_slice(s); }

/* Weights come from memory for every band. */
static int streams(const search *s) { return s->packed_bytes > NPC_LAST_CACHE; }

/* Tiles whose products take as long as reading the weights of a band, from memory or from a cache: by what bands of all sizes take. */
static double reading(const search *s) {
    if (streams(s)) return 10;
    return s->packed_bytes > CACHED_BYTES ? 2.5 : 1;
}

/* What a thread's workspace holds. */
static void measure(const npc_plan *plan, npc_winograd_recipe *r) {
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(plan->problem.compute);
    const npc_axis columns = npc_columns(&plan->problem);
    r->extent = npc_round_up(
        ((r->columns - 1) * npc_winograd_across(r) + npc_winograd_width(r)) * columns.dilation, lanes);
    r->point_stride = (r->vectors * r->tiles + 1) * lanes;
    r->slice_bytes = npc_aligned_bytes(npc_winograd_points(r) * r->point_stride * size);
    r->pixel_bytes = npc_aligned_bytes(npc_winograd_height(r) * r->extent * lanes * size);
    r->line_bytes = npc_aligned_bytes(r->extent * lanes * size);
    r->product_bytes =
        r->fused ? 0
                 : npc_aligned_bytes(NPC_WINOGRAD_VECTORS * r->tiles * npc_winograd_points(r) * lanes * size);
    r->weight_bytes =
        r->fresh ? npc_aligned_bytes(npc_winograd_points(r) *
                                     (NPC_WINOGRAD_VECTORS * NPC_WINOGRAD_CHANNELS + 1) * lanes * size)
                 : 0;
}

/* Takes bands of this shape if they are the best so far. */
static void consider(search *s, int64_t rows, int64_t columns, int64_t images) {
    npc_winograd_recipe *r = s->recipe;
    const npc_problem *problem = &s->plan->problem;
    const int64_t tiles = images * rows * r->column_phases * columns, pieces = npc_outer_outputs(problem);
    npc_winograd_recipe shape = *r;
    shape.rows = rows;
    shape.columns = columns;
    shape.images = images;
    shape.tiles = tiles;
    const int64_t bands = npc_winograd_bands(problem, &shape) * problem->groups;
    const double gather = (double)images * time_to_gather(s, rows, columns);
    /* The last bands may be smaller, which counts unless threads wait for one that is not. */
    const double mean = (double)(r->row_phases * r->tile_rows * r->column_phases * r->tile_columns) *
                        (double)(problem->batch * problem->groups) / (double)bands;
    const double crowd = 1 + CROWD * (double)tiles / (double)s->full;
    const double largest = crowd * (s->plan->threads == 1 ? mean : (double)tiles);
    /* Weights for more than one band are written first, by all threads. */
    const int fresh = may_be_fresh(s) && bands == problem->groups;
    const double pack =
        s->plan->prepacked || fresh ? 0 : s->share * PACK * (double)problem->groups / s->plan->threads;
    const double alone = pack + time_alone(s, bands * npc_min(pieces, s->plan->threads), largest, gather);
    const int may_share = one_slice(s) && s->plan->threads > 1;
    const double together = may_share ? pack + time_together(s, bands, crowd * mean, gather) : alone;
    shape.shared = together < alone;
    shape.fresh = fresh;
    measure(s->plan, &shape);
    const int fits = npc_winograd_thread_bytes(&shape) <= NPC_WINOGRAD_MOST_BYTES;
    if (s->best > 0 && s->fits >= fits && (s->fits > fits || (s->best <= alone && s->best <= together)))
        return;
    s->best = alone < together ? alone : together;
    s->fits = fits;
    *r = shape;
}

/* Tiles of a band: many enough for the weights, few enough for the cache, and threads all busy. */
static void choose_tiles(search *s) {
    npc_winograd_recipe *r = s->recipe;
    const npc_problem *problem = &s->plan->problem;
    const int64_t tile_bytes = s->tile_bytes;
    const int64_t all_rows = r->row_phases * r->tile_rows;
    const int64_t image_tiles = all_rows * r->column_phases * r->tile_columns;
    const int64_t fitting = (streams(s) ? STREAMED_BAND_BYTES : BAND_BYTES) / tile_bytes;
    const int64_t most = npc_clamp(fitting, FEWEST_TILES, MOST_TILES);
    s->full = fitting + 1;
    const int64_t wide = npc_max(1, most / r->column_phases);
    for (int64_t columns = npc_min(wide, r->tile_columns); columns > 0;
         columns = columns > 8 ? columns / 2 : 0) {
        const int64_t even = npc_ceil_div(r->tile_columns, npc_ceil_div(r->tile_columns, columns));
        const int64_t row_tiles = r->column_phases * even;
        for (int64_t rows = 1; rows <= all_rows && (rows == 1 || rows * row_tiles <= most); rows++)
            consider(s, rows, even, 1);
    }
    for (int64_t images = 2; images <= npc_min(problem->batch, most / image_tiles); images++)
        consider(s, all_rows, r->tile_columns, images);
    /* A single band spares weights the way through memory; its pixels take it if they are fewer. */
    const int64_t all_tiles = problem->batch * image_tiles;
    if (!may_be_fresh(s) || all_tiles > MOST_TILES || all_tiles * tile_bytes > STREAMED_BAND_BYTES) return;
    if ((double)(all_tiles * tile_bytes) > s->packed_bytes) return;
    s->full = STREAMED_BAND_BYTES / tile_bytes + 1;
    consider(s, all_rows, r->tile_columns, problem->batch);
}

/* One vector has all input channels, and no merged groups' places. */
static int may_be_fused(const npc_plan *plan, const npc_plan *given, const npc_winograd_recipe *r) {
    const int64_t groups = plan->problem.groups;
    return r->kind == NPC_WINOGRAD_4X4 && r->vectors == 1 && npc_outer_taps(&plan->problem) == 1 &&
           groups == given->problem.groups && plan->kernels->winograd.fused;
}

/* Outer pixels of an item: several, as neighbours share slices, but about as many items for every thread. */
static int64_t choose_run(const npc_plan *plan, const npc_winograd_recipe *r) {
    const npc_problem *problem = &plan->problem;
    const int64_t outers = npc_outer_outputs(problem), threads = plan->threads;
    const int64_t bands = npc_winograd_bands(problem, r) * problem->groups;
    if (threads == 1) return outers;
    const int64_t run = npc_max(npc_ceil_div(outers, npc_ceil_div(2 * threads, bands)), npc_min(4, outers));
    int64_t runs = npc_ceil_div(outers, run);
    if (bands * runs % threads) runs = npc_min(outers, npc_max(1, runs / threads) * threads);
    return npc_ceil_div(outers, runs);
}

npc_winograd_recipe npc_winograd_cut(const npc_plan *given, npc_winograd_kind kind) {
    const npc_plan merged = npc_winograd_merge(given, kind), *plan = &merged;
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    npc_winograd_recipe r = {.kind = kind,
                             .tile_height = npc_winograd_shapes[kind].tile_height,
                             .tile_width = npc_winograd_shapes[kind].tile_width,
                             .vectors = npc_winograd_channel_vectors(plan, kind)};
    r.fused = may_be_fused(plan, given, &r);
    r.row_phases = npc_min(rows.dilation, rows.output);
    r.column_phases = npc_min(columns.dilation, columns.output);
    r.tile_rows = npc_ceil_div(npc_ceil_div(rows.output, r.row_phases), r.tile_height);
    r.tile_columns = npc_ceil_div(npc_ceil_div(columns.output, r.column_phases), r.tile_width);
    r.slots = npc_outer_taps(problem);
    const int64_t vectors = r.vectors, outputs = npc_ceil_div(npc_group_outputs(problem), lanes);
    const int64_t inputs = npc_winograd_pieces(problem, kind) * npc_group_inputs(&given->problem);
    const double products = (double)(npc_winograd_points(&r) * inputs * outputs * r.slots);
    const double share = (double)(inputs * r.slots) / ((double)(inputs * r.slots) + SUMS);
    const double tile = products / share;
    search s = {.plan = plan,
                .packed_bytes = products * (double)(lanes * size),
                .recipe = &r,
                .vectors = vectors,
                .blocks = npc_ceil_div(outputs, NPC_WINOGRAD_VECTORS),
                .gather = 80 * (double)vectors / tile,
                .meeting = 20000 / tile,
                .share = share,
                .tile_bytes = r.slots * npc_winograd_points(&r) * vectors * lanes * size};
    s.exchange = EXCHANGE * (double)s.tile_bytes * (1 - 1.0 / plan->threads) / tile;
    s.turn = share * reading(&s) + 2000 / tile;
    choose_tiles(&s);
    r.run = choose_run(plan, &r);
    const npc_winograd_shape *shape = &npc_winograd_shapes[kind];
    const int in_order = shape->panels_down == shape->height && shape->panels_across == shape->width;
    r.asks =
        !r.fresh && in_order && plan->kernels->winograd.asking_product[0] && s.packed_bytes > CACHED_BYTES;
    return r;
}

int64_t npc_winograd_thread_bytes(const npc_winograd_recipe *r) {
    return NPC_WINOGRAD_HEAD + npc_aligned_bytes(r->slots * (int64_t)sizeof(char *)) +
           r->slots * r->slice_bytes + r->pixel_bytes + r->line_bytes + r->product_bytes + r->weight_bytes;
}

static double beyond(double a, double b) { return a > b ? a - b : 0; }

/* One row of pixels of a vector of channels, turned; first brought together where it does not lie so. */
static double row_cycles(const npc_plan *plan, const npc_winograd_recipe *r) {
    const npc_winograd_kind kind = (npc_winograd_kind)r->kind;
    const double lanes = plan->kernels->lanes, vectors = (double)r->extent / lanes;
    const npc_axis columns = npc_winograd_axis(kind, npc_columns(&plan->problem));
    const int64_t channels = npc_winograd_channels_of(&plan->problem, kind, 0).channels;
    const double turn = 5.5 * lanes * vectors + 300;
    if (columns.stride == 1 &&
        (npc_winograd_pieces(&plan->problem, kind) == 1 || channels % plan->kernels->lanes == 0))
        return turn;
    return turn + lanes * (columns.stride > 2 ? 3.5 * lanes * vectors : 4 * vectors + 2);
}

static double cycles_of(const npc_plan *plan, npc_winograd_kind kind, const npc_core *core) {
    npc_plan single = *plan;
    single.threads = 1;
    const npc_winograd_recipe r = npc_winograd_cut(&single, kind);
    single = npc_winograd_merge(plan, kind);
    const npc_problem *problem = &single.problem;
    const double own = (double)npc_group_inputs(&plan->problem); /* channels that an output channel sums */
    const double lanes = plan->kernels->lanes, points = (double)npc_winograd_points(&r);
    const double inputs = (double)npc_winograd_pieces(problem, kind) * own;
    const double input_vectors = (double)r.vectors, taps = (double)r.slots;
    const double vectors = (double)npc_ceil_div(npc_group_outputs(problem), plan->kernels->lanes);
    const double pieces = (double)(problem->groups * npc_outer_outputs(problem));
    const double bands = (double)npc_winograd_bands(problem, &r);
    /* Fewer are not worth the weights read for them. */
    const double tiles = bands * (double)npc_max(r.tiles, 3);
    const double rows = (double)(r.images * ((r.rows - 1) * npc_winograd_down(&r) + npc_winograd_height(&r)));
    const double runs = taps * (double)npc_winograd_channel_blocks(problem, kind);
    const int merged = problem->groups < plan->problem.groups;
    const npc_tile_cycles *tile = merged                     ? &core->winograd.merged
                                  : r.fused                  ? &core->winograd.fused
                                  : kind == NPC_WINOGRAD_2X2 ? &core->winograd.small
                                                             : &core->winograd.large;
    const double product = tiles * points * vectors * (tile->tap * inputs * taps + tile->point * runs);
    const double transforms = tile->tile * tiles * points * (input_vectors + vectors) +
                              tile->row * bands * input_vectors * rows * row_cycles(&single, &r);
    const npc_winograd_shape *shape = &npc_winograd_shapes[kind];
    const double panels = (double)(shape->panels_down * shape->panels_across);
    const double bytes =
        panels * inputs * taps * vectors * lanes * (double)npc_compute_size(problem->compute);
    /* Beyond a cache reading weights takes its own time. */
    const double read = r.fresh || bytes < core->winograd.free_bytes ? 0 : beyond(bands * bytes / 6, product);
    const double kernels = own * vectors * (double)problem->groups;
    const double fresh =
        plan->prepacked ? 0
                        : kernels * (6 * (double)npc_taps(problem) +
                                     taps * (double)npc_winograd_pieces(problem, kind) * (60 + 4 * panels));
    return pieces * (product + transforms + read) + fresh + core->winograd.begun;
}

double npc_winograd_cycles(const npc_plan *plan, npc_winograd_kind kind) {
    return cycles_of(plan, kind, npc_core_of(plan));
}

/* Where two products are begun at once, too, these find the better tiles. */
double npc_winograd_kind_cycles(const npc_plan *plan, npc_winograd_kind kind) {
    return cycles_of(plan, kind, &npc_core_of_one_product);
}
