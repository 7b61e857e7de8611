/* Weights as points: conjugated, since a convolution of this library is a correlation, and divided by their number. */
#include <math.h>

#include "../convert.h"
#include "../parallel.h"
#include "fft.h"
#include "weights.h"

typedef struct {
    const npc_plan *plan;
    const npc_tensor *weight;
    npc_fft_recipe recipe;
    npc_fft_transform transform;
    char *spectra, *room;
} pack_job;

int64_t npc_fft_most_outputs(const npc_plan *plan) {
    return plan->kernels->fft.product[NPC_FFT_OUTPUTS - 1][0] ? NPC_FFT_OUTPUTS : 1;
}

int64_t npc_fft_weights_of(const npc_plan *plan, const npc_fft_recipe *recipe, int64_t group,
                           int64_t output) {
    return (group * npc_group_outputs(&plan->problem) + output) * recipe->points * recipe->taps * 2;
}

/* Room for a thread: rows of taps, those turned to vectors, and their points. */
static int64_t room_elements(const npc_plan *plan, const npc_fft_recipe *recipe) {
    return 3 * 2 * recipe->points * plan->kernels->lanes;
}

int64_t npc_fft_roots_bytes(const npc_plan *plan, const npc_fft_recipe *recipe) {
    return npc_aligned_bytes(2 * recipe->points * (int64_t)npc_compute_size(plan->problem.compute));
}

/* Roots and spectra; what follows them is of no use when weights are packed. */
static int64_t kept_bytes(const npc_plan *plan, const npc_fft_recipe *recipe) {
    const int64_t elements = npc_fft_weights_of(plan, recipe, plan->problem.groups, 0);
    return npc_fft_roots_bytes(plan, recipe) +
           npc_aligned_bytes(elements * (int64_t)npc_compute_size(plan->problem.compute));
}

size_t npc_fft_packed_bytes(const npc_plan *plan) {
    const npc_fft_recipe recipe = npc_fft_recipe_of(plan);
    const int64_t room = plan->threads * room_elements(plan, &recipe);
    return (size_t)kept_bytes(plan, &recipe) + (size_t)room * npc_compute_size(plan->problem.compute);
}

/* The root of a node is exp(2 pi i * turns): an eighth of a circle for node 1; those of its two children are half as far, and a
 * quarter of a circle further. */
static double turns_of(int64_t node) {
    int64_t bit = 1;
    double turns = 0.125;
    while (bit <= node / 2) bit *= 2;
    for (bit /= 2; bit; bit /= 2) turns = turns / 2 + (node & bit ? 0.25 : 0);
    return turns;
}

static void store_point(const npc_plan *plan, void *target, int64_t at, double re, double im) {
    if (plan->problem.compute == NPC_COMPUTE_f64) {
        ((double *)target)[2 * at] = re;
        ((double *)target)[2 * at + 1] = im;
    } else {
        ((float *)target)[2 * at] = (float)re;
        ((float *)target)[2 * at + 1] = (float)im;
    }
}

static void list_roots(const npc_plan *plan, const npc_fft_recipe *recipe, void *roots) {
    const double circle = 6.283185307179586476925;
    store_point(plan, roots, 0, 0, 0);
    store_point(plan, roots, 1, cos(circle / 8), sin(circle / 8));
    for (int64_t node = 2; node < recipe->points; node += 2) {
        const double angle = circle * turns_of(node), re = cos(angle), im = sin(angle);
        store_point(plan, roots, node, re, im);
        store_point(plan, roots, node + 1, -im, re);
    }
}

/* The rows of taps `first` to `first + count` of output channel k. */
static void load_taps(const pack_job *job, int64_t k, int64_t first, int64_t count, char *rows) {
    const npc_problem *problem = &job->plan->problem;
    const int64_t pixels = 2 * job->recipe.points, size = job->transform.size;
    const int64_t stride = npc_columns(problem).stride;
    const int64_t tap_stride = npc_column_stride(problem, job->weight);
    for (int64_t i = 0; i < count; i++, rows += pixels * size) {
        const npc_fft_tap tap = npc_fft_tap_of(problem, &job->recipe, first + i);
        const char *row = npc_weights_row(problem, job->weight, k, tap.row);
        if (tap.count > 0)
            npc_load_part(rows, job->weight, problem->compute, row + tap.column * tap_stride,
                          stride * tap_stride, 0, tap.count);
        npc_zeros(rows + tap.count * size, problem->compute, pixels - tap.count);
    }
}

/* Lane `lane` of the points of a tap of one output among `outputs`. */
static void store_tap(const pack_job *job, const void *points, int64_t lane, void *spectra, int64_t outputs) {
    const int64_t lanes = job->transform.lanes, step = job->recipe.taps * outputs;
    const double scale = 1 / (double)job->recipe.points;
    const float *single = (const float *)points + lane;
    const double *twice = (const double *)points + lane;
    if (job->plan->problem.compute == NPC_COMPUTE_f64)
        for (int64_t p = 0; p < job->recipe.points; p++, twice += 2 * lanes)
            store_point(job->plan, spectra, p * step, scale * twice[0], -scale * twice[lanes]);
    else
        for (int64_t p = 0; p < job->recipe.points; p++, single += 2 * lanes)
            store_point(job->plan, spectra, p * step, scale * single[0], -scale * single[lanes]);
}

static void pack_output(void *context, int64_t k, int thread) {
    const pack_job *job = context;
    const npc_plan *plan = job->plan;
    const npc_fft_recipe *recipe = &job->recipe;
    const int64_t lanes = job->transform.lanes, size = job->transform.size, pixels = 2 * recipe->points;
    const int64_t group = k / npc_group_outputs(&plan->problem),
                  output = k % npc_group_outputs(&plan->problem);
    const int64_t most = npc_fft_most_outputs(plan), first = output / most * most;
    const int64_t outputs = npc_min(most, npc_group_outputs(&plan->problem) - first);
    char *rows = job->room + thread * room_elements(plan, recipe) * size;
    char *turned = rows + pixels * lanes * size;
    const npc_fft_points points = {turned + pixels * lanes * size, 2 * lanes, lanes};
    char *spectra =
        job->spectra + (npc_fft_weights_of(plan, recipe, group, first) + 2 * (output - first)) * size;
    for (int64_t tap = 0; tap < recipe->taps; tap += lanes) {
        const int64_t count = npc_min(lanes, recipe->taps - tap);
        const npc_winograd_gather run = {rows, turned, pixels, pixels, 0, pixels, (int)count, 0};
        load_taps(job, k, tap, count, rows);
        plan->kernels->winograd.gather(&run);
        npc_fft_forward(&job->transform, turned, &points);
        for (int64_t i = 0; i < count; i++)
            store_tap(job, points.data, i, spectra + (tap + i) * outputs * 2 * size, outputs);
    }
}

void npc_fft_pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    pack_job job = {.plan = plan, .weight = weight, .recipe = npc_fft_recipe_of(plan)};
    job.transform = npc_fft_transform_of(plan, &job.recipe, packed);
    job.spectra = (char *)packed + npc_fft_roots_bytes(plan, &job.recipe);
    job.room = (char *)packed + kept_bytes(plan, &job.recipe);
    list_roots(plan, &job.recipe, packed);
    npc_parallel_for(plan->threads, plan->problem.output_channels, pack_output, &job);
}
