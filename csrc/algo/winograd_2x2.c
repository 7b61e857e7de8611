/* Winograd's F(2x2, 3x3): 16 products for 4 outputs in place of 36. Of small images tiles of 4x4 would mostly lie outside,
 * and their transformed weights, four times the plain ones, cost more to read than the products. All else is winograd.c's. */
#include "winograd.h"

static const char *applicable(const npc_plan *plan) {
    if (npc_rows(&plan->problem).kernel != 3 || npc_columns(&plan->problem).kernel != 3)
        return "only for 3x3 kernels";
    return npc_winograd_applicable(plan, NPC_WINOGRAD_2X2);
}

static const char *worthwhile(const npc_plan *plan) {
    return npc_winograd_cycles(plan, NPC_WINOGRAD_2X2) < npc_winograd_direct_cycles(plan)
               ? NULL
               : "its transforms would cost more than they save";
}

static void prepare(npc_plan *plan) { npc_winograd_prepare(plan, NPC_WINOGRAD_2X2); }

static size_t packed_bytes(const npc_plan *plan) { return npc_winograd_packed_bytes(plan, NPC_WINOGRAD_2X2); }

static void pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    npc_winograd_pack(plan, NPC_WINOGRAD_2X2, weight, packed);
}

const npc_algorithm npc_algorithm_winograd_2x2 = {
    .name = "winograd_2x2",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .run = npc_winograd_run,
};
