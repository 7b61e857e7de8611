/* The steps of algo/winograd.c, NULL where an ISA or type has none, or none for a kind. Vectors lie along channels, LANES of them:
 * a pixel, a tile's element or a weight is a vector, and an array of them a run of vectors.
 * - gather: pixels[x] = (rows[0][x], rows[1][x], ...), `channels` rows channel_stride apart, zeros outside [from, to);
 *   whole groups of LANES pixels are stored. Where `ahead` is not 0, elements so much further on are asked for, and need not exist.
 * - scatter: its inverse for x < count; whole groups of LANES pixels are read.
 * - input: the transform of `tiles` tiles side by side, tile_step apart, whose element (i, j) is the vector
 *   rows[i] + j * column_step of the first; point p of tile t becomes output + p * point_stride + t * LANES.
 * - weights: `channels` kernels, channel_step apart, of rows x columns taps row_step and column_step apart, the others of
 *   the kind's being zeros; point p of channel c becomes output + p * point_stride + c * output_step.
 * - product[w - 1][t - 1]: w vectors of output channels x t tiles,
 *       output[v][t] = sum over c of weights[c][v] * input[t][c] + (output[v][t] if accumulate)
 *   in order of c; LANES channels of a tile are a vector, tiles are neighbours, the next LANES are input_stride further.
 * - asking_product[t - 1], NULL where an ISA has none: the same of two vectors, which asks for the line at `far`, and one
 *   far_step further for each channel, to be in the second-level cache.
 * - merged_product, NULL where an ISA has none: one vector of output channels of several groups x `tiles` tiles, whose
 *   channels lie in a vector for each piece,
 *       output[t][lane] = sum over piece, c < channels of weights[piece][c][lane] * input[piece][t][places[lane] + c] (+ output[t][lane])
 *   where `places` counts words of 32 bits, each of a lane having its own.
 * - fused, NULL where an ISA has none: products and output of one vector of output channels and up to LANES input channels, for tiles of
 *   4x4; point p of channel c has its weights at weights + p * panel + c * weight_step, that of tile t its pixels at
 *   input + p * point_stride + t * LANES.
 * - output: `tiles` tiles side by side of which all points are neighbouring vectors become rows[i] + j * column_step, with
 *   the bias vector added and clipped; returns whether all were finite before. */
#ifndef NPC_WINOGRAD_STEPS_H
#define NPC_WINOGRAD_STEPS_H

#include <stdint.h>

#define NPC_WINOGRAD_A 0.707106781186547524401L /* interpolation points +-a and +-b: 1/sqrt(2) and sqrt(2) */
#define NPC_WINOGRAD_B 1.414213562373095048802L

/* Output rows x columns of a tile. Along an axis of more than one it has 6 points, of which the kernel takes what the
 * outputs leave, 7 less their number of taps; but for tiles of 2x2, which have 4 points and 3 taps. Those of stride 2 are 4x4
 * outputs of 3 taps from 9x9 pixels: 9 points along an axis, the last 4 of which share their weights, so that there are 6
 * of these. */
typedef enum {
    NPC_WINOGRAD_4X4,
    NPC_WINOGRAD_2X2,
    NPC_WINOGRAD_1X4,
    NPC_WINOGRAD_4X1,
    NPC_WINOGRAD_5X5,
    NPC_WINOGRAD_3X3,
    NPC_WINOGRAD_1X5,
    NPC_WINOGRAD_5X1,
    NPC_WINOGRAD_1X3,
    NPC_WINOGRAD_3X1,
    NPC_WINOGRAD_4X4_STRIDE_2,
    NPC_WINOGRAD_KINDS
} npc_winograd_kind;

enum { NPC_WINOGRAD_TILES = 14, NPC_WINOGRAD_ASKING_TILES = 8, NPC_WINOGRAD_VECTORS = 2 };
enum { NPC_WINOGRAD_POINTS = 9, NPC_WINOGRAD_OUTPUTS = 5 };

typedef struct {
    const void *rows;
    void *pixels;
    int64_t channel_stride, extent, from, to;
    int channels;
    int64_t ahead;
} npc_winograd_gather;

typedef struct {
    const void *pixels;
    void *rows;
    int64_t channel_stride, count;
    int channels;
} npc_winograd_scatter;

typedef struct {
    const void *rows[NPC_WINOGRAD_POINTS];
    void *output;
    int64_t column_step, tile_step, point_stride, tiles;
} npc_winograd_input;

typedef struct {
    const void *kernels;
    void *output;
    int64_t rows, columns, row_step, column_step; /* taps */
    int64_t channels, channel_step, point_stride, output_step;
} npc_winograd_weights_run;

typedef struct {
    const void *weights;
    const void *input;
    void *output;
    int64_t channels, input_stride, vector_stride, tile_stride; /* of the output */
    int accumulate;
    const char *far;
    int64_t far_step; /* bytes; only asking_product reads it and `far` */
} npc_winograd_product;

typedef struct {
    const void *weights;
    const void *input;
    void *output;
    const int32_t *places;
    int64_t pieces, channels, tiles, input_stride, tile_stride; /* of the output */
    int accumulate;
} npc_winograd_merged_product;

typedef struct {
    const void *products;
    const void *bias;
    void *rows[NPC_WINOGRAD_OUTPUTS];
    int64_t column_step, tiles;
    int clip;
    double low, high;
} npc_winograd_output;

typedef struct {
    npc_winograd_output output; /* but for its products */
    const void *weights, *input;
    int64_t channels, weight_step, panel, point_stride;
} npc_winograd_fused;

typedef void npc_winograd_product_kernel(const npc_winograd_product *tile);

typedef struct {
    int tiles; /* the most of a product */
    void (*gather)(const npc_winograd_gather *run);
    void (*scatter)(const npc_winograd_scatter *run);
    void (*input[NPC_WINOGRAD_KINDS])(const npc_winograd_input *run);
    void (*weights[NPC_WINOGRAD_KINDS])(const npc_winograd_weights_run *run);
    int (*output[NPC_WINOGRAD_KINDS])(const npc_winograd_output *run);
    npc_winograd_product_kernel *product[NPC_WINOGRAD_VECTORS][NPC_WINOGRAD_TILES];
    npc_winograd_product_kernel *asking_product[NPC_WINOGRAD_ASKING_TILES];
    void (*merged_product)(const npc_winograd_merged_product *run);
    int (*fused)(const npc_winograd_fused *run);
} npc_winograd;

#endif
