#include "blocking.h"

#include <math.h>

#include "cycles.h"
#include "weights.h"

#define TILE_SUM 2.5 /* cycles of a vector of sums of a tile besides its products */

enum {
    BAND_BYTES = 448 << 10,   /* of packed planes: they stay in a second-level cache */
    POINT_BYTES = 48
        << 10,   /* a row of it without neighbours to share: near the first level, and short strides */
    POINT_BAND_BYTES = 128 << 10,
    PANEL_BAND_VECTORS = 6 << 10, /* of a band in panels, whose weights come from the same cache; */
    PANEL_OUTPUTS = 32,       /* that pay for copying pixels once more, */
    PANEL_INPUTS = 8,         /* of so many channels, whose rows push each other out of a cache */
    FEW_OUTPUTS = 8,          /* for which a single tap does little but read pixels, */
    SOME_OUTPUTS = 64,        /* or where these come from memory, */
    MEMORY_BYTES = 4 << 20,
    LONG_CHANNELS = 32, /* so many channels at a time, in long rows, which come faster */
    SPLIT_BYTES = 1 << 20,    /* the most before the reduction is split */
    SUM_BYTES = 512 << 10,    /* of sums that wait in memory for a split reduction */
    STORE_WORK = 40,          /* products as dear as storing a row of a tile by way of the workspace */
    BAND_COLUMNS = 960,       /* wider images are cut */
};

static void reduction_sizes(const npc_problem *problem, int64_t sizes[NPC_SPLIT_LEVELS]) {
    sizes[NPC_SPLIT_CHANNELS] = npc_group_inputs(problem);
    sizes[NPC_SPLIT_OUTER] = npc_outer_taps(problem);
    sizes[NPC_SPLIT_ROWS] = npc_rows(problem).kernel;
    sizes[NPC_SPLIT_COLUMNS] = npc_columns(problem).kernel;
}

static int64_t block_at(const npc_split *split, int level, int64_t size) {
    return level > split->level ? size : level < split->level ? 1 : split->block;
}

npc_taps_block npc_split_taps(const npc_problem *problem, const npc_split *split, int64_t index) {
    int64_t sizes[NPC_SPLIT_LEVELS], from[NPC_SPLIT_LEVELS], count[NPC_SPLIT_LEVELS];
    reduction_sizes(problem, sizes);
    for (int level = NPC_SPLIT_LEVELS - 1; level >= 0; level--) {
        const int64_t block = block_at(split, level, sizes[level]);
        const int64_t blocks = npc_ceil_div(sizes[level], block);
        from[level] = index % blocks * block;
        count[level] = npc_min(block, sizes[level] - from[level]);
        index /= blocks;
    }
    const npc_taps_block taps = {from[0], count[0], from[1], count[1], from[2], count[2], from[3], count[3]};
    return taps;
}

static int64_t count_blocks(const npc_problem *problem, const npc_split *split) {
    int64_t sizes[NPC_SPLIT_LEVELS], blocks = 1;
    reduction_sizes(problem, sizes);
    for (int level = 0; level < NPC_SPLIT_LEVELS; level++)
        blocks *= npc_ceil_div(sizes[level], block_at(split, level, sizes[level]));
    return blocks;
}

npc_split npc_split_evenly(const npc_problem *problem, int64_t most) {
    int64_t sizes[NPC_SPLIT_LEVELS], inner = 1;
    reduction_sizes(problem, sizes);
    npc_split split = {NPC_SPLIT_COLUMNS, 0, 0};
    while (split.level > 0 && inner * sizes[split.level] <= most) inner *= sizes[split.level--];
    const int64_t size = sizes[split.level];
    split.block = npc_ceil_div(size, npc_ceil_div(size, npc_max(1, most / inner)));
    split.blocks = count_blocks(problem, &split);
    return split;
}

static npc_planes band_planes(const npc_problem *problem, const npc_blocking *blocking) {
    const npc_taps_block taps = npc_split_taps(problem, &blocking->split, 0);
    const npc_band band = {0, 0, blocking->band_rows, 0, blocking->band_columns};
    return npc_planes_of(problem, &taps, &band);
}

/* In floating point: sizes that no memory holds must not overflow before they are cut. */
static double plane_bytes(const npc_problem *problem, const npc_blocking *blocking) {
    const npc_taps_block taps = npc_split_taps(problem, &blocking->split, 0);
    const npc_axis row_axis = npc_rows(problem), column_axis = npc_columns(problem);
    const npc_phases rows = npc_phases_of(&row_axis, taps.rows, blocking->band_rows);
    const npc_phases columns = npc_phases_of(&column_axis, taps.columns, blocking->band_columns);
    return (double)rows.extent * (double)rows.phases * (double)columns.extent * (double)columns.phases *
           (double)(taps.channels * problem->parts) * (double)taps.outers *
           (double)npc_compute_size(problem->compute);
}

/* Whether the direct algorithm reads pixels where they lie, where input is plain: with few channels packing takes longer than the
 * products. */
static int reads_in_place(const npc_problem *problem) {
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int few = npc_group_outputs(problem) < PANEL_OUTPUTS || npc_group_inputs(problem) < PANEL_INPUTS;
    return few && npc_taps(problem) == 1 && problem->parts == 1 && rows.before == 0 && columns.before == 0 &&
           rows.stride == 1 && columns.stride == 1 && rows.output <= rows.input &&
           columns.output <= columns.input;
}

/* Whether it copies a band's pixels into panels. */
static int takes_panels(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return plan->kernels->panel[0][0] && npc_taps(problem) == 1 && problem->parts == 1 &&
           npc_group_outputs(problem) >= PANEL_OUTPUTS && !reads_in_place(problem);
}

/* Rows of weights that take as long as filling a panel. */
static int64_t panel_filling(const npc_problem *problem) {
    const int strided = npc_rows(problem).stride > 1 || npc_columns(problem).stride > 1;
    return strided ? 48 : 8;
}

static int64_t panel_band_bytes(const npc_plan *plan) {
    return PANEL_BAND_VECTORS * plan->kernels->lanes * (int64_t)npc_compute_size(plan->problem.compute);
}

static double band_bytes(const npc_plan *plan, const npc_blocking *blocking) {
    return blocking->panels                ? (double)panel_band_bytes(plan)
           : npc_taps(&plan->problem) == 1 ? POINT_BAND_BYTES
                                           : BAND_BYTES;
}

/* Of a single tap: whether the speed of reading counts, not that of the products. Strict sums have one order for all sizes. */
static int reads_long_rows(const npc_problem *problem) {
    if (problem->strict) return 0;
    const double bytes = (double)npc_group_inputs(problem) * (double)npc_rows(problem).input *
                         (double)npc_columns(problem).input * (double)npc_compute_size(problem->compute);
    return npc_group_outputs(problem) <= (bytes < MEMORY_BYTES ? FEW_OUTPUTS : SOME_OUTPUTS);
}

/* Narrows the band, then splits the reduction, until one row of the band packs into SPLIT_BYTES. */
static void choose_split(const npc_plan *plan, npc_blocking *blocking) {
    const npc_problem *problem = &plan->problem;
    const int64_t tile = plan->kernels->lanes * plan->kernels->vectors, width = npc_columns(problem).output;
    const int64_t cuts = npc_ceil_div(width, BAND_COLUMNS);
    int64_t sizes[NPC_SPLIT_LEVELS];
    reduction_sizes(problem, sizes);
    blocking->band_rows = 1;
    blocking->band_columns = cuts == 1 ? width : npc_round_up(npc_ceil_div(width, cuts), tile);
    blocking->split.level = NPC_SPLIT_CHANNELS;
    blocking->split.block = sizes[NPC_SPLIT_CHANNELS];
    const int64_t channels = sizes[NPC_SPLIT_CHANNELS];
    const int64_t point_bytes = blocking->panels ? panel_band_bytes(plan) : POINT_BYTES;
    if (npc_taps(problem) == 1 && channels > LONG_CHANNELS && reads_long_rows(problem) &&
        plane_bytes(problem, blocking) > POINT_BYTES && blocking->band_columns > 2 * tile)
        blocking->split.block = npc_ceil_div(channels, npc_ceil_div(channels, LONG_CHANNELS));
    while (npc_taps(problem) == 1 && blocking->split.block == channels &&
           plane_bytes(problem, blocking) > point_bytes && blocking->band_columns > 2 * tile)
        blocking->band_columns = npc_round_up(blocking->band_columns / 2, tile);
    while (plane_bytes(problem, blocking) > SPLIT_BYTES) {
        if (blocking->band_columns > 2 * tile)
            blocking->band_columns = npc_round_up(blocking->band_columns / 2, tile);
        else if (blocking->split.block > 1)
            blocking->split.block = npc_ceil_div(blocking->split.block, 2);
        else if (blocking->split.level + 1 < NPC_SPLIT_LEVELS)
            blocking->split.block = sizes[++blocking->split.level];
        else
            break;
    }
    blocking->split.blocks = count_blocks(problem, &blocking->split);
}

/* As many rows as the cache holds, in bands of like height. */
static void choose_rows(const npc_plan *plan, npc_blocking *blocking) {
    const npc_problem *problem = &plan->problem;
    const int64_t height = npc_rows(problem).output;
    /* Panels run over the ends of whole rows. */
    const int single = blocking->panels && blocking->band_columns < npc_columns(problem).output;
    int64_t low = 1, high = single ? 1 : height;
    while (low < high) {
        blocking->band_rows = low + (high - low + 1) / 2;
        if (plane_bytes(problem, blocking) <= band_bytes(plan, blocking))
            low = blocking->band_rows;
        else
            high = blocking->band_rows - 1;
    }
    blocking->band_rows = npc_ceil_div(height, npc_ceil_div(height, low));
}

static int64_t count_bands(const npc_problem *problem, const npc_blocking *blocking) {
    return problem->batch * problem->groups * npc_outer_outputs(problem) *
           npc_ceil_div(npc_rows(problem).output, blocking->band_rows) *
           npc_ceil_div(npc_columns(problem).output, blocking->band_columns);
}

/* About so many bands of an image, in a number that gives every thread as many: up to a third fewer, or more of them. */
static int64_t even_bands(const npc_plan *plan, int64_t bands) {
    const npc_problem *problem = &plan->problem;
    const int64_t images = problem->batch * problem->groups * npc_outer_outputs(problem);
    const int64_t threads = plan->threads, fewer = bands / threads * threads;
    if (bands == 1 || images % threads == 0) return bands;
    return fewer > 0 && 2 * bands <= 3 * fewer ? fewer : npc_round_up(bands, threads);
}

static void even_panels(const npc_plan *plan, npc_blocking *blocking) {
    const int64_t height = npc_rows(&plan->problem).output, width = npc_columns(&plan->problem).output;
    const int64_t columns = even_bands(plan, npc_ceil_div(width, blocking->band_columns));
    if (columns > 1)
        blocking->band_columns = npc_round_up(npc_ceil_div(width, columns), plan->kernels->lanes);
    else
        blocking->band_rows =
            npc_ceil_div(height, even_bands(plan, npc_ceil_div(height, blocking->band_rows)));
}

/* Whether threads that share output channels have less to do in panels than those that share bands: vectors of pixels under rows of
 * weights, and to fill them. */
static int are_uneven(const npc_plan *plan, const npc_blocking *blocking, int64_t channels) {
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, filling = panel_filling(problem);
    const int64_t bands = npc_ceil_div(count_bands(problem, blocking), plan->threads);
    const double band = (double)npc_ceil_div(blocking->band_rows * blocking->band_columns, lanes);
    const double image =
        ceil((double)npc_rows(problem).output * (double)npc_columns(problem).output / (double)lanes);
    const double images = (double)(problem->batch * problem->groups * npc_outer_outputs(problem));
    return images * image * (double)(channels + filling) <
           (double)bands * band * (double)(npc_group_outputs(problem) + filling);
}

/* Gives every thread as much to do: by fewer rows a band where packing costs more than reading the weights, else by
 * fewer output channels an item. */
static void choose_items(npc_plan *plan, npc_blocking *blocking) {
    const npc_problem *problem = &plan->problem;
    const int64_t outputs = npc_group_outputs(problem), rows = plan->kernels->rows;
    const double size = (double)npc_compute_size(problem->compute);
    const double weight_bytes =
        (double)outputs * (double)npc_group_inputs(problem) * (double)npc_taps(problem) * size;
    const int64_t threads = plan->threads;
    while (count_bands(problem, blocking) < threads && blocking->band_rows > 1 &&
           weight_bytes < 2 * plane_bytes(problem, blocking))
        blocking->band_rows = npc_ceil_div(blocking->band_rows, 2);
    const int64_t bands = count_bands(problem, blocking);
    const int64_t share = npc_min(outputs, npc_round_up(npc_ceil_div(outputs, threads), rows));
    const int uneven = blocking->panels ? are_uneven(plan, blocking, share) : bands % threads != 0;
    blocking->channels = bands < 4 * threads && uneven ? share : outputs;
    const double sums = (double)blocking->band_columns * (double)blocking->band_rows * problem->parts * size;
    if (blocking->split.blocks > 1 && sums * (double)blocking->channels > SUM_BYTES)
        blocking->channels = npc_clamp((int64_t)(SUM_BYTES / sums) / rows * rows, rows, blocking->channels);
    plan->threads = (int)npc_min(threads, bands * npc_ceil_div(outputs, blocking->channels));
}

/* Flat where the vectors that it saves are worth more than storing sums by way of the workspace. */
static int is_flat(const npc_plan *plan, const npc_blocking *blocking, const npc_planes *planes) {
    const int64_t lanes = plan->kernels->lanes, width = blocking->band_columns;
    /* Blocks of a split reduction may have planes of different width, but their sums wait in one place. */
    if (blocking->split.blocks > 1) return 0;
    if (width != npc_columns(&plan->problem).output || blocking->band_rows == 1) return 0;
    const int64_t flat = npc_ceil_div((blocking->band_rows - 1) * planes->columns.extent + width, lanes);
    const int64_t saved = blocking->band_rows * npc_ceil_div(width, lanes) - flat;
    const double reduction = (double)npc_group_inputs(&plan->problem) * (double)npc_taps(&plan->problem);
    return (double)saved * reduction >
           STORE_WORK * (double)(blocking->band_rows * npc_ceil_div(width, 3 * lanes));
}

static void choose_workspace(npc_plan *plan, npc_blocking *blocking) {
    const npc_problem *problem = &plan->problem;
    const int64_t size = (int64_t)npc_compute_size(problem->compute), lanes = plan->kernels->lanes;
    const int64_t tile = lanes * plan->kernels->vectors, rows = blocking->channels * problem->parts;
    const npc_planes planes = band_planes(problem, blocking);
    const npc_taps_block taps = npc_split_taps(problem, &blocking->split, 0);
    blocking->flat = blocking->panels ? blocking->band_rows > 1 : is_flat(plan, blocking, &planes);
    const int64_t row = blocking->flat ? planes.columns.extent : npc_round_up(blocking->band_columns, lanes);
    const int waits = blocking->split.blocks > 1;
    blocking->sum_stride = waits ? npc_round_up(blocking->band_rows * row, lanes) : tile;
    blocking->plane_bytes =
        npc_aligned_bytes((planes.elements + tile + lanes) * size); /* kernels read whole vectors */
    blocking->panel_bytes =
        blocking->panels
            ? npc_aligned_bytes(npc_round_up(blocking->band_rows * blocking->band_columns, tile) *
                                taps.channels * size)
            : 0;
    blocking->offset_bytes = npc_aligned_bytes(taps.channels * problem->parts * taps.outers * taps.rows *
                                               taps.columns * (int64_t)sizeof(int64_t));
    blocking->bias_bytes = npc_aligned_bytes(rows * size);
    const int64_t tile_rows = blocking->panels ? plan->kernels->panel_rows[0] : plan->kernels->rows;
    blocking->sum_bytes = npc_aligned_bytes((waits ? rows : tile_rows) * blocking->sum_stride * size);
    plan->thread_bytes = (size_t)(NPC_BLOCKING_HEADER + blocking->plane_bytes + blocking->panel_bytes +
                                  blocking->offset_bytes + blocking->bias_bytes + blocking->sum_bytes);
}

npc_blocking npc_blocking_of(npc_plan *plan) {
    /* The count of cycles comes here again, for one thread. */
    if (plan->threads > 1) plan->threads = npc_worthy_threads(plan, npc_direct_cycles(plan));
    npc_blocking blocking = {.panels = takes_panels(plan), .in_place = reads_in_place(&plan->problem)};
    choose_split(plan, &blocking);
    choose_rows(plan, &blocking);
    if (blocking.panels) even_panels(plan, &blocking);
    choose_items(plan, &blocking);
    choose_workspace(plan, &blocking);
    return blocking;
}

/* Vectors of an image's pixels, and tiles of them. */
typedef struct {
    double vectors, tiles;
} image_parts;

static image_parts parts_of(const npc_plan *plan, const npc_blocking *blocking) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    const double height = (double)rows.output, width = (double)columns.output, lanes = plan->kernels->lanes;
    const double vectors = plan->kernels->vectors, row = ceil(width / lanes);
    const double gap =
        blocking->panels ? 0 : (double)((columns.kernel - 1) * columns.dilation / columns.stride);
    const double flat = ceil(((height - 1) * (width + gap) + width) / lanes);
    const image_parts joined = {flat, ceil(flat / vectors)};
    const image_parts apart = {height * row, row > 1 ? height * ceil(row / vectors) : ceil(height / vectors)};
    return blocking->flat || blocking->panels ? joined : apart;
}

double npc_direct_cycles(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    npc_plan single = *plan;
    single.threads = 1;
    const npc_blocking blocking = npc_blocking_of(&single);
    const int panels = (int)blocking.panels;
    const double outputs = (double)npc_group_outputs(problem), reduction = (double)npc_reduction(problem);
    const double images = (double)(problem->batch * problem->groups * npc_outer_outputs(problem));
    const double bands = (double)count_bands(problem, &blocking);
    const double planes = (double)npc_group_inputs(problem) * (double)npc_outer_taps(problem);
    const double pixels = (double)blocking.split.blocks * plane_bytes(problem, &blocking) /
                          (double)npc_compute_size(problem->compute);
    const npc_core *core = npc_core_of(plan);
    /* A single output has loads of its own. */
    const double tap = panels ? core->direct.panel : core->direct.tap * (outputs > 1 ? 1 : 2.1 / 1.02);
    const double rows = outputs + (panels ? (double)panel_filling(problem) : 0);
    const image_parts parts = parts_of(plan, &blocking);
    const double tile = TILE_SUM * plan->kernels->rows * plan->kernels->vectors;
    const double sums =
        parts.vectors * 2 * outputs + parts.tiles * ceil(outputs / plan->kernels->rows) * tile;
    const double products =
        images * (parts.vectors * tap * rows * reduction + core->direct.sums * sums + core->direct.image);
    const double packing = panels ? 0
                           : blocking.in_place
                               ? 10 * reduction
                               : bands * (npc_pixel_cycles(plan) * pixels + 30 * planes) + 10 * reduction;
    const double storing =
        blocking.flat && !panels ? 30 * images * outputs * (double)npc_rows(problem).output : 0;
    return products + packing + storing + npc_weights_cycles(plan) + npc_turning_cycles(plan, 0) +
           core->direct.begun;
}
