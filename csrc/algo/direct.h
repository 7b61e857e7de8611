/* What a run of the direct algorithm knows, and its tiles, for direct.c and direct_panels.c. */
#ifndef NPC_DIRECT_H
#define NPC_DIRECT_H

#include "blocking.h"

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const npc_blocking *blocking;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    int64_t reduction;         /* elements of a row of weights */
    int64_t row_bands, column_bands, chunks;
    int64_t size, scalar_size; /* bytes of a compute and of a result scalar */
    int64_t output_stride;     /* elements from channel to channel, in place */
    int in_place;              /* kernels store into the result themselves */
    int activates;             /* by another function than the kernels' clip */
    int streams;               /* stores pass the caches by, */
    int64_t lead;              /* after so many pixels of a row */
    const char *input_end;     /* what lies before it may be read */
} npc_direct_job;

/* One item of work: a band of one image, some output channels of one group. */
typedef struct {
    const npc_direct_job *job;
    npc_band band;
    npc_taps_block taps;
    npc_planes planes;
    npc_tensor input;     /* from the first channel of the group on */
    char *output;         /* first pixel of the band, first channel of the item */
    const char *weights;  /* first row of the item */
    int64_t rows;         /* of weights: output channels, twice as many for complex */
    char *packed, *panels, *sums, *bias;
    const char *pixels; /* of the band, packed or where they lie */
    int64_t *offsets, *listed; /* and what they were listed for */
    /* The block of the reduction: its place in a row of weights, its elements, in how many runs. */
    int64_t first_weight, reduction, runs;
    int is_first, is_last;
} npc_direct_item;

/* Where tiles lie, side by side, or in a panel one below the other: `pixels` pixels from column `at` of the band's row `row` on, in each of `rows` rows; of how many vectors
 * each tile is, and what is in the last one. In a flat band `at` is any number of rows further on, and the pixels go on over the
 * rows that follow. */
typedef struct {
    int64_t row, rows, at, pixels, tiles, vectors, last;
    const char *input; /* in packed planes or panels */
    /* Or NULL: what kernels of their own read under a single tap, and fill where there is a source, whose channels lie pixel_stride
     * elements apart. */
    char *panel;
    const char *source;
    int64_t pixel_stride;
    const char *far; /* asked for meanwhile, far_stride bytes further for each channel */
    int64_t far_stride;
} npc_direct_place;

/* For the first rows of weights. Field by field where it stays: a copy in vectors would wait for the fields just written. */
void npc_direct_prepare_tile(const npc_direct_item *item, const npc_direct_place *place, npc_gemm *tile);

/* Rows of weights m0 to m0 + rows, of a tile that is prepared, which stores the first ones at `output`. Several tiles are stored in
 * place; side by side they also want a single run. */
void npc_direct_run_tile(const npc_direct_item *item, npc_gemm *tile, char *output, int64_t m0, int rows,
                         const npc_direct_place *place);

/* Where the band's pixels follow one another in the input itself, or NULL. */
const char *npc_direct_pixels_in_place(const npc_direct_item *item);

/* All tiles of the item's band under a single tap, whose pixels are copied into panels. */
void npc_direct_run_panels(npc_direct_item *item, const npc_planes_source *source);

#endif
