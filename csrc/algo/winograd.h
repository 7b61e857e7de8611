/* Winograd's minimal filtering: what the files winograd*.c share. */
#ifndef NPC_WINOGRAD_H
#define NPC_WINOGRAD_H

#include "algo.h"

enum {
    NPC_WINOGRAD_HEAD = 64, /* bytes of a thread's workspace for its flag, */
    NPC_WINOGRAD_MOST_BYTES = 8 << 20, /* and of all of it */
};

/* How a problem is cut. A tile row lies in one row phase, a dilation's interleaved images, and in all column phases. */
typedef struct {
    int64_t kind, tile_height, tile_width; /* outputs of a tile */
    int64_t vectors; /* of channels of all pieces */
    int64_t row_phases, column_phases, tile_rows, tile_columns; /* tiles of a phase */
    int64_t rows, columns, images,
        tiles; /* of a band: tile rows, tiles of a column phase; images if whole; all tiles */
    int64_t run, slots; /* outer pixels of an item, outer taps kept */
    int64_t shared, fresh; /* threads share a band; weights are transformed for it */
    int64_t fused; /* products are transformed at once, and never written */
    int64_t asks; /* products for the next point's weights, which lie beyond the second-level cache */
    int64_t extent, point_stride; /* elements: a row of pixels (in vectors), transformed points */
    int64_t slice_bytes, pixel_bytes, line_bytes, product_bytes, weight_bytes;
} npc_winograd_recipe;

/* winograd_pieces.c: kernels larger than a tile's taps, or of a stride, as a sum of pieces, each with channels of its own. A
 * piece's taps lie a stride apart, so that it reads its pixels, every stride-th, with stride 1. */
typedef struct {
    int64_t row, column, rows, columns; /* first tap; taps */
} npc_winograd_piece;

enum { NPC_WINOGRAD_PIECES = 16, NPC_WINOGRAD_TAPS = 320 }; /* the most */

typedef struct {
    const npc_plan *plan; /* its groups merged */
    const npc_plan *weights_plan;
    const npc_problem *problem;
    const npc_winograd_recipe *recipe;
    const npc_tensors *tensors;
    const npc_winograd *kernels;
    const int32_t *places; /* of merged groups, or NULL */
    const char *weights;
    char *workspace;
    npc_axis rows, columns; /* as pieces see them */
    npc_winograd_piece pieces[NPC_WINOGRAD_PIECES];
    int64_t row_bands, column_bands, runs;
    int64_t phases; /* whose bands alternate */
    int64_t size, lanes;
    int64_t ahead; /* elements from a pixel to one that is asked for; 0 for none */
} npc_winograd_job;

typedef struct {
    const npc_winograd_job *job;
    npc_tensor input; /* from the first channel of the group on */
    npc_tensor output; /* likewise */
    int plain_input, plain_output; /* rows of neighbouring elements */
    int64_t images, group, row, rows, column, columns; /* of tiles */
    int64_t tiles; /* of all its images, */
    npc_parts parts; /* and how products take them */
    int64_t outer, outers; /* output pixels of the outer axes */
    int *not_finite; /* the thread's own */
    const char **sources; /* of which slice each slot holds */
    char *pixels, *line, *transformed, *products, *weights;
} npc_winograd_item;

/* What a tile of a kind has along rows and columns. */
typedef struct {
    int64_t tile_height, tile_width, height, width; /* outputs, points */
    int64_t tap_rows, tap_columns, stride;
    int64_t panels_down, panels_across; /* points with weights of their own; those after the last share its */
} npc_winograd_shape;

extern const npc_winograd_shape npc_winograd_shapes[NPC_WINOGRAD_KINDS];

NPC_INLINE int64_t npc_winograd_height(const npc_winograd_recipe *r) {
    return npc_winograd_shapes[r->kind].height;
}
NPC_INLINE int64_t npc_winograd_width(const npc_winograd_recipe *r) {
    return npc_winograd_shapes[r->kind].width;
}
/* Pixels from tile to tile, of a piece. */
NPC_INLINE int64_t npc_winograd_down(const npc_winograd_recipe *r) {
    return r->tile_height * npc_winograd_shapes[r->kind].stride;
}
NPC_INLINE int64_t npc_winograd_across(const npc_winograd_recipe *r) {
    return r->tile_width * npc_winograd_shapes[r->kind].stride;
}
NPC_INLINE int64_t npc_winograd_points(const npc_winograd_recipe *r) {
    return npc_winograd_height(r) * npc_winograd_width(r);
}

/* winograd_pieces.c */
int64_t npc_winograd_pieces(const npc_problem *problem, npc_winograd_kind kind);
/* Rows or columns of an axis, as pieces see it: the part of the stride that a kind's tiles do not take themselves. */
npc_axis npc_winograd_axis(npc_winograd_kind kind, npc_axis axis);
npc_winograd_piece npc_winograd_piece_of(const npc_problem *problem, npc_winograd_kind kind, int64_t index);

/* Channels in blocks whose weights of a point, for all pieces, stay in the first-level cache: in a block, channel c of piece
 * p is the (p * channels + c)th. A block starts with a vector of its own, NPC_WINOGRAD_CHANNELS after the one before. */
enum { NPC_WINOGRAD_CHANNELS = 128 };

typedef struct {
    int64_t first, channels; /* of the group's */
    int64_t pieces, inputs; /* their product */
} npc_winograd_channels;

npc_winograd_channels npc_winograd_channels_of(const npc_problem *problem, npc_winograd_kind kind,
                                               int64_t block);
int64_t npc_winograd_channel_blocks(const npc_problem *problem, npc_winograd_kind kind);
int64_t npc_winograd_channel_vectors(const npc_plan *plan, npc_winograd_kind kind);

/* winograd_merge.c: groups of few channels become one, whose input and output channels are a vector each; an output channel has
 * weights for the inputs of its own group alone. */
int64_t npc_winograd_merged(const npc_plan *plan, npc_winograd_kind kind); /* how many are one */
npc_plan npc_winograd_merge(const npc_plan *plan, npc_winograd_kind kind);
/* The same as the weight has it, with the inputs of a single group: for winograd_weights.c. */
npc_plan npc_winograd_merge_weights(const npc_plan *plan, npc_winograd_kind kind);
/* Of each lane's group the first input channel, in words of 32 bits. */
enum { NPC_WINOGRAD_WORDS = 16 };
void npc_winograd_places(const npc_plan *plan, npc_winograd_kind kind, int32_t *places);

/* Bands of a group's images, for each run of outer pixels. */
NPC_INLINE int64_t npc_winograd_bands(const npc_problem *problem, const npc_winograd_recipe *r) {
    return npc_ceil_div(r->row_phases * r->tile_rows, r->rows) * npc_ceil_div(r->tile_columns, r->columns) *
           npc_ceil_div(problem->batch, r->images);
}

/* winograd_blocking.c: how large the tiles of a kind would be cut, and rough cycles with vectors of this ISA. */
npc_winograd_recipe npc_winograd_cut(const npc_plan *plan, npc_winograd_kind kind);
double npc_winograd_cycles(const npc_plan *plan, npc_winograd_kind kind);
double npc_winograd_kind_cycles(const npc_plan *plan, npc_winograd_kind kind); /* to choose between kinds */
int64_t npc_winograd_thread_bytes(const npc_winograd_recipe *r);

/* winograd_weights.c: weights in the order in which products read them,
 * [group][block of two vectors of output channels][outer tap][block of input channels][panel][piece and input channel][vector]. */
typedef struct {
    int64_t vectors, pieces, channels, inputs; /* of this block: the last the product of the two before */
    int64_t panel; /* elements from panel to panel: no power of two, which would crowd one set of a cache */
    int64_t offset, tap; /* elements: of the block, from outer tap to outer tap */
} npc_winograd_block;

npc_winograd_block npc_winograd_block_of(const npc_plan *plan, npc_winograd_kind kind, int64_t group,
                                         int64_t outputs, int64_t inputs);
int64_t npc_winograd_weights(const npc_plan *plan, npc_winograd_kind kind); /* elements */
void npc_winograd_pack_all(const npc_plan *plan, npc_winograd_kind kind, const npc_tensor *weight,
                           void *packed);
void npc_winograd_pack_block(const npc_plan *plan, npc_winograd_kind kind, const npc_tensor *weight,
                             int64_t group, int64_t outputs, int64_t inputs, char *target);

/* winograd_transform.c */
void npc_winograd_transform_input(const npc_winograd_item *item, const char *image, char *slice,
                                  int64_t vector);
/* `weights`: those of the block, where products are yet to be computed. */
void npc_winograd_transform_output(const npc_winograd_item *item, char *result, int64_t first,
                                   const npc_winograd_block *block, const char *weights);

/* winograd.c: its cycles, or those of the others where they are less. */
double npc_winograd_least_cycles(const npc_plan *plan);

/* What the algorithms of this family have in common. */
const char *npc_winograd_applicable(const npc_plan *plan, npc_winograd_kind kind);
void npc_winograd_prepare(npc_plan *plan, npc_winograd_kind kind);
size_t npc_winograd_packed_bytes(const npc_plan *plan);
void npc_winograd_pack(const npc_plan *plan, const npc_tensor *weight, void *packed);
int64_t npc_winograd_order(const npc_plan *plan);
const char *npc_winograd_2x2_applicable(const npc_plan *plan);
npc_status npc_winograd_run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                            char *workspace);

#endif
