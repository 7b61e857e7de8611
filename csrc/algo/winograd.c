/* Winograd's minimal filtering F(4x4, 3x3): 36 products for 16 outputs of a 3x3 kernel in place of 144.
 *
 *     output tile = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A,   d a tile of 6x6 pixels, g the kernel
 *
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The interpolation points are 0, +-1/sqrt(2),
 * +-sqrt(2) and infinity, whose error is a third of that of 0, +-1, +-2 and infinity: Barabasz et al., "Error Analysis
 * and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.
 *
 * Kernels of 3 along one axis and 1 along the other take F(4, 3) in one dimension. Taps of axes before rows and columns are
 * summed like channels, between the transforms, and each slice of the input is transformed once for all outputs that need
 * it. A dilation makes of an image as many interleaved ones, each of which is undilated.
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
#include "planes.h"

_Static_assert(sizeof(npc_winograd_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

enum { MOST_WORKSPACE = 8 << 20, MOST_OUTER_TAPS = 32 };

const char *npc_winograd_applicable(const npc_plan *plan, npc_winograd_kind kind) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (rows.stride != 1 || columns.stride != 1) return "only for stride 1";
    if (problem->strict) return "precision is strict";
    if (problem->parts != 1 || !npc_is_compute(problem->scalar, problem->compute) ||
        !plan->kernels->winograd.gather)
        return "only for float32 and float64";
    if (npc_outer_taps(problem) > MOST_OUTER_TAPS) return "too many taps before rows and columns";
    if (rows.dilation > 1 << 16 || columns.dilation > 1 << 16) return "too large a dilation";
    npc_plan single = *plan;
    single.threads = 1;
    const npc_winograd_recipe r = npc_winograd_cut(&single, kind);
    if (npc_winograd_thread_bytes(&r) > MOST_WORKSPACE) return "too many input channels for its workspace";
    return NULL;
}

static npc_winograd_kind kind_of(const npc_plan *plan) {
    if (npc_rows(&plan->problem).kernel == 1) return NPC_WINOGRAD_1X4;
    return npc_columns(&plan->problem).kernel == 1 ? NPC_WINOGRAD_4X1 : NPC_WINOGRAD_4X4;
}

static const char *applicable(const npc_plan *plan) {
    const int64_t rows = npc_rows(&plan->problem).kernel, columns = npc_columns(&plan->problem).kernel;
    if ((rows != 1 && rows != 3) || (columns != 1 && columns != 3) || rows * columns == 1)
        return "only for 3x3, 1x3 and 3x1 kernels";
    return npc_winograd_applicable(plan, kind_of(plan));
}

static const char *worthwhile(const npc_plan *plan) {
    const npc_winograd_kind kind = kind_of(plan);
    const double cycles = npc_winograd_cycles(plan, kind);
    if (kind == NPC_WINOGRAD_4X4 && npc_winograd_cycles(plan, NPC_WINOGRAD_2X2) < cycles)
        return "tiles of 2x2 would cost less";
    return cycles < npc_winograd_direct_cycles(plan) ? NULL : "its transforms would cost more than they save";
}

void npc_winograd_prepare(npc_plan *plan, npc_winograd_kind kind) {
    const npc_problem *problem = &plan->problem;
    const npc_winograd_recipe r = npc_winograd_cut(plan, kind);
    const int64_t bands =
        npc_ceil_div(r.row_phases * r.tile_rows, r.rows) * npc_ceil_div(r.tile_columns, r.columns);
    const int64_t items = bands * npc_ceil_div(problem->batch, r.images) * problem->groups *
                          npc_ceil_div(npc_outer_outputs(problem), r.run);
    if (!r.shared) plan->threads = (int)npc_min(plan->threads, items);
    memcpy(plan->recipe, &r, sizeof r);
    plan->thread_bytes = (size_t)npc_winograd_thread_bytes(&r);
}

size_t npc_winograd_packed_bytes(const npc_plan *plan, npc_winograd_kind kind) {
    npc_winograd_recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    return r.fresh ? 0 : (size_t)npc_winograd_weights(plan, kind) * npc_compute_size(plan->problem.compute);
}

static void prepare(npc_plan *plan) { npc_winograd_prepare(plan, kind_of(plan)); }

static size_t packed_bytes(const npc_plan *plan) { return npc_winograd_packed_bytes(plan, kind_of(plan)); }

static void pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    npc_winograd_pack(plan, kind_of(plan), weight, packed);
}

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

/* Bands in the order batch, group, row, column, outer pixels. */
static npc_winograd_item item_at(const npc_winograd_job *job, int64_t index) {
    const npc_problem *problem = job->problem;
    const npc_winograd_recipe *r = job->recipe;
    const npc_tensors *tensors = job->tensors;
    npc_winograd_item item = {.job = job, .input = tensors->input, .output = tensors->output};
    item.outer = index % job->runs * r->run;
    item.column = (index /= job->runs) % job->column_bands * r->columns;
    item.row = (index /= job->column_bands) % job->row_bands * r->rows;
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
    item.plain_input = problem->padding_mode == NPC_PADDING_ZEROS && npc_lies_in_rows(problem, &item.input) &&
                       npc_counts_in_elements(problem, &item.input);
    item.plain_output =
        npc_lies_in_rows(problem, &item.output) && npc_counts_in_elements(problem, &item.output);
    return item;
}

/* All products of one block of channels with all tiles. */
static void multiply_block(const npc_winograd_item *item, const npc_winograd_block *block,
                           const char *weights, const char *input, int accumulate) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    const int64_t points = npc_winograd_points(r), most = job->kernels->tiles;
    const int64_t tiles = item->images * item->rows * r->column_phases * item->columns,
                  parts = npc_ceil_div(tiles, most);
    npc_winograd_product run = {.channels = block->channels,
                                .input_stride = r->tiles * job->lanes,
                                .vector_stride = r->tiles * points * job->lanes,
                                .tile_stride = points * job->lanes,
                                .accumulate = accumulate};
    for (int64_t point = 0; point < points; point++) {
        run.weights = weights + point * block->panel * job->size;
        for (int64_t part = 0; part < parts; part++) {
            const int64_t first = part * tiles / parts, count = (part + 1) * tiles / parts - first;
            run.input = input + (point * r->point_stride + first * job->lanes) * job->size;
            run.output = item->products + (first * points + point) * job->lanes * job->size;
            job->kernels->product[block->vectors - 1][count - 1](&run);
        }
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
    const int64_t vectors = npc_ceil_div(npc_group_inputs(job->problem), job->lanes);
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
        for (int64_t v = 0; v < vectors; v++)
            npc_winograd_transform_input(item, image, item->transformed + slot * r->slice_bytes, v);
    }
}

/* A block of output channels of one outer pixel. */
static void run_outputs(const npc_winograd_item *item, int64_t pixel, int64_t outputs) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    const npc_problem *problem = job->problem;
    const npc_winograd_kind kind = (npc_winograd_kind)r->kind;
    const int64_t blocks = npc_ceil_div(npc_group_inputs(problem), NPC_WINOGRAD_CHANNELS);
    const npc_band whole = {.outer = pixel};
    int64_t vectors = 0;
    for (int64_t tap = 0; tap < r->slots; tap++)
        for (int64_t inputs = 0; inputs < blocks; inputs++) {
            const npc_winograd_block block =
                npc_winograd_block_of(job->plan, kind, item->group, outputs, inputs);
            const char *weights = item->weights;
            if (r->fresh)
                npc_winograd_pack_block(job->plan, kind, &job->tensors->weight, item->group, outputs, inputs,
                                        item->weights);
            else
                weights = job->weights + (block.offset + tap * block.tap) * job->size;
            multiply_block(item, &block, weights,
                           slice_of(item, pixel, tap) + inputs * NPC_WINOGRAD_CHANNELS * r->tiles * job->size,
                           tap + inputs > 0);
            vectors = block.vectors;
        }
    npc_winograd_transform_output(item, npc_result_band(problem, &item->output, &whole),
                                  outputs * NPC_WINOGRAD_VECTORS * job->lanes, vectors);
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
    npc_parallel_for(threads, npc_ceil_div(npc_group_inputs(job->problem), job->lanes), share_inputs, &item);
    npc_parallel_for(threads, output_blocks(job), share_outputs, &item);
}

npc_status npc_winograd_run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                            char *workspace) {
    const npc_problem *problem = &plan->problem;
    npc_winograd_recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    npc_winograd_job job = {.plan = plan, .problem = problem, .recipe = &r, .tensors = tensors};
    job.kernels = &plan->kernels->winograd;
    job.weights = weights;
    job.workspace = workspace;
    job.row_bands = npc_ceil_div(r.row_phases * r.tile_rows, r.rows);
    job.column_bands = npc_ceil_div(r.tile_columns, r.columns);
    job.runs = npc_ceil_div(npc_outer_outputs(problem), r.run);
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.lanes = plan->kernels->lanes;
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
    .packed_bytes = packed_bytes,
    .pack = pack,
    .run = npc_winograd_run,
};
