/* Winograd's minimal filtering F(4x4, 3x3): 36 products for 16 outputs of a 3x3 kernel in place of 144.
 *
 *     output tile = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A,   d a tile of 6x6 pixels, g the kernel
 *
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The interpolation points are 0, +-1/sqrt(2),
 * +-sqrt(2) and infinity, whose error is a third of that of 0, +-1, +-2 and infinity: Barabasz et al., "Error Analysis
 * and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.
 *
 * The same six points give 5x5 outputs of a 2x2 kernel and 3x3 of a 4x4 one: only A and G change. Larger kernels and strides
 * are sums of such pieces (winograd_pieces.c). A 3x3 kernel of stride 2 has tiles of its own, 81 products for 16 outputs in
 * place of 144: along an axis, F(4, 2) over the even pixels at the points +-1/2, +-5/4 and infinity, and the odd pixels
 * times the middle tap; Yang et al., "Stride 2 1-D, 2-D, and 3-D Winograd for Convolutional Neural Networks", 2020.
 *
 * Kernels of one tap along an axis take F(4, 3) along the other. Taps of axes before rows and columns are summed like
 * channels, between the transforms, and each slice of the input is transformed once for all outputs that need it. A
 * dilation makes of an image as many interleaved ones, each of which is undilated.
 *
 * Vectors lie along channels, so that tiles may be as many or few as they are: vectors along tiles had idle lanes. A band
 * of tiles is turned to vectors and transformed; then, for two vectors of output channels at a time, a matrix product for
 * every point, and the transform back. Weights that are used for one band only are transformed just before, and never
 * written to memory. The sums of the products of infinities and NaN, and of numbers near the largest, are not those of
 * plain sums: where a result is not finite, the whole run is done again by the direct algorithm. Where transforms cost
 * more than they save (few channels, few tiles, weights to be transformed for one use), it refuses. */
#include "winograd.h"

#include <string.h>

#include "../parallel.h"
#include "cycles.h"
#include "planes.h"

_Static_assert(sizeof(npc_winograd_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

enum {
    MOST_OUTER_TAPS = 32,
    LARGEST_STEP = 1 << 16,
    ASKED_BYTES = 6 << 20, /* of input that does not stay close to a core, */
    ROWS_AHEAD = 4,        /* of which so many rows further on are asked for */
};

const char *npc_winograd_applicable(const npc_plan *plan, npc_winograd_kind kind) {
    const npc_problem *problem = &plan->problem;
    const npc_winograd_shape *shape = &npc_winograd_shapes[kind];
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if ((rows.stride > 1 && rows.dilation > 1) || (columns.stride > 1 && columns.dilation > 1))
        return "only for stride 1 or dilation 1";
    if (problem->strict) return "precision is strict";
    if (problem->parts != 1 || !npc_is_compute(problem->scalar, problem->compute) ||
        !plan->kernels->winograd.gather)
        return "only for float32 and float64";
    if (!plan->kernels->winograd.input[kind]) return "no such tiles in plain C";
    if (rows.stride % shape->stride || columns.stride % shape->stride) return "only for stride 2";
    if (npc_winograd_pieces(problem, kind) > NPC_WINOGRAD_PIECES) return "too large a kernel";
    if (npc_outer_taps(problem) > MOST_OUTER_TAPS || npc_taps(problem) > NPC_WINOGRAD_TAPS)
        return "too many taps before rows and columns";
    if (npc_max(rows.dilation, columns.dilation) > LARGEST_STEP) return "too large a dilation";
    if (npc_max(rows.stride, columns.stride) > LARGEST_STEP) return "too large a stride";
    npc_plan single = *plan;
    single.threads = 1;
    const npc_winograd_recipe r = npc_winograd_cut(&single, kind);
    if (npc_winograd_thread_bytes(&r) > NPC_WINOGRAD_MOST_BYTES)
        return "too many input channels for its workspace";
    return NULL;
}

/* The tiles that cost least; the first where none is for this problem. */
static npc_winograd_kind kind_of(const npc_plan *plan) {
    static const npc_winograd_kind kinds[][4] = {
        {NPC_WINOGRAD_4X4, NPC_WINOGRAD_5X5, NPC_WINOGRAD_3X3, NPC_WINOGRAD_4X4_STRIDE_2},
        {NPC_WINOGRAD_1X4, NPC_WINOGRAD_1X5, NPC_WINOGRAD_1X3, NPC_WINOGRAD_KINDS},
        {NPC_WINOGRAD_4X1, NPC_WINOGRAD_5X1, NPC_WINOGRAD_3X1, NPC_WINOGRAD_KINDS},
    };
    const npc_problem *problem = &plan->problem;
    const int shape = npc_rows(problem).kernel == 1 ? 1 : npc_columns(problem).kernel == 1 ? 2 : 0;
    npc_winograd_kind best = kinds[shape][0];
    double least = 0;
    for (int i = 0; i < 4 && kinds[shape][i] != NPC_WINOGRAD_KINDS; i++) {
        if (npc_winograd_applicable(plan, kinds[shape][i])) continue;
        const double cycles = npc_winograd_kind_cycles(plan, kinds[shape][i]);
        if (least > 0 && cycles >= least) continue;
        least = cycles;
        best = kinds[shape][i];
    }
    return best;
}

static const char *applicable(const npc_plan *plan) {
    if (npc_rows(&plan->problem).kernel * npc_columns(&plan->problem).kernel == 1)
        return "only for kernels of more than one tap";
    return npc_winograd_applicable(plan, kind_of(plan));
}

static const char *worthwhile(const npc_plan *plan) {
    const npc_winograd_kind kind = kind_of(plan);
    const double cycles = npc_winograd_cycles(plan, kind);
    if (!npc_winograd_2x2_applicable(plan) && npc_winograd_cycles(plan, NPC_WINOGRAD_2X2) < cycles)
        return "tiles of 2x2 would cost less";
    return cycles < npc_untransformed_cycles(plan) ? NULL : "its transforms would cost more than they save";
}

double npc_winograd_least_cycles(const npc_plan *plan) {
    const double others = npc_untransformed_cycles(plan);
    const double cycles = applicable(plan) ? others : npc_winograd_cycles(plan, kind_of(plan));
    return cycles < others ? cycles : others;
}

void npc_winograd_prepare(npc_plan *plan, npc_winograd_kind kind) {
    plan->threads = npc_worthy_threads(plan, npc_winograd_cycles(plan, kind));
    const npc_plan merged = npc_winograd_merge(plan, kind);
    const npc_problem *problem = &merged.problem;
    const npc_winograd_recipe r = npc_winograd_cut(plan, kind);
    const int64_t items =
        npc_winograd_bands(problem, &r) * problem->groups * npc_ceil_div(npc_outer_outputs(problem), r.run);
    if (!r.shared) plan->threads = (int)npc_min(plan->threads, items);
    memcpy(plan->recipe, &r, sizeof r);
    plan->thread_bytes = (size_t)npc_winograd_thread_bytes(&r);
}

size_t npc_winograd_packed_bytes(const npc_plan *plan) {
    npc_winograd_recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    const npc_plan merged = npc_winograd_merge_weights(plan, (npc_winograd_kind)r.kind);
    const int64_t elements = npc_winograd_weights(&merged, (npc_winograd_kind)r.kind);
    return r.fresh ? 0 : (size_t)elements * npc_compute_size(plan->problem.compute);
}

void npc_winograd_pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    npc_winograd_recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    const npc_plan merged = npc_winograd_merge_weights(plan, (npc_winograd_kind)r.kind);
    npc_winograd_pack_all(&merged, (npc_winograd_kind)r.kind, weight, packed);
}

int64_t npc_winograd_order(const npc_plan *plan) {
    npc_winograd_recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    return r.kind;
}

static void prepare(npc_plan *plan) { npc_winograd_prepare(plan, kind_of(plan)); }

static void place_workspace(npc_winograd_item *item, int thread) {
    const npc_winograd_recipe *r = item->job->recipe;
    char *workspace = item->job->workspace + (size_t)thread * item->job->plan->thread_bytes;
    item->not_finite = (int *)(void *)workspace;
    item->sources = (const char **)(void *)(workspace + NPC_WINOGRAD_HEAD);
    item->pixels = (char *)item->sources + npc_aligned_bytes(r->slots * (int64_t)sizeof(char *));
    item->line = item->pixels + r->pixel_bytes;
    item->products = item->line + r->line_bytes;
    item->weights = item->products + r->product_bytes;
    item->transformed = item->weights + r->weight_bytes;
}

/* Bands in the order batch, group, row, column, outer pixels. Those of the phases of a dilation alternate where each has as many, as their
 * rows do in the image, or threads would write to the same lines of a cache. */
static npc_winograd_item item_at(const npc_winograd_job *job, int64_t index) {
    const npc_problem *problem = job->problem;
    const npc_winograd_recipe *r = job->recipe;
    const npc_tensors *tensors = job->tensors;
    npc_winograd_item item = {.job = job, .input = tensors->input, .output = tensors->output};
    item.outer = index % job->runs * r->run;
    item.column = (index /= job->runs) % job->column_bands * r->columns;
    const int64_t band = (index /= job->column_bands) % job->row_bands;
    item.row = (band % job->phases * (job->row_bands / job->phases) + band / job->phases) * r->rows;
    item.group = (index /= job->row_bands) % problem->groups;
    const int64_t n = index / problem->groups * r->images;
    item.images = npc_min(r->images, problem->batch - n);
    item.outers = npc_min(r->run, npc_outer_outputs(problem) - item.outer);
    item.rows = npc_min(r->rows, r->row_phases * r->tile_rows - item.row);
    item.columns = npc_min(r->columns, r->tile_columns - item.column);
    item.input.data += n * tensors->input.batch_stride +
                       item.group * npc_group_inputs(problem) * tensors->input.channel_stride;
    item.output.data += n * tensors->output.batch_stride +
                        item.group * npc_group_outputs(problem) * tensors->output.channel_stride;
    item.tiles = item.images * item.rows * r->column_phases * item.columns;
    item.parts = npc_parts_of(item.tiles, npc_ceil_div(item.tiles, job->kernels->tiles));
    item.plain_input = problem->padding_mode == NPC_PADDING_ZEROS && npc_lies_in_rows(problem, &item.input) &&
                       npc_counts_in_elements(problem, &item.input);
    item.plain_output =
        npc_lies_in_rows(problem, &item.output) && npc_counts_in_elements(problem, &item.output);
    return item;
}

/* The products of a point with all tiles. */
static void multiply_point(const npc_winograd_item *item, const npc_winograd_block *block,
                           npc_winograd_product run) {
    const npc_winograd_job *job = item->job;
    if (job->places) {
        const npc_winograd_merged_product merged = {
            run.weights,     run.input,   run.output,       job->places,     block->pieces,
            block->channels, item->tiles, run.input_stride, run.tile_stride, run.accumulate};
        job->kernels->merged_product(&merged);
        return;
    }
    const char *input = run.input;
    char *output = run.output;
    npc_winograd_product_kernel *const *kernels =
        run.far_step ? job->kernels->asking_product : job->kernels->product[block->vectors - 1];
    run.far = (const char *)run.weights + block->panel * job->size;
    for (int64_t first = 0, part = 0; first < item->tiles; part++) {
        const int64_t next = npc_part_start(item->parts, part + 1);
        run.input = input + first * job->lanes * job->size;
        run.output = output + first * run.tile_stride * job->size;
        kernels[next - first - 1](&run);
        run.far += run.channels * run.far_step;
        first = next;
    }
}

/* All products of one block of channels with all tiles. */
static void multiply_block(const npc_winograd_item *item, const npc_winograd_block *block,
                           const char *weights, const char *input, int accumulate) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    const npc_winograd_shape *shape = &npc_winograd_shapes[r->kind];
    const int64_t points = npc_winograd_points(r);
    npc_winograd_product run = {.channels = block->inputs,
                                .input_stride = r->tiles * job->lanes,
                                .vector_stride = r->tiles * points * job->lanes,
                                .tile_stride = points * job->lanes,
                                .accumulate = accumulate};
    /* Two parts ask for a channel's two lines, or one for the first of them: caches fetch pairs. */
    if (r->asks && block->vectors == NPC_WINOGRAD_VECTORS && item->parts.most <= NPC_WINOGRAD_ASKING_TILES)
        run.far_step = (item->parts.most == item->tiles ? 2 : 1) * job->lanes * job->size;
    /* No divisions for a point: its products may be few. */
    for (int64_t row = 0, point = 0; point < points; row++)
        for (int64_t column = 0; column < shape->width; column++, point++) {
            const int64_t down = npc_min(row, shape->panels_down - 1);
            const int64_t across = npc_min(column, shape->panels_across - 1);
            run.weights = weights + (down * shape->panels_across + across) * block->panel * job->size;
            run.input = input + point * r->point_stride * job->size;
            run.output = item->products + point * job->lanes * job->size;
            multiply_point(item, block, run);
        }
}

/* Where the slice of an outer tap stands: transformed if no slot holds it yet. */
static const char *slice_of(const npc_winograd_item *item, int64_t pixel, int64_t tap) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    if (r->slots == 1) return item->transformed;
    const char *image = npc_outer_image(job->problem, &item->input, pixel, tap);
    for (int64_t slot = 0; slot < r->slots; slot++)
        if (item->sources[slot] == image) return item->transformed + slot * r->slice_bytes;
    return NULL;
}

/* Transforms the slices that an outer pixel needs over those it does not. */
static void find_slices(const npc_winograd_item *item, int64_t pixel) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    for (int64_t tap = 0; tap < r->slots; tap++) {
        if (r->slots > 1 && slice_of(item, pixel, tap)) continue;
        const char *image = npc_outer_image(job->problem, &item->input, pixel, tap);
        int64_t slot = 0;
        for (int64_t other = 0; r->slots > 1 && other < r->slots; other++) {
            if (npc_outer_image(job->problem, &item->input, pixel, other) != item->sources[slot]) continue;
            slot++;
            other = -1;
        }
        item->sources[slot] = image;
        for (int64_t v = 0; v < r->vectors; v++)
            npc_winograd_transform_input(item, image, item->transformed + slot * r->slice_bytes, v);
    }
}

/* A block of output channels of one outer pixel. */
static void run_outputs(const npc_winograd_item *item, int64_t pixel, int64_t outputs) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    const npc_problem *problem = job->problem;
    const npc_winograd_kind kind = (npc_winograd_kind)r->kind;
    const int64_t blocks = npc_winograd_channel_blocks(problem, kind);
    const npc_band whole = {.outer = pixel};
    npc_winograd_block block = {0};
    const char *weights = NULL;
    for (int64_t tap = 0; tap < r->slots; tap++)
        for (int64_t inputs = 0; inputs < blocks; inputs++) {
            block = npc_winograd_block_of(job->weights_plan, kind, item->group, outputs, inputs);
            weights = item->weights;
            if (r->fresh)
                npc_winograd_pack_block(job->weights_plan, kind, &job->tensors->weight, item->group, outputs,
                                        inputs, item->weights);
            else
                weights = job->weights + (block.offset + tap * block.tap) * job->size;
            if (r->fused) continue;
            multiply_block(item, &block, weights,
                           slice_of(item, pixel, tap) + inputs * NPC_WINOGRAD_CHANNELS * r->tiles * job->size,
                           tap + inputs > 0);
        }
    npc_winograd_transform_output(item, npc_result_band(problem, &item->output, &whole),
                                  outputs * NPC_WINOGRAD_VECTORS * job->lanes, &block, weights);
}

static int64_t output_blocks(const npc_winograd_job *job) {
    return npc_ceil_div(npc_group_outputs(job->problem), NPC_WINOGRAD_VECTORS * job->lanes);
}

static void run_item(void *context, int64_t index, int thread) {
    const npc_winograd_job *job = context;
    npc_winograd_item item = item_at(job, index);
    place_workspace(&item, thread);
    /* The workspace itself is no image. */
    for (int64_t slot = 0; slot < job->recipe->slots; slot++) item.sources[slot] = job->workspace;
    for (int64_t pixel = item.outer; pixel < item.outer + item.outers; pixel++) {
        find_slices(&item, pixel);
        for (int64_t outputs = 0; outputs < output_blocks(job); outputs++) run_outputs(&item, pixel, outputs);
    }
}

/* All threads work at one band, first at its input channels, then at its output channels. */
static void share_inputs(void *context, int64_t index, int thread) {
    npc_winograd_item item = *(const npc_winograd_item *)context;
    char *transformed = item.transformed;
    place_workspace(&item, thread);
    npc_winograd_transform_input(&item, npc_outer_image(item.job->problem, &item.input, item.outer, 0),
                                 transformed, index);
}

static void share_outputs(void *context, int64_t index, int thread) {
    npc_winograd_item item = *(const npc_winograd_item *)context;
    char *transformed = item.transformed;
    place_workspace(&item, thread);
    item.transformed = transformed;
    run_outputs(&item, item.outer, index);
}

static void run_shared(const npc_winograd_job *job, int64_t index) {
    npc_winograd_item item = item_at(job, index);
    const int threads = job->plan->threads;
    place_workspace(&item, 0);
    npc_parallel_for(threads, job->recipe->vectors, share_inputs, &item);
    npc_parallel_for(threads, output_blocks(job), share_outputs, &item);
}

npc_status npc_winograd_run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                            char *workspace) {
    npc_winograd_recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    const npc_plan merged = npc_winograd_merge(plan, (npc_winograd_kind)r.kind);
    const npc_plan merged_weights = npc_winograd_merge_weights(plan, (npc_winograd_kind)r.kind);
    const npc_problem *problem = &merged.problem;
    int32_t places[NPC_WINOGRAD_WORDS];
    npc_winograd_job job = {.plan = &merged,
                            .weights_plan = &merged_weights,
                            .problem = problem,
                            .recipe = &r,
                            .tensors = tensors};
    if (problem->groups < plan->problem.groups) {
        npc_winograd_places(plan, (npc_winograd_kind)r.kind, places);
        job.places = places;
    }
    job.kernels = &plan->kernels->winograd;
    job.weights = weights;
    job.workspace = workspace;
    job.rows = npc_winograd_axis((npc_winograd_kind)r.kind, npc_rows(problem));
    job.columns = npc_winograd_axis((npc_winograd_kind)r.kind, npc_columns(problem));
    const int64_t pieces = npc_winograd_pieces(problem, (npc_winograd_kind)r.kind);
    for (int64_t i = 0; i < pieces; i++)
        job.pieces[i] = npc_winograd_piece_of(problem, (npc_winograd_kind)r.kind, i);
    job.row_bands = npc_ceil_div(r.row_phases * r.tile_rows, r.rows);
    job.phases = job.row_bands % r.row_phases == 0 ? r.row_phases : 1;
    job.column_bands = npc_ceil_div(r.tile_columns, r.columns);
    job.runs = npc_ceil_div(npc_outer_outputs(problem), r.run);
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.lanes = plan->kernels->lanes;
    const double images = (double)problem->batch * (double)problem->input_channels;
    if (images * npc_channel_bytes(problem) >= ASKED_BYTES && job.rows.dilation == 1)
        job.ahead = ROWS_AHEAD * npc_row_stride(problem, &tensors->input) / job.size;
    for (int thread = 0; thread < plan->threads; thread++)
        *(int *)(void *)(workspace + (size_t)thread * plan->thread_bytes) = 0;
    const int64_t items = npc_ceil_div(problem->batch, r.images) * problem->groups * job.row_bands *
                          job.column_bands * job.runs;
    if (!r.shared)
        npc_parallel_for(plan->threads, items, run_item, &job);
    else
        for (int64_t item = 0; item < items; item++) run_shared(&job, item);
    for (int thread = 0; thread < plan->threads; thread++)
        if (*(int *)(void *)(workspace + (size_t)thread * plan->thread_bytes)) return NPC_NOT_FINITE;
    return NPC_OK;
}

const npc_algorithm npc_algorithm_winograd = {
    .name = "winograd",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = npc_winograd_packed_bytes,
    .pack = npc_winograd_pack,
    .order = npc_winograd_order,
    .turns_taps = INT64_MAX,
    .run = npc_winograd_run,
};
