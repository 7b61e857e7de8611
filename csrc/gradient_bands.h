/* What the weight's gradient multiplies under a band of output pixels: the input with its channels last, in compute type,
 * borders filled in, and rows of the output's gradient. */
#ifndef NPC_GRADIENT_BANDS_H
#define NPC_GRADIENT_BANDS_H

#include "algo/planes.h"

/* One axis of the packed input: tap t of output o lies at o * step + t * tap_step. */
typedef struct {
    int64_t step, tap_step, extent;
    int64_t copies; /* of the pixels, one a tap, or 1 where neighbouring windows share them */
} npc_band_axis;

/* Where taps would lie far apart, or `joined` asks for neighbours, each window is copied on its own. */
npc_band_axis npc_band_axis_of(const npc_axis *axis, int64_t taps, int64_t outputs, int joined);

typedef struct {
    const npc_problem *problem;
    npc_tensor input; /* from the first channel of one image on */
    int64_t channels;
    npc_band band;
    npc_taps_block taps; /* rows and columns of the kernel; the rest is not looked at */
    npc_band_axis rows, columns;
    int plain; /* real elements of the compute type, neighbours along the last axis */
    const npc_kernels *kernels;
} npc_input_band;

enum { NPC_BAND_SCRATCH = 16 * 128 }; /* elements */

/* For one outer tap: row, column, channel from the slowest to the fastest, of a complex input the imaginary parts after
 * all real ones. */
void npc_input_band_pack(const npc_input_band *band, int64_t outer_tap, char *target, char *scratch);

/* Whether the band's pixels of one channel of the gradient follow one another in memory as elements of compute type. */
int npc_gradient_lies_plainly(const npc_problem *problem, const npc_tensor *gradient, const npc_band *band);

/* Rows of `channels` channels, `pitch` elements apart, pixel after pixel. `from` is the band's first pixel. A complex channel
 * is two rows, (re, im) and (im, -re) of every pixel, which with (re, im) of the input's give the product with its
 * conjugate. */
void npc_gradient_pack(const npc_problem *problem, const npc_tensor *gradient, const char *from,
                       const npc_band *band, int64_t channels, int64_t pitch, char *target, char *scratch);

/* to[i * to_pitch + j] = from[j * from_pitch + i] for i < count, j < others. */
void npc_transpose(npc_compute compute, void *to, int64_t to_pitch, const void *from, int64_t from_pitch,
                   int64_t count, int64_t others);

/* to[i] += from[i] */
void npc_add_sums(npc_compute compute, void *to, const void *from, int64_t count);

#endif
