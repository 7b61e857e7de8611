#include "cycles.h"

#include <math.h>

#include "../cpu.h"
#include "implicit_gemm.h"
#include "weights.h"

#define ONE_PRODUCT(panel, packing, fused_point, fft_share, squares, larger, alone, cached)                  \
    {.pixel = {0.4, 0.8, 1.3},                                                                               \
     .direct = {1.02, panel, 1, 0, 2000},                                                                    \
     .blocked = {1, 1, packing, 2000},                                                                       \
     .winograd = {.large = {1.12, 11, 0.36, 1},                                                              \
                  .small = {1.12, 11, 0.36, 1},                                                              \
                  .fused = {1.12, fused_point, 0.36, 1},                                                     \
                  .merged = {1.5, 18, 0.36, 1},                                                              \
                  .begun = 3000,                                                                             \
                  .free_bytes = cached},                                                                     \
     .inner = {1, 1, 500},                                                                                   \
     .stencil = {1, 1, 1, 0.75},                                                                             \
     .sliding = {1, squares, larger, alone},                                                                 \
     .channelwise = 1,                                                                                       \
     .fft = fft_share}
const npc_core npc_core_of_one_product = ONE_PRODUCT(0.78, 1, 7, 1, 128 << 10, 512 << 10, 1, NPC_LAST_CACHE);
static const npc_core half_vectors = ONE_PRODUCT(1, 1, 7, 1, 128 << 10, 512 << 10, 1, NPC_LAST_CACHE);
/* Two, but fits of all costs to 1,351 problems chose no better among others: only these were worth it. */
static const npc_core zen_5 = ONE_PRODUCT(0.95, 1.15, 12, 1.2, 48 << 10, 200 << 10, 1.25, 3 << 18);
/* Fitted to 1,350 problems in float32, each by every algorithm that takes it; panels by hand. What goes together in most problems, as rows
 * of pixels and tiles do, such a fit shares out at will: the sums are to be trusted, not the parts. */
static const npc_core two_products = {.pixel = {0.74, 0.7, 1.45},
                                      .direct = {0.62, 0.58, 0.57, 720, 1500},
                                      .blocked = {0.64, 1.38, 1.4, 3300},
                                      .winograd = {.large = {0.56, 11, 6.7, 0.47},
                                                   .small = {0.5, 11, 6.7, 0.47},
                                                   .fused = {0.82, 7.7, 0.29, 2.65},
                                                   .merged = {0.85, 7.8, 7.2, 0.5},
                                                   .begun = 3600,
                                                   .free_bytes = 3 << 18},
                                      .inner = {3.5, 1.1, 4000},
                                      .stencil = {0.7, 0.24, 1.32, 1},
                                      .sliding = {0.65, 48 << 10, 200 << 10, 1},
                                      .channelwise = 0.78,
                                      .fft = 0.88};

/* Products of integers take several operations, of which no core begins two. */
const npc_core *npc_core_of(const npc_plan *plan) {
    enum { AVX512_BYTES = 64 };
    const npc_compute compute = plan->problem.compute;
    if (plan->kernels->lanes * (int64_t)npc_compute_size(compute) != AVX512_BYTES)
        return &npc_core_of_one_product;
    if (npc_cpu_halves_vectors()) return &half_vectors;
    if (compute != NPC_COMPUTE_f32 && compute != NPC_COMPUTE_f64) return &npc_core_of_one_product;
    return npc_cpu_pairs_products() ? &two_products : npc_cpu_is_zen_5() ? &zen_5 : &npc_core_of_one_product;
}

int npc_worthy_threads(const npc_plan *plan, double cycles) {
    return (int)npc_clamp((int64_t)fmin(cycles / NPC_THREAD_CYCLES, plan->threads), 1, plan->threads);
}

double npc_plain_cycles(const npc_plan *plan) {
    return fmin(npc_blocked_cycles(plan), npc_direct_cycles(plan));
}

double npc_untransformed_cycles(const npc_plan *plan) {
    double least = npc_plain_cycles(plan);
    if (!npc_implicit_gemm_applicable(plan)) least = fmin(least, npc_implicit_gemm_cycles(plan));
    if (!npc_inner_product_applicable(plan)) least = fmin(least, npc_inner_product_cycles(plan));
    return least;
}

int npc_splits_steps(const npc_plan *plan) {
    const npc_axis columns = npc_columns(&plan->problem);
    return plan->kernels->copy[NPC_COPY_KERNELS - 1] && columns.stride > 2 &&
           columns.stride <= NPC_COPY_STEPS && columns.dilation == 1 &&
           plan->problem.padding_mode == NPC_PADDING_ZEROS;
}

double npc_pixel_cycles(const npc_plan *plan) {
    const npc_axis columns = npc_columns(&plan->problem);
    const int turns =
        columns.dilation == 1 && 2 * npc_min(columns.kernel, columns.stride) >= plan->kernels->lanes;
    const double *pixel = npc_core_of(plan)->pixel;
    if (columns.stride <= 2) return pixel[columns.stride - 1];
    return turns ? pixel[1] : npc_splits_steps(plan) ? (3 * pixel[1] + pixel[2]) / 4 : pixel[2];
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
