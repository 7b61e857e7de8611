/* The weights of implicit_gemm.c, in pieces. */
#include <math.h>

#include "../parallel.h"
#include "implicit_gemm.h"
#include "weights.h"

enum { TAPS = 64 }; /* of weights that do not lie plainly, at a time */

float npc_implicit_gemm_scale(uint32_t largest) {
    enum { BIAS = 127, LEAST = -40, MOST = 126 };
    const int exponent = (int)(largest >> 23) - BIAS;
    if (largest == 0 || exponent >= LEAST) return 1;
    return ldexpf(1, -exponent < MOST ? -exponent : MOST);
}

int64_t npc_implicit_gemm_blocks(const npc_problem *problem) {
    return npc_ceil_div(npc_group_outputs(problem), NPC_GEMM_BLOCK);
}

int64_t npc_implicit_gemm_steps(const npc_problem *problem) {
    return npc_ceil_div(npc_group_inputs(problem), NPC_PIECES_CHANNELS) * npc_taps(problem);
}

int64_t npc_implicit_gemm_factor_bytes(const npc_problem *problem) {
    return problem->groups * npc_implicit_gemm_blocks(problem) * NPC_GEMM_BLOCK * (int64_t)sizeof(float);
}

size_t npc_implicit_gemm_packed_bytes(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return (size_t)(npc_implicit_gemm_factor_bytes(problem) +
                    problem->groups * npc_implicit_gemm_blocks(problem) * npc_implicit_gemm_steps(problem) *
                        NPC_PIECES_STEP_BYTES);
}

typedef struct {
    const npc_plan *plan;
    const npc_tensor *weight;
    char *packed;
    int plain;
} pack_job;

/* All kernels of an output channel, or rows of zeros beyond the last; returns the bits of the largest weight. */
static uint32_t pack_output(const pack_job *job, int64_t k, char *target, float scale) {
    const npc_problem *problem = &job->plan->problem;
    const int64_t inputs = npc_group_inputs(problem), taps = npc_taps(problem);
    const int64_t channels = k < 0 ? 0 : inputs;
    float rows[NPC_PIECES_CHANNELS * TAPS];
    uint32_t largest = 0;
    for (int64_t c = 0; c < inputs; c += NPC_PIECES_CHANNELS)
        for (int64_t first = 0, some; first < taps; first += some) {
            npc_pieces_weights run = {.channels = npc_min(NPC_PIECES_CHANNELS, channels - c), .scale = scale};
            const int64_t at = k * npc_reduction(problem) + c * taps + first;
            some = npc_min(taps - first, job->plain ? taps : TAPS);
            run.stride = job->plain ? taps : some;
            run.source = job->plain ? (const float *)(const void *)job->weight->data + at : rows;
            for (int64_t i = 0; i < run.channels && !job->plain; i++)
                npc_weights_load(problem, job->weight, at + i * taps, some, rows + i * some);
            for (int64_t t = 0; t < some; t++, target += NPC_PIECES_STEP_BYTES, run.source++) {
                run.target = target;
                const uint32_t found = job->plan->isa->pieces->weights(&run);
                largest = found > largest ? found : largest;
            }
        }
    return largest;
}

static void pack_item(void *context, int64_t index, int thread) {
    enum { ROW_BYTES = 2 * NPC_PIECES_CHANNELS };
    const pack_job *job = context;
    const npc_problem *problem = &job->plan->problem;
    const int64_t outputs = npc_group_outputs(problem),
                  wide = npc_implicit_gemm_blocks(problem) * NPC_GEMM_BLOCK;
    const int64_t group = index / wide, k = index % wide;
    const int64_t channel = k < outputs ? group * outputs + k : -1;
    float *factors = (float *)(void *)job->packed;
    char *target = job->packed + npc_implicit_gemm_factor_bytes(problem) +
                   index / NPC_GEMM_BLOCK * npc_implicit_gemm_steps(problem) * NPC_PIECES_STEP_BYTES +
                   index % NPC_GEMM_BLOCK * ROW_BYTES;
    (void)thread;
    const float scale = npc_implicit_gemm_scale(pack_output(job, channel, target, 1));
    factors[index] = 1 / scale;
    if (scale != 1) pack_output(job, channel, target, scale);
}

/* Where pixels are not. */
static void turn_block(void *context, int64_t index, int thread) {
    enum { TILE_BYTES = NPC_PIECES_STEP_BYTES / NPC_PIECES / 2 };
    const pack_job *job = context;
    const int64_t bytes = npc_implicit_gemm_steps(&job->plan->problem) * NPC_PIECES_STEP_BYTES;
    char *block = job->packed + npc_implicit_gemm_factor_bytes(&job->plan->problem) + index * bytes;
    (void)thread;
    for (char *tile = block; tile < block + bytes; tile += TILE_BYTES) job->plan->isa->pieces->turn(tile);
}

void npc_implicit_gemm_pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    const npc_problem *problem = &plan->problem;
    pack_job job = {plan, weight, packed, npc_weights_lie_plainly(problem, weight)};
    npc_parallel_for(plan->threads, problem->groups * npc_implicit_gemm_blocks(problem) * NPC_GEMM_BLOCK,
                     pack_item, &job);
    if (npc_implicit_gemm_turns(problem))
        npc_parallel_for(plan->threads, problem->groups * npc_implicit_gemm_blocks(problem), turn_block,
                         &job);
}
