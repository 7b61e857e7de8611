/* Plain C for every compute type: what an ISA without kernels for a type falls back to. */
#include "kernels.h"

NPC_VECTORISE

#define LANES_IN_PLAIN_C 4

#define T float
#define HAS_WINOGRAD
#define NAME(x) x##_f32
#define FLOATS 1
#include "plain.inc"

#define T double
#define HAS_WINOGRAD
#define NAME(x) x##_f64
#define FLOATS 1
#include "plain.inc"

/* Integers are twice as slow at -O3 with gcc 12, and larger. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O2")
#endif

#define T uint32_t
#define NAME(x) x##_u32
#define FLOATS 0
#include "plain.inc"

#define T uint64_t
#define NAME(x) x##_u64
#define FLOATS 0
#include "plain.inc"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

/* No processor has vectors of these. */
#undef LANES_IN_PLAIN_C
#define LANES_IN_PLAIN_C 2

#define T long double
#define NAME(x) x##_ld
#define FLOATS 1
#include "plain.inc"

const npc_isa npc_isa_scalar = {
    .name = "scalar",
    .compute = {[NPC_COMPUTE_f32] = &kernels_f32,
                [NPC_COMPUTE_f64] = &kernels_f64,
                [NPC_COMPUTE_u32] = &kernels_u32,
                [NPC_COMPUTE_u64] = &kernels_u64,
                [NPC_COMPUTE_ld] = &kernels_ld},
};
