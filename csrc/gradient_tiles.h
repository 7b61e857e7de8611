/* The gradient of a weight by Winograd's minimal filtering: gradient_tiles.c. */
#ifndef NPC_GRADIENT_TILES_H
#define NPC_GRADIENT_TILES_H

#include "plan.h"

enum {
    NPC_TILE_POINTS = 6, /* along an axis */
    NPC_TILE_ALL_POINTS = NPC_TILE_POINTS * NPC_TILE_POINTS,
    NPC_TILE_HEAD = 64,   /* bytes of a thread's workspace before the rest: whether all was finite */
    NPC_TILE_STORED = 16, /* the most input channels stored together */
};

/* An axis under a dilation: interleaved images, each with tiles of its own, the first `longer` of them with one more. */
typedef struct {
    int64_t phases, longer, tiles; /* of a longer one */
} npc_gradient_phases;

NPC_INLINE int64_t npc_gradient_phases_tiles(const npc_gradient_phases *axis) {
    return axis->phases * (axis->tiles - 1) + axis->longer;
}

/* How the work is cut. A strip is some tiles of one tile row, in every column phase, a band some strips. An item is some
 * vectors of output and of input channels of one group, for one tap of the axes before rows and columns, over a slice of all
 * strips. What decides the order of a sum (strips, bands, slices) follows from the problem alone. */
typedef struct {
    int kind;
    int64_t taps, tile; /* along an axis: of the kernel, of the result's gradient under a tile */
    npc_gradient_phases down, across;
    int64_t width, runs; /* tiles of a strip, in a phase; strips of a tile row */
    int64_t strips, band, band_tiles; /* the most of a band */
    int64_t outputs, inputs; /* vectors of channels, of an item */
    int64_t output_blocks, input_blocks, items, slices;
    int64_t row, point; /* elements: a row of pixels, the tiles of one point */
    int64_t pixel_bytes, offset_bytes, input_bytes, gradient_bytes, sum_bytes;
    size_t thread_bytes, slice_bytes;
    int threads;
} npc_gradient_tiles;

/* Whether tiles cost less than `cycles`, and then how the work is cut. */
int npc_gradient_tiles_make(npc_gradient_tiles *t, const npc_problem *problem, const npc_kernels *kernels,
                            int threads, double cycles);
size_t npc_gradient_tiles_workspace(const npc_gradient_tiles *t);
/* Whether arrays lie as the tiles read and write them. */
int npc_gradient_tiles_take(const npc_problem *problem, const npc_tensors *tensors);
/* NPC_NOT_FINITE where plain sums have to tell. */
npc_status npc_gradient_tiles_run(const npc_gradient_tiles *t, const npc_problem *problem,
                                  const npc_kernels *kernels, const npc_tensors *tensors);

#endif
