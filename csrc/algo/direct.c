/* Direct convolution as a matrix product whose right side is never built.
 *
 *     output[k, p] = bias[k] + sum over r = (channel, tap) of weight[k, r] * plane[offsets[r] + p]
 *
 * Vectors lie along the pixels p, so weights are broadcast straight from their own row-major layout and a call on plain
 * arrays packs none. What is packed is the input under a band of output pixels (planes.h), small enough for the second
 * level cache: there borders, strides, dilations, layouts and types have all become offsets, and one kernel serves every
 * problem. The blocking is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008; the
 * alternative that lost is im2col, which copies every pixel once a tap and needs the memory for it.
 *
 * Narrow images are flattened: a band's plane is one run of memory, rows and all, and the sums that fall on the columns
 * between two rows are thrown away. Where the reduction is too long for one packing (many channels, huge kernels), it is
 * split and sums wait in memory. A result's products are added in runs of up to RUN, and the runs' sums to each other, which
 * keeps the error of long reductions down; band, tiles and threads change nothing in that order.
 *
 * Pixels under a single tap are read where they lie, or with many channels and where an ISA gains by it copied into panels, those
 * of a tile together: such a panel stays in the first-level cache while weights go by, from which the rows of many channels would push
 * each other out. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "direct.h"
#include "weights.h"

enum { RUN = 512 };

_Static_assert(sizeof(npc_blocking) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

static const char *applicable(const npc_plan *plan) {
    (void)plan;
    return NULL;
}

static void prepare(npc_plan *plan) {
    const npc_blocking blocking = npc_blocking_of(plan);
    memcpy(plan->recipe, &blocking, sizeof blocking);
}

static void load_bias(const npc_direct_item *item, int64_t first) {
    const npc_direct_job *job = item->job;
    const npc_tensor *bias = &job->tensors->bias;
    const int parts = job->problem->parts;
    const char *from = bias->data + first * bias->channel_stride;
    if (parts == 1) {
        npc_load_part(item->bias, bias, job->problem->compute, from, bias->channel_stride, 0, item->rows);
        return;
    }
    for (int64_t row = 0; row < item->rows; row++)
        npc_load_part(item->bias + row * job->size, bias, job->problem->compute,
                      from + row / parts * bias->channel_stride, 0, (int)(row % parts), 1);
}

/* Where the result keeps a row of weights' pixel (row, column) of the band. */
static char *result_at(const npc_direct_item *item, int64_t m, int64_t row, int64_t column) {
    const npc_direct_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    char *first = item->output + row * npc_row_stride(job->problem, output) +
                  column * npc_column_stride(job->problem, output);
    if (job->problem->parts == 1) return first + m * output->channel_stride;
    return first + m / job->problem->parts * output->channel_stride +
           m % job->problem->parts * job->scalar_size;
}

static const char *planes_at(const npc_direct_item *item, int64_t row, int64_t at) {
    return item->pixels + (row * item->planes.columns.extent + at) * item->job->size;
}

/* Activates and stores the sums of one tile of one row. */
static void store_tile(const npc_direct_item *item, const npc_gemm *tile, int64_t m0, int rows,
                       const npc_direct_place *place) {
    const npc_direct_job *job = item->job;
    const npc_problem *problem = job->problem;
    const int64_t pitch = item->planes.columns.extent, width = item->band.columns;
    const int64_t stride = npc_column_stride(problem, &job->tensors->output);
    npc_store *store = npc_storer(problem->scalar);
    const int activates = problem->activation != NPC_ACTIVATION_CLIP;
    int64_t row = place->row + (job->blocking->flat ? place->at / pitch : 0);
    int64_t at = job->blocking->flat ? place->at % pitch : place->at;
    for (int64_t done = 0; done < place->pixels && row < item->band.rows; row++, at = 0) {
        const int64_t count = npc_min(width - at, place->pixels - done);
        for (int m = 0; count > 0 && m < rows; m++) {
            char *sums = (char *)tile->output + (m * tile->output_stride + done) * job->size;
            if (activates) npc_activate(problem, sums, count);
            store(result_at(item, m0 + m, row, at), stride, sums, count);
        }
        done += pitch - at;
    }
}

static void activate_tile(const npc_direct_item *item, int64_t m0, int rows, const npc_direct_place *place) {
    for (int m = 0; m < rows; m++)
        for (int64_t row = 0; row < place->rows; row++)
            npc_activate(item->job->problem, result_at(item, m0 + m, place->row + row, place->at),
                         place->pixels);
}

void npc_direct_prepare_tile(const npc_direct_item *item, const npc_direct_place *place, npc_gemm *tile) {
    const npc_direct_job *job = item->job;
    const npc_blocking *blocking = job->blocking;
    const npc_tensor *output = &job->tensors->output;
    const int lanes = job->plan->kernels->lanes;
    tile->weight_stride = job->reduction;
    tile->input = place->input;
    tile->input_step = place->rows > 1 ? item->planes.columns.extent : lanes;
    tile->output_step = place->rows > 1 ? npc_row_stride(job->problem, output) / job->size : lanes;
    tile->last = (int)place->last;
    tile->by_rows = place->rows > 1;
    tile->streams = job->streams && (place->rows == 1 || !job->lead);
    tile->low = job->problem->activation_a;
    tile->high = job->problem->activation_b;
    if (job->in_place) {
        tile->output = result_at(item, 0, place->row, place->at);
        tile->output_stride = job->output_stride;
        return;
    }
    const int64_t pitch =
        blocking->flat ? item->planes.columns.extent : npc_round_up(blocking->band_columns, lanes);
    const int64_t waiting = place->row * pitch + place->at;
    tile->output = item->sums + (blocking->split.blocks > 1 ? waiting * job->size : 0);
    tile->output_stride = blocking->sum_stride;
}

/* Channels `from` to `from` + tile->reduction of a panel. */
static void run_panel(const npc_kernels *kernels, const npc_gemm *tile, const npc_direct_place *place,
                      int64_t from, int64_t size) {
    const npc_panel run = {.weights = tile->weights,
                           .pixels = place->source ? place->source + from * place->pixel_stride * size : NULL,
                           .panel = place->panel + from * kernels->vectors * kernels->lanes * size,
                           .output = tile->output,
                           .bias = tile->bias,
                           .far = place->far + from * place->far_stride,
                           .reduction = tile->reduction,
                           .weight_stride = tile->weight_stride,
                           .pixel_stride = place->pixel_stride,
                           .output_stride = tile->output_stride,
                           .far_stride = place->far_stride,
                           .tiles = place->tiles,
                           .last = tile->last,
                           .accumulate = tile->accumulate,
                           .clip = tile->clip,
                           .low = tile->low,
                           .high = tile->high};
    kernels->panel[place->source != NULL][place->vectors - 1](&run);
}

/* Tiles side by side, of which `last` is that of the last one: a short reduction takes no longer than beginning a tile anew. */
static void run_tiles(npc_gemm_kernel *kernel, npc_gemm *tile, int64_t tiles, int64_t step, int lanes) {
    const int last = tile->last;
    tile->last = lanes;
    for (; tiles > 1; tiles--) {
        kernel(tile);
        tile->input = (const char *)tile->input + step;
        tile->output = (char *)tile->output + step;
    }
    tile->last = last;
    kernel(tile);
}

void npc_direct_run_tile(const npc_direct_item *item, npc_gemm *tile, char *output, int64_t m0, int rows,
                         const npc_direct_place *place) {
    const npc_direct_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_kernels *kernels = job->plan->kernels;
    const char *weights = item->weights + (m0 * job->reduction + item->first_weight) * job->size;
    const int waits = job->in_place || job->blocking->split.blocks > 1;
    int64_t to = 0;
    tile->output = output + (waits ? m0 * tile->output_stride * job->size : 0);
    for (int64_t i = 0; i < item->runs; i++) {
        const int starts = item->is_first && i == 0, last = i + 1 == item->runs, ends = item->is_last && last;
        const int64_t from = to;
        to = last ? item->reduction : item->reduction * (i + 1) / item->runs;
        tile->weights = weights + from * job->size;
        tile->offsets = item->offsets + from;
        tile->reduction = to - from;
        tile->bias = starts && problem->has_bias ? item->bias + m0 * job->size : NULL;
        tile->accumulate = !starts;
        tile->clip = ends && problem->activation == NPC_ACTIVATION_CLIP;
        if (place->panel)
            run_panel(kernels, tile, place, from, job->size);
        else
            run_tiles(kernels->gemm[rows - 1][place->vectors - 1], tile, place->tiles,
                      place->vectors * kernels->lanes * job->size, kernels->lanes);
    }
    if (item->is_last && !job->in_place)
        store_tile(item, tile, m0, rows, place);
    else if (item->is_last && job->activates)
        activate_tile(item, m0, rows, place);
}

static void run_at(const npc_direct_item *item, int64_t m0, int rows, const npc_direct_place *place) {
    npc_gemm tile;
    npc_direct_prepare_tile(item, place, &tile);
    npc_direct_run_tile(item, &tile, tile.output, m0, rows, place);
}

/* All tiles along one run of pixels, for some rows of weights. */
static void run_pixels(const npc_direct_item *item, int64_t m0, int rows, int64_t row, int64_t pixels) {
    const npc_kernels *kernels = item->job->plan->kernels;
    npc_direct_place place = {.row = row, .rows = 1, .tiles = 1, .input = planes_at(item, row, 0)};
    if (item->job->lead) {
        place.vectors = 1;
        place.pixels = place.last = npc_min(item->job->lead, pixels);
        run_at(item, m0, rows, &place);
        place.at = place.pixels;
        place.input = planes_at(item, row, place.at);
    }
    const int alone =
        !item->job->in_place || item->runs > 1; /* sums of a tile wait in one place, or for the next run */
    for (int64_t left = npc_ceil_div(pixels - place.at, kernels->lanes); left > 0;) {
        place.vectors = npc_next_part(left, kernels->vectors);
        place.tiles = 0;
        do {
            place.tiles++;
            left -= place.vectors;
        } while (!alone && left > 0 && npc_next_part(left, kernels->vectors) == place.vectors);
        const int64_t lanes = place.tiles * place.vectors * kernels->lanes;
        place.pixels = npc_min(lanes, pixels - place.at);
        place.last = place.pixels - (lanes - kernels->lanes);
        run_at(item, m0, rows, &place);
        place.at += place.pixels;
        place.input += place.pixels * item->job->size;
    }
}

/* All tiles of a band for some rows of weights. */
static void run_rows(const npc_direct_item *item, int64_t m0, int rows) {
    const npc_direct_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const npc_band *band = &item->band;
    if (job->blocking->flat) {
        run_pixels(item, m0, rows, 0, (band->rows - 1) * item->planes.columns.extent + band->columns);
    } else if (job->in_place && band->columns <= kernels->lanes) { /* a vector a row, several rows a tile */
        npc_direct_place place = {.tiles = 1, .pixels = band->columns, .last = band->columns};
        for (; place.row < band->rows; place.row += place.rows) {
            place.rows = place.vectors = npc_next_part(band->rows - place.row, kernels->vectors);
            place.input = planes_at(item, place.row, 0);
            run_at(item, m0, rows, &place);
        }
    } else {
        for (int64_t row = 0; row < band->rows; row++) run_pixels(item, m0, rows, row, band->columns);
    }
}

/* All tiles of a band, which read item->pixels, or those at one place. */
static void run_tiles_of_rows(const npc_direct_item *item, const npc_direct_place *place) {
    const int64_t tiles = npc_ceil_div(item->rows, item->job->plan->kernels->rows);
    const npc_parts parts = npc_parts_of(item->rows, tiles);
    for (int64_t i = 0; i < tiles; i++) {
        const int64_t m0 = npc_part_start(parts, i);
        const int rows = (int)(npc_part_start(parts, i + 1) - m0);
        if (place)
            run_at(item, m0, rows, place);
        else
            run_rows(item, m0, rows);
    }
}

/* Whether the offsets must be listed: the band before this one had others. */
static int lists_anew(npc_direct_item *item, int64_t index, int64_t rows, int64_t columns) {
    const int64_t listed[3] = {index + 1, rows, columns};
    if (memcmp(item->listed, listed, sizeof listed) == 0) return 0;
    memcpy(item->listed, listed, sizeof listed);
    return 1;
}

static void run_packed(npc_direct_item *item, const npc_planes_source *source, int64_t index) {
    const npc_direct_job *job = item->job;
    if (lists_anew(item, index, item->planes.rows.extent, item->planes.columns.extent))
        npc_planes_offsets(job->problem, &item->taps, &item->planes, item->offsets);
    npc_planes_pack(source, &item->taps, &item->band, &item->planes, item->packed);
    /* Sums of elements past the planes are thrown away, yet must not be slow ones. */
    npc_zeros(item->packed + item->planes.elements * job->size, job->problem->compute,
              job->plan->kernels->lanes * (job->plan->kernels->vectors + 1));
    item->pixels = item->packed;
    run_tiles_of_rows(item, NULL);
}

/* As a vector may not reach beyond the input, the last one of all begins before its time, which computes some pixels twice; or its band is
 * packed. */
static void run_where_they_lie(npc_direct_item *item, const npc_planes_source *source, int64_t index,
                               const char *pixels) {
    const npc_direct_job *job = item->job;
    const int64_t stride = item->input.channel_stride, lanes = job->plan->kernels->lanes;
    const int64_t columns = item->band.columns, last = npc_max(0, (item->reduction - 1) * stride);
    const int fits = job->input_end - pixels - last >= (item->band.rows * columns + lanes) * job->size;
    const int64_t whole = job->lead + (columns - job->lead) / lanes * lanes;
    if (!fits && (item->band.rows > 1 || columns < lanes + job->lead || job->blocking->split.blocks > 1)) {
        run_packed(item, source, index);
        return;
    }
    if (lists_anew(item, index, 0, 0))
        for (int64_t r = 0; r < item->reduction; r++) item->offsets[r] = r * (stride / job->size);
    item->pixels = pixels;
    item->band.columns = fits ? columns : whole;
    run_tiles_of_rows(item, NULL);
    if (item->band.columns == columns) return;
    item->band.columns = columns;
    /* Of one vector: not streamed, so it may lie anywhere. */
    const npc_direct_place end = {.rows = 1,
                                  .at = columns - lanes,
                                  .pixels = lanes,
                                  .tiles = 1,
                                  .vectors = 1,
                                  .last = lanes,
                                  .input = planes_at(item, 0, columns - lanes)};
    run_tiles_of_rows(item, &end);
}

static void run_block(npc_direct_item *item, int64_t index) {
    const npc_direct_job *job = item->job;
    item->taps = npc_split_taps(job->problem, &job->blocking->split, index);
    item->planes = npc_planes_of(job->problem, &item->taps, &item->band);
    const npc_taps_block *taps = &item->taps;
    const npc_problem *problem = job->problem;
    item->first_weight =
        (((taps->channel * npc_outer_taps(problem) + taps->outer) * npc_rows(problem).kernel + taps->row) *
             npc_columns(problem).kernel +
         taps->column) *
        problem->parts;
    item->reduction = taps->channels * taps->outers * taps->rows * taps->columns * problem->parts;
    item->runs = npc_ceil_div(item->reduction, RUN);
    item->is_first = index == 0;
    item->is_last = index + 1 == job->blocking->split.blocks;
    const npc_planes_source source = {job->problem, job->plan->kernels, &item->input, NULL, 0, 0};
    if (job->blocking->panels && item->rows >= job->plan->kernels->rows) {
        npc_direct_run_panels(item, &source);
        return;
    }
    const char *in_place = job->blocking->in_place ? npc_direct_pixels_in_place(item) : NULL;
    if (in_place)
        run_where_they_lie(item, &source, index, in_place);
    else
        run_packed(item, &source, index);
}

static void place_workspace(npc_direct_item *item, int thread) {
    const npc_direct_job *job = item->job;
    const npc_blocking *blocking = job->blocking;
    item->listed = (int64_t *)(void *)(job->workspace + (size_t)thread * job->plan->thread_bytes);
    item->packed = (char *)item->listed + NPC_BLOCKING_HEADER;
    item->panels = item->packed + blocking->plane_bytes;
    item->offsets = (int64_t *)(void *)(item->panels + blocking->panel_bytes);
    item->bias = (char *)item->offsets + blocking->offset_bytes;
    item->sums = item->bias + blocking->bias_bytes;
}

/* Items in the order batch, group, outer pixel, row band, column band, output channels; in panels, whose threads share channels to have
 * as much to do, bands come after these. */
static void run_item(void *context, int64_t index, int thread) {
    const npc_direct_job *job = context;
    const npc_problem *problem = job->problem;
    const npc_blocking *blocking = job->blocking;
    const npc_tensors *tensors = job->tensors;
    const int64_t group_outputs = npc_group_outputs(problem), outers = npc_outer_outputs(problem);
    const int64_t bands = job->row_bands * job->column_bands, of_image = index % (bands * job->chunks);
    const int64_t chunk = (blocking->panels ? of_image / bands : of_image % job->chunks) * blocking->channels;
    const int64_t band = blocking->panels ? of_image % bands : of_image / job->chunks;
    const int64_t column = band % job->column_bands * blocking->band_columns;
    const int64_t row = band / job->column_bands * blocking->band_rows;
    const int64_t outer = (index /= bands * job->chunks) % outers;
    const int64_t group = (index /= outers) % problem->groups, n = index / problem->groups;
    npc_direct_item item = {.job = job, .input = tensors->input};
    item.band.outer = outer;
    item.band.row = row;
    item.band.rows = npc_min(blocking->band_rows, npc_rows(problem).output - row);
    item.band.column = column;
    item.band.columns = npc_min(blocking->band_columns, npc_columns(problem).output - column);
    item.rows = npc_min(blocking->channels, group_outputs - chunk) * problem->parts;
    const int64_t first = group * group_outputs + chunk;
    item.weights = job->weights + first * problem->parts * job->reduction * job->size;
    item.input.data +=
        n * tensors->input.batch_stride + group * npc_group_inputs(problem) * tensors->input.channel_stride;
    item.output = npc_result_band(problem, &tensors->output, &item.band) + n * tensors->output.batch_stride +
                  first * tensors->output.channel_stride;
    place_workspace(&item, thread);
    if (problem->has_bias) load_bias(&item, first);
    for (int64_t block = 0; block < blocking->split.blocks; block++) run_block(&item, block);
    if (job->streams) job->plan->kernels->end_streams();
}

/* Behind the last byte of a tensor. */
static const char *end_of(const npc_problem *problem, const npc_tensor *input) {
    const int64_t channels = problem->groups * npc_group_inputs(problem);
    int64_t last = npc_max(0, (problem->batch - 1) * input->batch_stride) +
                   npc_max(0, (channels - 1) * input->channel_stride);
    for (int a = 0; a < problem->spatial_axes; a++)
        last += npc_max(0, (problem->axis[a].input - 1) * input->stride[a]);
    return input->data + last + (int64_t)npc_scalar_size(input->scalar) * input->parts;
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    npc_blocking blocking;
    memcpy(&blocking, plan->recipe, sizeof blocking);
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    npc_direct_job job = {.plan = plan, .problem = problem, .blocking = &blocking, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.reduction = npc_reduction(problem);
    job.row_bands = npc_ceil_div(npc_rows(problem).output, blocking.band_rows);
    job.column_bands = npc_ceil_div(npc_columns(problem).output, blocking.band_columns);
    job.chunks = npc_ceil_div(npc_group_outputs(problem), blocking.channels);
    job.size = size;
    job.input_end = end_of(problem, &tensors->input);
    job.output_stride = tensors->output.channel_stride / size;
    job.scalar_size = (int64_t)npc_scalar_size(problem->scalar);
    job.activates = problem->activation != NPC_ACTIVATION_NONE && problem->activation != NPC_ACTIVATION_CLIP;
    /* Panels run over the ends of rows, as the result does. */
    const int joined =
        blocking.panels && npc_row_stride(problem, &tensors->output) == npc_columns(problem).output * size;
    job.in_place = (!blocking.flat || joined) && problem->parts == 1 &&
                   npc_is_compute(problem->scalar, problem->compute) &&
                   npc_counts_in_elements(problem, &tensors->output) &&
                   npc_column_stride(problem, &tensors->output) == size;
    /* Not what is read again, to add to it. */
    job.streams = job.in_place && !job.activates && !blocking.panels && job.reduction <= RUN &&
                  blocking.split.blocks == 1 &&
                  npc_streams(problem, plan->kernels, &tensors->output, &job.lead);
    for (int thread = 0; thread < plan->threads; thread++)
        memset(workspace + (size_t)thread * plan->thread_bytes, 0, NPC_BLOCKING_HEADER);
    npc_parallel_for(plan->threads,
                     problem->batch * problem->groups * npc_outer_outputs(problem) * job.row_bands *
                         job.column_bands * job.chunks,
                     run_item, &job);
    return NPC_OK;
}

const npc_algorithm npc_algorithm_direct = {
    .name = "direct",
    .applicable = applicable,
    .prepare = prepare,
    .packed_bytes = npc_weights_bytes,
    .pack = npc_weights_pack,
    .takes_plain_weights = 1,
    .run = run,
};
