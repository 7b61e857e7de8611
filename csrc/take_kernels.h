/* Weights of a convolution as those of its transpose. */
#ifndef NPC_TAKE_KERNELS_H
#define NPC_TAKE_KERNELS_H

#include "isa.h"

typedef struct {
    const char *from; /* (groups, inputs, outputs, taps of the kernel), contiguous */
    char *to;         /* (groups, outputs, places, inputs, taken), contiguous */
    int64_t groups, inputs, outputs, kernel;
    int64_t places, taken;
    const int64_t *taps; /* (places, taken): which taps of the kernel */
    int64_t element;     /* bytes */
} npc_kernel_order;

void npc_take_kernels(const npc_kernel_order *order, const npc_isa *isa, int threads);

#endif
