/* Winograd's F(2x2, 3x3): 16 products for 4 outputs in place of 36. Of small images tiles of 4x4 would mostly lie outside,
 * and their transformed weights, four times the plain ones, cost more to read than the products. All else is winograd.c's. */
#include "cycles.h"
#include "winograd.h"

const char *npc_winograd_2x2_applicable(const npc_plan *plan) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    if (rows.kernel != 3 || columns.kernel != 3) return "only for 3x3 kernels";
    if (rows.stride != 1 || columns.stride != 1) return "only for stride 1";
    return npc_winograd_applicable(plan, NPC_WINOGRAD_2X2);
}

static const char *worthwhile(const npc_plan *plan) {
    return npc_winograd_cycles(plan, NPC_WINOGRAD_2X2) < npc_untransformed_cycles(plan)
               ? NULL
               : "its transforms would cost more than they save";
}

static void prepare(npc_plan *plan) { npc_winograd_prepare(plan, NPC_WINOGRAD_2X2); }

const npc_algorithm npc_algorithm_winograd_2x2 = {
    .name = "winograd_2x2",
    .applicable = npc_winograd_2x2_applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = npc_winograd_packed_bytes,
    .pack = npc_winograd_pack,
    .order = npc_winograd_order,
    .turns_taps = INT64_MAX,
    .run = npc_winograd_run,
};
