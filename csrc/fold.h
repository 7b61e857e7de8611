/* Images to their windows and back: im2col, and its adjoint, which adds where windows overlap.
 *
 *     columns[n, c * taps + t, w] = image[n, c, w * stride + t * dilation - before], or 0 in the padding
 *     image[n, c, p] = sum over the t and w that stand for p above of columns[n, c * taps + t, w], t in ascending order
 *
 * where t, w and p run over all spatial axes. The problem is that of a convolution with as many output channels as there
 * are channels * taps. Tensors given have any strides, columns any byte order; results are contiguous, aligned and in native order. */
#ifndef NPC_FOLD_H
#define NPC_FOLD_H

#include "plan.h"

/* The most threads to use are made as many as pay. */
int npc_fold_threads(const npc_problem *problem, int threads);

void npc_unfold(const npc_problem *problem, int threads, const npc_tensor *image, char *columns);
npc_status npc_fold(const npc_problem *problem, int threads, const npc_tensor *columns, char *image);

/* How either cuts its work into units: some rows of one image, from one column to another; see fold_grid.c. */
typedef struct {
    int64_t outers, rows, columns; /* of the array that is cut, windows or image: sizes of the axes */
    int64_t band_rows, bands, band_columns, segments;
    int64_t units, items, each; /* so many units make an item */
} npc_fold_grid;

typedef struct {
    int64_t plane; /* n * channels + c */
    int64_t outer, row, row_end, column, column_end;
} npc_fold_unit;

npc_fold_grid npc_fold_grid_of(const npc_problem *problem, int of_windows, int threads);
npc_fold_unit npc_fold_unit_at(const npc_fold_grid *grid, int64_t index);
void npc_fold_next_unit(const npc_fold_grid *grid, npc_fold_unit *unit);
/* The axes before rows and columns of the outer-th of those, and counting up their taps; 0 when they are through. */
void npc_fold_outer_index(const npc_problem *problem, int of_windows, int64_t outer, int64_t *index);
int npc_fold_next_tap(const npc_problem *problem, int64_t *tap);

/* Kernels of one tap that pass over every pixel change nothing: where the tensor given (windows or image) lies plainly, both
 * become one row of one channel. */
void npc_fold_merge(npc_problem *problem, npc_tensor *tensor, int of_windows);

#endif
