/* The sums of blocked.c into the result: vectors of channels become rows of pixels. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "blocked.h"

/* A result of compute type, a vector of channels of which the band's pixels lie in rows. */
static void store_rows(const npc_blocked_item *item, const npc_block_rows *given, char *result) {
    const npc_blocked_job *job = item->job;
    const int64_t row_stride = npc_row_stride(job->problem, &job->tensors->output),
                  width = item->band.columns;
    npc_block_rows rows = *given;
    const int joined = item->band.rows == 1 || row_stride == width * job->size;
    rows.target_stride = job->tensors->output.channel_stride / job->size;
    rows.count = joined ? item->band.rows * width : width;
    for (int64_t row = 0; row < (joined ? 1 : item->band.rows); row++) {
        rows.target = result + row * row_stride;
        rows.source = (const char *)given->source + row * width * given->source_stride * job->size;
        job->plan->kernels->block_store(&rows);
    }
}

/* Any result, by way of lines in compute type. */
static void store_lines(const npc_blocked_item *item, const npc_block_rows *given, char *result) {
    const npc_blocked_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    const int64_t width = item->band.columns, column_stride = npc_column_stride(job->problem, output);
    const int64_t row_stride = npc_row_stride(job->problem, output);
    const int joined = row_stride == width * column_stride;
    npc_store *store = npc_storer(job->problem->scalar);
    npc_block_rows rows = *given;
    rows.target = item->lines;
    rows.count = item->band.rows * width;
    rows.target_stride = npc_blocked_line(job->plan, job->recipe);
    job->plan->kernels->block_store(&rows);
    for (int k = 0; k < rows.channels; k++)
        for (int64_t row = 0; row < (joined ? 1 : item->band.rows); row++)
            store(result + k * output->channel_stride + row * row_stride, column_stride,
                  item->lines + (k * rows.target_stride + row * width) * job->size,
                  joined ? rows.count : width);
}

/* Channels that are neighbours in the result need no turning around. */
static void store_channels(const npc_blocked_item *item, const npc_block_rows *given, char *result) {
    const npc_blocked_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    const char *sums = given->source;
    for (int64_t row = 0; row < item->band.rows; row++)
        for (int64_t column = 0; column < item->band.columns;
             column++, sums += given->source_stride * job->size)
            memcpy(result + row * npc_row_stride(job->problem, output) +
                       column * npc_column_stride(job->problem, output),
                   sums, (size_t)(given->channels * job->size));
}

/* Of a channel of the item's n-th image under the band. */
static char *first_pixel(const npc_blocked_item *item, int64_t n, int64_t channel) {
    const npc_blocked_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    npc_band band = item->band;
    band.outer = (item->image + n) % job->outers;
    return npc_result_band(job->problem, output, &band) +
           (item->image + n) / job->outers * output->batch_stride +
           (item->group * npc_group_outputs(job->problem) + item->first + channel) * output->channel_stride;
}

void npc_blocked_store(const npc_blocked_item *item, const npc_blocked_block *block) {
    const npc_blocked_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *output = &job->tensors->output;
    const int64_t lanes = job->plan->kernels->lanes, pitch = block->vectors * lanes;
    const int is_compute = npc_is_compute(problem->scalar, problem->compute);
    const int in_rows = is_compute && npc_column_stride(problem, output) == job->size &&
                        npc_counts_in_elements(problem, output);
    if (problem->activation != NPC_ACTIVATION_CLIP)
        npc_activate(problem, item->sums, item->band.rows * item->band.columns * item->images * pitch);
    for (int64_t i = 0; i < item->images * block->vectors; i++) {
        const int64_t n = i / block->vectors, v = i % block->vectors;
        const npc_block_rows rows = {.source = item->sums + (n * pitch + v * lanes) * job->size,
                                     .source_stride = item->images * pitch,
                                     .channels = (int)npc_min(lanes, block->count - v * lanes)};
        char *result = first_pixel(item, n, block->first + v * lanes);
        if (in_rows)
            store_rows(item, &rows, result);
        else if (is_compute && output->channel_stride == job->size)
            store_channels(item, &rows, result);
        else
            store_lines(item, &rows, result);
    }
}
