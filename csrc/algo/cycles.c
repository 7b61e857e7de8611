#include "cycles.h"

#include <math.h>

#include "implicit_gemm.h"
#include "weights.h"

double npc_plain_cycles(const npc_plan *plan) {
    return fmin(npc_blocked_cycles(plan), npc_direct_cycles(plan));
}

double npc_untransformed_cycles(const npc_plan *plan) {
    double least = npc_plain_cycles(plan);
    if (!npc_implicit_gemm_applicable(plan)) least = fmin(least, npc_implicit_gemm_cycles(plan));
    if (!npc_inner_product_applicable(plan)) least = fmin(least, npc_inner_product_cycles(plan));
    return least;
}

double npc_pixel_cycles(const npc_plan *plan) {
    const npc_axis columns = npc_columns(&plan->problem);
    const int turns =
        columns.dilation == 1 && 2 * npc_min(columns.kernel, columns.stride) >= plan->kernels->lanes;
    return columns.stride == 1 ? 0.4 : columns.stride == 2 || turns ? 0.8 : 1.3;
}

double npc_channel_bytes(const npc_problem *problem) {
    double bytes = (double)npc_compute_size(problem->compute);
    for (int a = 0; a < problem->spatial_axes; a++) bytes *= (double)problem->axis[a].input;
    return bytes;
}

double npc_weights_cycles(const npc_plan *plan) {
    const double bytes = (double)plan->problem.output_channels * (double)npc_reduction(&plan->problem) *
                         (double)npc_compute_size(plan->problem.compute);
    return bytes > NPC_LAST_CACHE ? bytes / 4 : 0;
}

double npc_turning_cycles(const npc_plan *plan, int64_t turns_taps) {
    const npc_problem *problem = &plan->problem;
    return plan->turned && !plan->prepacked && npc_taps(problem) > turns_taps
               ? (double)problem->output_channels * (double)npc_reduction(problem)
               : 0;
}
