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
 * - streams: whole vectors may be stored past the caches, all of which then begin at multiples of their size; nothing is
 *   accumulated. Other threads see them after end_streams, called by the thread that stored them.
 *
 * stencil: `rows` neighbouring rows of one output channel x `vectors` neighbouring vectors of pixels, for `images`
 *   input channels and outer taps,
 *     output[m][j] = (*bias or 0 + sum over i, r, c of
 *                     weights[i][r][c] * rows[i * image_rows + m * row_stride + r * row_dilation][columns[c] + at + j])
 *                    + (output[m][j] if accumulate),
 *   each i summed for itself, in an order that is the same for all heights of a kind, but for 1 and 2 of HALF_5, which are
 *   those of HALF. Only 3_IMAGES, NULL where an ISA or type has none, takes more than one image.
 * - ANY takes any kernel; 3 and 5 take as many kernel rows with row_stride and row_dilation 1. The HALF ones read every
 *   other pixel, columns[c] + at + 2 * j, of 2 * LANES; HALF_3 takes as many kernel rows with row_stride 2,
 *   row_dilation 1 and columns that are neighbours.
 * - 3X3 and HALF_3X3, NULL where an ISA or type has none, take kernels of that size whose columns are neighbours, else as 3 and HALF_3.
 *   Pixels of a row before its first and from its `end`-th on are zeros, never read; from, to and back are not looked at.
 * - stencil_line, NULL where an ISA or type has none: a row of any number of vectors under a single kernel row. Pixels are read
 *   up to the next multiple of NPC_STENCIL_LINE vectors and one more; from and to are not looked at.
 * - from, to: NULL, or for every vector, mask_stride apart, and kernel column the lanes that lie inside the input; the others are
 *   zeros, never read.
 * - back: so many lanes the last of several vectors goes back over those before it; it is then a whole one, its from and to are
 *   those of its place, and nothing is accumulated or streamed.
 * - last, clip, streams: as above.
 *
 * block: `pixels` neighbouring pixels x `vectors` vectors of output channels,
 *     sums[p][k] = (bias[k] or 0 + sum over r of weights[r][k] * input[offsets[r] + p]) + (sums[p][k] if accumulate)
 * in order of r for every element, whatever the tile. Rows of weights and sums have vectors * LANES elements and follow
 * one another. Clip as above.
 *
 * block_store: `channels` <= LANES rows of the result from sums of blocks, target[k * target_stride + p] =
 *     source[p * source_stride + k] for p < count; exactly those are written, and whole vectors read.
 * block_weights: rows of weights into blocks, target[places[r] * target_stride + k] = source[k * source_stride + r] for
 *     r < count and k < channels, and 0 for the other lanes. Where it `checks`, returns whether all are finite; integers are.
 *
 * copy: `count` rows of `extent` pixels each, one after the other in the target, and `pitch` elements on those of the next of `phases`
 *   neighbouring pixels (0 counts as one):
 *     target[phase * pitch + r * extent + j] = source[r * source_stride + j * step + phase]
 *   Elements of a source row outside [from, to) count as zeros, never read. For steps of 1, of 2 and, NULL where an ISA or type has
 *   none, up to NPC_COPY_STEPS; as many phases at most. Whole vectors are stored, so up to a vector less one element beyond the last
 *   row, but none of the next phase is overwritten. Elements further on are asked for meanwhile, which need not exist: those at
 *   source + next, with which another copy goes on, or where `next` is 0 or rows are many those of the next ones.
 *
 * move: of LANES elements in words of 32 bits, NULL where an ISA or type has none: for each move, in order,
 *     found[i] = (source + from)[places[i]] where places[i] >= 0, and found[i] & keep elsewhere,
 *   then the whole vector is stored at target, which goes on by `advance`. Places count words, as many as a vector has. Whole vectors
 *   are read and stored, so up to a vector less one element beyond the last. Those at source + ahead + from are asked for meanwhile,
 *   and need not exist.
 *
 * panel[0][v - 1]: `tiles` tiles, one below the other, of panel_rows[v - 1] rows x v vectors of pixels from a panel under a single tap,
 *   NULL where an ISA or type gains nothing by it,
 *     output[m][j] = (bias[m] or 0 + sum over r of weights[m][r] * panel[r][j]) + (output[m][j] if accumulate)
 *   in order of r; rows of weights lie weight_stride apart, those of a panel as many vectors as the widest gemm tile has. Bytes at
 *   far + r * far_stride are asked for meanwhile, nearer than memory, and need not exist. last, clip: as for gemm.
 * panel[1][v - 1]: the same for one tile of as many rows as the tallest gemm tile, but pixels are those at pixels + r * pixel_stride, of whose last vector `last` elements are read, and the
 *   others are zeros; the panel is filled with them.
 *
 * dot: one or two gradients, row by row, against `taps` shifted inputs,
 *     output[m][t] = (output[m][t] if accumulate) + sum over row, i of left[m][row * left_stride + i] * right[offsets[t] + row * right_stride + i]
 * for i < count, with m * output_pitch and m * left_pitch between the two: each lane sums its own elements in order of row and i, then the lanes are added. Nothing past `count`
 * elements is read.
 *
 * channelwise: sums of as many channels as lanes, each of its own, NULL where an ISA or type has none,
 *     output[p] = (bias or 0) + sum over t < taps of weights[t] * input[starts[p] + offsets[t]]
 *   in order of t, for a multiple of CHANNELWISE_PIXELS pixels; all of these are vectors, but starts and offsets, which count
 *   elements. Clip as above.
 *
 * sliding[k][s]: depthwise results of `channels` images, input_step and output_step apart, under kernels of 3x3 and, NULL where registers
 *   are too few, of 5x5, by strides of 1 and 2; NULL where an ISA or type has none,
 *     output[m][j] = (bias or 0) + sum over r, c of weights[r][c] * input[m * s + r - before_rows][j * s + c - before_columns]
 *   for m < output_rows and j < output_columns >= sliding_columns, in order of r and c. Kernels of channels follow one another, and so
 *   do biases. Pixels outside rows and columns are zeros, never read; `zeros` are as many as columns. Clip as above.
 *   Elements input_step and output_step further on may be asked for meanwhile, and are where it `asks`; they need not exist.
 *
 * inner[0]: up to INNER_ROWS rows of weights x up to inner_columns pixels, [1]: up to twice as many rows x half of the pixels; NULL
 *   where an ISA or type has none,
 *     output[m * row_step + j * column_step] += sum over r < count of weights[m * weight_stride + r] * pixels[j * pixel_stride + r]
 *   each lane sums every LANES-th r, in order, then neighbouring lanes are added, and their sums; it is the same for all tiles. Nothing
 *   past `count` elements is read. Weights `ahead` elements further are asked for meanwhile, and need not exist.
 *
 * spread: a row of a transposed convolution of stride 2 along it, NULL for integers,
 *     output[2 * j + p] = *bias + sum over taps t = first[p], first[p] + step ... < taps, then r < count, of
 *                         weights[kernel_rows[r] + t] * input[rows[r] + columns[t] + j]
 *   in that order, for 2 * j + p < width; pixels outside 0 <= columns[t] + j < extent are zeros, never read.
 *
 * winograd: the steps of algo/winograd.c, winograd_steps.h.
 *
 * fft: the steps of algo/fft.c, NULL where an ISA or type has none. A point is a complex number for each of LANES lines: a
 * vector of real parts and one of imaginary parts, which lies `imaginary` further.
 * - forward[0], of radix 2, and forward[1], of radix 4: polynomials of 2 or 4 * span points, `blocks` of them one after the other,
 *   modulo x^(2 or 4 * span) - roots[node]^2, the next modulo that of the next node, become 2 or 4 of span points each, modulo x^span -+
 *   roots[node] or, of radix 4, what radix 2 makes of these. Of radix 2 there is one block.
 * - backward: their inverses, times 2 or 4.
 * - product[outputs - 1][log2 of vectors]: for each point, `vectors` vectors of lines of `outputs` outputs,
 *       output[k][v] = sum over r of weights[r][k] * input[offsets[r] + v * LANES]
 *   in order of r, NPC_FFT_RUN of them at a time. Points of the output follow one another: vectors of real parts, then as many of imaginary parts.
 * - finish: adds the bias to `count` vectors and clips them, in place; returns whether all were finite before.
 *
 * pieces: float32 products on units that multiply tiles of bfloat16, NULL where an ISA has none. A number x is the sum of three pieces
 * of 8 bits, rounded to nearest: bfloat16(x), that of the rest, and that of the rest of it. The product of two numbers is that of
 * their pieces but for small * middle, middle * small and small * small, at most 2^-24 of it; products are summed in float32. Numbers and sums below 2^-126 count as zeros.
 * - begin, end: around all calls of `product`, on the same thread.
 * - pixels: splits `count` pixels of up to CHANNELS channels, source_stride apart, times `scale`. A tile is TILE pixels of all channels, each
 *   two neighbouring channels a word: words of a pair of channels follow one another or, where `turned`, those of a pixel. Pieces of
 *   a tile lie `piece` apart, tiles `tile`. Channels that are missing and pixels outside [from, to) are zeros, never read; whole tiles are written. Returns the bits of the largest magnitude, before it was scaled.
 * - weights: splits the weights of up to CHANNELS channels, channel_stride apart, and `taps` taps, which follow one another, of `outputs` <=
 *   2 * TILE outputs, output_stride apart, each times its scale. A tap is a step: STEP_BYTES for pieces of two tiles, of which words of
 *   an output follow one another or, where `turned`, those of a pair of channels. What is missing are zeros. largest[m] becomes
 *   the bits of an output's largest magnitude, before it was scaled, if that is more. There are 2 * TILE of these and of scales.
 * - product[o - 1][p - 1]: o tiles of outputs x p tiles of pixels,
 *       sums[m][j] = sum over steps s of the products of weights[s], STEP_BYTES for each, and the pixels offsets[s] further
 *   as a block of o * TILE rows, p * TILE pixels of a row, which has 2 * TILE. All pixels of the tiles are read. Where pixels are turned, and `row` apart, weights are, too.
 * - finish: target[m * target_stride + j] = sums[m][j] * factors[m] + bias[m], clipped, for j < count <= 2 * TILE. Returns the bits of the
 *   largest magnitude of these sums or, where a result is not finite before it is clipped, those of infinity. Rows of sums are 2 * TILE
 *   apart, and whole vectors of them are read.
 * `row`, `piece`, `tile` and the offsets of products count bytes.
 *
 * All other strides and offsets count elements of the compute type.
 */
#ifndef NPC_KERNELS_H
#define NPC_KERNELS_H

#include "../types.h"
#include "winograd_steps.h"

enum { NPC_MOST_LANES = 16 };

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
    int clip, streams;
    double low, high;
} npc_gemm;

typedef void npc_gemm_kernel(const npc_gemm *tile);

enum { NPC_GEMM_ROWS = 8, NPC_GEMM_VECTORS = 3, NPC_PANEL_ROWS = 12 };

typedef struct {
    const void *weights, *pixels;
    void *panel, *output;
    const void *bias; /* NULL: none */
    const char *far;
    int64_t reduction, weight_stride, pixel_stride, output_stride;
    int64_t far_stride; /* bytes */
    int64_t tiles;
    int last;
    int accumulate;
    int clip;
    double low, high;
} npc_panel;

typedef void npc_panel_kernel(const npc_panel *tile);

typedef struct {
    const void *weights;
    const void *const *rows;
    const int64_t *columns;
    const int *from, *to;
    void *output;
    const void *bias;
    int64_t at, end, vectors, back, mask_stride;
    int64_t images, image_rows, kernel_rows, kernel_columns, row_stride, row_dilation, output_stride;
    int last;
    int accumulate;
    int clip, streams;
    double low, high;
} npc_stencil;

typedef void npc_stencil_kernel(const npc_stencil *tile);

enum { NPC_STENCIL_HEIGHTS = 4, NPC_STENCIL_SHARED = 7, NPC_STENCIL_LINE = 8 };
typedef enum {
    NPC_STENCIL_ANY,
    NPC_STENCIL_3,
    NPC_STENCIL_5,
    NPC_STENCIL_7,
    NPC_STENCIL_HALF,
    NPC_STENCIL_HALF_3,
    NPC_STENCIL_HALF_5,
    NPC_STENCIL_3_IMAGES,
    NPC_STENCIL_3X3,
    NPC_STENCIL_HALF_3X3,
    NPC_STENCIL_KERNELS
} npc_stencil_kind;

typedef struct {
    const void *source;
    void *target;
    int64_t count, extent, source_stride, from, to;
    int64_t phases, pitch, next;
    int64_t step; /* read by the last kernel alone */
} npc_copy;

typedef void npc_copy_kernel(const npc_copy *rows);

enum { NPC_COPY_KERNELS = 3, NPC_COPY_STEPS = 7 };

enum { NPC_MOVE_WORDS = 16 };
typedef struct {
    int64_t from;          /* bytes */
    int32_t keep, advance; /* all bits or none; bytes */
    int8_t places[NPC_MOVE_WORDS];
} npc_move;

typedef void npc_move_kernel(const npc_move *moves, int64_t count, const char *source, int64_t ahead,
                             char *target);

typedef struct {
    const void *weights, *input;
    const int64_t *offsets;
    void *sums;
    const void *bias; /* NULL: none */
    int64_t reduction;
    int accumulate;
    int clip;
    double low, high;
} npc_block;

typedef void npc_block_kernel(const npc_block *tile);

enum { NPC_BLOCK_PIXELS = 14, NPC_BLOCK_VECTORS = 2 };

typedef struct {
    const void *source;
    void *target;
    const int64_t *places;
    int64_t count, source_stride, target_stride;
    int channels;
    int checks; /* read by block_weights alone */
} npc_block_rows;

typedef void npc_block_rows_kernel(const npc_block_rows *rows);
typedef int npc_block_weights_kernel(const npc_block_rows *rows);

typedef struct {
    const void *left, *right;
    const int64_t *offsets;
    void *output;
    int64_t rows, count, left_stride, right_stride, left_pitch, output_pitch;
    int accumulate;
} npc_dot;

typedef void npc_dot_kernel(const npc_dot *tile);

enum { NPC_DOT_TAPS = 9 };

typedef struct {
    const void *input, *weights, *bias;
    void *output;
    const int64_t *rows, *kernel_rows, *columns;
    int64_t count, taps, step, first[2], extent, width;
} npc_spread_row;

typedef void npc_spread_kernel(const npc_spread_row *row);

typedef struct {
    const void *source, *roots;
    void *target;
    int64_t source_step, source_imaginary, target_step, target_imaginary;
    int64_t node, blocks, span;
} npc_fft_pass;

typedef struct {
    const void *input, *weights;
    const int64_t *offsets;
    void *output;
    int64_t points, reduction, input_step, input_imaginary, output_stride;
} npc_fft_product;

typedef struct {
    void *pixels;
    const void *bias; /* NULL: none */
    int64_t count;
    int clip;
    double low, high;
} npc_fft_finish;

enum { NPC_FFT_OUTPUTS = 2, NPC_FFT_VECTORS = 3, NPC_FFT_RUN = 256 };

typedef void npc_fft_pass_kernel(const npc_fft_pass *pass);

typedef struct {
    npc_fft_pass_kernel *forward[2], *backward[2];
    void (*product[NPC_FFT_OUTPUTS][NPC_FFT_VECTORS])(const npc_fft_product *run);
    int (*finish)(const npc_fft_finish *run);
} npc_fft;

enum { NPC_PIECES = 3, NPC_PIECES_TILE = 16, NPC_PIECES_CHANNELS = 32 };
enum { NPC_PIECES_STEP_BYTES = NPC_PIECES * 2 * NPC_PIECES_TILE * NPC_PIECES_CHANNELS * 2 };

typedef struct {
    const float *source;
    char *target;
    int64_t channels, count, source_stride, from, to;
    int64_t piece, tile;
    float scale;
    int turned;
} npc_pieces_pixels;

typedef struct {
    const float *source;
    char *target;
    int64_t outputs, channels, taps, output_stride, channel_stride;
    const float *scales;
    uint32_t *largest;
    int turned;
} npc_pieces_weights;

typedef struct {
    const char *weights, *pixels;
    const int64_t *offsets;
    float *sums;
    int64_t steps, row, piece, tile;
    int turned; /* the pixels */
} npc_pieces_product;

typedef struct {
    const float *sums, *factors, *bias;
    float *target;
    int64_t outputs, count, target_stride;
    int clip;
    float low, high;
} npc_pieces_finish;

typedef struct {
    void (*begin)(void), (*end)(void);
    uint32_t (*pixels)(const npc_pieces_pixels *run);
    void (*weights)(const npc_pieces_weights *run);
    void (*product[2][2])(const npc_pieces_product *block);
    uint32_t (*finish)(const npc_pieces_finish *run);
} npc_pieces;

typedef struct {
    const void *weights, *pixels;
    void *output;
    int64_t count, weight_stride, pixel_stride, row_step, column_step;
    int64_t ahead;
    int rows, columns;
} npc_inner;

typedef void npc_inner_kernel(const npc_inner *tile);

enum { NPC_INNER_ROWS = 4 };

typedef struct {
    const void *input, *weights;
    const void *bias; /* NULL: none */
    const int64_t *starts, *offsets;
    void *output;
    int64_t pixels, taps;
    int clip;
    double low, high;
} npc_channelwise;

typedef void npc_channelwise_kernel(const npc_channelwise *run);

enum { NPC_CHANNELWISE_PIXELS = 8 };

typedef struct {
    const void *input, *weights, *zeros;
    const void *bias; /* NULL: none */
    void *output;
    int64_t channels, input_step, output_step, input_row, output_row;
    int64_t rows, columns, before_rows, before_columns, output_rows, output_columns;
    int clip, asks;
    double low, high;
} npc_sliding;

typedef void npc_sliding_kernel(const npc_sliding *run);

enum { NPC_SLIDING_MOST = 5 };

/* What an ISA offers for one compute type: gemm[m - 1][v - 1] for m <= rows and v <= vectors, stencils of 1, 2, 4 ... rows
 * up to stencil_rows. */
typedef struct {
    int lanes, rows, vectors, stencil_rows;
    npc_gemm_kernel *gemm[NPC_GEMM_ROWS][NPC_GEMM_VECTORS];
    npc_stencil_kernel *stencil[NPC_STENCIL_KERNELS][NPC_STENCIL_HEIGHTS]; /* rows: 1, 2, 4, 8 */
    npc_stencil_kernel *stencil_line;
    int pixels; /* block[p - 1][v - 1] for p <= pixels */
    npc_block_kernel *block[NPC_BLOCK_PIXELS][NPC_BLOCK_VECTORS];
    npc_block_kernel *block_half[NPC_BLOCK_PIXELS];
    npc_block_rows_kernel *block_store;
    npc_block_weights_kernel *block_weights;
    npc_copy_kernel *copy[NPC_COPY_KERNELS]; /* steps 1, 2, more */
    npc_move_kernel *move;
    npc_panel_kernel *panel[2][NPC_GEMM_VECTORS]; /* [1]: and fills it */
    int panel_rows[NPC_GEMM_VECTORS]; /* of a tile; the first a multiple of the others, >= rows */
    npc_dot_kernel *dot[2][NPC_DOT_TAPS]; /* of one and of two gradients; by taps, from 1 on */
    npc_spread_kernel *spread;
    void (*end_streams)(void); /* NULL where nothing is streamed */
    int dot_pair_taps; /* the most of two */
    npc_channelwise_kernel *channelwise;
    npc_sliding_kernel *sliding[2][2]; /* of 3x3 and 5x5, by strides */
    int sliding_columns; /* the fewest of a result */
    npc_inner_kernel *inner[2];
    int inner_columns; /* of inner[0], the most */
    npc_winograd winograd;
    npc_fft fft;
} npc_kernels;

typedef struct npc_isa npc_isa;
struct npc_isa {
    const char *name;
    const npc_kernels *compute[NPC_COMPUTE_COUNT]; /* NULL: as the ISA it extends */
    const npc_isa *extends; /* NULL: the scalar one */
    const npc_pieces *pieces;
};

#define NPC_ISA(name) extern const npc_isa npc_isa_##name;
#include "isa_list.inc"
#undef NPC_ISA

#endif
