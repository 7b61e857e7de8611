/* Depthwise transposed convolution of stride 2 along its columns, whole rows of the result at a time. */
#ifndef NPC_SPREAD_H
#define NPC_SPREAD_H

#include "plan.h"

enum { NPC_SPREAD_ROWS = 64, NPC_SPREAD_COLUMNS = 64 }; /* of a kernel: taps of all other axes, of the last */

typedef struct {
    npc_problem problem; /* of the transposed convolution: its input is the smaller */
    const npc_isa *isa;
    const npc_kernels *kernels;
    int most_threads, threads;
    int64_t channels, rows; /* of the result, of an item */
} npc_spread;

/* Expects problem, isa and most_threads set; 0 where another way is to be taken. */
int npc_spread_make(npc_spread *plan);

/* A weight's batch_stride goes from input channel to input channel. NPC_REFUSED for arrays that do not lie in rows of the
 * result's type. */
npc_status npc_spread_run(const npc_spread *plan, const npc_tensors *tensors);

#endif
