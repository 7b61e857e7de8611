#include "gradient_bands.h"
#include "weight_gradient.h"

#define PLAIN_CYCLES 1.15 /* of a vector of products, all told */

enum {
    SUM_BYTES = 384 << 10,      /* of an item: they stay in a second-level cache */
    BAND_BYTES = 256 << 10,     /* of packed input beside them */
    DOT_BYTES = 32 << 10,       /* one channel's planes, for dot products: near the first level */
    MOST_BAND_BYTES = 1 << 20,  /* where a single row does not fit these */
    GRADIENT_BYTES = 1 << 20,   /* of packed rows of the gradient */
    MOST_SLICE_BYTES = 4 << 20, /* of sums that wait for each other */
    BAND_COLUMNS = 512,         /* wider images are cut */
    DOT_COLUMNS = 2048,
    LEAST_ITEMS = 8,            /* fewer are cut into slices of their pixels */
    LONG_REDUCTION = 128,       /* bands, whose sums are better added apart */
    MOST_TAPS = 4096,           /* of dot products */
    GROUP_WORK = 300 * 1000,    /* multiplications of an item of small groups */
    THREAD_WORK = 300 * 1000,   /* multiplications that pay for waking one more thread */
};

int npc_gradient_joins(const npc_weight_gradient *plan) {
    return plan->blocking.inputs < plan->kernels->lanes;
}

static double sum_bytes(const npc_problem *problem, const npc_gradient_blocking *b) {
    return (double)(b->outputs * problem->parts) * (double)b->inputs * (double)b->outers * (double)b->rows *
           (double)b->columns * (double)npc_compute_size(problem->compute);
}

/* Elements of the packed input, in floating point: sizes that no memory holds must not overflow before they are cut. */
static double band_elements(const npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_gradient_blocking *b = &plan->blocking;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (b->dots) {
        const npc_phases row = npc_phases_of(&rows, b->rows, b->band_rows);
        const npc_phases column = npc_phases_of(&columns, b->columns, b->band_columns);
        return (double)row.phases * (double)row.extent * (double)column.phases * (double)column.extent;
    }
    const npc_band_axis row = npc_band_axis_of(&rows, b->rows, b->band_rows, 0);
    const npc_band_axis column =
        npc_band_axis_of(&columns, b->columns, b->band_columns, npc_gradient_joins(plan));
    return (double)row.extent * (double)column.extent * (double)(b->inputs * problem->parts);
}

static double band_bytes(const npc_weight_gradient *plan) {
    return band_elements(plan) * (double)npc_compute_size(plan->problem.compute);
}

static double gradient_bytes(const npc_weight_gradient *plan) {
    const npc_gradient_blocking *b = &plan->blocking;
    return (double)b->outputs * (double)(plan->problem.parts * plan->problem.parts) * (double)b->band_rows *
           (double)b->band_columns * (double)npc_compute_size(plan->problem.compute);
}

/* Output channels that fill a tile. */
static int64_t least_outputs(const npc_weight_gradient *plan) {
    if (plan->blocking.dots) return 1;
    return plan->blocking.turned ? NPC_BLOCK_VECTORS * plan->kernels->lanes : plan->kernels->rows;
}

/* Half of a count, in whole multiples. */
static int64_t halved(int64_t count, int64_t multiple) {
    return npc_max(1, npc_min(count - 1, npc_round_up(npc_ceil_div(count, 2), multiple)));
}

/* By vector operations a pixel: dot products waste no lanes on few channels, but load a vector for every product. */
static int takes_dots(const npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    const double lanes = plan->kernels->lanes, taps = (double)npc_taps(problem);
    const double inputs = (double)npc_group_inputs(problem), outputs = (double)npc_group_outputs(problem);
    const npc_axis columns = npc_columns(problem);
    const int64_t pixels = npc_min(columns.output, DOT_COLUMNS);
    if (problem->parts != 1 || taps > MOST_TAPS) return 0;
    const double used = (double)pixels / (double)npc_round_up(pixels, plan->kernels->lanes);
    const double dots = outputs * inputs * taps / lanes * 1.6 / used;
    const int joins = columns.dilation == 1 || inputs < lanes;
    const int64_t width = npc_group_inputs(problem), wide = columns.kernel * width;
    const int64_t vectors = joins ? npc_ceil_div(wide, plan->kernels->lanes)
                                  : columns.kernel * npc_ceil_div(width, plan->kernels->lanes);
    return dots < (outputs < 4 ? 4 : outputs) * (double)vectors * taps / (double)columns.kernel;
}

/* By vector operations a pixel and kernel row, in place of joined columns. */
static int is_better_turned(const npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, outputs = npc_group_outputs(problem);
    const int64_t inputs = npc_group_inputs(problem), window = npc_columns(problem).kernel * inputs;
    if (problem->parts != 1 || inputs >= lanes || !plan->kernels->pixels) return 0;
    return (double)npc_ceil_div(outputs, lanes) * (double)window <
           0.9 * (double)outputs * (double)npc_ceil_div(window, lanes);
}

/* As few taps and channels an item as their sums fit a cache. */
static void choose_item(npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    npc_gradient_blocking *b = &plan->blocking;
    const int64_t lanes = b->dots ? 1 : plan->kernels->lanes, rows = least_outputs(plan);
    b->outputs = npc_group_outputs(problem);
    b->inputs = npc_group_inputs(problem);
    b->outers = npc_outer_taps(problem);
    b->rows = npc_rows(problem).kernel;
    b->columns = npc_columns(problem).kernel;
    while (sum_bytes(problem, b) > SUM_BYTES) {
        if (b->inputs > lanes)
            b->inputs = halved(b->inputs, lanes);
        else if (b->outputs > rows)
            b->outputs = halved(b->outputs, rows);
        else if (b->outers > 1)
            b->outers = halved(b->outers, 1);
        else if (b->rows > 1)
            b->rows = halved(b->rows, 1);
        else if (b->columns > 256)
            b->columns = halved(b->columns, 1);
        else
            break;
    }
}

/* The largest band that fits, and an item that fits with a band of one row. */
static void choose_band(npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    npc_gradient_blocking *b = &plan->blocking;
    const int64_t width = npc_columns(problem).output, height = npc_rows(problem).output;
    const int64_t most = b->dots ? DOT_COLUMNS : BAND_COLUMNS / problem->parts;
    const int64_t lanes = b->dots ? 1 : plan->kernels->lanes;
    b->band_rows = 1;
    b->band_columns = npc_ceil_div(width, npc_ceil_div(width, most));
    while (band_bytes(plan) > MOST_BAND_BYTES) {
        if (b->band_columns > 32)
            b->band_columns = halved(b->band_columns, 1);
        else if (b->inputs > lanes)
            b->inputs = halved(b->inputs, lanes);
        else if (b->rows > 1)
            b->rows = halved(b->rows, 1);
        else if (b->columns > 1)
            b->columns = halved(b->columns, 1);
        else if (b->inputs > 1)
            b->inputs = halved(b->inputs, 1);
        else
            break;
    }
    while (gradient_bytes(plan) > GRADIENT_BYTES && b->outputs > 1) b->outputs = halved(b->outputs, 1);
    int64_t low = 1, high = height;
    while (low < high) {
        b->band_rows = low + (high - low + 1) / 2;
        if (band_bytes(plan) <= (b->dots ? DOT_BYTES : BAND_BYTES) && gradient_bytes(plan) <= GRADIENT_BYTES)
            low = b->band_rows;
        else
            high = b->band_rows - 1;
    }
    b->band_rows = npc_ceil_div(height, npc_ceil_div(height, low));
}

static int64_t count_items(const npc_problem *problem, const npc_gradient_blocking *b) {
    return problem->groups * npc_ceil_div(npc_group_outputs(problem), b->outputs) *
           npc_ceil_div(npc_group_inputs(problem), b->inputs) *
           npc_ceil_div(npc_outer_taps(problem), b->outers) *
           npc_ceil_div(npc_rows(problem).kernel, b->rows) *
           npc_ceil_div(npc_columns(problem).kernel, b->columns);
}

int64_t npc_gradient_bands(const npc_problem *problem, const npc_gradient_blocking *b) {
    return problem->batch * npc_outer_outputs(problem) *
           npc_ceil_div(npc_rows(problem).output, b->band_rows) *
           npc_ceil_div(npc_columns(problem).output, b->band_columns);
}

/* Whatever the number of threads: where channels give too few items to share, or the sums are long. */
static void choose_slices(npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    npc_gradient_blocking *b = &plan->blocking, smallest = *b;
    const int64_t bands = npc_gradient_bands(problem, b);
    smallest.inputs = npc_min(b->inputs, b->dots ? 1 : plan->kernels->lanes);
    smallest.outputs = npc_min(b->outputs, least_outputs(plan));
    const double bytes = sum_bytes(problem, b) * (double)count_items(problem, b);
    const int64_t room = (int64_t)npc_max(1, (int64_t)(MOST_SLICE_BYTES / bytes));
    const int64_t wanted = npc_max(npc_ceil_div(LEAST_ITEMS, count_items(problem, &smallest)),
                                   npc_min(LEAST_ITEMS, bands / LONG_REDUCTION));
    b->slices = npc_clamp(wanted, 1, npc_min(bands, room));
}

/* Small groups share an item, which prepares itself for all of them once. */
static void choose_groups(npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    npc_gradient_blocking *b = &plan->blocking;
    const double work = npc_multiplications(problem) / (double)problem->groups;
    const int64_t most = npc_max(1, problem->groups / (4 * plan->threads));
    b->groups =
        b->slices > 1 || b->items > problem->groups ? 1 : npc_clamp((int64_t)(GROUP_WORK / work), 1, most);
}

/* Fewer channels an item, until every thread has some. */
static void choose_threads(npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    npc_gradient_blocking *b = &plan->blocking;
    const int64_t lanes = b->dots ? 1 : plan->kernels->lanes, rows = least_outputs(plan);
    const double work = npc_multiplications(problem) / THREAD_WORK;
    if (work < plan->threads) plan->threads = (int)npc_max(1, (int64_t)work);
    const int64_t wanted = plan->threads > 1 ? 3 * plan->threads : 1;
    while (count_items(problem, b) * b->slices < wanted) {
        if (b->inputs > lanes)
            b->inputs = halved(b->inputs, lanes);
        else if (b->outputs > rows)
            b->outputs = halved(b->outputs, rows);
        else
            break;
    }
    plan->threads = (int)npc_min(plan->threads, count_items(problem, b) * b->slices);
}

void npc_weight_gradient_make(npc_weight_gradient *plan) {
    plan->given = plan->problem;
    plan->merged = npc_merge_axes(&plan->problem);
    npc_weight_gradient_make_unmerged(plan);
}

void npc_weight_gradient_make_unmerged(npc_weight_gradient *plan) {
    const npc_problem *problem = &plan->problem;
    npc_gradient_blocking *b = &plan->blocking;
    plan->threads = plan->most_threads;
    plan->kernels = npc_kernels_of(plan->isa, problem->compute);
    b->dots = takes_dots(plan);
    b->turned = !b->dots && is_better_turned(plan);
    choose_item(plan);
    choose_band(plan);
    choose_slices(plan);
    choose_threads(plan);
    b->items = count_items(problem, b);
    choose_groups(plan);
    const int64_t size = (int64_t)npc_compute_size(problem->compute), lanes = plan->kernels->lanes;
    const int64_t pixels = b->band_rows * b->band_columns;
    const int64_t taps = b->rows * b->columns;
    const int64_t groups = b->dots ? b->groups : 1; /* at a time */
    b->planes = npc_clamp((int64_t)(DOT_BYTES / band_bytes(plan)), 1, groups * b->inputs);
    b->band_bytes =
        npc_aligned_bytes(((b->dots ? b->planes : 1) * (int64_t)band_elements(plan) + 4 * lanes) * size);
    b->gradient_bytes = npc_aligned_bytes(groups * (int64_t)gradient_bytes(plan));
    b->turned_bytes =
        b->turned ? npc_aligned_bytes(npc_min(pixels, NPC_GRADIENT_RUN) * NPC_BLOCK_VECTORS * lanes * size)
                  : 0;
    b->offset_bytes =
        npc_aligned_bytes((b->dots ? taps : pixels * problem->parts) * (int64_t)sizeof(int64_t));
    b->row_bytes = npc_aligned_bytes(npc_max(NPC_BAND_SCRATCH, b->columns) * size);
    npc_gradient_blocking padded = *b;
    if (b->turned) padded.outputs = npc_round_up(b->outputs, lanes); /* empty lanes have sums too */
    b->sum_bytes = npc_aligned_bytes(groups * (int64_t)sum_bytes(problem, &padded));
    plan->thread_bytes = (size_t)(b->band_bytes + b->gradient_bytes + b->turned_bytes + b->offset_bytes +
                                  b->row_bytes + (b->slices > 1 ? 0 : b->sum_bytes));
    plan->slice_bytes = b->slices > 1 ? (size_t)(b->items * b->slices) * (size_t)b->sum_bytes : 0;
    plan->tiled = npc_gradient_tiles_make(&plan->tiles, problem, plan->kernels, plan->most_threads,
                                          PLAIN_CYCLES * npc_multiplications(problem) / (double)lanes);
}

size_t npc_weight_gradient_plain_workspace(const npc_weight_gradient *plan) {
    return (size_t)plan->threads * plan->thread_bytes + plan->slice_bytes;
}

size_t npc_weight_gradient_workspace(const npc_weight_gradient *plan) {
    return plan->tiled ? npc_gradient_tiles_workspace(&plan->tiles)
                       : npc_weight_gradient_plain_workspace(plan);
}
