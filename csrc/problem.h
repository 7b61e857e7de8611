/* A validated convolution. The Python facade checks every rule; here they hold. */
#ifndef NPC_PROBLEM_H
#define NPC_PROBLEM_H

#include "types.h"

#define NPC_MAX_AXES 62 /* NumPy's limit of 64 axes less batch and channels */

typedef enum {
    NPC_PADDING_ZEROS,
    NPC_PADDING_REFLECT,
    NPC_PADDING_REPLICATE,
    NPC_PADDING_CIRCULAR,
    NPC_PADDING_SYMMETRIC
} npc_padding_mode;

typedef enum {
    NPC_ACTIVATION_NONE,
    NPC_ACTIVATION_CLIP, /* [a, b]: relu and relu6 are clips */
    NPC_ACTIVATION_LEAKY_RELU,
    NPC_ACTIVATION_SIGMOID,
    NPC_ACTIVATION_TANH,
    NPC_ACTIVATION_SILU,
    NPC_ACTIVATION_HARDSWISH
} npc_activation;

/* One spatial axis. */
typedef struct {
    int64_t input, kernel, output, stride, dilation, before;
} npc_axis;

typedef struct {
    int spatial_axes;
    int64_t batch, groups; /* from 1 on: an empty batch is never run */
    int64_t input_channels, output_channels; /* of all groups together */
    npc_axis axis[NPC_MAX_AXES];
    npc_padding_mode padding_mode;
    npc_activation activation;
    double activation_a, activation_b;
    int has_bias;
    int strict; /* plain sums only */
    npc_scalar scalar;   /* of the result */
    int parts;           /* 2 for a complex result, else 1 */
    npc_compute compute; /* type of the sums */
} npc_problem;

/* Strides in bytes. A tensor without batch or group axis repeats with stride 0. */
typedef struct {
    char *data;
    npc_scalar scalar;
    int parts;
    int swapped; /* bytes in the other order than the machine's */
    int64_t batch_stride, channel_stride;
    int64_t stride[NPC_MAX_AXES];
} npc_tensor;

/* Weights use batch_stride for output channels; bias uses channel_stride alone. */
typedef struct {
    npc_tensor input, weight, bias, output;
} npc_tensors;

/* The last two axes are where kernels work; with one spatial axis the rows are a single one. */
npc_axis npc_rows(const npc_problem *problem);
npc_axis npc_columns(const npc_problem *problem);
int npc_outer_axes(const npc_problem *problem);       /* those before rows and columns */
int64_t npc_outer_outputs(const npc_problem *problem); /* product of their output sizes */
int64_t npc_outer_taps(const npc_problem *problem);    /* product of their kernel sizes */
int64_t npc_taps(const npc_problem *problem);          /* product of all kernel sizes */
int64_t npc_row_stride(const npc_problem *problem, const npc_tensor *tensor);
int64_t npc_column_stride(const npc_problem *problem, const npc_tensor *tensor);
double npc_multiplications(const npc_problem *problem);

NPC_INLINE int64_t npc_group_inputs(const npc_problem *p) { return p->input_channels / p->groups; }
NPC_INLINE int64_t npc_group_outputs(const npc_problem *p) { return p->output_channels / p->groups; }

/* Where index i of a padded axis of n elements is read: -1 stands for a zero. */
NPC_INLINE int64_t npc_border(int64_t i, int64_t n, npc_padding_mode mode) {
    if (i >= 0 && i < n) return i;
    switch (mode) {
    case NPC_PADDING_REPLICATE: i = i < 0 ? 0 : n - 1; break;
    case NPC_PADDING_REFLECT: i = i < 0 ? -i : 2 * (n - 1) - i; break;
    case NPC_PADDING_SYMMETRIC: i = i < 0 ? -1 - i : 2 * n - 1 - i; break;
    case NPC_PADDING_CIRCULAR: i = i < 0 ? i + n : i - n; break;
    default: return -1;
    }
    return i >= 0 && i < n ? i : -1;
}

#endif
