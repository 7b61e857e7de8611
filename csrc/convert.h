/* Rows of elements between memory and compute type. */
#ifndef NPC_CONVERT_H
#define NPC_CONVERT_H

#include "problem.h"

/* target[i] = source[i]: source has `stride` bytes from element to element, any alignment. */
typedef void npc_load(void *target, const char *source, int64_t stride, int64_t count);
/* The other way: narrows integers modulo 2^bits, rounds float16 to nearest even. */
typedef void npc_store(char *target, int64_t stride, const void *source, int64_t count);

npc_load *npc_loader(npc_scalar scalar, npc_compute compute);
npc_store *npc_storer(npc_scalar scalar); /* from the compute type of that scalar */

/* As npc_load, for a tensor's elements: byte order and the imaginary part of a real tensor (zeros) included. */
void npc_load_part(void *target, const npc_tensor *tensor, npc_compute compute, const char *source,
                   int64_t stride, int part, int64_t count);
/* Zeros of a compute type. */
void npc_zeros(void *target, npc_compute compute, int64_t count);

#endif
