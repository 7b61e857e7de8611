/* The gradient of a convolution's weight: a plan of its own, since its result is the weight and its sums run over pixels. */
#ifndef NPC_WEIGHT_GRADIENT_H
#define NPC_WEIGHT_GRADIENT_H

#include "gradient_tiles.h"
#include "plan.h"

enum { NPC_GRADIENT_RUN = 512 }; /* pixels whose sums stay in registers */

/* How the work is cut. An item is some output channels, input channels and taps of one group, over a slice of all bands of
 * pixels. Slices are fixed by the problem alone, since their sums are rounded apart; the rest may follow the threads. */
typedef struct {
    int dots; /* vectors along pixels, else along input channels */
    int turned; /* vectors along output channels instead: few input channels, whose taps leave lanes empty */
    int64_t outputs, inputs; /* channels of an item */
    int64_t outers, rows, columns; /* taps of an item */
    int64_t band_rows, band_columns;
    int64_t items, slices;
    int64_t groups; /* that follow one another in a thread's hands, where an item is as large as a group */
    int64_t planes; /* channels of input that are packed at a time for dot products */
    int64_t band_bytes, gradient_bytes, turned_bytes, offset_bytes, row_bytes,
        sum_bytes; /* of a thread's workspace */
} npc_gradient_blocking;

typedef struct {
    npc_problem problem; /* the convolution */
    npc_problem given; /* the problem as it was, where its last axes were merged into one */
    int merged;
    const npc_isa *isa;
    const npc_kernels *kernels;
    int most_threads, threads;
    size_t thread_bytes;
    size_t slice_bytes; /* of sums that wait for those of the other slices */
    npc_gradient_blocking blocking;
    int tiled; /* arrays that lie plainly are cut into tiles */
    npc_gradient_tiles tiles;
} npc_weight_gradient;

/* Expects problem, isa and most_threads set. */
void npc_weight_gradient_make(npc_weight_gradient *plan);
/* The plan without merging axes, which for the arrays of a run do not. */
void npc_weight_gradient_make_unmerged(npc_weight_gradient *plan);
/* Whether windows of few channels are copied apart, so that vectors lie along kernel columns and channels together. */
int npc_gradient_joins(const npc_weight_gradient *plan);
int64_t npc_gradient_bands(const npc_problem *problem, const npc_gradient_blocking *blocking);
size_t npc_weight_gradient_workspace(const npc_weight_gradient *plan);
size_t npc_weight_gradient_plain_workspace(const npc_weight_gradient *plan); /* without tiles */

/* tensors->weight becomes the gradient, tensors->output is that of the convolution's result and, like the input, of any type. */
npc_status npc_weight_gradient_run(const npc_weight_gradient *plan, const npc_tensors *tensors);

#endif
