/* Convolution by Fourier transforms of rows: what the files fft*.c share. */
#ifndef NPC_FFT_H
#define NPC_FFT_H

#include "algo.h"
#include "planes.h"

enum { NPC_FFT_HEAD = 64 }; /* bytes of a thread's workspace for its flag */

/* How a problem is cut. A line is what a lane of a vector holds: a block of a row. Those of a vector lie under each other in
 * neighbouring rows of the output, or beside each other in one row (by_blocks). */
typedef struct {
    int64_t level, points; /* a transform has 2^level complex points, of twice as many pixels */
    int64_t block; /* outputs of a line */
    int64_t by_blocks, parts; /* lines are blocks of a row, and so many a row of the kernel is cut into */
    int64_t phases,
        row_phases; /* of the strides: each has pixels and taps of its own; by_blocks, rows of the kernel do */
    int64_t slots, taps; /* transformed lines of the input, rows of taps that a line of the result sums */
    int64_t all_lines, across; /* lines of an image, next to each other; how many times */
    int64_t lines, listed; /* of an item, whole vectors: of the output, of a slot */
    int64_t outputs; /* channels of an item */
    int64_t point_step; /* elements */
    int64_t far; /* images come from memory rather than a cache: pieces of rows do so slowly */
    int64_t slot_bytes, sum_bytes, pixel_bytes, offset_bytes; /* of a thread's workspace */
} npc_fft_recipe;

/* fft_blocking.c: the transforms that cost least, and roughly how many cycles of one thread; 0 where none fits a workspace and
 * costs less than the limit. */
double npc_fft_cut(const npc_plan *plan, double limit, npc_fft_recipe *recipe);
int npc_fft_fits(const npc_plan *plan); /* whether any does */
int64_t npc_fft_thread_bytes(const npc_fft_recipe *recipe);
npc_fft_recipe npc_fft_recipe_of(const npc_plan *plan);

/* A row of taps: where in the weights it begins, and in which line of which slot its pixels lie. Both count in the order input
 * channel and outer tap, row of the kernel or its phase, phase along the row; taps then by parts. */
typedef struct {
    int64_t row, column, count; /* of the kernel: row as npc_weights_row counts, every stride-th tap */
    int64_t slot, line;
} npc_fft_tap;

npc_fft_tap npc_fft_tap_of(const npc_problem *problem, const npc_fft_recipe *recipe, int64_t tap);

/* fft_transform.c: LANES lines of pixels to points and back. */
typedef struct {
    const npc_fft *kernels;
    const void *roots; /* of every node: 2^level complex numbers */
    int64_t level, lanes, size;
} npc_fft_transform;

npc_fft_transform npc_fft_transform_of(const npc_plan *plan, const npc_fft_recipe *recipe, const void *roots);

/* Points lie point_step elements apart, imaginary parts `imaginary` further. */
typedef struct {
    char *data;
    int64_t point_step, imaginary;
} npc_fft_points;

void npc_fft_forward(const npc_fft_transform *transform, const char *pixels, const npc_fft_points *points);
void npc_fft_backward(const npc_fft_transform *transform, const npc_fft_points *points, char *pixels);

/* fft_weights.c: [roots][group][block of outputs][point][tap][output][2], and room to transform them in. */
size_t npc_fft_packed_bytes(const npc_plan *plan);
void npc_fft_pack(const npc_plan *plan, const npc_tensor *weight, void *packed);
int64_t npc_fft_roots_bytes(const npc_plan *plan, const npc_fft_recipe *recipe);
/* Elements before the weights of an output channel of a group, the first of its block. */
int64_t npc_fft_weights_of(const npc_plan *plan, const npc_fft_recipe *recipe, int64_t group, int64_t output);

/* As many as kernels multiply at once. */
int64_t npc_fft_most_outputs(const npc_plan *plan);

#endif
