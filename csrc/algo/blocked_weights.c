#include "blocked.h"

#include <string.h>

#include "../parallel.h"
#include "weights.h"

NPC_VECTORISE

int64_t npc_blocked_outputs(const npc_plan *plan) {
    return npc_round_up(npc_group_outputs(&plan->problem), plan->kernels->lanes);
}

int npc_blocked_vectors(const npc_plan *plan, int64_t left) {
    return left > plan->kernels->lanes ? NPC_BLOCK_VECTORS : 1;
}

/* Where a run's elements, which lie by channel, outer tap, row, column, come to stand: channels after rows, and perhaps after
 * columns, so that padding can be left out. */
static void list_places(const npc_taps_block *taps, int by_columns, int64_t *places) {
    for (int64_t c = 0; c < taps->channels; c++)
        for (int64_t row = 0; row < taps->outers * taps->rows; row++)
            for (int64_t column = 0; column < taps->columns; column++)
                *places++ = by_columns ? (row * taps->columns + column) * taps->channels + c
                                       : (row * taps->channels + c) * taps->columns + column;
}

/* Output channels side by side, as they are in the block's rows: as many rows at once as lie a stride apart. */
static void copy_outputs(const npc_blocked_packer *packer, const npc_taps_block *taps, int64_t k,
                         int64_t count, const npc_block_rows *rows) {
    const npc_problem *problem = &packer->plan->problem;
    const npc_tensor *weight = packer->weight;
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    const int64_t kernel_rows = npc_rows(problem).kernel, stride = npc_column_stride(problem, weight);
    const int by_columns = packer->recipe->by_columns || taps->columns == 1;
    npc_copy copy = {.target = rows->target,
                     .count = by_columns ? taps->channels : taps->columns,
                     .extent = rows->target_stride,
                     .source_stride = (by_columns ? weight->channel_stride : stride) / size,
                     .to = npc_min(count, rows->target_stride)};
    const int64_t copies = by_columns ? taps->columns : taps->channels;
    for (int64_t row = 0; row < taps->outers * taps->rows; row++)
        for (int64_t i = 0; i < copies; i++) {
            const int64_t channel = by_columns ? 0 : i, column = by_columns ? i : 0;
            const int64_t outer =
                (taps->channel + channel) * npc_outer_taps(problem) + taps->outer + row / taps->rows;
            copy.source =
                npc_weights_row(problem, weight, k, outer * kernel_rows + taps->row + row % taps->rows) +
                (taps->column + column) * stride;
            packer->plan->kernels->copy[0](&copy);
            copy.target = (char *)copy.target + copy.count * copy.extent * size;
        }
}

/* The run's first element in the weight's own order, and how many there are. */
static int64_t first_element(const npc_problem *problem, const npc_taps_block *taps) {
    return ((taps->channel * npc_outer_taps(problem) + taps->outer) * npc_rows(problem).kernel + taps->row) *
               npc_columns(problem).kernel +
           taps->column;
}

int64_t npc_blocked_elements(const npc_taps_block *taps) {
    return taps->channels * taps->outers * taps->rows * taps->columns;
}

/* By words of 32 bits, as that is quick; a double's lower half may look like what it is not, and costs time alone. */
static npc_blocked_flag are_finite(npc_compute compute, int64_t count, const void *weights) {
    const uint32_t exponent = compute == NPC_COMPUTE_f32 ? 0x7f800000u : 0x7ff00000u;
    const uint32_t *words = weights;
    uint32_t found = 0;
    count *= (int64_t)npc_compute_size(compute) / 4;
    for (int64_t i = 0; i < count; i++) found |= (words[i] & exponent) == exponent;
    return !found;
}

npc_blocked_flag npc_blocked_pack_block(const npc_blocked_packer *packer, int64_t k, int64_t count,
                                        int vectors, char *target) {
    const npc_problem *problem = &packer->plan->problem;
    const npc_kernels *kernels = packer->plan->kernels;
    const int64_t size = (int64_t)npc_compute_size(problem->compute), lanes = kernels->lanes;
    const int side_by_side = !packer->plain && npc_weights_side_by_side(problem, packer->weight);
    const npc_compute compute = problem->compute;
    const int checks = compute == NPC_COMPUTE_f32 || compute == NPC_COMPUTE_f64;
    /* A single tap leaves out too little. */
    npc_blocked_flag flag = npc_taps(problem) > 1 && compute != NPC_COMPUTE_ld;
    for (int64_t run = 0; run < packer->recipe->split.blocks; run++) {
        const npc_taps_block taps = npc_split_taps(problem, &packer->recipe->split, run);
        const int64_t from = first_element(problem, &taps);
        npc_block_rows rows = {.places = packer->places,
                               .count = npc_blocked_elements(&taps),
                               .target_stride = vectors * lanes,
                               .checks = checks && flag};
        list_places(&taps, (int)packer->recipe->by_columns, packer->places);
        if (side_by_side) {
            rows.target = target;
            copy_outputs(packer, &taps, k, count, &rows);
            if (rows.checks) flag = are_finite(compute, rows.count * vectors * lanes, target);
        }
        for (int v = 0; v < vectors && !side_by_side; v++) {
            const int64_t first = k + v * lanes;
            rows.channels = (int)npc_min(lanes, count - v * lanes);
            rows.target = target + v * lanes * size;
            if (packer->plain) {
                rows.source = packer->weight->data + (first * npc_reduction(problem) + from) * size;
                rows.source_stride = npc_reduction(problem);
            } else {
                for (int i = 0; i < rows.channels; i++)
                    npc_weights_load(problem, packer->weight, (first + i) * npc_reduction(problem) + from,
                                     rows.count, packer->rows + i * NPC_BLOCKED_RUN * size);
                rows.source = packer->rows;
                rows.source_stride = NPC_BLOCKED_RUN;
            }
            if (!kernels->block_weights(&rows)) flag = 0;
        }
        target += rows.count * vectors * lanes * size;
    }
    return flag;
}

int64_t npc_blocked_blocks(const npc_plan *plan) {
    return npc_ceil_div(npc_group_outputs(&plan->problem), plan->kernels->lanes * NPC_BLOCK_VECTORS);
}

int64_t npc_blocked_flag_bytes(const npc_plan *plan) {
    return npc_aligned_bytes(plan->problem.groups * npc_blocked_blocks(plan) *
                             (int64_t)sizeof(npc_blocked_flag));
}

enum { VECTOR_BYTES = 64 }; /* of any kernels: 16 floats, 4 long doubles */

typedef struct {
    const npc_plan *plan;
    const npc_blocked_recipe *recipe;
    const npc_tensor *weight;
    char *packed;
} pack_job;

/* One block of one group, in the order of npc_blocked_pack. */
static void pack_item(void *context, int64_t index, int thread) {
    const pack_job *job = context;
    const npc_problem *problem = &job->plan->problem;
    const int64_t block = job->plan->kernels->lanes * NPC_BLOCK_VECTORS, outputs = npc_group_outputs(problem);
    const int64_t blocks = npc_blocked_blocks(job->plan), first = index % blocks * block;
    int64_t places[NPC_BLOCKED_RUN];
    long double rows[NPC_BLOCKED_RUN * VECTOR_BYTES / sizeof(long double)]; /* the best aligned */
    const npc_blocked_packer packer = {job->plan,    job->recipe,
                                       job->weight,  places,
                                       (char *)rows, npc_weights_lie_plainly(problem, job->weight)};
    const int64_t size = (int64_t)npc_compute_size(problem->compute), reduction = npc_reduction(problem);
    const int vectors = npc_blocked_vectors(job->plan, outputs - first);
    char *packed = job->packed + npc_blocked_flag_bytes(job->plan) +
                   (index / blocks * npc_blocked_outputs(job->plan) + first) * reduction * size;
    (void)thread;
    ((npc_blocked_flag *)(void *)job->packed)[index] = npc_blocked_pack_block(
        &packer, index / blocks * outputs + first, npc_min(block, outputs - first), vectors, packed);
}

void npc_blocked_pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    npc_blocked_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    pack_job job = {plan, &recipe, weight, packed};
    npc_parallel_for(plan->threads, plan->problem.groups * npc_blocked_blocks(plan), pack_item, &job);
}
