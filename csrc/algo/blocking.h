/* How the direct algorithm cuts a problem into items of work that fit the caches. */
#ifndef NPC_BLOCKING_H
#define NPC_BLOCKING_H

#include "../plan.h"
#include "planes.h"

/* How far the reduction is split: blocks of `block` at this level, single elements at the levels before it. */
enum { NPC_SPLIT_CHANNELS, NPC_SPLIT_OUTER, NPC_SPLIT_ROWS, NPC_SPLIT_COLUMNS, NPC_SPLIT_LEVELS };

enum { NPC_BLOCKING_HEADER = 64 }; /* bytes at the start of a thread's workspace */

typedef struct {
    int64_t band_rows, band_columns;
    int64_t channels; /* output channels of an item */
    int64_t level, block, blocks;
    int64_t flat; /* tiles run over the ends of rows */
    int64_t plane_bytes, offset_bytes, bias_bytes, sum_bytes; /* of a thread's workspace */
    int64_t sum_stride; /* elements from one output channel's waiting sums to the next */
} npc_blocking;

/* Sets plan->threads and plan->thread_bytes too. */
npc_blocking npc_blocking_of(npc_plan *plan);

npc_taps_block npc_blocking_taps(const npc_problem *problem, const npc_blocking *blocking, int64_t index);

#endif
