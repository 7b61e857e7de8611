/* The weight's gradient with vectors along output channels, for few input channels.
 *
 * Vectors along kernel columns and input channels together leave lanes empty where these are a little more than a vector:
 * 7 columns of 3 channels are 21. Here the result's gradient is turned, some pixels at a time, and the input broadcast: the
 * window's elements are neighbours, as the pixels of the blocked algorithm's kernels are. */
#include "gradient_item.h"

static int64_t pair_of(const npc_gradient_item *item) {
    return NPC_BLOCK_VECTORS * item->job->plan->kernels->lanes;
}

/* Output channels of the vectors from `first` on, empty lanes counted. */
static int64_t width_at(const npc_gradient_item *item, int64_t first) {
    const int64_t left = npc_round_up(item->outputs - first, item->job->plan->kernels->lanes);
    return npc_min(pair_of(item), left);
}

int64_t npc_gradient_turned_at(const npc_gradient_item *item, int64_t output, int64_t input) {
    const int64_t first = output / pair_of(item) * pair_of(item);
    return first * npc_gradient_item_taps(item) * item->inputs + input * width_at(item, first) + output -
           first;
}

int64_t npc_gradient_turned_step(const npc_gradient_item *item, int64_t output) {
    return item->inputs * width_at(item, output / pair_of(item) * pair_of(item));
}

/* Vectors from output channel `first` on of some pixels, one after the other. */
static void turn(const npc_gradient_item *item, const npc_gradient_rows *rows, int64_t first,
                 npc_block_rows run) {
    const npc_gradient_job *job = item->job;
    const int64_t lanes = job->plan->kernels->lanes;
    run.target_stride = width_at(item, first);
    run.source_stride = rows->channel_stride;
    for (int64_t v = 0; v < run.target_stride; v += lanes) {
        npc_block_rows part = run;
        part.source = (const char *)run.source + (first + v) * rows->channel_stride * job->size;
        part.target = (char *)run.target + v * job->size;
        part.channels = (int)npc_min(lanes, item->outputs - first - v);
        job->plan->kernels->block_weights(&part);
    }
}

/* Every tap of one kernel row, as neighbouring elements of the window, or of one tap. */
static void multiply_window(const npc_gradient_item *item, npc_block tile, int64_t from, int64_t width,
                            int64_t lanes) {
    const npc_gradient_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t parts = npc_ceil_div(width, kernels->pixels), vectors = lanes / kernels->lanes;
    char *sums = tile.sums;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t at = width * part / parts, next = width * (part + 1) / parts;
        tile.input = item->band + (from + at) * job->size;
        tile.sums = sums + at * lanes * job->size;
        kernels->block[next - at - 1][vectors - 1](&tile);
    }
}

static void multiply_taps(const npc_gradient_item *item, const npc_input_band *input, npc_block tile,
                          int64_t lanes) {
    const npc_taps_block *taps = &item->taps;
    const int joined = input->columns.tap_step == 1;
    const int64_t columns = joined ? 1 : taps->columns, width = taps->columns / columns * item->inputs;
    const int64_t pitch = input->columns.extent * item->inputs;
    char *sums = tile.sums;
    for (int64_t r = 0; r < taps->rows; r++)
        for (int64_t q = 0; q < columns; q++) {
            tile.sums = sums + (r * taps->columns + q) * item->inputs * lanes * item->job->size;
            multiply_window(item, tile,
                            r * input->rows.tap_step * pitch + q * input->columns.tap_step * item->inputs,
                            width, lanes);
        }
}

void npc_gradient_multiply_turned(const npc_gradient_item *item, const npc_input_band *input, int64_t outer,
                                  const npc_gradient_rows *rows) {
    const npc_gradient_job *job = item->job;
    const int64_t pixels = input->band.rows * input->band.columns,
                  runs = npc_ceil_div(pixels, NPC_GRADIENT_RUN);
    const int64_t taps = item->taps.rows * item->taps.columns * item->inputs;
    int64_t places[NPC_GRADIENT_RUN];
    for (int64_t i = 0; i < npc_min(pixels, NPC_GRADIENT_RUN); i++) places[i] = i;
    for (int64_t run = 0; run < runs; run++) {
        const int64_t from = pixels * run / runs, count = pixels * (run + 1) / runs - from;
        const npc_block_rows source = {.source = rows->first + from * job->size,
                                       .target = item->turned,
                                       .places = places,
                                       .count = count};
        npc_block tile = {.weights = item->turned,
                          .offsets = item->offsets + from,
                          .reduction = count,
                          .accumulate = item->started || run > 0};
        for (int64_t first = 0; first < item->outputs; first += pair_of(item)) {
            const int64_t lanes = width_at(item, first);
            turn(item, rows, first, source);
            tile.sums =
                item->sums +
                (first * npc_gradient_item_taps(item) * item->inputs + outer * taps * lanes) * job->size;
            multiply_taps(item, input, tile, lanes);
        }
    }
}
