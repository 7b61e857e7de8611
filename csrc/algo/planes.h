/* Packed planes: the part of the input under a band of output pixels, in compute type, borders filled in.
 *
 * One axis. Tap t of output o reads padded coordinate o * stride + t * dilation. Taps whose offsets t * dilation leave
 * the same rest modulo the stride share a phase: a copy of every stride-th coordinate, in which tap t lies `shift`
 * behind the phase's first tap. So a strided convolution reads its planes with unit stride, nothing is multiplied by
 * the number of taps, and where the dilation is so large that sharing would copy more, each tap is a phase of its own. */
#ifndef NPC_PLANES_H
#define NPC_PLANES_H

#include "../kernels/kernels.h"
#include "../problem.h"

typedef struct {
    int64_t period; /* taps t and t + period share a phase */
    int64_t step;   /* and lie this far apart in it */
    int64_t phases, extent; /* extent: elements of a phase under the band */
} npc_phases;

npc_phases npc_phases_of(const npc_axis *axis, int64_t taps, int64_t band);

/* A run of taps of the reduction: channels [c, c + channels) of outer taps ... Ranges inside the outermost that is split. */
typedef struct {
    int64_t channel, channels;
    int64_t outer, outers; /* taps of all axes before rows and columns, as one number */
    int64_t row, rows;     /* kernel rows */
    int64_t column, columns;
} npc_taps_block;

/* A band of output pixels. */
typedef struct {
    int64_t outer; /* pixel of the axes before rows and columns, as one number */
    int64_t row, rows;
    int64_t column, columns;
} npc_band;

typedef struct {
    npc_phases rows, columns;
    int64_t plane;    /* elements of one plane: rows.extent * columns.extent */
    int64_t elements; /* of all planes */
} npc_planes;

npc_planes npc_planes_of(const npc_problem *problem, const npc_taps_block *taps, const npc_band *band);

/* Offset of every tap of the block, in the weight's order; for complex the real part and then the imaginary. */
void npc_planes_offsets(const npc_problem *problem, const npc_taps_block *taps, const npc_planes *planes,
                        int64_t *offsets);

/* Where pixels that are packed one by one are and go: those of all planes of so many neighbouring channels or, where these are too
 * many, of a row in all its phases. `from` counts bytes from the first pixel of the channels or of the row, `to` and `zeros` elements
 * of the planes. */
enum { NPC_PLANES_LISTED = 1024, NPC_PLANES_MOVES = 512 };
typedef struct {
    int made, whole;
    int64_t channels, count, zero_count; /* of one channel or row */
    int64_t from[NPC_PLANES_LISTED];
    int32_t to[NPC_PLANES_LISTED], zeros[NPC_PLANES_LISTED];
    int64_t
        moves; /* of vectors, which do the same for all these channels; 0 where they were not made: too many, or too little use */
    npc_move move[NPC_PLANES_MOVES];
} npc_planes_list;

/* One image: input.data stands at the first channel of the group. */
typedef struct {
    const npc_problem *problem;
    const npc_kernels *kernels;
    const npc_tensor *input;
    npc_planes_list
        *list; /* NULL, or one that lasts while the band and the taps but for channels and outer ones do */
    int64_t image,
        images; /* of several small ones whose pixels alternate in the planes, where there is a list; else 0 and 0 */
} npc_planes_source;

/* planes_pack.c: fills target[planes->elements]; up to a vector more is written to. Of several images, every images-th element from image on. */
void npc_planes_pack(const npc_planes_source *source, const npc_taps_block *taps, const npc_band *band,
                     const npc_planes *planes, void *target);

/* Position in the unpadded axis of element 0 of a phase. */
NPC_INLINE int64_t npc_phase_start(const npc_axis *axis, int64_t first_output, int64_t tap) {
    return first_output * axis->stride + tap * axis->dilation - axis->before;
}

/* Whether kernels read its rows, with zeros around them. */
int npc_is_plain(const npc_planes_source *source);
/* The kernel that copies every step-th pixel of such rows, or NULL. */
npc_copy_kernel *npc_copy_kernel_of(const npc_planes_source *source, int64_t step);

/* Rows of the input along the last axis, borders filled in. */
typedef struct {
    const npc_problem *problem;
    const npc_tensor *input;
    int64_t step, width; /* every step-th of so many pixels */
    int64_t stride; /* bytes from pixel to pixel */
} npc_row_packer;

/* Whether all its strides are whole elements of the compute type, and its first one aligned to that. */
int npc_counts_in_elements(const npc_problem *problem, const npc_tensor *tensor);

/* Real elements of the compute type in native order, neighbours along the last axis. */
int npc_lies_in_rows(const npc_problem *problem, const npc_tensor *tensor);

npc_row_packer npc_row_packer_of(const npc_problem *problem, const npc_tensor *input);

/* target[j] = pixel start + j * step, for j < extent; row is the input's first pixel, or NULL for zeros. */
void npc_pack_row(const npc_row_packer *packer, char *target, const char *row, int part, int64_t start,
                  int64_t extent);

/* Whether every phase of a row is packed at once: they are neighbouring pixels, and fill half a vector and more. */
int npc_turns(const npc_planes_source *source, int64_t phases);

typedef struct {
    int64_t start, phases, extent;
    int64_t pitch; /* elements from phase to phase */
} npc_turned_row;

/* target[phase * pitch + j] = pixel start + phase + j * step, for j < extent. */
void npc_turn_row(const npc_kernels *kernels, const npc_row_packer *packer, const npc_turned_row *run,
                  const char *row, char *target);

/* Rows of neighbouring channels, with a step of its own; of plain input by kernels. */
typedef struct {
    npc_row_packer row;
    npc_copy_kernel *copy; /* NULL: there is none for that input or step */
} npc_channel_packer;

typedef struct {
    const char *row; /* the first channel's first pixel, or NULL for zeros */
    int64_t channels, start, extent;
    int64_t phases; /* of the step, neighbouring pixels, one after the other with all channels */
} npc_row_run;

npc_channel_packer npc_channel_packer_of(const npc_planes_source *source, int64_t step);

/* Rows of `extent` pixels, one after the other; up to a vector more is written to. */
void npc_pack_channels(const npc_channel_packer *packer, const npc_row_run *run, char *target);

/* The input's first channel at an outer tap of an outer output pixel, or NULL where the padding is zero. */
const char *npc_outer_image(const npc_problem *problem, const npc_tensor *input, int64_t pixel, int64_t tap);
/* Whether kernels have a single tap, and the input no padding, along the axes before rows and columns: outputs along them are images
 * apart, as those of a batch. */
int npc_outer_axes_are_flat(const npc_problem *problem);

/* The band's first pixel in the first channel of the result. */
char *npc_result_band(const npc_problem *problem, const npc_tensor *output, const npc_band *band);

/* Whether a result is larger than caches. */
int npc_exceeds_caches(const npc_problem *problem);
/* The same, and its rows lie alike in their lines: after `lead` pixels of a row stores of whole
 * vectors may pass them by. What is stored so is there for other threads after kernels->end_streams. */
int npc_streams(const npc_problem *problem, const npc_kernels *kernels, const npc_tensor *output,
                int64_t *lead);

#endif
