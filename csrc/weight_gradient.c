/* The gradient of a weight as a blocked matrix product over pixels.
 *
 *     weight[k, c, t] = sum over images and pixels p of gradient[k, p] * conj(input[c, p * stride + t * dilation - before])
 *
 * Vectors lie along the input channels: under a band of pixels the input is packed with its channels last, where a tap is an
 * offset, and each tap is one product of the kernels' gemm, whose rows are output channels and whose reduction runs over the
 * band's pixels. The gradient is read where it lies. Few channels are no lost lanes: the window of a pixel is contiguous, so
 * vectors lie along kernel columns and channels together. Sums are kept a band long in registers and then in a cache, in
 * runs of up to NPC_GRADIENT_RUN pixels as direct.c has them, and are turned into the weight's own order at the end.
 *
 * Where that would leave lanes empty all the same (depthwise, one or two filters over an image), vectors lie along the
 * pixels, as dot products of rows. The alternative that lost is the forward convolution with batch and channels swapped,
 * whose kernels are as large as images and whose results as small as kernels. */
#include "weight_gradient.h"

#include <string.h>

#include "algo/weights.h"
#include "convert.h"
#include "gradient_bands.h"
#include "gradient_item.h"
#include "memory.h"
#include "parallel.h"

static npc_gradient_item item_at(const npc_gradient_job *job, int64_t index) {
    const npc_problem *problem = job->problem;
    const npc_gradient_blocking *b = job->blocking;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    npc_gradient_item item = {.job = job, .groups = 1};
    npc_taps_block *taps = &item.taps;
    taps->column = index % job->column_chunks * b->columns;
    taps->row = (index /= job->column_chunks) % job->row_chunks * b->rows;
    taps->outer = (index /= job->row_chunks) % job->outer_chunks * b->outers;
    item.input = (index /= job->outer_chunks) % job->input_chunks * b->inputs;
    const int64_t output = (index /= job->input_chunks) % job->output_chunks * b->outputs;
    const int64_t group = index / job->output_chunks;
    taps->columns = npc_min(b->columns, columns.kernel - taps->column);
    taps->rows = npc_min(b->rows, rows.kernel - taps->row);
    taps->outers = npc_min(b->outers, npc_outer_taps(problem) - taps->outer);
    item.inputs = npc_min(b->inputs, npc_group_inputs(problem) - item.input);
    item.outputs = npc_min(b->outputs, npc_group_outputs(problem) - output);
    item.output = group * npc_group_outputs(problem) + output;
    item.sum_stride =
        npc_gradient_item_taps(&item) * (job->is_sums ? npc_group_inputs(problem) : item.inputs);
    item.images = job->tensors->input.data +
                  (group * npc_group_inputs(problem) + item.input) * job->tensors->input.channel_stride;
    return item;
}

static npc_gradient_rows rows_of(const npc_gradient_item *item, const char *from, const npc_band *band) {
    const npc_gradient_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *tensor = &job->tensors->output;
    npc_gradient_rows rows = {from, tensor->channel_stride / job->size,
                              npc_row_stride(problem, tensor) / job->size};
    npc_band row = *band;
    if (job->blocking->dots) row.rows = 1; /* rows may lie apart there */
    if (npc_gradient_lies_plainly(problem, tensor, &row)) return rows;
    rows.first = item->gradient;
    rows.row_stride = band->columns * job->parts;
    rows.channel_stride = band->rows * rows.row_stride;
    npc_gradient_pack(problem, tensor, from, band, item->groups * item->outputs, rows.channel_stride,
                      item->gradient, item->row);
    return rows;
}

/* --- vectors along input channels --- */

/* One run of pixels against every tap, for some rows of the gradient. */
static void run_tiles(const npc_gradient_item *item, const npc_input_band *input, int64_t outer,
                      npc_gemm tile, int rows) {
    const npc_gradient_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const npc_taps_block *taps = &item->taps;
    const int joined = input->columns.tap_step == 1;
    const int64_t width = joined ? taps->columns * item->inputs : item->inputs;
    const int64_t columns = joined ? 1 : taps->columns, pitch = input->columns.extent * item->inputs;
    char *sums = tile.output;
    for (int64_t r = 0; r < taps->rows; r++)
        for (int64_t q = 0; q < columns; q++) {
            const int64_t from =
                r * input->rows.tap_step * pitch + q * input->columns.tap_step * item->inputs;
            const int64_t to = ((outer * taps->rows + r) * taps->columns + q) * item->inputs;
            for (int64_t at = 0; at < width;) {
                const int64_t left = npc_ceil_div(width - at, kernels->lanes);
                const int64_t vectors = npc_next_part(left, kernels->vectors);
                const int64_t count = npc_min(vectors * kernels->lanes, width - at);
                tile.input = item->band + (from + at) * job->size;
                tile.output = sums + (to + at) * job->size;
                tile.last = (int)((count - 1) % kernels->lanes + 1);
                kernels->gemm[rows - 1][vectors - 1](&tile);
                at += count;
            }
        }
}

static void list_pixels(npc_gradient_item *item, const npc_input_band *input) {
    const npc_band *band = &input->band;
    const int64_t row = input->rows.step * input->columns.extent * item->inputs, parts = item->job->parts;
    const int64_t image = input->rows.extent * input->columns.extent * item->inputs;
    int64_t *offsets = item->offsets;
    if (item->listed.rows == band->rows && item->listed.columns == band->columns) return;
    for (int64_t i = 0; i < band->rows; i++)
        for (int64_t j = 0; j < band->columns; j++)
            for (int64_t part = 0; part < parts; part++)
                *offsets++ = i * row + j * input->columns.step * item->inputs + part * image;
    item->listed = *band;
}

static void multiply_band(npc_gradient_item *item, const npc_tensor *image, const npc_band *band,
                          const npc_gradient_rows *rows) {
    const npc_gradient_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_kernels *kernels = job->plan->kernels;
    const npc_axis row_axis = npc_rows(problem), column_axis = npc_columns(problem);
    const npc_input_band input = {
        problem,
        *image,
        item->inputs,
        *band,
        item->taps,
        npc_band_axis_of(&row_axis, item->taps.rows, band->rows, 0),
        npc_band_axis_of(&column_axis, item->taps.columns, band->columns, npc_gradient_joins(job->plan)),
        npc_lies_in_rows(problem, image) && npc_counts_in_elements(problem, image),
        kernels};
    const int64_t elements = input.rows.extent * input.columns.extent * item->inputs * job->parts;
    const int64_t pixels = band->rows * band->columns * job->parts,
                  runs = npc_ceil_div(pixels, NPC_GRADIENT_RUN);
    const int64_t all = item->outputs * job->parts, tiles = npc_ceil_div(all, kernels->rows);
    npc_gemm tile = {.weight_stride = rows->channel_stride,
                     .output_stride = item->sum_stride,
                     .input_step = kernels->lanes,
                     .output_step = kernels->lanes};
    list_pixels(item, &input);
    for (int64_t outer = 0; outer < item->taps.outers; outer++) {
        npc_input_band_pack(&input, item->taps.outer + outer, item->band, item->row);
        npc_zeros(item->band + elements * job->size, problem->compute, 4 * kernels->lanes);
        if (job->blocking->turned) npc_gradient_multiply_turned(item, &input, outer, rows);
        for (int64_t i = 0; i < tiles && !job->blocking->turned; i++)
            for (int64_t run = 0; run < runs; run++) {
                const int64_t m = all * i / tiles, from = pixels * run / runs;
                tile.weights = rows->first + (m * rows->channel_stride + from) * job->size;
                tile.offsets = item->offsets + from;
                tile.reduction = pixels * (run + 1) / runs - from;
                tile.output = item->sums + m * tile.output_stride * job->size;
                tile.accumulate = item->started || run > 0;
                run_tiles(item, &input, outer, tile, (int)(all * (i + 1) / tiles - m));
            }
    }
}

/* --- vectors along pixels --- */

/* One channel of the input, in planes at `right`, against one or two of the gradient: sums of all taps of an outer one. */
static void run_dots(const npc_gradient_item *item, const npc_band *band, npc_dot tile, const char *left,
                     const char *right, char *sums, int pair) {
    const npc_gradient_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t taps = item->taps.rows * item->taps.columns;
    const int64_t tiles = npc_ceil_div(taps, pair ? kernels->dot_pair_taps : NPC_DOT_TAPS);
    const int64_t work = band->rows * npc_ceil_div(band->columns, kernels->lanes);
    const int64_t runs = npc_min(npc_ceil_div(work, NPC_GRADIENT_RUN), band->rows);
    for (int64_t run = 0; run < runs; run++) {
        const int64_t from = band->rows * run / runs;
        tile.rows = band->rows * (run + 1) / runs - from;
        tile.left = left + from * tile.left_stride * job->size;
        tile.right = right + from * tile.right_stride * job->size;
        tile.accumulate = item->started || run > 0;
        for (int64_t i = 0; i < tiles; i++) {
            const int64_t t = taps * i / tiles;
            tile.offsets = item->offsets + t;
            tile.output = sums + t * job->size;
            kernels->dot[pair][taps * (i + 1) / tiles - t - 1](&tile);
        }
    }
}

/* Planes of some channels, counted over all groups of the item, against the gradient of their groups. */
static void dot_planes(const npc_gradient_item *item, const npc_band *band, const npc_taps_block *block,
                       const npc_planes *planes, const npc_gradient_rows *rows) {
    const npc_gradient_job *job = item->job;
    const int64_t taps = item->taps.rows * item->taps.columns, size = job->size;
    const npc_dot tile = {.count = band->columns,
                          .left_stride = rows->row_stride,
                          .right_stride = planes->columns.extent,
                          .left_pitch = rows->channel_stride,
                          .output_pitch = item->sum_stride};
    const char *right = item->band;
    for (int64_t c = block->channel; c < block->channel + block->channels; c++) {
        const int64_t output = c / item->inputs * item->outputs;
        const char *left = rows->first + output * rows->channel_stride * size;
        char *sums =
            item->sums + (output * item->sum_stride + c % item->inputs * npc_gradient_item_taps(item) +
                          (block->outer - item->taps.outer) * taps) *
                             size;
        for (int64_t k = 0; k < item->outputs; k += 2)
            run_dots(item, band, tile, left + k * rows->channel_stride * size, right,
                     sums + k * item->sum_stride * size, k + 1 < item->outputs);
        right += planes->elements / block->channels * size;
    }
}

static void dot_band(npc_gradient_item *item, const npc_tensor *image, const npc_band *band,
                     const npc_gradient_rows *rows) {
    const npc_gradient_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_planes_source source = {problem, job->plan->kernels, image, NULL, 0, 0};
    const int64_t channels = item->groups * item->inputs;
    npc_taps_block block = item->taps;
    block.outers = 1;
    for (; block.outer < item->taps.outer + item->taps.outers; block.outer++)
        for (block.channel = 0; block.channel < channels; block.channel += block.channels) {
            block.channels = 1;
            if (item->listed.rows != band->rows || item->listed.columns != band->columns) {
                const npc_planes planes = npc_planes_of(problem, &block, band);
                npc_planes_offsets(problem, &block, &planes, item->offsets);
                item->listed = *band;
            }
            block.channels = npc_min(job->blocking->planes, channels - block.channel);
            const npc_planes planes = npc_planes_of(problem, &block, band);
            npc_planes_pack(&source, &block, band, &planes, item->band);
            dot_planes(item, band, &block, &planes, rows);
        }
}

/* --- items --- */

/* Bands in the order batch, outer pixel, row band, column band. */
static void run_band(npc_gradient_item *item, int64_t index) {
    const npc_gradient_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_gradient_blocking *b = job->blocking;
    const int64_t outers = npc_outer_outputs(problem);
    npc_band band = {0};
    band.column = index % job->column_bands * b->band_columns;
    band.row = (index /= job->column_bands) % job->row_bands * b->band_rows;
    band.outer = (index /= job->row_bands) % outers;
    const int64_t n = index / outers;
    band.rows = npc_min(b->band_rows, npc_rows(problem).output - band.row);
    band.columns = npc_min(b->band_columns, npc_columns(problem).output - band.column);
    const npc_tensor *gradient = &job->tensors->output;
    const npc_gradient_rows rows =
        rows_of(item,
                npc_result_band(problem, gradient, &band) + n * gradient->batch_stride +
                    item->output * gradient->channel_stride,
                &band);
    npc_tensor image = job->tensors->input;
    image.data = (char *)item->images + n * image.batch_stride;
    if (b->dots)
        dot_band(item, &image, &band, &rows);
    else
        multiply_band(item, &image, &band, &rows);
    item->started = 1;
}

/* Taps of one output and one input channel from the sums to the weight, a kernel row at a time. */
static void store_kernel(const npc_gradient_item *item, int64_t k, int64_t c, int part) {
    const npc_gradient_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *weight = &job->tensors->weight;
    const npc_taps_block *taps = &item->taps;
    const int64_t m = k * job->parts + part;
    int64_t apart = item->inputs; /* from tap to tap */
    int64_t first = m * npc_gradient_item_taps(item) * apart + c;
    if (job->blocking->turned) {
        apart = npc_gradient_turned_step(item, k);
        first = npc_gradient_turned_at(item, k, c);
    } else if (job->blocking->dots) {
        apart = 1;
        first = m * item->sum_stride + c * npc_gradient_item_taps(item);
    }
    const char *sums = item->sums + first * job->size;
    char *kernel = weight->data + (item->output + k) * weight->batch_stride +
                   (item->input + c) * weight->channel_stride +
                   part * (int64_t)npc_scalar_size(weight->scalar);
    for (int64_t tap = 0; tap < taps->outers * taps->rows; tap++) {
        int64_t outer = taps->outer + tap / taps->rows;
        char *row = kernel + taps->column * npc_column_stride(problem, weight) +
                    (taps->row + tap % taps->rows) * npc_row_stride(problem, weight);
        for (int a = npc_outer_axes(problem) - 1; a >= 0; a--) {
            row += outer % problem->axis[a].kernel * weight->stride[a];
            outer /= problem->axis[a].kernel;
        }
        npc_transpose(problem->compute, item->row, 1, sums + tap * taps->columns * apart * job->size, apart,
                      1, taps->columns);
        npc_storer(weight->scalar)(row, npc_column_stride(problem, weight), item->row, taps->columns);
    }
}

static void store_item(const npc_gradient_item *item) {
    const npc_gradient_job *job = item->job;
    const int64_t taps = npc_gradient_item_taps(item), size = job->size,
                  inputs = npc_group_inputs(job->problem);
    for (int64_t k = 0; k < item->groups * item->outputs; k++) {
        char *row = job->tensors->weight.data + ((item->output + k) * inputs + item->input) * taps * size;
        const char *sums = item->sums + k * item->sum_stride * size;
        if (job->in_place && job->blocking->dots)
            memcpy(row, sums, (size_t)(taps * item->inputs * size));
        else if (job->in_place)
            npc_transpose(job->problem->compute, row, taps, sums, item->inputs, item->inputs, taps);
        else
            for (int64_t c = 0; c < item->inputs; c++)
                for (int part = 0; part < job->parts; part++) store_kernel(item, k, c, part);
    }
}

static void place_workspace(npc_gradient_item *item, int thread) {
    const npc_gradient_blocking *b = item->job->blocking;
    item->band = item->job->workspace + (size_t)thread * item->job->plan->thread_bytes;
    item->gradient = item->band + b->band_bytes;
    item->turned = item->gradient + b->gradient_bytes;
    item->offsets = (int64_t *)(void *)(item->turned + b->turned_bytes);
    item->row = (char *)item->offsets + b->offset_bytes;
    item->sums = item->row + b->row_bytes;
}

static void run_slice(npc_gradient_item *item, int64_t slice) {
    const npc_gradient_job *job = item->job;
    const int64_t slices = job->blocking->slices, inputs = npc_group_inputs(job->problem),
                  taps = npc_gradient_item_taps(item);
    if (job->is_sums)
        item->sums = job->tensors->weight.data + (item->output * inputs + item->input) * taps * job->size;
    for (int64_t band = job->bands * slice / slices; band < job->bands * (slice + 1) / slices; band++)
        run_band(item, band);
    if (slices == 1 && !job->is_sums) store_item(item);
}

static void run_item(void *context, int64_t index, int thread) {
    const npc_gradient_job *job = context;
    const npc_gradient_blocking *b = job->blocking;
    const int64_t first = index / b->slices * b->groups, last = npc_min(first + b->groups, b->items);
    npc_gradient_item item = item_at(job, first);
    place_workspace(&item, thread);
    if (b->slices > 1) item.sums = job->waiting + index * b->sum_bytes;
    if (b->dots) item.groups = last - first;
    run_slice(&item, index % b->slices);
    for (int64_t next = first + item.groups; next < last; next++) {
        item.output += npc_group_outputs(job->problem);
        item.images += npc_group_inputs(job->problem) * job->tensors->input.channel_stride;
        item.started = 0;
        run_slice(&item, 0);
    }
}

/* In the order of the slices, whoever computed them. */
static void add_slices(void *context, int64_t index, int thread) {
    const npc_gradient_job *job = context;
    const npc_gradient_blocking *b = job->blocking;
    npc_gradient_item item = item_at(job, index);
    place_workspace(&item, thread);
    item.sums = job->waiting + index * b->slices * b->sum_bytes;
    for (int64_t slice = 1; slice < b->slices; slice++)
        npc_add_sums(job->problem->compute, item.sums, item.sums + slice * b->sum_bytes,
                     b->sum_bytes / job->size);
    store_item(&item);
}

static npc_gradient_job job_of(const npc_weight_gradient *plan, const npc_tensors *tensors) {
    const npc_problem *problem = &plan->problem;
    const npc_gradient_blocking *b = &plan->blocking;
    npc_gradient_job job = {.plan = plan, .problem = problem, .blocking = b, .tensors = tensors};
    job.output_chunks = npc_ceil_div(npc_group_outputs(problem), b->outputs);
    job.input_chunks = npc_ceil_div(npc_group_inputs(problem), b->inputs);
    job.outer_chunks = npc_ceil_div(npc_outer_taps(problem), b->outers);
    job.row_chunks = npc_ceil_div(npc_rows(problem).kernel, b->rows);
    job.column_chunks = npc_ceil_div(npc_columns(problem).kernel, b->columns);
    job.bands = npc_gradient_bands(problem, b);
    job.row_bands = npc_ceil_div(npc_rows(problem).output, b->band_rows);
    job.column_bands = npc_ceil_div(npc_columns(problem).output, b->band_columns);
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.parts = problem->parts;
    job.in_place = !b->turned && job.outer_chunks * job.row_chunks * job.column_chunks == 1 &&
                   npc_weights_lie_plainly(problem, &tensors->weight);
    job.is_sums = job.in_place && (npc_taps(problem) == 1 || b->dots) && b->slices == 1;
    return job;
}

static npc_status run_merged(const npc_weight_gradient *plan, const npc_tensors *tensors) {
    const npc_problem *given = &plan->given;
    npc_weight_gradient single = *plan;
    npc_tensors merged = *tensors;
    single.merged = 0;
    if (!npc_merge_tensors(given, &single.problem, &merged)) npc_weight_gradient_make_unmerged(&single);
    return npc_weight_gradient_run(&single, &merged);
}

npc_status npc_weight_gradient_run(const npc_weight_gradient *plan, const npc_tensors *tensors) {
    if (plan->merged) return run_merged(plan, tensors);
    if (plan->tiled && npc_gradient_tiles_take(&plan->problem, tensors)) {
        const npc_status status =
            npc_gradient_tiles_run(&plan->tiles, &plan->problem, plan->kernels, tensors);
        if (status != NPC_NOT_FINITE) return status;
    }
    npc_gradient_job job = job_of(plan, tensors);
    const npc_gradient_blocking *b = &plan->blocking;
    char *block = npc_acquire(npc_weight_gradient_plain_workspace(plan));
    if (!block) return NPC_NO_MEMORY;
    job.workspace = block + plan->slice_bytes;
    job.waiting = block;
    npc_parallel_for(plan->threads, npc_ceil_div(b->items, b->groups) * b->slices, run_item, &job);
    if (b->slices > 1) npc_parallel_for(plan->threads, b->items, add_slices, &job);
    npc_release(block);
    return NPC_OK;
}
