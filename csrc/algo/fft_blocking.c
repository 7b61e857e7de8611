/* How the rows of a problem are cut into lines, and what that costs. */
#include <string.h>

#include "cycles.h"
#include "fft.h"

_Static_assert(sizeof(npc_fft_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

enum {
    LEAST_LEVEL = 4,
    MOST_LEVEL = 12,
    MOST_WORKSPACE = 8 << 20,
    SECOND_CACHE = 1 << 20,   /* of what an item works at, or it waits for memory */
    LAST_CACHE = 12 << 20,
    MOST_VECTORS = 64,        /* of lines of an item */
    CROWDED = 64,             /* points of a line */
};

npc_fft_recipe npc_fft_recipe_of(const npc_plan *plan) {
    npc_fft_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    return recipe;
}

int64_t npc_fft_thread_bytes(const npc_fft_recipe *r) {
    return NPC_FFT_HEAD + r->slots * r->slot_bytes + r->sum_bytes + 2 * r->pixel_bytes + r->offset_bytes;
}

npc_fft_tap npc_fft_tap_of(const npc_problem *problem, const npc_fft_recipe *r, int64_t tap) {
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int64_t part = tap % r->parts, phase = tap / r->parts % r->phases;
    const int64_t taps = npc_ceil_div(columns.kernel - phase, columns.stride), first = part * r->block;
    npc_fft_tap found = {.row = tap / r->parts / r->phases, .column = phase + first * columns.stride};
    const int64_t image = found.row / rows.kernel, row = found.row % rows.kernel;
    found.count = r->parts == 1 ? taps : npc_clamp(taps - first, 0, r->block);
    found.slot = (image * r->row_phases + row % r->row_phases) * r->phases + phase;
    found.line = part + row / r->row_phases * rows.dilation;
    return found;
}

static int is_far(const npc_problem *problem) {
    double input = (double)problem->batch * (double)problem->input_channels;
    double output = (double)problem->batch * (double)problem->output_channels;
    for (int a = 0; a < problem->spatial_axes; a++) {
        input *= (double)problem->axis[a].input;
        output *= (double)problem->axis[a].output;
    }
    return (input + output) * (double)npc_compute_size(problem->compute) > LAST_CACHE;
}

/* Cuts with transforms of a level and lines of one kind, whatever that costs; whether there is such a cut. */
static int cut(const npc_plan *plan, int64_t level, int by_blocks, npc_fft_recipe *r) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int64_t taps = npc_ceil_div(columns.kernel, columns.stride);
    const npc_fft_recipe empty = {0};
    *r = empty;
    r->level = level;
    r->points = (int64_t)1 << level;
    r->by_blocks = by_blocks;
    r->parts = 1;
    r->block = 2 * r->points - taps + 1;
    if (by_blocks && r->block < r->points) {
        /* Not a power of two, or the blocks of a vector's lines would meet in one set of a cache. */
        r->block = r->points > CROWDED ? r->points - NPC_MOST_LANES : r->points;
        r->parts = npc_ceil_div(taps, r->block);
    }
    if (r->block < 1) return 0;
    const int64_t blocks = npc_ceil_div(columns.output, r->block);
    const int64_t images = npc_group_inputs(problem) * npc_outer_taps(problem);
    r->phases = npc_min(columns.stride, columns.kernel);
    r->row_phases = by_blocks ? rows.kernel : npc_min(rows.stride, rows.kernel);
    r->slots = images * r->phases * r->row_phases;
    r->taps = images * r->phases * rows.kernel * r->parts;
    r->all_lines = by_blocks ? blocks : rows.output;
    r->across = by_blocks ? rows.output : blocks;
    r->outputs = npc_group_outputs(problem);
    r->far = is_far(problem);
    return 1;
}

/* With items of so many vectors of lines. */
static void cut_lines(const npc_plan *plan, int64_t vectors, npc_fft_recipe *r) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem);
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    const int64_t reach = r->parts - 1 + (rows.kernel - 1) / r->row_phases * rows.dilation;
    r->lines = vectors * lanes;
    r->listed = npc_round_up(r->lines + reach, lanes);
    r->point_step = 2 * r->listed;
    if (r->point_step * size % 512 == 0)
        r->point_step += lanes; /* or points would crowd few sets of a cache */
    r->slot_bytes = npc_aligned_bytes(r->points * r->point_step * size);
    r->sum_bytes = npc_aligned_bytes(NPC_FFT_OUTPUTS * r->points * 2 *
                                     npc_min(vectors, 1 << (NPC_FFT_VECTORS - 1)) * lanes * size);
    r->pixel_bytes = npc_aligned_bytes(2 * r->points * lanes * size);
    r->offset_bytes = npc_aligned_bytes(r->taps * (int64_t)sizeof(int64_t));
}

/* How many times as long an item takes for what it works at being in a larger cache. */
static double waiting(const npc_plan *plan, const npc_fft_recipe *r) {
    const double weights =
        2 * (double)(r->points * r->taps) * (double)npc_compute_size(plan->problem.compute);
    const double bytes =
        (double)(r->slots * r->slot_bytes + r->sum_bytes / NPC_FFT_OUTPUTS + r->pixel_bytes) + weights;
    const double more = bytes / SECOND_CACHE - 1;
    return more < 0 ? 1 : more < 2 ? 1 + more / 2 : 2;
}

/* What follows counts cycles of a core with one product of vectors a cycle, of which npc_core.fft is the share of others. */
static double store_cycles(const npc_fft_recipe *r) { return r->far ? 14 : 5; /* a pixel of LANES lines */ }

static double stage_cycles(const npc_fft_recipe *r) {
    return (double)(r->points * r->level) * (r->level > 8 ? 1.2 : 1);
}

/* Of LANES lines of one output channel. */
static double result_cycles(const npc_fft_recipe *r) {
    const double points = (double)r->points;
    const double product = points * (4.8 * (double)r->taps + 4);
    return product + 4.6 * stage_cycles(r) + store_cycles(r) * 2 * points + 250;
}

static double item_cycles(const npc_plan *plan, const npc_fft_recipe *r) {
    const double lanes = plan->kernels->lanes, store = store_cycles(r);
    const double load = r->phases == 1 ? store : r->phases == 2 ? store + 9 : 40;
    const double slots = (double)(r->slots * r->listed) / lanes;
    const double forward = slots * (3.6 * stage_cycles(r) + load * 2 * (double)r->points + 250);
    const double vectors = (double)(r->outputs * r->lines) / lanes;
    return waiting(plan, r) * (forward + vectors * result_cycles(r)) + 200;
}

static double rows_of_items(const npc_problem *problem, const npc_fft_recipe *r) {
    return (double)problem->batch * (double)problem->groups * (double)npc_outer_outputs(problem) *
           (double)r->across;
}

/* No cut of one thread costs less. */
static double least_cycles(const npc_plan *plan, const npc_fft_recipe *r) {
    const double vectors = (double)npc_ceil_div(r->all_lines, plan->kernels->lanes);
    return rows_of_items(&plan->problem, r) * (double)npc_group_outputs(&plan->problem) * vectors *
           result_cycles(r);
}

static double items_of(const npc_problem *problem, const npc_fft_recipe *r) {
    return rows_of_items(problem, r) * (double)npc_ceil_div(r->all_lines, r->lines) *
           (double)npc_ceil_div(npc_group_outputs(problem), r->outputs);
}

static double pack_cycles(const npc_plan *plan, const npc_fft_recipe *r) {
    const double rows = (double)plan->problem.output_channels * (double)r->taps, points = (double)r->points;
    const double transform = (3.6 * points * (double)r->level + 10 * points) / plan->kernels->lanes;
    return plan->prepacked ? 0
                           : rows * (60 + points * 5 + transform) + 30 * points + npc_turning_cycles(plan, 0);
}

/* Until the last thread is done. */
static double shared_cycles(const npc_plan *plan, const npc_fft_recipe *r) {
    const double items = items_of(&plan->problem, r), most = 64 * plan->threads;
    const double rounds =
        items > most ? items / plan->threads : (double)npc_ceil_div((int64_t)items, plan->threads);
    return rounds * item_cycles(plan, r);
}

/* The vectors of lines, and if there are too few of them the output channels of an item, that cost least with these
 * transforms. */
static double choose_lines(const npc_plan *plan, npc_fft_recipe *r) {
    const int64_t lanes = plan->kernels->lanes, whole = npc_ceil_div(r->all_lines, lanes);
    const int64_t outputs = npc_group_outputs(&plan->problem), most = npc_fft_most_outputs(plan);
    npc_fft_recipe best = *r;
    double least = 0;
    /* The last is of single vectors, which npc_fft_fits asks for. */
    for (int64_t cuts = 1, next; cuts <= whole; cuts = cuts < whole ? npc_min(next, whole) : next) {
        next = npc_max(cuts + 1, cuts * 5 / 4);
        if (npc_ceil_div(whole, cuts) > MOST_VECTORS) continue;
        for (int parts = 1; parts <= plan->threads; parts++) {
            r->outputs = npc_min(outputs, npc_round_up(npc_ceil_div(outputs, parts), most));
            cut_lines(plan, npc_ceil_div(whole, cuts), r);
            if (npc_fft_thread_bytes(r) > MOST_WORKSPACE) continue;
            const double cycles = shared_cycles(plan, r);
            if (least > 0 && cycles >= least) continue;
            least = cycles;
            best = *r;
        }
    }
    *r = best;
    return least;
}

int npc_fft_fits(const npc_plan *plan) {
    npc_fft_recipe r;
    for (int64_t level = LEAST_LEVEL; level <= MOST_LEVEL; level++)
        for (int by_blocks = 0; by_blocks < 2; by_blocks++) {
            if (!cut(plan, level, by_blocks, &r)) continue;
            cut_lines(plan, 1, &r);
            if (npc_fft_thread_bytes(&r) <= MOST_WORKSPACE) return 1;
        }
    return 0;
}

/* The number of threads must not decide about transforms, or it would about bits: those are best for one and two together. */
double npc_fft_cut(const npc_plan *plan, double limit, npc_fft_recipe *recipe) {
    npc_plan single = *plan, pair = *plan;
    double least = 0, cycles = 0;
    single.threads = 1;
    pair.threads = 2;
    for (int64_t level = LEAST_LEVEL; level <= MOST_LEVEL; level++)
        for (int by_blocks = 0; by_blocks < 2; by_blocks++) {
            npc_fft_recipe r;
            if (!cut(plan, level, by_blocks, &r)) continue;
            const double pack = pack_cycles(plan, &r), bound = least_cycles(plan, &r) + pack;
            if (bound >= limit || (least > 0 && 2 * bound >= least)) continue;
            const double alone = choose_lines(&single, &r) + pack;
            const double both = alone + 2 * choose_lines(&pair, &r) + pack;
            if (alone == pack || alone >= limit || (least > 0 && both >= least)) continue;
            least = both;
            cycles = alone + 2000;
            *recipe = r;
        }
    if (least > 0) choose_lines(plan, recipe);
    return cycles;
}
