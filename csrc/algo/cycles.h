/* What algorithms would cost, for the choice between them: rough cycles of a core that begins one product of vectors a cycle, fitted to
 * times of about two thousand problems with AVX-512 and some with AVX2, and of one that begins two. The number of threads must not decide
 * on the algorithm, or it would change bits, so all count one. */
#ifndef NPC_CYCLES_H
#define NPC_CYCLES_H

#include "../plan.h"

/* Of Winograd's tiles. */
typedef struct {
    double tap; /* a product of vectors, */
    double point; /* storing its sums, */
    double tile; /* a transform of a point of a tile, */
    double row; /* and the share of those of rows of pixels */
} npc_tile_cycles;

/* What a core takes: cycles, but where they are shares of those of one that begins one product of vectors a cycle. */
typedef struct {
    double pixel[3]; /* to pack one: of neighbours, of every other, and of longer strides */
    struct {
        double tap, panel, sums /* share */, image, begun;
    } direct;
    struct {
        double tap, sums, packing /* shares */, begun;
    } blocked;
    struct {
        npc_tile_cycles large, small, fused, merged;
        double begun;
        double free_bytes; /* of weights: reading so many costs nothing beside the products */
    } winograd;
    struct {
        double sums, pixels /* shares */, begun;
    } inner;
    struct {
        double tap, vector, image; /* shares */
        double worth; /* others must stay below: it is counted high for short kernels */
    } stencil;
    struct {
        double cycles; /* share */
        /* Of an image, under kernels of 3x3 and of 5x5: more go better along their rows, where kernels do. */
        double square_bytes, large_bytes;
        double alone; /* of a vector that goes down by itself under 5x5, how much longer than one of two */
    } sliding;
    double channelwise, fft; /* shares */
} npc_core;

const npc_core *npc_core_of(const npc_plan *plan);
/* With one product of vectors a cycle. */
extern const npc_core npc_core_of_one_product;

enum { NPC_THREAD_CYCLES = 20000 }; /* of work: waking a thread takes less */
/* Of the plan's threads as many as so much work is worth waking. */
int npc_worthy_threads(const npc_plan *plan, double cycles);

double npc_stencil_cycles(const npc_plan *plan); /* 0 where it does not take the problem */
double npc_channelwise_cycles(const npc_plan *plan); /* the same */
double npc_direct_cycles(const npc_plan *plan);
double npc_blocked_cycles(const npc_plan *plan);
/* NULL, or why it does not take the problem. */
const char *npc_inner_product_applicable(const npc_plan *plan);
double npc_inner_product_cycles(const npc_plan *plan);

/* The better of direct and blocked. */
double npc_plain_cycles(const npc_plan *plan);
/* The best of all that transform neither pixels nor weights. */
double npc_untransformed_cycles(const npc_plan *plan);

/* Whether pixels of a stride above 2 are packed by vectors, all phases at once. */
int npc_splits_steps(const npc_plan *plan);
/* What they have in common: packing a pixel, where long strides take longer if rows are neither turned around nor split so; reading
 * weights that lie beyond the last cache. */
double npc_pixel_cycles(const npc_plan *plan);
double npc_weights_cycles(const npc_plan *plan);
/* Taking weights that lie as those of a transpose for algorithms that turn no more than so many taps. */
double npc_turning_cycles(const npc_plan *plan, int64_t turns_taps);

/* Of an image of one input channel. */
double npc_channel_bytes(const npc_problem *problem);

enum { NPC_LAST_CACHE = 16 << 20 }; /* bytes of weights, or of images and results, that stay in one */

#endif
