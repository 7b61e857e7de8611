/* Which algorithm computes a problem, and how it is blocked for this machine. */
#ifndef NPC_PLAN_H
#define NPC_PLAN_H

#include "isa.h"
#include "problem.h"

typedef struct npc_algorithm npc_algorithm;

enum { NPC_RECIPE_WORDS = 26, NPC_MAX_ALGORITHMS = 16 };

typedef struct {
    npc_problem problem;
    npc_problem given; /* the problem as it was, where its last axes were merged into one */
    int merged;
    const npc_isa *isa;
    const npc_kernels *kernels;
    const npc_algorithm *algorithm;
    int threads;
    int prepacked; /* weights are packed once for many runs, so what that costs does not count */
    int turned;    /* weights lie as those of a transpose, whose output channels follow one another */
    size_t thread_bytes;                     /* of workspace for each thread */
    int64_t recipe[NPC_RECIPE_WORDS];        /* the algorithm's own */
    const char *refused[NPC_MAX_ALGORITHMS]; /* by place in the list: why not, NULL for the one taken */
} npc_plan;

typedef enum { NPC_OK, NPC_NO_MEMORY, NPC_REFUSED, NPC_NOT_FINITE } npc_status;

/* A single tap along the last axes sees neighbouring pixels alike, whatever rows they lie in: those axes become one. Whether
 * there are some. */
int npc_merge_axes(npc_problem *problem);
/* Strides for that, where the pixels of those axes follow one another with one stride: then 1. Else `problem` becomes the
 * given one, and the axis before those the next to last: as it is when they are merged, so that sums are the same. */
int npc_merge_tensors(const npc_problem *given, npc_problem *problem, npc_tensors *tensors);

const npc_algorithm *npc_algorithm_at(int i); /* the i-th best, NULL past the last */
const char *npc_algorithm_name(const npc_algorithm *algorithm);

/* Expects problem, isa, prepacked, turned and threads (the most to use) set; `wanted` names the only algorithm to try, NULL for the best. */
npc_status npc_plan_make(npc_plan *plan, const char *wanted);
size_t npc_plan_workspace(const npc_plan *plan);

/* Weights packed beforehand: as many bytes as told (0: this algorithm reads them as they are), for any number of runs. */
size_t npc_plan_packed_bytes(const npc_plan *plan);
/* What their order depends on besides the algorithm, the ISA, types and the weight's shape. */
int64_t npc_plan_packed_order(const npc_plan *plan);
/* Whether weights of this type, contiguous and aligned, are read as fast as packed ones. */
int npc_plan_reads_plain_weights(const npc_plan *plan, const npc_tensor *weight);
/* The most taps of kernels that, side by side as in the weight of a transpose, are read as fast as any; not 0: output
 * channels may lie side by side, too. */
int64_t npc_plan_turns_taps(const npc_plan *plan);
void npc_plan_pack(const npc_plan *plan, const npc_tensor *weight, void *packed);

/* `packed` may be NULL: then the weight is packed for this run where the algorithm wants that. tensors->weight is set in
 * either case: results that are not finite are computed again by plain sums. */
npc_status npc_plan_run(const npc_plan *plan, const npc_tensors *tensors, const void *packed);

#endif
