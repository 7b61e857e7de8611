/* The weights of implicit_gemm.c, in pieces. */
#include <math.h>
#include <string.h>

#include "../parallel.h"
#include "implicit_gemm.h"
#include "weights.h"

enum {
    TAPS = 16, /* of weights that do not lie plainly, at a time */
    ROWS = NPC_GEMM_BLOCK * NPC_PIECES_CHANNELS * TAPS,
};

float npc_implicit_gemm_scale(uint32_t largest) {
    enum { BIAS = 127, LEAST = -26, MOST = 126 };
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

int64_t npc_implicit_gemm_head_bytes(const npc_problem *problem) {
    return problem->groups * npc_implicit_gemm_blocks(problem) * (int64_t)sizeof(npc_gemm_outputs);
}

size_t npc_implicit_gemm_packed_bytes(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return (size_t)(npc_implicit_gemm_head_bytes(problem) +
                    problem->groups * npc_implicit_gemm_blocks(problem) * npc_implicit_gemm_steps(problem) *
                        NPC_PIECES_STEP_BYTES);
}

typedef struct {
    const npc_plan *plan;
    const npc_tensor *weight;
    char *packed;
    int plain;
} pack_job;

/* From the element `first` of the weight on. */
static void load_rows(const pack_job *job, const npc_pieces_weights *run, int64_t first, float *rows) {
    const npc_problem *problem = &job->plan->problem;
    for (int64_t k = 0; k < run->outputs; k++, first += npc_reduction(problem))
        for (int64_t c = 0; c < run->channels; c++, rows += run->taps)
            npc_weights_load(problem, job->weight, first + c * npc_taps(problem), run->taps, rows);
}

/* A block of output channels, by way of rows in compute type where they do not lie so. */
static void pack_block(const pack_job *job, npc_pieces_weights run, int64_t first) {
    const npc_problem *problem = &job->plan->problem;
    const int64_t inputs = npc_group_inputs(problem), taps = npc_taps(problem),
                  reduction = npc_reduction(problem);
    float rows[ROWS];
    run.source = rows;
    for (int64_t c = 0; c < inputs; c += NPC_PIECES_CHANNELS)
        for (int64_t t = 0; t < taps; t += run.taps, run.target += run.taps * NPC_PIECES_STEP_BYTES) {
            const int64_t at = first * reduction + c * taps + t;
            run.channels = npc_min(NPC_PIECES_CHANNELS, inputs - c);
            run.taps = job->plain ? taps : npc_min(TAPS, taps - t);
            run.channel_stride = job->plain ? taps : run.taps;
            run.output_stride = job->plain ? reduction : run.channels * run.taps;
            if (job->plain)
                run.source = (const float *)(const void *)job->weight->data + at;
            else
                load_rows(job, &run, at, rows);
            job->plan->isa->pieces->weights(&run);
        }
}

static void pack_item(void *context, int64_t index, int thread) {
    const pack_job *job = context;
    const npc_problem *problem = &job->plan->problem;
    const int64_t outputs = npc_group_outputs(problem), blocks = npc_implicit_gemm_blocks(problem);
    const int64_t k = index % blocks * NPC_GEMM_BLOCK, first = index / blocks * outputs + k;
    npc_gemm_outputs *head = (npc_gemm_outputs *)(void *)job->packed + index;
    float scales[NPC_GEMM_BLOCK];
    uint32_t largest[NPC_GEMM_BLOCK] = {0};
    int scaled = 0;
    const npc_pieces_weights run = {.target =
                                        job->packed + npc_implicit_gemm_head_bytes(problem) +
                                        index * npc_implicit_gemm_steps(problem) * NPC_PIECES_STEP_BYTES,
                                    .outputs = npc_min(NPC_GEMM_BLOCK, outputs - k),
                                    .scales = scales,
                                    .largest = largest,
                                    .turned = npc_implicit_gemm_turns(problem)};
    (void)thread;
    for (int i = 0; i < NPC_GEMM_BLOCK; i++) scales[i] = 1;
    pack_block(job, run, first);
    head->largest = 0;
    for (int i = 0; i < NPC_GEMM_BLOCK; i++) {
        float weight;
        memcpy(&weight, &largest[i], sizeof weight);
        scales[i] = npc_implicit_gemm_scale(largest[i]);
        head->factors[i] = 1 / scales[i];
        head->largest = fmaxf(head->largest, weight * scales[i]);
        scaled |= scales[i] != 1;
    }
    if (scaled) pack_block(job, run, first);
}

void npc_implicit_gemm_pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    const npc_problem *problem = &plan->problem;
    pack_job job = {plan, weight, packed, npc_weights_lie_plainly(problem, weight)};
    npc_parallel_for(plan->threads, problem->groups * npc_implicit_gemm_blocks(problem), pack_item, &job);
}
