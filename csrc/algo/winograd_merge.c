/* Groups whose channels fill only part of a vector, computed several at once. */
#include "winograd.h"

int64_t npc_winograd_merged(const npc_plan *plan, npc_winograd_kind kind) {
    const npc_problem *problem = &plan->problem;
    const int64_t inputs = npc_group_inputs(problem), lanes = plan->kernels->lanes;
    const int64_t pieces = npc_winograd_pieces(problem, kind);
    if (!plan->kernels->winograd.merged_product) return 1;
    for (int64_t groups = lanes / npc_max(inputs, npc_group_outputs(problem)); groups > 1; groups--) {
        if (problem->groups % groups) continue;
        /* A vector of inputs is of one piece. */
        const int whole = pieces == 1 || groups * inputs == lanes;
        return whole && pieces * groups * inputs <= NPC_WINOGRAD_CHANNELS ? groups : 1;
    }
    return 1;
}

npc_plan npc_winograd_merge(const npc_plan *plan, npc_winograd_kind kind) {
    npc_plan merged = *plan;
    merged.problem.groups /= npc_winograd_merged(plan, kind);
    return merged;
}

npc_plan npc_winograd_merge_weights(const npc_plan *plan, npc_winograd_kind kind) {
    npc_plan merged = npc_winograd_merge(plan, kind);
    merged.problem.input_channels /= plan->problem.groups / merged.problem.groups;
    return merged;
}

void npc_winograd_places(const npc_plan *plan, npc_winograd_kind kind, int32_t *places) {
    const npc_problem *problem = &plan->problem;
    const int64_t words = (int64_t)npc_compute_size(problem->compute) / 4;
    const int64_t channels = npc_winograd_merged(plan, kind) * npc_group_outputs(problem);
    for (int64_t i = 0; i < plan->kernels->lanes * words; i++) {
        const int64_t channel = i / words, group = channel / npc_group_outputs(problem);
        places[i] = channel < channels ? (int32_t)(group * npc_group_inputs(problem) * words + i % words) : 0;
    }
}
