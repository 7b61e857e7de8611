/* How a problem is cut into items of work that fit the caches: the reduction for all, the rest for the direct algorithm. */
#ifndef NPC_BLOCKING_H
#define NPC_BLOCKING_H

#include "../plan.h"
#include "planes.h"

/* How far the reduction is split: blocks of `block` at this level, single elements at the levels before it. */
enum { NPC_SPLIT_CHANNELS, NPC_SPLIT_OUTER, NPC_SPLIT_ROWS, NPC_SPLIT_COLUMNS, NPC_SPLIT_LEVELS };

typedef struct {
    int64_t level, block, blocks;
} npc_split;

npc_taps_block npc_split_taps(const npc_problem *problem, const npc_split *split, int64_t index);
/* The longest blocks of up to `most` elements of the reduction, all of like length. */
npc_split npc_split_evenly(const npc_problem *problem, int64_t most);

enum { NPC_BLOCKING_HEADER = 64 }; /* bytes at the start of a thread's workspace */

typedef struct {
    int64_t band_rows, band_columns;
    int64_t channels; /* output channels of an item */
    npc_split split;
    int64_t flat; /* tiles run over the ends of rows */
    int64_t panels; /* pixels of a single tap are copied, a tile's together; */
    int64_t in_place; /* or read where they lie, if they do like planes */
    int64_t plane_bytes, panel_bytes, offset_bytes, bias_bytes, sum_bytes; /* of a thread's workspace */
    int64_t sum_stride; /* elements from one output channel's waiting sums to the next */
} npc_blocking;

/* Sets plan->threads and plan->thread_bytes too. */
npc_blocking npc_blocking_of(npc_plan *plan);

#endif
