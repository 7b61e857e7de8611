/* The contract of the kernels: one tile each, no allocation, no threads, no problem.
 *
 * gemm: `rows` output channels x `vectors` vectors of neighbouring pixels,
 *     output[m][j] = (bias[m] or 0 + sum over r of weights[m][r] * input[offsets[r] + j]) + (output[m][j] if accumulate)
 * in order of r for every element, whatever the tile, so that no choice of tiles changes a bit of the result.
 * - weights: row m starts at m * weight_stride, elements of a row are neighbours; naturally aligned.
 * - input: may be unaligned to vectors; whole vectors are read, so up to a vector less one element beyond the last pixel.
 * - output: rows m * output_stride apart; of the last vector only `last` elements are stored, or read to accumulate.
 * - vectors lie input_step and output_step apart: LANES, or the rows of a narrow image with by_rows set, and then `last`
 *   goes for every vector.
 * - clip: floats only, low <= result <= high applied before the store; NaN stays.
 *
 * stencil: `rows` neighbouring rows of one output channel x one vector of pixels, for one input channel,
 *     output[m][j] = (*bias or 0 + sum over r, c of weights[r][c] * rows[m * row_stride + r * row_dilation][columns[c] + j])
 *                    + (output[m][j] if accumulate), in order of r, then c.
 * - ANY takes any kernel; 3 and 5 take as many kernel rows with row_stride and row_dilation 1; HALF is ANY with every
 *   other pixel: columns[c] + 2 * j, and 2 * LANES elements are read.
 * - from, to: NULL, or for every kernel column the lanes that lie inside the input; the others are zeros, never read.
 * - last, clip: as above.
 *
 * dot: one or two gradients, row by row, against `taps` shifted inputs,
 *     output[m][t] = (output[m][t] if accumulate) + sum over row, i of left[m][row * left_stride + i] * right[offsets[t] + row * right_stride + i]
 * for i < count, with m * output_pitch and m * left_pitch between the two: each lane sums its own elements in order of row and i, then the lanes are added. Nothing past `count`
 * elements is read.
 *
 * winograd: the transforms of F(4x4, 3x3), algo/winograd.c; NULL where an ISA or type has none.
 * - split: phases[p][i] = row[4 * i + p] for p < 4, `vectors` vectors each.
 * - input: a tile's element (i, j) stands in phase (i % 4, j % 4), i / 4 rows and j / 4 columns on; of every vector of
 *   tiles the `kept` lanes are stored next to each other from places[v] on, as rows 6i + j of the output. Whole vectors
 *   are stored.
 * - weights: `count` kernels of nine neighbours become rows 6i + j of the output.
 * - output: rows 6i + j of the products become `rows`, four rows of 4 x LANES pixels; returns whether those of the first
 *   `tiles` lanes are finite before they are clipped.
 *
 * All strides and offsets count elements of the compute type.
 */
#ifndef NPC_KERNELS_H
#define NPC_KERNELS_H

#include "../types.h"

typedef struct {
    const void *weights;
    const void *input;
    const int64_t *offsets;
    void *output;
    const void *bias; /* NULL: none */
    int64_t reduction, weight_stride, output_stride;
    int64_t input_step, output_step; /* from vector to vector */
    int last;
    int by_rows;
    int accumulate;
    int clip;
    double low, high;
} npc_gemm;

typedef void npc_gemm_kernel(const npc_gemm *tile);

enum { NPC_GEMM_ROWS = 8, NPC_GEMM_VECTORS = 3 };

typedef struct {
    const void *weights;
    const void *const *rows;
    const int64_t *columns;
    const int *from, *to;
    void *output;
    const void *bias;
    int64_t kernel_rows, kernel_columns, row_stride, row_dilation, output_stride;
    int last;
    int accumulate;
    int clip;
    double low, high;
} npc_stencil;

typedef void npc_stencil_kernel(const npc_stencil *tile);

enum { NPC_STENCIL_HEIGHTS = 4 };
typedef enum {
    NPC_STENCIL_ANY,
    NPC_STENCIL_3,
    NPC_STENCIL_5,
    NPC_STENCIL_HALF,
    NPC_STENCIL_KERNELS
} npc_stencil_kind;

typedef struct {
    const void *left, *right;
    const int64_t *offsets;
    void *output;
    int64_t rows, count, left_stride, right_stride, left_pitch, output_pitch;
    int accumulate;
} npc_dot;

typedef void npc_dot_kernel(const npc_dot *tile);

enum { NPC_DOT_TAPS = 9 };

#define NPC_WINOGRAD_A 0.707106781186547524401L /* interpolation points +-a and +-b: 1/sqrt(2) and sqrt(2) */
#define NPC_WINOGRAD_B 1.414213562373095048802L
#define NPC_ALL_LANES(lanes) ((uint32_t)((1u << (lanes)) - 1))

typedef struct {
    const void *phases;
    void *output;
    int64_t phase_stride, pitch, output_stride, vectors;
    const uint32_t *kept;
    const int64_t *places;
} npc_winograd_input;

typedef struct {
    const void *products;
    const void *bias;
    void *rows;
    int64_t product_stride;
    int tiles, clip;
    double low, high;
} npc_winograd_output;

typedef struct {
    void (*split)(const void *row, void *phases, int64_t phase_stride, int64_t vectors);
    void (*input)(const npc_winograd_input *tile);
    void (*weights)(const void *weights, void *output, int64_t output_stride, int count);
    int (*output)(const npc_winograd_output *tile);
} npc_winograd;

/* What an ISA offers for one compute type: gemm[m - 1][v - 1] for m <= rows and v <= vectors, stencils of 1, 2, 4 ... rows
 * up to stencil_rows. */
typedef struct {
    int lanes, rows, vectors, stencil_rows;
    npc_gemm_kernel *gemm[NPC_GEMM_ROWS][NPC_GEMM_VECTORS];
    npc_stencil_kernel *stencil[NPC_STENCIL_KERNELS][NPC_STENCIL_HEIGHTS]; /* rows: 1, 2, 4, 8 */
    npc_dot_kernel *dot[2][NPC_DOT_TAPS]; /* of one and of two gradients; by taps, from 1 on */
    int dot_pair_taps; /* the most that pay for two */
    npc_winograd winograd;
} npc_kernels;

typedef struct {
    const char *name;
    const npc_kernels *compute[NPC_COMPUTE_COUNT]; /* NULL: as the scalar ISA */
} npc_isa;

#define NPC_ISA(name) extern const npc_isa npc_isa_##name;
#include "isa_list.inc"
#undef NPC_ISA

#endif
