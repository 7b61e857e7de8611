/* Weights as rows in compute type: one an output channel, in the order channel, taps. A complex output channel has two,
 * over the real and imaginary part of every tap. */
#ifndef NPC_WEIGHTS_H
#define NPC_WEIGHTS_H

#include "../plan.h"

/* Elements of a row. */
int64_t npc_reduction(const npc_problem *problem);

size_t npc_weights_bytes(const npc_plan *plan);
void npc_weights_pack(const npc_plan *plan, const npc_tensor *weight, void *packed);

/* `count` elements of a real weight from the first-th on, counted over all rows. */
void npc_weights_load(const npc_problem *problem, const npc_tensor *weight, int64_t first, int64_t count,
                      void *target);

/* The taps along the last axis of output channel k; rows are counted over input channels and the axes before it. */
const char *npc_weights_row(const npc_problem *problem, const npc_tensor *weight, int64_t k, int64_t row);

/* Of the compute type, real, in native order. */
int npc_weights_have_plain_type(const npc_problem *problem, const npc_tensor *weight);

/* Contiguous in the weight's own order, in compute type, aligned, so that kernels may read it where it lies. */
int npc_weights_lie_plainly(const npc_problem *problem, const npc_tensor *weight);

/* Whether elements of output channels are neighbours, as many as there are. Of the compute type and aligned, too. */
int npc_weights_side_by_side(const npc_problem *problem, const npc_tensor *weight);

/* 1 where the kernels of one input channel and all output channels are neighbours, as in the weight of a transpose; -1 where
 * their taps are so backwards; else 0. Of the compute type and aligned, too. */
int npc_weights_by_outputs(const npc_problem *problem, const npc_tensor *weight);

#endif
