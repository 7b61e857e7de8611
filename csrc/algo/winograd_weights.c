/* The weights of winograd.c: transformed with vectors along output channels. */
#include "../convert.h"
#include "../parallel.h"
#include "weights.h"
#include "winograd.h"

enum { SCRATCH_BYTES = NPC_WINOGRAD_TAPS * 64 }; /* of kernels, before and after they are turned */

static int64_t panels_of(npc_winograd_kind kind) {
    return npc_winograd_shapes[kind].panels_down * npc_winograd_shapes[kind].panels_across;
}

static int64_t vectors_of(const npc_plan *plan) {
    return npc_ceil_div(npc_group_outputs(&plan->problem), plan->kernels->lanes);
}

npc_winograd_block npc_winograd_block_of(const npc_plan *plan, npc_winograd_kind kind, int64_t group,
                                         int64_t outputs, int64_t inputs) {
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, panels = panels_of(kind);
    const int64_t blocks = npc_winograd_channel_blocks(problem, kind), taps = npc_outer_taps(problem);
    const int64_t vectors = vectors_of(plan), pairs = npc_ceil_div(vectors, NPC_WINOGRAD_VECTORS);
    const npc_winograd_channels channels = npc_winograd_channels_of(problem, kind, inputs);
    const int64_t all = channels.pieces * npc_group_inputs(problem);
    npc_winograd_block block = {.vectors =
                                    npc_min(NPC_WINOGRAD_VECTORS, vectors - outputs * NPC_WINOGRAD_VECTORS),
                                .pieces = channels.pieces,
                                .channels = channels.channels,
                                .inputs = channels.inputs};
    block.panel = (block.inputs * block.vectors + 1) * lanes;
    block.tap = panels * (all * block.vectors + blocks) * lanes;
    block.offset = group * taps * panels * (all * vectors + blocks * pairs) * lanes +
                   outputs * taps * panels * (all * NPC_WINOGRAD_VECTORS + blocks) * lanes +
                   panels * (channels.pieces * channels.first * block.vectors + inputs) * lanes;
    return block;
}

int64_t npc_winograd_weights(const npc_plan *plan, npc_winograd_kind kind) {
    return npc_winograd_block_of(plan, kind, plan->problem.groups, 0, 0).offset;
}

/* Kernels of one output channel and some input channels, as they would lie in a plain weight. */
static void load_kernels(const npc_problem *problem, const npc_tensor *weight, const char *from,
                         int64_t channels, char *to) {
    const int64_t columns = npc_columns(problem).kernel, rows = npc_taps(problem) / columns;
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    for (int64_t i = 0; i < channels * rows; i++, to += columns * size) {
        const char *row = from + i / rows * weight->channel_stride;
        int64_t rest = i % rows;
        for (int a = problem->spatial_axes - 2; a >= 0; a--) {
            row += rest % problem->axis[a].kernel * weight->stride[a];
            rest /= problem->axis[a].kernel;
        }
        npc_load_part(to, weight, problem->compute, row, npc_column_stride(problem, weight), 0, columns);
    }
}

/* Kernels of some channels, a vector of output channels for every tap. */
typedef struct {
    const char *taps;
    int64_t channels;
    int order; /* of a kernel's taps: 1, or -1 backwards */
} turned_kernels;

/* Into their points for every piece and outer tap. */
static void transform_kernels(const npc_plan *plan, npc_winograd_kind kind, const npc_winograd_block *block,
                              const turned_kernels *turned, char *target) {
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    const npc_axis rows = npc_winograd_axis(kind, npc_rows(problem)),
                   columns = npc_winograd_axis(kind, npc_columns(problem));
    const int64_t taps = npc_taps(problem), outer_taps = npc_outer_taps(problem);
    const int64_t start = turned->order < 0 ? taps - 1 : 0, step = turned->order * lanes;
    npc_winograd_weights_run run = {.row_step = rows.stride * columns.kernel * step,
                                    .column_step = columns.stride * step,
                                    .channels = turned->channels,
                                    .channel_step = taps * lanes,
                                    .point_stride = block->panel,
                                    .output_step = block->vectors * lanes};
    for (int64_t i = 0; i < block->pieces; i++) {
        const npc_winograd_piece piece = npc_winograd_piece_of(problem, kind, i);
        const int64_t first = piece.row * columns.kernel + piece.column;
        run.rows = piece.rows;
        run.columns = piece.columns;
        for (int64_t tap = 0; tap < outer_taps; tap++) {
            run.kernels = turned->taps + (start * lanes + (tap * (taps / outer_taps) + first) * step) * size;
            run.output = target + (tap * block->tap + i * block->channels * run.output_step) * size;
            plan->kernels->winograd.weights[kind](&run);
        }
    }
}

/* Channel by channel: what is stored beyond a channel's taps, the next one's take the place of. */
static void turn_by_outputs(const npc_plan *plan, const npc_tensor *weight, const char *kernels,
                            const turned_kernels *turned, npc_winograd_gather rows) {
    const int64_t size = (int64_t)npc_compute_size(plan->problem.compute), taps = npc_taps(&plan->problem);
    const char *first = kernels - (turned->order < 0 ? (taps - 1) * size : 0);
    char *pixels = rows.pixels;
    rows.channel_stride = rows.extent = rows.to = taps;
    for (int64_t c = 0; c < turned->channels; c++) {
        rows.rows = first + c * weight->channel_stride;
        rows.pixels = pixels + c * taps * plan->kernels->lanes * size;
        plan->kernels->winograd.gather(&rows);
    }
}

/* Output channels side by side are vectors already. */
static void copy_outputs(const npc_plan *plan, const npc_tensor *weight, int64_t k, int64_t channel,
                         const npc_winograd_gather *rows) {
    const npc_problem *problem = &plan->problem;
    const int64_t size = (int64_t)npc_compute_size(problem->compute), columns = npc_columns(problem).kernel;
    const int64_t first = channel * (npc_taps(problem) / columns);
    npc_copy copy = {.target = rows->pixels,
                     .count = columns,
                     .extent = plan->kernels->lanes,
                     .source_stride = npc_column_stride(problem, weight) / size,
                     .to = rows->channels};
    for (int64_t row = 0; row < rows->extent / columns; row++) {
        copy.source = npc_weights_row(problem, weight, k, first + row);
        plan->kernels->copy[0](&copy);
        copy.target = (char *)copy.target + columns * copy.extent * size;
    }
}

void npc_winograd_pack_block(const npc_plan *plan, npc_winograd_kind kind, const npc_tensor *weight,
                             int64_t group, int64_t outputs, int64_t inputs, char *target) {
    const npc_problem *problem = &plan->problem;
    const npc_winograd_block block = npc_winograd_block_of(plan, kind, group, outputs, inputs);
    const int64_t first_channel = npc_winograd_channels_of(problem, kind, inputs).first;
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    const int64_t taps = npc_taps(problem);
    const int64_t step = npc_clamp(SCRATCH_BYTES / (taps * lanes * size), 1, block.channels);
    const int plain = npc_weights_lie_plainly(problem, weight);
    const int side_by_side = !plain && npc_weights_side_by_side(problem, weight);
    const int order = plain || side_by_side ? 0 : npc_weights_by_outputs(problem, weight);
    long double lines[SCRATCH_BYTES / sizeof(long double)], turned[SCRATCH_BYTES / sizeof(long double) + 64];
    for (int64_t v = 0; v < block.vectors; v++) {
        const int64_t first = (outputs * NPC_WINOGRAD_VECTORS + v) * lanes;
        const int64_t count = npc_min(lanes, npc_group_outputs(problem) - first);
        const int64_t k = group * npc_group_outputs(problem) + first;
        const char *from = weight->data + k * weight->batch_stride;
        for (int64_t c = 0; c < block.channels; c += step) {
            const int64_t channels = npc_min(step, block.channels - c);
            const char *kernels = from + (first_channel + c) * weight->channel_stride;
            const turned_kernels run = {(const char *)turned, channels, order ? order : 1};
            for (int64_t i = 0; i < count && !plain && !side_by_side && !order; i++)
                load_kernels(problem, weight, kernels + i * weight->batch_stride, channels,
                             (char *)lines + i * step * taps * size);
            npc_winograd_gather rows = {.rows = plain ? (const void *)kernels : lines,
                                        .pixels = turned,
                                        .channel_stride =
                                            plain ? npc_group_inputs(problem) * taps : step * taps,
                                        .extent = channels * taps,
                                        .to = channels * taps,
                                        .channels = (int)count};
            if (side_by_side)
                copy_outputs(plan, weight, k, first_channel + c, &rows);
            else if (order)
                turn_by_outputs(plan, weight, kernels, &run, rows);
            else
                plan->kernels->winograd.gather(&rows);
            transform_kernels(plan, kind, &block, &run, target + (c * block.vectors + v) * lanes * size);
        }
    }
}

typedef struct {
    const npc_plan *plan;
    npc_winograd_kind kind;
    const npc_tensor *weight;
    char *packed;
} pack_job;

/* Items in the order group, outputs, inputs. */
static void pack_item(void *context, int64_t index, int thread) {
    const pack_job *job = context;
    const npc_plan *plan = job->plan;
    const int64_t pairs = npc_ceil_div(vectors_of(plan), NPC_WINOGRAD_VECTORS);
    const int64_t blocks = npc_winograd_channel_blocks(&plan->problem, job->kind);
    const int64_t size = (int64_t)npc_compute_size(plan->problem.compute);
    const int64_t inputs = index % blocks, outputs = index / blocks % pairs, group = index / blocks / pairs;
    (void)thread;
    npc_winograd_pack_block(plan, job->kind, job->weight, group, outputs, inputs,
                            job->packed +
                                npc_winograd_block_of(plan, job->kind, group, outputs, inputs).offset * size);
}

void npc_winograd_pack_all(const npc_plan *plan, npc_winograd_kind kind, const npc_tensor *weight,
                           void *packed) {
    pack_job job = {plan, kind, weight, packed};
    npc_parallel_for(plan->threads,
                     plan->problem.groups * npc_ceil_div(vectors_of(plan), NPC_WINOGRAD_VECTORS) *
                         npc_winograd_channel_blocks(&plan->problem, kind),
                     pack_item, &job);
}
