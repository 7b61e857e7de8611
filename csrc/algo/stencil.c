/* Few output channels a group (depthwise convolution, one filter over an image): a stencil along rows.
 *
 *     output[m, j] = bias + sum over input channels, r, c of weight[r, c] * input[m * stride + r * dilation - before, ...]
 *
 * Vectors lie along the columns; several output rows are summed at once, so that a loaded pixel serves every row it lies
 * under. Rows of plain arrays are read where they lie: rows outside the input are a row of zeros, and lanes outside it
 * are masked, so there is no padded copy. Other types, layouts, column strides and padding modes go through packed
 * planes. Zhang, Franchetti and Low, "High Performance Zero-Memory Overhead Direct Convolutions", 2018, for direct loops
 * with sums in registers; a matrix product has nothing to share here, and loses its time in packing. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "planes.h"
#include "weights.h"

enum {
    MOST_OUTPUTS = 2,         /* a group: with more, a matrix product shares more */
    MOST_SPAN = 1 << 12,      /* rows or columns that a kernel reaches over */
    MOST_REDUCTION = 64,      /* input channels and outer taps: each reads the sums again */
    RUN = 512,                /* taps summed before their sum joins the others: keeps the error down */
    BAND_COLUMNS = 1 << 12,   /* wider images are cut */
    BAND_BYTES = 24 << 10,    /* of input under a band: a first-level cache */
    MOST_BAND_BYTES = 1 << 20, /* where kernels or strides are long */
    ITEM_WORK = 50 * 1000,    /* multiplications that pay for handing out an item */
    THREAD_WORK = 200 * 1000, /* and for waking a thread */
};

typedef struct {
    int64_t band_rows, band_columns;
    int64_t channels;     /* output channels of an item */
    int64_t listed_rows;  /* padded input rows under a band */
    int64_t plane_bytes, zero_bytes, row_bytes, column_bytes, sum_bytes; /* of a thread's workspace */
} stencil_recipe;

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const stencil_recipe *recipe;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    npc_axis rows, columns;
    int64_t row_bands, column_bands, chunks;
    int64_t size;       /* bytes of a compute element */
    int64_t run_rows;   /* kernel rows at a time */
    npc_stencil_kind kernel;
    int reads_in_place; /* the input */
    int stores;         /* into the result itself */
} stencil_job;

/* One output channel over one band, as one thread sees it. */
typedef struct {
    const stencil_job *job;
    npc_band band;
    npc_planes planes;
    char *output; /* first pixel of the band */
    char *packed, *zeros, *sums;
    const void **rows;
    int64_t *columns;
    int *from, *to;
} stencil_item;

_Static_assert(sizeof(stencil_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

static npc_planes band_planes(const npc_problem *problem, int64_t rows, int64_t columns) {
    const npc_taps_block taps = {0, 1, 0, 1, 0, npc_rows(problem).kernel, 0, npc_columns(problem).kernel};
    const npc_band band = {0, 0, rows, 0, columns};
    return npc_planes_of(problem, &taps, &band);
}

/* In floating point: sizes that no memory holds must not overflow before they are cut. */
static double band_bytes(const npc_plan *plan, int64_t band_rows, int64_t band_columns) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    const npc_phases row = npc_phases_of(&rows, rows.kernel, band_rows);
    const npc_phases column = npc_phases_of(&columns, columns.kernel, band_columns);
    return (double)row.phases * (double)row.extent * (double)column.phases * (double)column.extent *
           (double)npc_compute_size(plan->problem.compute);
}

static void choose_band(const npc_plan *plan, stencil_recipe *recipe) {
    const int64_t lanes = plan->kernels->lanes, most = plan->kernels->stencil_rows;
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    const int64_t cuts = npc_ceil_div(columns.output, BAND_COLUMNS);
    recipe->band_columns = npc_min(npc_round_up(npc_ceil_div(columns.output, cuts), lanes), columns.output);
    recipe->band_rows = rows.output;
    while (recipe->band_rows > most && band_bytes(plan, recipe->band_rows, recipe->band_columns) > BAND_BYTES)
        recipe->band_rows = npc_round_up(recipe->band_rows / 2, most);
    while (recipe->band_rows > 1 &&
           band_bytes(plan, recipe->band_rows, recipe->band_columns) > MOST_BAND_BYTES)
        recipe->band_rows = npc_ceil_div(recipe->band_rows, 2);
    while (recipe->band_columns > lanes &&
           band_bytes(plan, recipe->band_rows, recipe->band_columns) > MOST_BAND_BYTES)
        recipe->band_columns = npc_round_up(recipe->band_columns / 2, lanes);
}

static const char *applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (npc_group_outputs(problem) > MOST_OUTPUTS) return "more than two output channels a group";
    if (problem->parts != 1 || !npc_is_compute(problem->scalar, problem->compute))
        return "only for results of 32 or 64 bits, or long double";
    if (rows.kernel - 1 > MOST_SPAN / rows.dilation || columns.kernel - 1 > MOST_SPAN / columns.dilation ||
        rows.stride > MOST_SPAN || columns.stride > MOST_SPAN)
        return "the kernel reaches too far, or the stride is too long";
    if (npc_group_inputs(problem) > MOST_REDUCTION || npc_outer_taps(problem) > MOST_REDUCTION ||
        npc_group_inputs(problem) * npc_outer_taps(problem) > MOST_REDUCTION)
        return "too many input channels a group";
    stencil_recipe recipe;
    choose_band(plan, &recipe);
    if (band_bytes(plan, recipe.band_rows, recipe.band_columns) > MOST_BAND_BYTES)
        return "the rows under one vector of output would not fit a cache";
    return NULL;
}

/* A single row has a single sum a vector, whose additions wait for each other. */
static const char *worthwhile(const npc_plan *plan) {
    const int few_rows = npc_rows(&plan->problem).output < 4;
    return few_rows && npc_columns(&plan->problem).kernel > 4 ? "too few rows to sum at once" : NULL;
}

static void prepare(npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int64_t size = (int64_t)npc_compute_size(problem->compute), lanes = plan->kernels->lanes;
    const double work = npc_multiplications(problem);
    stencil_recipe recipe = {0};
    choose_band(plan, &recipe);
    recipe.channels = npc_clamp((int64_t)(ITEM_WORK / (work / (double)problem->output_channels)), 1,
                                problem->output_channels);
    if (work < (double)THREAD_WORK * plan->threads)
        plan->threads = (int)npc_max(1, (int64_t)(work / THREAD_WORK));
    const npc_planes planes = band_planes(problem, recipe.band_rows, recipe.band_columns);
    recipe.listed_rows = (recipe.band_rows - 1) * rows.stride + (rows.kernel - 1) * rows.dilation + 1;
    recipe.plane_bytes = npc_aligned_bytes((planes.elements + 2 * lanes) * size);
    recipe.zero_bytes = npc_aligned_bytes(
        (recipe.band_columns * columns.stride + (columns.kernel - 1) * columns.dilation + 4 * lanes) * size);
    recipe.row_bytes = npc_aligned_bytes(recipe.listed_rows * (int64_t)sizeof(void *));
    recipe.column_bytes = npc_aligned_bytes(columns.kernel * (int64_t)(sizeof(int64_t) + 2 * sizeof(int)));
    recipe.sum_bytes = npc_aligned_bytes(recipe.band_rows * npc_round_up(recipe.band_columns, lanes) * size);
    plan->thread_bytes = (size_t)(recipe.plane_bytes + recipe.zero_bytes + recipe.row_bytes +
                                  recipe.column_bytes + recipe.sum_bytes);
    memcpy(plan->recipe, &recipe, sizeof recipe);
}

static void place_workspace(stencil_item *item, int thread) {
    const stencil_recipe *recipe = item->job->recipe;
    const int64_t taps = item->job->columns.kernel;
    item->packed = item->job->workspace + (size_t)thread * item->job->plan->thread_bytes;
    item->zeros = item->packed + recipe->plane_bytes;
    item->rows = (const void **)(void *)(item->zeros + recipe->zero_bytes);
    item->columns = (int64_t *)(void *)((char *)item->rows + recipe->row_bytes);
    item->from = (int *)(void *)(item->columns + taps);
    item->to = item->from + taps;
    item->sums = (char *)item->columns + recipe->column_bytes;
    npc_zeros(item->zeros, item->job->problem->compute, recipe->zero_bytes / item->job->size);
}

/* Lists the padded rows under the band at multiples that the kernels reach, m * stride + r * dilation. */
static void list_packed_rows(const stencil_item *item) {
    const stencil_job *job = item->job;
    const npc_phases *phases = &item->planes.rows;
    for (int64_t r = 0; r < job->rows.kernel; r++) {
        const int64_t plane = r % phases->period * item->planes.columns.phases * item->planes.plane;
        for (int64_t m = 0; m < item->band.rows; m++) {
            const int64_t at = m + r / phases->period * phases->step;
            item->rows[m * job->rows.stride + r * job->rows.dilation] =
                item->packed + (plane + at * item->planes.columns.extent) * job->size;
        }
    }
}

static void list_rows_in_place(const stencil_item *item, const npc_tensor *input, const char *image) {
    const stencil_job *job = item->job;
    const int64_t first = item->band.row * job->rows.stride - job->rows.before;
    const int64_t count =
        (item->band.rows - 1) * job->rows.stride + (job->rows.kernel - 1) * job->rows.dilation + 1;
    const int64_t stride = npc_row_stride(job->problem, input);
    /* Columns are counted from the input's first, so the zeros begin where the band does. */
    const char *zeros =
        item->zeros - (item->band.column * job->columns.stride - job->columns.before) * job->size;
    for (int64_t i = 0; i < count; i++) {
        const int inside = image && first + i >= 0 && first + i < job->rows.input;
        item->rows[i] = inside ? image + (first + i) * stride : zeros;
    }
}

/* Offsets of the taps for the vector at the band's column `at`; 1 if some lanes lie outside the input. */
static int list_columns(const stencil_item *item, int64_t at) {
    const stencil_job *job = item->job;
    const npc_axis *axis = &job->columns;
    const npc_phases *phases = &item->planes.columns;
    const int lanes = job->plan->kernels->lanes;
    int outside = 0;
    for (int64_t c = 0; c < axis->kernel; c++) {
        if (!job->reads_in_place) {
            item->columns[c] =
                c % phases->period * item->planes.plane + c / phases->period * phases->step + at;
            continue;
        }
        const int64_t start = (item->band.column + at) * axis->stride + c * axis->dilation - axis->before;
        item->columns[c] = start;
        item->from[c] = (int)npc_clamp(npc_ceil_div(-start, axis->stride), 0, lanes);
        item->to[c] = (int)npc_clamp(npc_ceil_div(axis->input - start, axis->stride), item->from[c], lanes);
        outside |= start < 0 || start + lanes * axis->stride > axis->input;
    }
    return outside;
}

/* All rows of the band for the vector at column `at`, and the kernel rows from `first` on. */
static void run_column(const stencil_item *item, npc_stencil *tile, int64_t at, int64_t first) {
    const stencil_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    const npc_kernels *kernels = job->plan->kernels;
    char *target = job->stores ? item->output + at * job->size : item->sums + at * job->size;
    tile->output_stride = job->stores ? npc_row_stride(job->problem, output) / job->size
                                      : npc_round_up(item->band.columns, kernels->lanes);
    tile->from = list_columns(item, at) ? item->from : NULL;
    tile->last = (int)npc_min(kernels->lanes, item->band.columns - at);
    int height = NPC_STENCIL_HEIGHTS - 1;
    for (int64_t row = 0; row < item->band.rows; row += (int64_t)1 << height) {
        while ((1 << height) > kernels->stencil_rows || (1 << height) > item->band.rows - row) height--;
        tile->rows = item->rows + row * job->rows.stride + first * job->rows.dilation;
        tile->output = target + row * tile->output_stride * job->size;
        kernels->stencil[job->kernel][height](tile);
    }
}

/* Lists the rows of one input channel at one outer tap. */
static void list_rows(stencil_item *item, const npc_tensor *input, int64_t channel, int64_t tap) {
    const stencil_job *job = item->job;
    if (job->reads_in_place) {
        const char *image = npc_outer_image(job->problem, input, item->band.outer, tap);
        list_rows_in_place(item, input, image ? image + channel * input->channel_stride : NULL);
        return;
    }
    const npc_taps_block taps = {channel, 1, tap, 1, 0, job->rows.kernel, 0, job->columns.kernel};
    item->planes = npc_planes_of(job->problem, &taps, &item->band);
    npc_planes_pack(job->plan, input, &taps, &item->band, &item->planes, item->packed);
    npc_zeros(item->packed + item->planes.elements * job->size, job->problem->compute,
              2 * job->plan->kernels->lanes);
    list_packed_rows(item);
}

static void finish_band(const stencil_item *item, const npc_stencil *tile) {
    const stencil_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    const npc_activation activation = job->problem->activation;
    const int activates = activation != NPC_ACTIVATION_NONE && activation != NPC_ACTIVATION_CLIP;
    if (job->stores && !activates) return;
    for (int64_t row = 0; row < item->band.rows; row++) {
        char *result = item->output + row * npc_row_stride(job->problem, output);
        char *sums = job->stores ? result : item->sums + row * tile->output_stride * job->size;
        if (activates) npc_activate(job->problem, sums, item->band.columns);
        if (!job->stores)
            npc_storer(job->problem->scalar)(result, npc_column_stride(job->problem, output), sums,
                                             item->band.columns);
    }
}

static void run_band(stencil_item *item, const npc_tensor *input, int64_t k) {
    const stencil_job *job = item->job;
    const npc_problem *problem = job->problem;
    const int64_t taps = npc_outer_taps(problem), images = npc_group_inputs(problem) * taps;
    const int64_t kernel_rows = job->rows.kernel, kernel_columns = job->columns.kernel;
    long double bias; /* the widest: holds any compute type */
    if (problem->has_bias)
        npc_load_part(&bias, &job->tensors->bias, problem->compute,
                      job->tensors->bias.data + k * job->tensors->bias.channel_stride, 0, 0, 1);
    npc_stencil tile = {.columns = item->columns,
                        .to = item->to,
                        .kernel_columns = kernel_columns,
                        .row_stride = job->rows.stride,
                        .row_dilation = job->rows.dilation,
                        .low = problem->activation_a,
                        .high = problem->activation_b};
    for (int64_t i = 0; i < images; i++) {
        list_rows(item, input, i / taps, i % taps);
        for (int64_t first = 0; first < kernel_rows; first += job->run_rows) {
            const int starts = i == 0 && first == 0,
                      ends = i + 1 == images && first + job->run_rows >= kernel_rows;
            tile.kernel_rows = npc_min(job->run_rows, kernel_rows - first);
            tile.weights =
                job->weights + ((k * images + i) * kernel_rows + first) * kernel_columns * job->size;
            tile.bias = starts && problem->has_bias ? &bias : NULL;
            tile.accumulate = !starts;
            tile.clip = ends && problem->activation == NPC_ACTIVATION_CLIP;
            for (int64_t at = 0; at < item->band.columns; at += job->plan->kernels->lanes)
                run_column(item, &tile, at, first);
        }
    }
    finish_band(item, &tile);
}

/* Items in the order batch, outer pixel, output channels, row band, column band. */
static void run_item(void *context, int64_t index, int thread) {
    const stencil_job *job = context;
    const npc_problem *problem = job->problem;
    const stencil_recipe *recipe = job->recipe;
    const npc_tensors *tensors = job->tensors;
    const int64_t outers = npc_outer_outputs(problem);
    stencil_item item = {.job = job};
    item.band.column = index % job->column_bands * recipe->band_columns;
    item.band.row = (index /= job->column_bands) % job->row_bands * recipe->band_rows;
    const int64_t chunk = (index /= job->row_bands) % job->chunks * recipe->channels;
    item.band.outer = (index /= job->chunks) % outers;
    const int64_t n = index / outers;
    item.band.rows = npc_min(recipe->band_rows, job->rows.output - item.band.row);
    item.band.columns = npc_min(recipe->band_columns, job->columns.output - item.band.column);
    place_workspace(&item, thread);
    for (int64_t k = chunk; k < npc_min(chunk + recipe->channels, problem->output_channels); k++) {
        npc_tensor input = tensors->input;
        input.data += n * input.batch_stride +
                      k / npc_group_outputs(problem) * npc_group_inputs(problem) * input.channel_stride;
        item.output = npc_result_band(problem, &tensors->output, &item.band) +
                      n * tensors->output.batch_stride + k * tensors->output.channel_stride;
        run_band(&item, &input, k);
    }
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    stencil_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    stencil_job job = {.plan = plan, .problem = problem, .recipe = &recipe, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.rows = npc_rows(problem);
    job.columns = npc_columns(problem);
    job.row_bands = npc_ceil_div(job.rows.output, recipe.band_rows);
    job.column_bands = npc_ceil_div(job.columns.output, recipe.band_columns);
    job.chunks = npc_ceil_div(problem->output_channels, recipe.channels);
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.run_rows = npc_clamp(RUN / job.columns.kernel, 1, job.rows.kernel);
    const int shares = job.rows.stride == 1 && job.rows.dilation == 1 && job.run_rows == job.rows.kernel;
    job.reads_in_place = job.columns.stride <= 2 && problem->padding_mode == NPC_PADDING_ZEROS &&
                         npc_lies_in_rows(problem, &tensors->input) &&
                         npc_counts_in_elements(problem, &tensors->input);
    job.kernel = NPC_STENCIL_ANY;
    if (job.reads_in_place && job.columns.stride == 2)
        job.kernel = NPC_STENCIL_HALF;
    else if (shares && (job.rows.kernel == 3 || job.rows.kernel == 5))
        job.kernel = job.rows.kernel == 3 ? NPC_STENCIL_3 : NPC_STENCIL_5;
    job.stores = npc_column_stride(problem, &tensors->output) == job.size &&
                 npc_counts_in_elements(problem, &tensors->output);
    npc_parallel_for(plan->threads,
                     problem->batch * npc_outer_outputs(problem) * job.chunks * job.row_bands *
                         job.column_bands,
                     run_item, &job);
    return NPC_OK;
}

const npc_algorithm npc_algorithm_stencil = {
    .name = "stencil",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = npc_weights_bytes,
    .pack = npc_weights_pack,
    .takes_plain_weights = 1,
    .run = run,
};
