/* An item of the weight's gradient, in a thread's hands: what the files of weight_gradient.c share. */
#ifndef NPC_GRADIENT_ITEM_H
#define NPC_GRADIENT_ITEM_H

#include "gradient_bands.h"
#include "weight_gradient.h"

typedef struct {
    const npc_weight_gradient *plan;
    const npc_problem *problem;
    const npc_gradient_blocking *blocking;
    const npc_tensors *tensors;
    char *workspace, *waiting; /* sums of all slices */
    int64_t output_chunks, input_chunks, outer_chunks, row_chunks, column_chunks;
    int64_t bands, row_bands, column_bands;
    int64_t size, parts;
    int in_place; /* the result may be written by whole rows of taps */
    int is_sums;  /* and the sums are made where it lies */
} npc_gradient_job;

typedef struct {
    const npc_gradient_job *job;
    int64_t output, outputs; /* channels, counted over all groups */
    int64_t input, inputs;   /* in the group */
    int64_t groups;          /* that have so many each */
    npc_taps_block taps;
    const char *images; /* the input from the item's first channel on */
    char *band, *gradient, *turned, *row, *sums;
    int64_t sum_stride; /* elements from one output channel to the next, complex ones from part to part */
    int64_t *offsets;
    npc_band listed; /* what offsets were listed for */
    int started;     /* sums hold something */
} npc_gradient_item;

/* Rows of the gradient, read in place or packed. */
typedef struct {
    const char *first;
    int64_t channel_stride, row_stride; /* elements */
} npc_gradient_rows;

NPC_INLINE int64_t npc_gradient_item_taps(const npc_gradient_item *item) {
    return item->taps.outers * item->taps.rows * item->taps.columns;
}

/* gradient_turned.c: the band of one outer tap, with vectors along output channels. */
void npc_gradient_multiply_turned(const npc_gradient_item *item, const npc_input_band *input, int64_t outer,
                                  const npc_gradient_rows *rows);
/* Elements: where its sums of the first tap are, and from tap to tap. */
int64_t npc_gradient_turned_at(const npc_gradient_item *item, int64_t output, int64_t input);
int64_t npc_gradient_turned_step(const npc_gradient_item *item, int64_t output);

#endif
