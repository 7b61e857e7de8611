/* Few output channels a group (depthwise convolution, one filter over an image): a stencil along rows.
 *
 *     output[m, j] = bias + sum over input channels, r, c of weight[r, c] * input[m * stride + r * dilation - before, ...]
 *
 * Vectors lie along the columns; several output rows are summed at once, so that a loaded pixel serves every row it lies
 * under. Rows of plain arrays are read where they lie: rows outside the input are a row of zeros, and lanes outside it
 * are masked, so there is no padded copy. Integers of other types and layouts are converted first, as they lie; all else
 * (column strides, padding modes, layouts of floats) goes through packed planes, and long kernels of a single row through padded
 * rows.
 *
 * Zhang, Franchetti and Low, "High Performance Zero-Memory Overhead Direct Convolutions", 2018, for direct loops with sums
 * in registers; a matrix product has nothing to share here, and loses its time in packing. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "stencil.h"
#include "weights.h"

enum {
    RUN = 512,                /* taps summed before their sum joins the others: keeps the error down */
    LISTED_PLANES = 4,        /* that pay for listing their pixels */
    LINE = 64,                /* bytes of a cache's line */
    PAGE = 4 << 10,           /* bytes of a row that the processor follows by itself */
    ASKED_BYTES = 2 << 20,    /* of input that is not sure to be near, */
    ADDED_BYTES = 4 << 20,    /* and where channels are added up */
    FEW_VECTORS = 3,          /* of a row, which kernels of their size gain nothing by, */
    FEW_HALF_VECTORS = 1,     /* or of every other pixel */
};

static void place_workspace(npc_stencil_item *item, int thread) {
    const npc_stencil_recipe *recipe = item->job->recipe;
    const int64_t taps = item->job->columns.kernel;
    item->packed = item->job->workspace + (size_t)thread * item->job->plan->thread_bytes;
    item->zeros = item->packed + recipe->plane_bytes;
    item->rows = (const void **)(void *)(item->zeros + recipe->zero_bytes);
    item->columns = (int64_t *)(void *)((char *)item->rows + recipe->row_bytes);
    item->lanes[0] = (int *)(void *)(item->columns + taps);
    item->lanes[1] = item->lanes[0] + 2 * recipe->masked * taps;
    item->sums = (char *)item->columns + recipe->column_bytes;
    npc_zeros(item->zeros, item->job->problem->compute, recipe->zero_bytes / item->job->size);
}

/* Rows of several tiles are more streams than the processor follows, and each would wait for memory. */
static void ask_for_next(npc_stencil_item *item) {
    const int64_t lines = npc_min(item->job->lines, item->lines);
    for (int64_t i = 0; i < lines; i++) NPC_PREFETCH_FAR(item->next + i * LINE);
    item->next += lines * LINE;
    item->lines -= lines;
}

/* The highest tiles that there are rows for, over neighbouring vectors. A rest goes back over rows that are done, where
 * that saves a tile and sums are not added to. */
static void run_tiles(npc_stencil_item *item, int64_t first, char *target, int again) {
    const npc_stencil_job *job = item->job;
    const npc_stencil_recipe *recipe = job->recipe;
    const int64_t apart = recipe->interleaved;
    npc_stencil *tile = &item->tile;
    for (int64_t phase = 0; phase < npc_min(apart, item->band.rows); phase++) {
        const int64_t count = apart == 1 ? item->band.rows : (item->band.rows - phase - 1) / apart + 1;
        const void **rows = apart == 1 ? item->rows : item->rows + phase * (recipe->listed_rows / apart);
        int height = NPC_STENCIL_HEIGHTS - 1;
        for (int64_t row = 0; row < count; row += (int64_t)1 << height) {
            const int64_t left = count - row;
            while ((1 << height) > job->plan->kernels->stencil_rows || (1 << height) > count) height--;
            while (again ? left <= 1 << height >> 1 : left < 1 << height) height--;
            if (left < 1 << height) row = count - (1 << height);
            tile->rows = rows + row * job->rows.stride + first * tile->row_dilation;
            tile->output = target + (row * apart + phase) * item->row_bytes;
            if (item->lines) ask_for_next(item);
            job->plan->kernels->stencil[job->kernel][height](tile);
        }
    }
}

static void run_lines(npc_stencil_item *item, char *target) {
    const npc_stencil_job *job = item->job;
    const int64_t lanes = job->plan->kernels->lanes;
    npc_stencil *tile = &item->tile;
    tile->at = 0;
    tile->vectors = npc_ceil_div(item->band.columns, lanes);
    tile->last = (int)(item->band.columns - (tile->vectors - 1) * lanes);
    for (int64_t row = 0; row < item->band.rows; row++) {
        tile->rows = item->rows + row * job->rows.stride;
        tile->output = target + row * tile->output_stride * job->size;
        job->plan->kernels->stencil_line(tile);
    }
}

/* A row's pixels from `begin` to `end`: vectors inside the input together, and those at its borders. Where sums are not added to, the
 * last vector goes back over pixels that are done. */
static void run_vectors(npc_stencil_item *item, int64_t first, char *target, int64_t begin, int64_t end,
                        int again) {
    const npc_stencil_job *job = item->job;
    npc_stencil *tile = &item->tile;
    const int whole_rows = npc_stencil_is_3x3(job->kernel);
    const int64_t lanes = job->plan->kernels->lanes, vectors = npc_stencil_vectors(job, end - begin);
    const int64_t rest = begin + vectors * lanes - end,
                  back = again && vectors > 1 && !job->streams && !whole_rows ? rest : 0;
    for (int64_t i = 0; i < vectors; i += tile->vectors) {
        const int64_t at = begin + i * lanes - (i + 1 == vectors ? back : 0);
        tile->vectors = whole_rows ? vectors : npc_stencil_list_lanes(item, at, vectors - i, back);
        tile->back = tile->vectors > 1 && i + tile->vectors == vectors ? back : 0;
        tile->last = (int)(i + tile->vectors == vectors && !back ? lanes - rest : lanes);
        tile->at = job->reads_in_place ? at * job->columns.stride : at;
        run_tiles(item, first, target + at * job->size, again);
    }
}

static void run_columns(npc_stencil_item *item, int64_t first, int again) {
    const npc_stencil_job *job = item->job;
    const int64_t columns = item->band.columns;
    char *target = job->stores ? item->output : item->sums;
    if (job->recipe->lines) {
        run_lines(item, target);
        return;
    }
    const int64_t lead = npc_min(job->lead, columns);
    if (lead) run_vectors(item, first, target, 0, lead, again);
    run_vectors(item, first, target, lead, columns, again);
}

static void finish_band(const npc_stencil_item *item) {
    const npc_stencil_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    if (job->stores && !job->activates) return;
    const int64_t row_stride = npc_row_stride(job->problem, output),
                  column_stride = npc_column_stride(job->problem, output);
    const int joined = !job->stores && row_stride == item->band.columns * column_stride;
    const int64_t count = item->band.columns * (joined ? item->band.rows : 1);
    for (int64_t row = 0; row < (joined ? 1 : item->band.rows); row++) {
        char *result = item->output + row * row_stride;
        char *sums = job->stores ? result : item->sums + row * item->band.columns * job->size;
        if (job->activates) npc_activate(job->problem, sums, count);
        if (!job->stores) npc_storer(job->problem->scalar)(result, column_stride, sums, count);
    }
}

/* The rows that are read after those of this input channel, in memory that is only asked for: the next channel's, or after the item's
 * last one those of its first in the band that follows. */
static void ask_after(npc_stencil_item *item, int64_t channel) {
    const npc_stencil_job *job = item->job;
    const int ends = item->ends && channel + 1 == job->inputs;
    const int64_t row = (item->band.row + (ends ? item->band.rows : 0)) * job->rows.stride - job->rows.before;
    const char *image = ends ? item->first : item->input.data + (channel + 1) * item->input.channel_stride;
    item->next = image + npc_max(0, row) * npc_row_stride(job->problem, &item->input);
    item->lines = job->asked / LINE;
}

static void run_band(npc_stencil_item *item, int64_t k) {
    const npc_stencil_job *job = item->job;
    const npc_problem *problem = job->problem;
    const int64_t images = job->inputs * job->outer_taps;
    const int64_t kernel_rows = job->rows.kernel, kernel_columns = job->columns.kernel;
    npc_stencil *tile = &item->tile;
    long double bias; /* the widest: holds any compute type */
    const npc_tensor *biases = &job->tensors->bias;
    const char *start = problem->has_bias ? biases->data + k * biases->channel_stride : NULL;
    if (start && !job->plain_bias) {
        npc_load_part(&bias, biases, problem->compute, start, 0, 0, 1);
        start = (const char *)&bias;
    }
    const char *weights = job->weights + k * images * kernel_rows * kernel_columns * job->size;
    int64_t channel = 0, tap = 0;
    for (int64_t i = 0; i < images; i += tile->images) {
        tile->images = npc_min(job->images, images - i);
        if (item->asks) ask_after(item, i);
        for (int64_t place = 0; place < tile->images; place++) {
            npc_stencil_list_rows(item, channel, tap, place);
            if (++tap == job->outer_taps) {
                tap = 0;
                channel++;
            }
        }
        if (!item->listed) npc_stencil_list_columns(item);
        item->listed = 1;
        for (int64_t first = 0, column = 0; first < kernel_rows;) {
            tile->kernel_rows = npc_min(job->run_rows, kernel_rows - first);
            tile->kernel_columns = npc_min(job->run_columns, kernel_columns - column);
            const int starts = i == 0 && first == 0 && column == 0;
            const int last = column + tile->kernel_columns == kernel_columns;
            const int ends = i + tile->images == images && last && first + tile->kernel_rows == kernel_rows;
            tile->columns = item->columns + column;
            tile->weights = weights + ((i * kernel_rows + first) * kernel_columns + column) * job->size;
            tile->bias = starts ? start : NULL;
            tile->accumulate = !starts;
            tile->clip = ends && problem->activation == NPC_ACTIVATION_CLIP;
            run_columns(item, first, starts && ends);
            column = last ? 0 : column + job->run_columns;
            first += last ? job->run_rows : 0;
        }
    }
    finish_band(item);
}

static void prepare_tile(npc_stencil_item *item) {
    const npc_stencil_job *job = item->job;
    npc_stencil *tile = &item->tile;
    item->row_bytes =
        job->stores ? npc_row_stride(job->problem, &job->tensors->output) : item->band.columns * job->size;
    tile->output_stride = item->row_bytes / job->size * job->recipe->interleaved;
    tile->image_rows = job->recipe->listed_rows;
    tile->row_stride = job->rows.stride;
    tile->row_dilation = job->rows.dilation / job->recipe->interleaved;
    tile->mask_stride = job->columns.kernel;
    tile->streams = job->streams;
    tile->low = job->problem->activation_a;
    tile->high = job->problem->activation_b;
}

/* Items in the order batch, outer pixel, output channels, row band, column band. */
static void run_item(void *context, int64_t index, int thread) {
    const npc_stencil_job *job = context;
    const npc_problem *problem = job->problem;
    const npc_stencil_recipe *recipe = job->recipe;
    const npc_tensors *tensors = job->tensors;
    const int64_t outers = npc_outer_outputs(problem);
    npc_planes_list list;
    list.made = 0;
    npc_stencil_item item = {.job = job, .input = tensors->input, .lanes_listed = {-1, -1}};
    if (recipe->channels * job->inputs * job->outer_taps >= LISTED_PLANES) item.list = &list;
    item.band.column = index % job->column_bands * recipe->band_columns;
    item.band.row = (index /= job->column_bands) % job->row_bands * recipe->band_rows;
    const int64_t chunk = (index /= job->row_bands) % job->chunks * recipe->channels;
    item.band.outer = (index /= job->chunks) % outers;
    const int64_t n = index / outers;
    item.band.rows = npc_min(recipe->band_rows, job->rows.output - item.band.row);
    item.band.columns = npc_min(recipe->band_columns, job->columns.output - item.band.column);
    place_workspace(&item, thread);
    prepare_tile(&item);
    char *output = npc_result_band(problem, &tensors->output, &item.band) + n * tensors->output.batch_stride;
    const int64_t stride = tensors->input.channel_stride;
    const int64_t end = npc_min(chunk + recipe->channels, problem->output_channels);
    int64_t group = chunk / job->outputs,
            next = (group + 1) * job->outputs; /* of which next is the first channel */
    item.first = tensors->input.data + n * tensors->input.batch_stride + group * job->inputs * stride;
    for (int64_t k = chunk; k < end; k++) {
        if (k == next) {
            group++;
            next += job->outputs;
        }
        item.input.data =
            tensors->input.data + n * tensors->input.batch_stride + group * job->inputs * stride;
        item.output = output + k * tensors->output.channel_stride;
        item.asks =
            job->asked && (k == chunk || k + job->outputs == next); /* others of a group read the same */
        item.ends = next >= end && job->row_bands > 1;
        run_band(&item, k);
    }
    if (job->streams) job->plan->kernels->end_streams();
}

/* Kernels of 3x3 set out for each row of tiles: rows of few vectors are not worth it. They sum by rows, the others by columns: threads,
 * which cut bands, must not decide, nor sizes where sums are strict, nor layouts where others take several images. */
static int takes_3x3(const npc_stencil_job *job, npc_stencil_kind kind) {
    const int64_t few = kind == NPC_STENCIL_3X3 ? FEW_VECTORS : FEW_HALF_VECTORS,
                  step = kind == NPC_STENCIL_3X3 ? 1 : 2;
    return job->plan->kernels->stencil[kind][0] && !job->problem->strict && job->recipe->images == 1 &&
           job->columns.kernel == 3 && job->columns.dilation == 1 && job->columns.stride == step &&
           job->columns.output > few * job->plan->kernels->lanes;
}

static npc_stencil_kind kernel_of(const npc_stencil_job *job) {
    const int64_t step = job->reads_in_place ? job->columns.stride : 1, kernel = job->rows.kernel;
    const int shares =
        job->rows.stride == step && job->rows.dilation == job->recipe->interleaved && job->run_rows == kernel;
    const npc_stencil_kind square = step == 2 ? NPC_STENCIL_HALF_3X3 : NPC_STENCIL_3X3;
    if (step == 2 && job->columns.dilation > 1) return NPC_STENCIL_HALF;
    if (shares && kernel == 3 && takes_3x3(job, square)) return square;
    if (shares && kernel == 3) return step == 2 ? NPC_STENCIL_HALF_3 : NPC_STENCIL_3;
    if (shares && kernel == 5) return step == 2 ? NPC_STENCIL_HALF_5 : NPC_STENCIL_5;
    if (shares && kernel == 7 && step == 1) return NPC_STENCIL_7;
    return step == 2 ? NPC_STENCIL_HALF : NPC_STENCIL_ANY;
}

/* Channels whose short rows lie close to each other, but together fill a cache. */
static int asks(const npc_stencil_job *job) {
    const npc_problem *problem = job->problem;
    const int64_t stride = npc_row_stride(problem, &job->tensors->input);
    const int adds = job->inputs > 1; /* they read sums again: longer rows gain nothing */
    return job->reads_in_place && !job->stages && job->outer_taps == 1 && npc_outer_outputs(problem) == 1 &&
           job->column_bands == 1 && stride > 0 &&
           stride <= npc_min(2 * job->columns.input * job->size, adds ? PAGE / 2 : PAGE) &&
           (double)(problem->batch * problem->input_channels) * (double)(job->rows.input * stride) >=
               (adds ? ADDED_BYTES : ASKED_BYTES);
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    npc_stencil_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    npc_stencil_job job = {.plan = plan, .problem = problem, .recipe = &recipe, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.rows = npc_rows(problem);
    job.columns = npc_columns(problem);
    job.row_bands = npc_ceil_div(job.rows.output, recipe.band_rows);
    job.column_bands = npc_ceil_div(job.columns.output, recipe.band_columns);
    job.chunks = npc_ceil_div(problem->output_channels, recipe.channels);
    while (1 << job.lane_bits < plan->kernels->lanes) job.lane_bits++;
    job.inputs = npc_group_inputs(problem);
    job.outputs = npc_group_outputs(problem);
    job.outer_taps = npc_outer_taps(problem);
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.images = 1;
    job.run_rows = npc_clamp(RUN / job.columns.kernel, 1, job.rows.kernel);
    job.run_columns = npc_min(RUN, job.columns.kernel);
    const npc_planes_source source = {problem, plan->kernels, &tensors->input, NULL, 0, 0};
    const int plain =
        npc_lies_in_rows(problem, &tensors->input) && npc_counts_in_elements(problem, &tensors->input);
    job.stages = recipe.stages && !plain;
    job.packer = npc_channel_packer_of(&source, job.columns.stride);
    job.turns = npc_turns(&source, recipe.phases);
    job.reads_in_place = !recipe.lines && npc_stencil_masks(problem) && (plain || job.stages);
    job.kernel = kernel_of(&job);
    if (recipe.images > 1 && job.kernel == NPC_STENCIL_3 && job.reads_in_place && !job.stages &&
        plan->kernels->stencil[NPC_STENCIL_3_IMAGES][0]) {
        job.images = recipe.images;
        job.kernel = NPC_STENCIL_3_IMAGES;
    }
    job.plain_bias =
        problem->has_bias && npc_is_compute(tensors->bias.scalar, problem->compute) &&
        !tensors->bias.swapped &&
        ((uintptr_t)tensors->bias.data | (uintptr_t)tensors->bias.channel_stride) % (uintptr_t)job.size == 0;
    job.stores = npc_is_compute(problem->scalar, problem->compute) &&
                 npc_column_stride(problem, &tensors->output) == job.size &&
                 npc_counts_in_elements(problem, &tensors->output);
    job.activates = problem->activation != NPC_ACTIVATION_NONE && problem->activation != NPC_ACTIVATION_CLIP;
    /* Not what is read again, to add to it. */
    job.streams = job.stores && !job.activates && job.rows.output >= plan->kernels->stencil_rows &&
                  job.run_rows == job.rows.kernel && job.run_columns == job.columns.kernel &&
                  job.inputs * job.outer_taps == job.images &&
                  npc_streams(problem, plan->kernels, &tensors->output, &job.lead);
    if (asks(&job)) {
        const int64_t stride = npc_row_stride(problem, &tensors->input);
        const int64_t under =
            (recipe.band_rows - 1) * job.rows.stride + (job.rows.kernel - 1) * job.rows.dilation + 1;
        job.asked = npc_min(under, job.rows.input) * stride;
        job.lines = job.asked / LINE / npc_ceil_div(recipe.band_rows, plan->kernels->stencil_rows) + 1;
    }
    npc_parallel_for(plan->threads,
                     problem->batch * npc_outer_outputs(problem) * job.chunks * job.row_bands *
                         job.column_bands,
                     run_item, &job);
    return NPC_OK;
}

const npc_algorithm npc_algorithm_stencil = {
    .name = "stencil",
    .applicable = npc_stencil_applicable,
    .worthwhile = npc_stencil_worthwhile,
    .prepare = npc_stencil_prepare,
    .packed_bytes = npc_weights_bytes,
    .pack = npc_weights_pack,
    .takes_plain_weights = 1,
    .run = run,
};
