/* What every algorithm file offers: it loops, blocks and threads, and leaves arithmetic to kernels. */
#ifndef NPC_ALGO_H
#define NPC_ALGO_H

#include "../plan.h"

struct npc_algorithm {
    const char *name;
    /* NULL, or why this algorithm does not take the problem. */
    const char *(*applicable)(const npc_plan *plan);
    /* The same for problems that it takes, yet others compute faster; not asked where it is named. NULL: it always pays. */
    const char *(*worthwhile)(const npc_plan *plan);
    /* Fills plan->recipe, plan->threads and plan->thread_bytes. */
    void (*prepare)(npc_plan *plan);
    /* Bytes of the weights in this algorithm's own order, and the packing; 0 and NULL: it reads them as they are. */
    size_t (*packed_bytes)(const npc_plan *plan);
    void (*pack)(const npc_plan *plan, const npc_tensor *weight, void *packed);
    /* Which of its orders that is, where the sizes of the image decide; NULL: there is one. */
    int64_t (*order)(const npc_plan *plan);
    /* Weights that lie plainly in memory are given in place of packed ones where this is so. */
    int takes_plain_weights;
    /* Not 0: weights whose output channels lie side by side are packed as fast as any, and so are those whose kernels do, up
     * to as many taps. */
    int64_t turns_taps;
    /* NPC_NOT_FINITE: the result is to be computed again by plain sums. */
    npc_status (*run)(const npc_plan *plan, const npc_tensors *tensors, const void *weights, char *workspace);
};

#define NPC_ALGORITHM(name) extern const npc_algorithm npc_algorithm_##name;
#include "algo_list.inc"
#undef NPC_ALGORITHM

#endif
