/* Direct convolution with vectors along output channels.
 *
 *     sums[p, k] = bias[k] + sum over r of plane[offsets[r] + p] * weight[r, k]
 *
 * Weights are packed in blocks of one or two vectors of output channels, so that no lane is empty however narrow the
 * image is, and pixels are broadcast from packed planes. Up to 14 neighbouring pixels are summed at once in registers. A
 * run of the reduction, short enough for its weights to stay in a first-level cache, goes over all pixels of a band
 * before the next one adds to their sums, which also keeps the error of long reductions down. At the end the sums are
 * turned around into the result. A single tap reads plain pixels where they lie: packing cost more than the pages of many
 * channels. Rows of padding are left out, and where it is wide columns of it too, unless a weight that is infinite or NaN makes
 * them count.
 *
 * Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures", 2018. Weights seen
 * for the first time are packed block by block just before use, as long as the band is large enough to pay for it. With
 * few output channels, or reductions so short that turning the sums costs as much, vectors along pixels are faster. */
#include <string.h>

#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "blocked.h"
#include "cycles.h"
#include "weights.h"

enum { LINE = 64 }; /* bytes of a cache's line */

_Static_assert(sizeof(npc_blocked_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

static const char *applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    if (problem->parts != 1) return "only for real results";
    if (npc_blocked_plane_bytes(problem, 1, plan->kernels->pixels) > NPC_BLOCKED_MOST_BYTES)
        return "the input under one tile would not fit a cache";
    return NULL;
}

static const char *worthwhile(const npc_plan *plan) {
    return npc_blocked_cycles(plan) < npc_direct_cycles(plan) ? NULL : "vectors along pixels cost less";
}

static void prepare(npc_plan *plan) {
    const npc_blocked_recipe recipe = npc_blocked_cut(plan);
    plan->thread_bytes = (size_t)(recipe.plane_bytes + recipe.list_bytes + recipe.bias_bytes +
                                  recipe.sum_bytes + recipe.line_bytes + recipe.weight_bytes);
    memcpy(plan->recipe, &recipe, sizeof recipe);
}

static size_t packed_bytes(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    npc_blocked_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    if (recipe.packs) return 0;
    return (size_t)npc_blocked_flag_bytes(plan) +
           (size_t)(problem->groups * npc_blocked_outputs(plan) * npc_reduction(problem)) *
               npc_compute_size(problem->compute);
}

static int64_t order(const npc_plan *plan) {
    npc_blocked_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    return recipe.by_columns;
}

/* Offsets of a run's elements from its first channel on. */
static void list_offsets(npc_blocked_item *item, const npc_taps_block *taps) {
    const npc_planes *planes = &item->planes;
    const npc_phases *rows = &planes->rows, *columns = &planes->columns;
    const int64_t outers = npc_outer_taps(item->job->problem);
    const int64_t image = rows->phases * columns->phases * planes->plane;
    const int by_columns = (int)item->job->recipe->by_columns;
    int64_t *offsets = item->offsets;
    for (int64_t outer = taps->outer; outer < taps->outer + taps->outers; outer++)
        for (int64_t r = taps->row; r < taps->row + taps->rows; r++) {
            const int64_t row = outer * image + r % rows->period * columns->phases * planes->plane +
                                r / rows->period * rows->step * columns->extent;
            int64_t phase = taps->column % columns->period, step = taps->column / columns->period;
            for (int64_t c = 0; c < taps->columns; c++) {
                int64_t place = row + phase * planes->plane + step * columns->step;
                int64_t *target = offsets + c * (by_columns ? taps->channels : 1);
                for (int64_t channel = 0; channel < taps->channels; channel++, place += outers * image)
                    target[channel * (by_columns ? 1 : taps->columns)] = place;
                if (++phase == columns->period) {
                    phase = 0;
                    step++;
                }
            }
            offsets += taps->channels * taps->columns;
        }
}

/* Outer taps from the first to the last that read the input. */
static npc_blocked_range outer_taps_inside(const npc_blocked_item *item, const npc_taps_block *taps) {
    npc_blocked_range inside = {taps->outer, taps->outer + taps->outers};
    if (item->job->recipe->merges) return inside;
    while (inside.from < inside.to &&
           !npc_outer_image(item->job->problem, &item->input, item->band.outer, inside.from))
        inside.from++;
    while (inside.from < inside.to &&
           !npc_outer_image(item->job->problem, &item->input, item->band.outer, inside.to - 1))
        inside.to--;
    return inside;
}

/* Elements of a kernel row from the first column to the last that reads the input under any of a tile's pixels. */
static void list_inside(const npc_blocked_item *item, const npc_taps_block *taps) {
    const npc_axis *axis = &item->job->columns;
    for (int64_t i = 0; i < item->tiles; i++) {
        const int64_t first = item->band.column + npc_part_start(item->parts, i) / item->images;
        const int64_t last = item->band.column + (npc_part_start(item->parts, i + 1) - 1) / item->images;
        const int64_t from = npc_blocked_inside(axis, last, taps->column, taps->columns).from;
        const int64_t to = npc_blocked_inside(axis, first, taps->column, taps->columns).to;
        item->inside[i].from = (from - taps->column) * taps->channels;
        item->inside[i].to = (npc_max(from, to) - taps->column) * taps->channels;
    }
}

/* The processor does not guess that the next run's weights, behind these, will be read: each tile asks for a part of them. */
static void fetch_ahead(const char *weights, const npc_taps_block *taps, int64_t from, int64_t to,
                        int64_t pitch) {
    const char *next = weights + npc_blocked_elements(taps) * pitch;
    for (int64_t line = from * pitch; line < to * pitch; line += LINE) NPC_PREFETCH(next + line);
}

/* One row of the band: some elements of the run, or none, to begin the sums with or to end them; where `taps` are given, those of a
 * kernel row whose columns may be left out. The tile is not copied, as the processor would wait for what was just written to it. */
static void run_row(const npc_blocked_item *item, const npc_blocked_block *block, npc_block *tile,
                    int64_t row, const npc_taps_block *taps) {
    const npc_blocked_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t width = item->band.columns * item->images, tiles = item->tiles;
    const int64_t pitch = block->vectors * kernels->lanes;
    const char *input = tile->input, *weights = tile->weights;
    const int64_t *offsets = tile->offsets, reduction = tile->reduction;
    for (int64_t i = 0; i < tiles; i++) {
        const int64_t at = npc_part_start(item->parts, i), end = npc_part_start(item->parts, i + 1);
        npc_block_kernel *kernel = item->step == 1 ? kernels->block[end - at - 1][block->vectors - 1]
                                                   : kernels->block_half[end - at - 1];
        if (taps && reduction) {
            const int64_t elements = taps->channels * taps->columns, bytes = pitch * job->size;
            const npc_blocked_range inside = item->inside[i];
            tile->weights = weights + inside.from * bytes;
            tile->offsets = offsets + inside.from;
            tile->reduction = inside.to - inside.from;
            if (row == 0 && tiles == 1)
                fetch_ahead(weights, taps, inside.from, inside.to, bytes);
            else if (row == 0)
                fetch_ahead(weights, taps, elements * i / tiles, elements * (i + 1) / tiles, bytes);
        }
        tile->input = input + (row * item->planes.columns.extent + at * item->step) * job->size;
        tile->sums = item->sums + (row * width + at) * pitch * job->size;
        kernel(tile);
    }
    tile->input = input;
}

static void run_run(npc_blocked_item *item, const npc_blocked_block *block, int64_t run,
                    const char *weights) {
    const npc_blocked_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_taps_block taps = npc_split_taps(problem, &job->recipe->split, run);
    const int64_t pitch = block->vectors * job->plan->kernels->lanes * job->size;
    const int64_t images = npc_outer_taps(problem) * item->planes.rows.phases * item->planes.columns.phases;
    const npc_blocked_range every_row = {taps.row, taps.row + taps.rows},
                            every_outer = {taps.outer, taps.outer + taps.outers};
    const npc_blocked_range outers = block->skips ? outer_taps_inside(item, &taps) : every_outer;
    const int64_t wide = taps.channels * taps.columns; /* elements of a kernel row */
    const int ends = run + 1 == job->recipe->split.blocks;
    const int by_columns = block->skips && job->recipe->by_columns;
    const npc_blocked_listed listed = {job->recipe->split.level > NPC_SPLIT_CHANNELS ? run : 0, taps.channels,
                                       item->planes.plane, item->planes.rows, item->planes.columns};
    if (memcmp(item->listed, &listed, sizeof listed) != 0) { /* else those before were the same */
        list_offsets(item, &taps);
        *item->listed = listed;
    }
    if (by_columns) list_inside(item, &taps);
    npc_block tile = {.input = item->pixels + taps.channel * images * item->planes.plane * job->size,
                      .low = problem->activation_a,
                      .high = problem->activation_b};
    for (int64_t row = 0; row < item->band.rows; row++) {
        const npc_blocked_range rows =
            block->skips ? npc_blocked_inside(&job->rows, item->band.row + row, taps.row, taps.rows)
                         : every_row;
        /* What lies together: all, the rows of an outer tap, or one row. */
        const int whole = !by_columns && rows.to - rows.from == taps.rows;
        const int64_t lines = by_columns ? npc_max(1, rows.to - rows.from) : 1;
        const int64_t parts = npc_max(1, whole ? 1 : (outers.to - outers.from) * lines);
        for (int64_t part = 0; part < parts; part++) {
            const int64_t outer = lines > 1 ? part / lines : part; /* divisions take their time */
            const int64_t line = part - outer * lines;
            const int64_t from =
                ((outers.from - taps.outer + outer) * taps.rows + rows.from - taps.row + line) * wide;
            tile.weights = weights + from * pitch;
            tile.offsets = item->offsets + from;
            tile.reduction = (by_columns ? rows.to > rows.from : rows.to - rows.from) *
                             (whole ? outers.to - outers.from : outers.to > outers.from) * wide;
            tile.accumulate = run > 0 || part > 0;
            tile.bias = tile.accumulate ? NULL : item->bias + block->first * job->size;
            tile.clip = ends && part + 1 == parts && problem->activation == NPC_ACTIVATION_CLIP;
            run_row(item, block, &tile, row, by_columns ? &taps : NULL);
        }
    }
}

static void run_block(npc_blocked_item *item, npc_blocked_block block) {
    const npc_blocked_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t pitch = block.vectors * kernels->lanes * job->size,
                  outputs = npc_group_outputs(job->problem);
    const int64_t k = item->first + block.first;
    if (job->weights) {
        const npc_blocked_flag *flags = (const npc_blocked_flag *)(const void *)job->weights;
        const int64_t group = item->group * npc_blocked_outputs(job->plan);
        block.weights =
            job->weights + npc_blocked_flag_bytes(job->plan) + (group + k) * job->reduction * job->size;
        block.skips =
            job->skips &&
            flags[item->group * npc_blocked_blocks(job->plan) + k / (kernels->lanes * NPC_BLOCK_VECTORS)];
    } else {
        const npc_blocked_packer packer = {job->plan,    job->recipe, &job->tensors->weight,
                                           item->places, item->lines, job->plain};
        block.skips = npc_blocked_pack_block(&packer, item->group * outputs + k, block.count, block.vectors,
                                             item->weights) &&
                      job->skips;
        block.weights = item->weights;
    }
    const char *weights = block.weights;
    for (int64_t run = 0; run < job->recipe->split.blocks; run++) {
        const npc_taps_block taps = npc_split_taps(job->problem, &job->recipe->split, run);
        run_run(item, &block, run, weights);
        weights += npc_blocked_elements(&taps) * pitch;
    }
    npc_blocked_store(item, &block);
}

static void place_workspace(npc_blocked_item *item, int thread) {
    const npc_blocked_recipe *recipe = item->job->recipe;
    item->packed = item->job->workspace + (size_t)thread * item->job->plan->thread_bytes;
    item->listed = (npc_blocked_listed *)(void *)(item->packed + recipe->plane_bytes);
    item->offsets =
        (int64_t *)(void *)((char *)item->listed + npc_aligned_bytes((int64_t)sizeof *item->listed));
    item->places = item->offsets + NPC_BLOCKED_RUN;
    item->inside = (npc_blocked_range *)(void *)(item->places + NPC_BLOCKED_RUN);
    item->bias = (char *)item->listed + recipe->list_bytes;
    item->sums = item->bias + recipe->bias_bytes;
    item->lines = item->sums + recipe->sum_bytes;
    item->weights = item->lines + recipe->line_bytes;
}

static void load_bias(const npc_blocked_item *item) {
    const npc_blocked_job *job = item->job;
    const npc_tensor *bias = &job->tensors->bias;
    const int64_t first = item->group * npc_group_outputs(job->problem) + item->first;
    npc_zeros(item->bias, job->problem->compute, job->recipe->bias_bytes / job->size);
    if (job->problem->has_bias)
        npc_load_part(item->bias, bias, job->problem->compute, bias->data + first * bias->channel_stride,
                      bias->channel_stride, 0, item->count);
}

/* Whether the band's pixels are read from the input. */
static int lie_in_place(const npc_blocked_item *item) {
    const npc_blocked_job *job = item->job;
    return npc_blocked_reads_in_place(job->plan, item->count, item->band.columns) &&
           npc_lies_in_rows(job->problem, &item->input) && npc_counts_in_elements(job->problem, &item->input);
}

/* The item's n-th image. */
static npc_tensor image_input(npc_blocked_item *item, int64_t n) {
    const npc_blocked_job *job = item->job;
    npc_tensor input = job->tensors->input;
    item->band.outer = (item->image + n) % job->outers;
    input.data += (item->image + n) / job->outers * input.batch_stride +
                  item->group * npc_group_inputs(job->problem) * input.channel_stride;
    return input;
}

/* Several images, and their pixels then alternate. */
static void merge_images(npc_blocked_item *item, const npc_taps_block *taps) {
    npc_planes *planes = &item->planes;
    npc_planes_list list;
    list.made = 0;
    npc_planes_source source = {item->job->problem, item->job->plan->kernels, &item->input, &list, 0,
                                item->images};
    for (; source.image < item->images; source.image++) {
        item->input = image_input(item, source.image);
        npc_planes_pack(&source, taps, &item->band, planes, item->packed);
    }
    planes->plane *= item->images;
    planes->columns.extent *= item->images;
    planes->columns.step *= item->images;
}

static void bring_pixels(npc_blocked_item *item) {
    const npc_blocked_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *input = &item->input;
    const npc_taps_block taps = {0, npc_group_inputs(problem), 0, npc_outer_taps(problem),
                                 0, job->rows.kernel,          0, job->columns.kernel};
    item->planes = npc_planes_of(problem, &taps, &item->band);
    item->input = image_input(item, 0);
    item->pixels = item->packed;
    item->step = 1;
    if (item->images > 1) {
        merge_images(item, &taps);
        return;
    }
    const char *image = lie_in_place(item) ? npc_outer_image(problem, input, item->band.outer, 0) : NULL;
    if (image) {
        const int64_t row_bytes = job->rows.stride * npc_row_stride(problem, input);
        item->planes.columns.extent = row_bytes / job->size;
        item->planes.plane = input->channel_stride / job->size;
        item->step = job->columns.stride;
        item->pixels = image + item->band.row * row_bytes + item->band.column * item->step * job->size;
        return;
    }
    const npc_planes_source source = {problem, job->plan->kernels, input, NULL, 0, 0};
    npc_planes_pack(&source, &taps, &item->band, &item->planes, item->packed);
}

/* Items in the order group, images, row band, column band, output channels. */
static void run_item(void *context, int64_t index, int thread) {
    const npc_blocked_job *job = context;
    const npc_blocked_recipe *recipe = job->recipe;
    const int64_t block = job->plan->kernels->lanes * NPC_BLOCK_VECTORS;
    npc_blocked_item item = {.job = job};
    item.first = index % job->chunks * recipe->channels;
    item.band.column = (index /= job->chunks) % job->column_bands * recipe->band_columns;
    item.band.row = (index /= job->column_bands) % job->row_bands * recipe->band_rows;
    item.image = (index /= job->row_bands) % job->image_bands * recipe->images;
    item.group = index / job->image_bands;
    item.images = npc_min(recipe->images, job->images - item.image);
    item.band.rows = npc_min(recipe->band_rows, job->rows.output - item.band.row);
    item.band.columns = npc_min(recipe->band_columns, job->columns.output - item.band.column);
    item.count = npc_min(recipe->channels, npc_group_outputs(job->problem) - item.first);
    /* Divisions for each row or tile would take as long as its sums. */
    item.tiles = npc_ceil_div(item.band.columns * item.images, job->plan->kernels->pixels);
    item.parts = npc_parts_of(item.band.columns * item.images, item.tiles);
    place_workspace(&item, thread);
    load_bias(&item);
    bring_pixels(&item);
    for (int64_t k = 0; k < item.count; k += block) {
        const npc_blocked_block next = {.first = k,
                                        .count = npc_min(block, item.count - k),
                                        .vectors = npc_blocked_vectors(job->plan, item.count - k)};
        run_block(&item, next);
    }
}

/* Whether there are rows, or images of outer axes, of nothing but zeros around the input. */
static int has_rows_of_padding(const npc_problem *problem) {
    if (problem->padding_mode != NPC_PADDING_ZEROS) return 0;
    for (int a = 0; a + 1 < problem->spatial_axes; a++) {
        const npc_axis *axis = &problem->axis[a];
        const int64_t last =
            (axis->output - 1) * axis->stride + (axis->kernel - 1) * axis->dilation - axis->before;
        if (axis->before > 0 || last >= axis->input) return 1;
    }
    return 0;
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    npc_blocked_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    npc_blocked_job job = {.plan = plan, .problem = problem, .recipe = &recipe, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.rows = npc_rows(problem);
    job.columns = npc_columns(problem);
    job.row_bands = npc_ceil_div(job.rows.output, recipe.band_rows);
    job.column_bands = npc_ceil_div(job.columns.output, recipe.band_columns);
    job.chunks = npc_ceil_div(npc_group_outputs(problem), recipe.channels);
    job.outers = npc_outer_outputs(problem);
    job.images = problem->batch * job.outers;
    job.image_bands = npc_ceil_div(job.images, recipe.images);
    job.reduction = npc_reduction(problem);
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.skips = recipe.by_columns || has_rows_of_padding(problem);
    job.plain = npc_weights_lie_plainly(problem, &tensors->weight);
    for (int thread = 0; thread < plan->threads; thread++)
        memset(workspace + (size_t)thread * plan->thread_bytes + recipe.plane_bytes, 0,
               sizeof(npc_blocked_listed));
    npc_parallel_for(plan->threads,
                     problem->groups * job.image_bands * job.row_bands * job.column_bands * job.chunks,
                     run_item, &job);
    return NPC_OK;
}

const npc_algorithm npc_algorithm_blocked = {
    .name = "blocked",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = packed_bytes,
    .pack = npc_blocked_pack,
    .order = order,
    .turns_taps = NPC_BLOCKED_TURNS_TAPS,
    .run = run,
};
