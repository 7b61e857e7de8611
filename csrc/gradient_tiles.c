/* The gradient of a weight by Winograd's minimal filtering, where a kernel has 3x3 to 5x5 taps and stride 1.
 *
 * Under a tile of m x m pixels of the result's gradient, the sums of r x r taps are a small convolution of r x r outputs,
 * whose input is the tile of (m + r - 1) x (m + r - 1) pixels and whose kernel is the gradient's:
 *
 *     weight[k, c] = A^T [ sum over tiles of (G gradient_tile[k] G^T) * (B^T input_tile[c] B) ] A
 *
 * with the transforms of algo/winograd.c for r x r outputs of an m x m kernel. The way back is linear, so it is made once,
 * after the sum over all tiles: a matrix product a point, whose reduction runs over tiles; 36 products in place of 144 for
 * each tile of a 3x3 kernel. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, name the method;
 * the interpolation points are those of algo/winograd.c.
 *
 * A dilation interleaves as many images, its phases, and each is a problem without one: their tiles are more of the same
 * sum, read where they lie, pixels of a phase a dilation apart.
 *
 * Vectors lie along channels. Bands of tiles are transformed into a cache; products go point by point, so that a point's
 * sums of an item stay near while its two panels meet. */
#include "gradient_tiles.h"

#include <string.h>

#include "algo/planes.h"
#include "algo/weights.h"
#include "gradient_bands.h"
#include "memory.h"
#include "parallel.h"

typedef struct {
    const npc_gradient_tiles *tiles;
    const npc_problem *problem;
    const npc_kernels *kernels;
    const npc_tensors *tensors;
    char *workspace, *waiting; /* sums of all slices */
    int64_t size, lanes;
} tile_job;

typedef struct {
    const tile_job *job;
    int64_t group, output, outputs, input, inputs; /* channels: the first in the group, and how many */
    int64_t outer;                                 /* tap */
    int *not_finite;                               /* the thread's own */
    char *pixels, *input_points, *gradient_points, *sums;
    int64_t *offsets; /* of a panel's tiles */
} tile_item;

typedef struct {
    int64_t n, outer;      /* image, pixel of the axes before */
    int64_t row, column;   /* first tile, in its phase */
    int64_t top;           /* its first row of the result */
    int64_t width, narrow; /* tiles in longer column phases and in others */
    int64_t tiles;         /* in all */
} tile_strip;

static void find_row(const npc_gradient_tiles *t, int64_t index, tile_strip *strip) {
    const npc_gradient_phases *down = &t->down;
    const int64_t others = index - down->longer * down->tiles, tiles = down->tiles - (others >= 0);
    const int64_t phase = others < 0 ? index / tiles : down->longer + others / tiles;
    strip->row = (others < 0 ? index : others) % tiles;
    strip->top = strip->row * t->tile * down->phases + phase;
}

static tile_strip strip_at(const tile_job *job, int64_t index) {
    const npc_gradient_tiles *t = job->tiles;
    const npc_gradient_phases *across = &t->across;
    const int64_t rows = npc_gradient_phases_tiles(&t->down);
    tile_strip strip = {0};
    find_row(t, index % rows, &strip);
    strip.column = (index /= rows) % t->runs * t->width;
    strip.outer = (index /= t->runs) % npc_outer_outputs(job->problem);
    strip.n = index / npc_outer_outputs(job->problem);
    strip.width = npc_min(t->width, across->tiles - strip.column);
    strip.narrow = npc_min(t->width, across->tiles - 1 - strip.column);
    strip.tiles = across->longer * strip.width + (across->phases - across->longer) * strip.narrow;
    return strip;
}

static int64_t phase_width(const tile_job *job, const tile_strip *strip, int64_t phase) {
    return phase < job->tiles->across.longer ? strip->width : strip->narrow;
}

/* Of the result and of the input, without its border. */
static int64_t first_column(const tile_job *job, const tile_strip *strip) {
    return strip->column * job->tiles->tile * job->tiles->across.phases;
}

/* --- transforms --- */

/* Pixels [start, start + extent) of a row of some channels, as vectors; zeros where the row is NULL or ends. */
static void gather_row(const tile_job *job, const npc_tensor *tensor, const char *row, int64_t start,
                       int64_t width, int channels, char *target) {
    const int64_t extent = job->tiles->row / job->lanes;
    const npc_winograd_gather run = {.rows = row ? row + start * job->size : NULL,
                                     .pixels = target,
                                     .channel_stride = tensor->channel_stride / job->size,
                                     .extent = extent,
                                     .from = npc_clamp(-start, 0, extent),
                                     .to = npc_clamp(width - start, 0, extent),
                                     .channels = channels};
    if (row)
        job->kernels->winograd.gather(&run);
    else
        memset(target, 0, (size_t)(job->tiles->row * job->size));
}

/* One vector of input channels under the strips [from, to). */
static void transform_input(const tile_item *item, int64_t vector, int64_t from, int64_t to) {
    const tile_job *job = item->job;
    const npc_gradient_tiles *t = job->tiles;
    const npc_axis rows = npc_rows(job->problem), columns = npc_columns(job->problem);
    const int64_t first = item->input + vector * job->lanes, row_bytes = t->row * job->size;
    const int channels = (int)npc_min(job->lanes, item->input + item->inputs - first);
    npc_tensor input = job->tensors->input;
    npc_winograd_input run = {.column_step = t->across.phases * job->lanes,
                              .tile_step = t->tile * t->across.phases * job->lanes,
                              .point_stride = t->point};
    char *target = item->input_points + vector * NPC_TILE_ALL_POINTS * t->point * job->size;
    input.data += (item->group * npc_group_inputs(job->problem) + first) * input.channel_stride;
    const char *images = input.data;
    for (int64_t index = from; index < to; index++) {
        const tile_strip strip = strip_at(job, index);
        input.data = (char *)images + strip.n * input.batch_stride;
        const char *image = npc_outer_image(job->problem, &input, strip.outer, item->outer);
        /* Below another strip of its phase only the last rows are new. */
        const int64_t known = index > from && strip.row ? NPC_TILE_POINTS - t->tile : 0;
        for (int64_t i = 0; i < NPC_TILE_POINTS; i++) {
            char *line = item->pixels + (strip.row * t->tile + i) % NPC_TILE_POINTS * row_bytes;
            const int64_t y = strip.top + i * t->down.phases - rows.before;
            run.rows[i] = line;
            if (i < known) continue;
            gather_row(job, &input,
                       image && y >= 0 && y < rows.input ? image + y * npc_row_stride(job->problem, &input)
                                                         : NULL,
                       first_column(job, &strip) - columns.before, columns.input, channels, line);
        }
        for (int64_t phase = 0; phase < t->across.phases; phase++) {
            run.tiles = phase_width(job, &strip, phase);
            run.output = target;
            job->kernels->winograd.input[t->kind](&run);
            target += run.tiles * job->lanes * job->size;
            for (int64_t i = 0; i < NPC_TILE_POINTS; i++)
                run.rows[i] = (const char *)run.rows[i] + job->lanes * job->size;
        }
    }
}

/* Vectors of output channels are neighbours in pairs. */
static int64_t pair_vectors(const tile_item *item, int64_t pair) {
    return npc_min(2, npc_ceil_div(item->outputs, item->job->lanes) - 2 * pair);
}

static void transform_gradient(const tile_item *item, int64_t vector, int64_t from, int64_t to) {
    const tile_job *job = item->job;
    const npc_gradient_tiles *t = job->tiles;
    const npc_tensor *gradient = &job->tensors->output;
    const int64_t first = item->output + vector * job->lanes, vectors = pair_vectors(item, vector / 2);
    const int64_t height = npc_rows(job->problem).output, width = npc_columns(job->problem).output;
    const int channels = (int)npc_min(job->lanes, item->output + item->outputs - first);
    char *target = item->gradient_points +
                   (vector / 2 * NPC_TILE_ALL_POINTS * 2 * t->point + vector % 2 * job->lanes) * job->size;
    npc_winograd_weights_run run = {.columns = t->tile,
                                    .row_step = t->row,
                                    .column_step = t->across.phases * job->lanes,
                                    .channel_step = t->tile * t->across.phases * job->lanes,
                                    .point_stride = vectors * t->point,
                                    .output_step = vectors * job->lanes};
    for (int64_t index = from; index < to; index++) {
        const tile_strip strip = strip_at(job, index);
        const npc_band band = {.outer = strip.outer, .row = strip.top};
        const char *image =
            npc_result_band(job->problem, gradient, &band) + strip.n * gradient->batch_stride +
            (item->group * npc_group_outputs(job->problem) + first) * gradient->channel_stride;
        run.rows = npc_min(t->tile, npc_ceil_div(height - strip.top, t->down.phases));
        for (int64_t i = 0; i < run.rows; i++)
            gather_row(job, gradient, image + i * t->down.phases * npc_row_stride(job->problem, gradient),
                       first_column(job, &strip), width, channels, item->pixels + i * t->row * job->size);
        for (int64_t phase = 0; phase < t->across.phases; phase++) {
            run.channels = phase_width(job, &strip, phase);
            run.kernels = item->pixels + phase * job->lanes * job->size;
            run.output = target;
            job->kernels->winograd.weights[t->kind](&run);
            target += run.channels * run.output_step * job->size;
        }
    }
}

/* --- products --- */

/* Where the sums of a pair of vectors begin: a row of them for every point and input channel. */
static int64_t sums_at(const tile_item *item, int64_t point, int64_t pair) {
    const npc_gradient_tiles *t = item->job->tiles;
    const int64_t pairs = npc_ceil_div(t->outputs, 2);
    return (point * pairs + pair) * t->inputs * 2 * item->job->lanes * item->job->lanes;
}

/* One point of a pair of vectors of output channels, every input channel. */
static void multiply_point(const tile_item *item, int64_t point, int64_t pair, npc_block tile) {
    const tile_job *job = item->job;
    const npc_gradient_tiles *t = job->tiles;
    const int64_t vectors = pair_vectors(item, pair), lanes = job->lanes;
    const char *panel = item->input_points + point * t->point * job->size;
    tile.weights =
        item->gradient_points + (pair * NPC_TILE_ALL_POINTS * 2 + point * vectors) * t->point * job->size;
    char *sums = item->sums + sums_at(item, point, pair) * job->size;
    for (int64_t c = 0; c < item->inputs; c += lanes, panel += NPC_TILE_ALL_POINTS * t->point * job->size) {
        const int64_t channels = npc_min(lanes, item->inputs - c);
        const int64_t parts = npc_ceil_div(channels, job->kernels->pixels);
        for (int64_t part = 0; part < parts; part++) {
            const int64_t from = channels * part / parts, to = channels * (part + 1) / parts;
            tile.input = panel + from * job->size;
            tile.sums = sums + (c + from) * vectors * lanes * job->size;
            job->kernels->block[to - from - 1][vectors - 1](&tile);
        }
    }
}

static void add_band(const tile_item *item, int64_t from, int64_t to, int accumulate) {
    const tile_job *job = item->job;
    const int64_t input_vectors = npc_ceil_div(item->inputs, job->lanes);
    const int64_t output_vectors = npc_ceil_div(item->outputs, job->lanes);
    npc_block tile = {.offsets = item->offsets, .accumulate = accumulate};
    for (int64_t index = from; index < to; index++) tile.reduction += strip_at(job, index).tiles;
    for (int64_t v = 0; v < input_vectors; v++) transform_input(item, v, from, to);
    for (int64_t v = 0; v < output_vectors; v++) transform_gradient(item, v, from, to);
    for (int64_t point = 0; point < NPC_TILE_ALL_POINTS; point++)
        for (int64_t pair = 0; 2 * pair < output_vectors; pair++) multiply_point(item, point, pair, tile);
}

/* --- the result --- */

/* Sums of one vector of output channels and one input channel become taps, vectors as well. */
static void transform_sums(const tile_item *item, int64_t vector, int64_t c, char *taps) {
    const tile_job *job = item->job;
    const npc_gradient_tiles *t = job->tiles;
    const int64_t vectors = pair_vectors(item, vector / 2), lanes = job->lanes;
    const int64_t from = sums_at(item, 0, vector / 2) + (c * vectors + vector % 2) * lanes;
    const npc_copy points = {.source = item->sums + from * job->size,
                             .target = item->pixels,
                             .count = NPC_TILE_ALL_POINTS,
                             .extent = lanes,
                             .source_stride = sums_at(item, 1, 0),
                             .to = lanes};
    const long double none[NPC_MOST_LANES] = {0}; /* the widest type */
    npc_winograd_output run = {.products = item->pixels, .bias = none, .column_step = lanes, .tiles = 1};
    for (int64_t i = 0; i < t->taps; i++) run.rows[i] = taps + i * t->taps * lanes * job->size;
    job->kernels->copy[0](&points);
    if (!job->kernels->winograd.output[t->kind](&run)) *item->not_finite = 1;
}

/* Input channels are stored together where their taps are neighbours. */
static void store_vector(const tile_item *item, int64_t vector) {
    const tile_job *job = item->job;
    const npc_gradient_tiles *t = job->tiles;
    const npc_tensor *weight = &job->tensors->weight;
    const int64_t taps = t->taps * t->taps, first = item->output + vector * job->lanes;
    const int64_t most = npc_outer_taps(job->problem) == 1 ? NPC_TILE_STORED : 1;
    char *lines = item->pixels + NPC_TILE_ALL_POINTS * job->lanes * job->size;
    char *target = weight->data +
                   (item->group * npc_group_outputs(job->problem) + first) * weight->batch_stride +
                   item->input * weight->channel_stride + item->outer * taps * job->size;
    npc_winograd_scatter run = {.pixels = lines,
                                .channel_stride = weight->batch_stride / job->size,
                                .channels = (int)npc_min(job->lanes, item->output + item->outputs - first)};
    for (int64_t c = 0; c < item->inputs; c += most) {
        const int64_t channels = npc_min(most, item->inputs - c);
        for (int64_t i = 0; i < channels; i++)
            transform_sums(item, vector, c + i, lines + i * taps * job->lanes * job->size);
        run.rows = target + c * weight->channel_stride;
        run.count = channels * taps;
        job->kernels->winograd.scatter(&run);
    }
}

static void store_item(const tile_item *item) {
    for (int64_t v = 0; v * item->job->lanes < item->outputs; v++) store_vector(item, v);
}

/* --- items --- */

static tile_item item_at(const tile_job *job, int64_t index, int thread) {
    const npc_gradient_tiles *t = job->tiles;
    char *own = job->workspace + (size_t)thread * t->thread_bytes;
    tile_item item = {.job = job, .not_finite = (int *)(void *)own, .pixels = own + NPC_TILE_HEAD};
    item.offsets = (int64_t *)(void *)(item.pixels + t->pixel_bytes);
    item.input_points = (char *)item.offsets + t->offset_bytes;
    item.gradient_points = item.input_points + t->input_bytes;
    item.sums = item.gradient_points + t->gradient_bytes;
    item.outer = index % npc_outer_taps(job->problem);
    item.input = (index /= npc_outer_taps(job->problem)) % t->input_blocks * t->inputs * job->lanes;
    item.output = (index /= t->input_blocks) % t->output_blocks * t->outputs * job->lanes;
    item.group = index / t->output_blocks;
    item.inputs = npc_min(t->inputs * job->lanes, npc_group_inputs(job->problem) - item.input);
    item.outputs = npc_min(t->outputs * job->lanes, npc_group_outputs(job->problem) - item.output);
    return item;
}

static void run_item(void *context, int64_t index, int thread) {
    const tile_job *job = context;
    const npc_gradient_tiles *t = job->tiles;
    const int64_t slice = index % t->slices;
    tile_item item = item_at(job, index / t->slices, thread);
    if (t->slices > 1) item.sums = job->waiting + index * t->sum_bytes;
    for (int64_t i = 0; i < t->band_tiles; i++) item.offsets[i] = i * job->lanes;
    const int64_t first = t->strips * slice / t->slices, last = t->strips * (slice + 1) / t->slices;
    for (int64_t from = first; from < last; from += t->band)
        add_band(&item, from, npc_min(from + t->band, last), from > first);
    if (t->slices == 1) store_item(&item);
}

/* In the order of the slices, whoever computed them. */
static void add_slices(void *context, int64_t index, int thread) {
    const tile_job *job = context;
    const npc_gradient_tiles *t = job->tiles;
    tile_item item = item_at(job, index, thread);
    item.sums = job->waiting + index * t->slices * t->sum_bytes;
    for (int64_t slice = 1; slice < t->slices; slice++)
        npc_add_sums(job->problem->compute, item.sums, item.sums + slice * t->sum_bytes,
                     t->sum_bytes / job->size);
    store_item(&item);
}

int npc_gradient_tiles_take(const npc_problem *problem, const npc_tensors *tensors) {
    return npc_lies_in_rows(problem, &tensors->input) && npc_counts_in_elements(problem, &tensors->input) &&
           npc_lies_in_rows(problem, &tensors->output) && npc_counts_in_elements(problem, &tensors->output) &&
           npc_weights_lie_plainly(problem, &tensors->weight);
}

npc_status npc_gradient_tiles_run(const npc_gradient_tiles *t, const npc_problem *problem,
                                  const npc_kernels *kernels, const npc_tensors *tensors) {
    tile_job job = {.tiles = t, .problem = problem, .kernels = kernels, .tensors = tensors};
    job.lanes = kernels->lanes;
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.waiting = npc_acquire(npc_gradient_tiles_workspace(t));
    if (!job.waiting) return NPC_NO_MEMORY;
    job.workspace = job.waiting + t->slice_bytes;
    int finite = 1;
    for (int i = 0; i < t->threads; i++) *(int *)(void *)(job.workspace + (size_t)i * t->thread_bytes) = 0;
    npc_parallel_for(t->threads, t->items * t->slices, run_item, &job);
    if (t->slices > 1) npc_parallel_for(t->threads, t->items, add_slices, &job);
    for (int i = 0; i < t->threads; i++)
        finite &= !*(int *)(void *)(job.workspace + (size_t)i * t->thread_bytes);
    npc_release(job.waiting);
    return finite ? NPC_OK : NPC_NOT_FINITE;
}
