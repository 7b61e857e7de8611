/* How problems are cut for the blocked algorithm, and their weights packed. */
#ifndef NPC_BLOCKED_H
#define NPC_BLOCKED_H

#include "blocking.h"

enum {
    NPC_BLOCKED_RUN = 512,             /* elements of the reduction at a time, at most */
    NPC_BLOCKED_MOST_BYTES = 3 << 20, /* of packed input under a single tile */
    NPC_BLOCKED_TURNS_TAPS = 1,        /* as in algo.h */
};

typedef struct {
    int64_t band_rows, band_columns;
    int64_t channels; /* output channels of an item */
    int64_t images;   /* of the batch and of outer pixels, each a band, whose pixels alternate */
    int64_t merges;   /* some do, for any number of threads */
    npc_split split;  /* the runs */
    int64_t packs;    /* weights block by block, just before use */
    int64_t by_columns; /* their channels follow columns */
    int64_t plane_bytes, list_bytes, bias_bytes, sum_bytes, line_bytes,
        weight_bytes; /* of a thread's workspace */
} npc_blocked_recipe;

/* Sets plan->threads too. */
npc_blocked_recipe npc_blocked_cut(npc_plan *plan);
/* Whether input that lies in rows is read where it lies, for so many output channels and columns: under a single tap, with strides that
 * kernels have, without padding. */
int npc_blocked_reads_in_place(const npc_plan *plan, int64_t outputs, int64_t width);
/* Bytes of the packed input under such a band. */
double npc_blocked_plane_bytes(const npc_problem *problem, int64_t band_rows, int64_t band_columns);
/* Pixels of a line of sums that go to the result by way of the workspace. */
int64_t npc_blocked_line(const npc_plan *plan, const npc_blocked_recipe *recipe);

/* Taps of an axis that read the input, not the zeros around it, out of [first, first + count); from <= to. */
typedef struct {
    int64_t from, to;
} npc_blocked_range;
npc_blocked_range npc_blocked_inside(const npc_axis *axis, int64_t output, int64_t first, int64_t count);
/* The part of an axis's taps that read the input under tiles of so many pixels. */
double npc_blocked_share_along(const npc_axis *axis, int64_t tile);
/* The part of the products that is left without the padding, with what it costs to leave it out. */
double npc_blocked_share(const npc_plan *plan);
/* Whether enough columns of the kernel read nothing but padding, under all pixels of a tile, to be left out. */
int npc_blocked_by_columns(const npc_plan *plan);

/* Output channels of a group with those that only fill its last vector. */
int64_t npc_blocked_outputs(const npc_plan *plan);
/* Vectors of a block with so many output channels left. */
int npc_blocked_vectors(const npc_plan *plan, int64_t left);
int64_t npc_blocked_elements(const npc_taps_block *taps);

/* A block's flag, kept before all packed blocks: whether padding may be left out, since none of its weights is infinite
 * or NaN, which times zero is not zero. */
typedef int32_t npc_blocked_flag;
int64_t npc_blocked_flag_bytes(const npc_plan *plan);
int64_t npc_blocked_blocks(const npc_plan *plan); /* of a group */

/* What packing a block of weights takes. */
typedef struct {
    const npc_plan *plan;
    const npc_blocked_recipe *recipe;
    const npc_tensor *weight;
    int64_t *places;
    char *rows; /* lanes * RUN elements, for weights that do not lie plainly */
    int plain;
} npc_blocked_packer;

/* `count` output channels from k on, into a block of so many vectors; returns its flag. */
npc_blocked_flag npc_blocked_pack_block(const npc_blocked_packer *packer, int64_t k, int64_t count,
                                        int vectors, char *target);
/* All of them, after their flags: packed[group][block][run][outer tap][row][channel][column][output channel], or with the channel
 * after the column. */
void npc_blocked_pack(const npc_plan *plan, const npc_tensor *weight, void *packed);

/* The run that offsets were listed for, or 0 where all have the same ones, and the planes. */
typedef struct {
    int64_t run, channels, plane;
    npc_phases rows, columns;
} npc_blocked_listed;

/* What a run of the algorithm knows. */
typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const npc_blocked_recipe *recipe;
    const npc_tensors *tensors;
    const char *weights; /* packed, or NULL */
    char *workspace;
    npc_axis rows, columns;
    int64_t row_bands, column_bands, chunks;
    int64_t outers, images, image_bands; /* outer pixels; of the batch and outer pixels */
    int64_t reduction, size;
    int plain; /* weights may be read where they lie */
    int skips; /* there is padding, which finite weights leave out */
} npc_blocked_job;

typedef struct {
    const npc_blocked_job *job;
    npc_band band;
    npc_planes planes;
    npc_tensor input; /* from the first channel of the group on */
    int64_t image, images; /* of the batch and of outer pixels: the first one, of so many */
    int64_t group, first, count; /* output channels */
    const char *pixels; /* packed, or of the input itself */
    int64_t step;       /* from pixel to pixel */
    char *packed, *bias, *sums, *lines, *weights;
    int64_t tiles;    /* of a row, */
    npc_parts parts; /* and their pixels */
    npc_blocked_listed *listed; /* what the offsets were listed for */
    int64_t *offsets, *places;
    npc_blocked_range *inside; /* elements of a kernel row under each tile that are not left out */
} npc_blocked_item;

/* A block of output channels: its sums have vectors * lanes for every pixel. */
typedef struct {
    int64_t first, count; /* of the item's channels */
    int vectors;
    npc_blocked_flag skips;
    const char *weights;
} npc_blocked_block;

/* blocked_store.c: activates the block's sums and stores them. */
void npc_blocked_store(const npc_blocked_item *item, const npc_blocked_block *block);

#endif
