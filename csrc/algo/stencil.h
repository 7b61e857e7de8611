/* What a run of the stencil algorithm knows, and how it finds what its kernels read. */
#ifndef NPC_STENCIL_H
#define NPC_STENCIL_H

#include "../plan.h"
#include "planes.h"

typedef struct {
    int64_t band_rows, band_columns;
    int64_t channels;     /* output channels of an item */
    int64_t interleaved;  /* rows that lie so far apart are listed as neighbours: the dilation, or 1 */
    int64_t listed_rows;  /* padded input rows under a band, a multiple of that */
    int64_t images;       /* input channels and outer taps summed at once, where rows are read in place */
    int64_t reach;        /* columns from the first one that the band's vectors read to the last */
    int64_t lines, pitch,
        phases; /* rows are padded and taken one by one; elements of a phase of the stride */
    int64_t masked; /* vectors whose lanes are listed together */
    int64_t stages; /* rows that are not plain are converted as they lie: little more than planes take */
    int64_t plane_bytes, zero_bytes, row_bytes, column_bytes, sum_bytes; /* of a thread's workspace */
} npc_stencil_recipe;

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const npc_stencil_recipe *recipe;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    npc_axis rows, columns;
    int64_t row_bands, column_bands, chunks;
    int64_t inputs, outputs,
        outer_taps; /* of a group: divisions are slow, and a channel's work may be small */
    int64_t size; /* bytes of a compute element */
    int lane_bits; /* lanes are a power of two */
    int64_t run_rows, run_columns; /* of a kernel at a time */
    int64_t images;   /* at a time */
    npc_stencil_kind kernel;
    npc_channel_packer packer;
    int turns; /* all phases of a row at once */
    int reads_in_place; /* the input, or the rows that are converted as they lie */
    int stages; /* converts them */
    int plain_bias; /* of compute type, aligned */
    int stores; /* into the result itself */
    int activates; /* by another function than the kernels' clip */
    int streams; /* stores of the highest tiles, in 3X3 those of four rows, pass the caches by, */
    int64_t lead; /* after so many pixels of a row */
    int64_t asked; /* bytes of the next item's or channel's rows, whose memory is asked for meanwhile, */
    int64_t lines; /* so many lines of a cache for each tile */
} npc_stencil_job;

/* One output channel over one band, as one thread sees it. */
typedef struct {
    const npc_stencil_job *job;
    npc_band band;
    npc_planes planes;
    npc_tensor input; /* from the first channel of the group on */
    char *output; /* first pixel of the band, */
    int64_t row_bytes; /* and from row to row of it or of the sums */
    char *packed, *zeros, *sums;
    const void **rows;
    int64_t *columns;
    int *lanes[2]; /* of vectors at the start of a row, and of others: from and to of each */
    npc_planes_list *list; /* NULL: of too few planes to be worthwhile */
    int64_t inside_from, inside_to; /* vectors that begin here lie inside the input, under every tap */
    int listed; /* columns: the same for all channels */
    int64_t lanes_listed[2]; /* of vectors from this column on, or -1 */
    const char *first; /* pixel of the item's first input channel */
    int asks; /* for what is read after each input channel */
    int ends; /* after those of this output channel another band comes */
    const char *next; /* to be asked for, */
    int64_t lines; /* so many lines */
    npc_stencil tile; /* holds what is the same for all channels */
} npc_stencil_item;

/* That so many elements take: no division, as a channel's work may be small. */
NPC_INLINE int64_t npc_stencil_vectors(const npc_stencil_job *job, int64_t elements) {
    return (elements + job->plan->kernels->lanes - 1) >> job->lane_bits;
}

/* Those of 3x3 go by the length of a row, not by lists of lanes inside it. */
NPC_INLINE int npc_stencil_is_3x3(npc_stencil_kind kind) {
    return kind == NPC_STENCIL_3X3 || kind == NPC_STENCIL_HALF_3X3;
}

/* Kernels mask what lies outside the input. */
NPC_INLINE int npc_stencil_masks(const npc_problem *problem) {
    return npc_columns(problem).stride <= 2 && problem->padding_mode == NPC_PADDING_ZEROS;
}

/* stencil_blocking.c */
const char *npc_stencil_applicable(const npc_plan *plan);
const char *npc_stencil_worthwhile(const npc_plan *plan);
void npc_stencil_prepare(npc_plan *plan);

/* stencil_rows.c: rows of one input channel at one outer tap, where they lie, converted, or packed; as the `place`-th image
 * of a tile. */
void npc_stencil_list_rows(npc_stencil_item *item, int64_t channel, int64_t tap, int64_t place);
/* Offsets of the taps for the band's first vector. */
void npc_stencil_list_columns(npc_stencil_item *item);
/* How many vectors from the band's column `at` on a tile takes together, of those left, the last of which goes back: all inside
 * the input, under every tap, or some whose lanes inside it the tile is told. */
int64_t npc_stencil_list_lanes(npc_stencil_item *item, int64_t at, int64_t left, int64_t back);

#endif
