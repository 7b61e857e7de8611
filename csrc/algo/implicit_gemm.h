/* How problems are cut for the implicit matrix product, and what it costs. */
#ifndef NPC_IMPLICIT_GEMM_H
#define NPC_IMPLICIT_GEMM_H

#include "planes.h"
#include "../plan.h"

enum {
    NPC_GEMM_BLOCK = 2 * NPC_PIECES_TILE,            /* output channels, or pixels, of a product */
    NPC_GEMM_PIXEL_BYTES = 2 * NPC_PIECES_CHANNELS, /* of a piece */
};

/* The pixels under a band: rows of an outer tap in their phases (planes.h), one outer tap after the other. */
typedef struct {
    npc_phases rows;
    int64_t step;   /* along a row every step-th pixel is packed, */
    int64_t stride; /* and neighbouring results lie so many of them apart, */
    int64_t pitch;  /* rows so many, */
    int64_t extent; /* which are so many results: a whole number */
    int64_t count;  /* of all */
} npc_gemm_pixels;

typedef struct {
    int64_t band_rows, band_columns, row_bands, column_bands;
    int64_t blocks, chunks; /* blocks of output channels of an item; such items under a band */
    /* Words of a pixel follow one another, so that tiles may begin at any; for neighbours under a single tap that gains nothing. */
    int64_t turned;
    int64_t row, piece, tile,
        channel_block; /* bytes of pixels: see kernels.h; and of all of so many channels */
    int64_t piece_bytes, stage_bytes, list_bytes, sum_bytes; /* of a thread's workspace */
} npc_implicit_gemm_recipe;

npc_gemm_pixels npc_gemm_pixels_of(const npc_problem *problem, int64_t rows, int64_t columns);
/* For the whole weight, as recipe.turned. */
int npc_implicit_gemm_turns(const npc_problem *problem);

/* NULL, or why it does not take the problem. */
const char *npc_implicit_gemm_applicable(const npc_plan *plan);
npc_implicit_gemm_recipe npc_implicit_gemm_cut(const npc_plan *plan);
/* Cycles of a core, as npc_winograd_cycles counts them; of one thread, whatever the plan's number. */
double npc_implicit_gemm_cycles(const npc_plan *plan);

int64_t npc_implicit_gemm_blocks(const npc_problem *problem); /* of a group's output channels */
int64_t npc_implicit_gemm_steps(const npc_problem *problem); /* of its reduction */

/* A block of output channels: the powers of two that scaled weights are to be multiplied by, and the largest of these weights. */
typedef struct {
    float factors[NPC_GEMM_BLOCK], largest;
    char whole[60]; /* lines */
} npc_gemm_outputs;

/* packed: [group][block], then [group][block][block of input channels][tap][piece][tile]. */
int64_t npc_implicit_gemm_head_bytes(const npc_problem *problem);
size_t npc_implicit_gemm_packed_bytes(const npc_plan *plan);
void npc_implicit_gemm_pack(const npc_plan *plan, const npc_tensor *weight, void *packed);

/* A power of two that brings numbers, the largest of which has these bits, near 1, or 1 where they are not far from it or all zeros: their
 * pieces are to be well above the least numbers there are. */
float npc_implicit_gemm_scale(uint32_t largest);

#endif
