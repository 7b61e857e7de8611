/* The definition, for reading and for checking the others:
 *     output[n, k, o] = activation(bias[k] + sum over c, t of weight[k, c, t] * input[n, g * C/G + c, o * stride + t * dilation - before])
 * where g is the group of k, o and t run over all spatial axes, and indices outside the input are the padding's.
 * Every element is fetched on its own, so any type, layout and number of axes will do; nothing is blocked. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"

typedef union {
    float f32;
    double f64;
    uint32_t u32;
    uint64_t u64;
    long double ld;
} number;

typedef struct {
    const npc_problem *problem;
    const npc_tensors *tensors;
} job;

static const char *applicable(const npc_plan *plan) {
    (void)plan;
    return NULL;
}

static void prepare(npc_plan *plan) {
    plan->threads = (int)npc_min(plan->threads, plan->problem.batch * plan->problem.output_channels);
    plan->thread_bytes = 0;
}

/* sum += sign * a * b */
static void multiply_add(npc_compute compute, number *sum, const number *a, const number *b, int negative) {
    switch (compute) {
    case NPC_COMPUTE_f32: sum->f32 += negative ? -(a->f32 * b->f32) : a->f32 * b->f32; break;
    case NPC_COMPUTE_f64: sum->f64 += negative ? -(a->f64 * b->f64) : a->f64 * b->f64; break;
    case NPC_COMPUTE_ld: sum->ld += negative ? -(a->ld * b->ld) : a->ld * b->ld; break;
    case NPC_COMPUTE_u32: sum->u32 += a->u32 * b->u32; break;
    default: sum->u64 += a->u64 * b->u64; break;
    }
}

static void fetch(number *parts, const npc_problem *problem, const npc_tensor *tensor, const char *from) {
    for (int part = 0; part < problem->parts; part++)
        npc_load_part(&parts[part], tensor, problem->compute, from, 0, part, 1);
}

/* (a0 + a1 i) (b0 + b1 i) = (a0 b0 - a1 b1) + (a0 b1 + a1 b0) i */
static void multiply_add_parts(const npc_problem *problem, number *sums, const number *a, const number *b) {
    multiply_add(problem->compute, &sums[0], &a[0], &b[0], 0);
    if (problem->parts == 1) return;
    multiply_add(problem->compute, &sums[0], &a[1], &b[1], 1);
    multiply_add(problem->compute, &sums[1], &a[0], &b[1], 0);
    multiply_add(problem->compute, &sums[1], &a[1], &b[0], 0);
}

/* Counts `index` up like an odometer over `sizes`; 0 when it comes back to the start. */
static int next_index(int64_t *index, const npc_problem *problem, int over_kernel) {
    for (int a = problem->spatial_axes - 1; a >= 0; a--) {
        const npc_axis *axis = &problem->axis[a];
        if (++index[a] < (over_kernel ? axis->kernel : axis->output)) return 1;
        index[a] = 0;
    }
    return 0;
}

/* The input under one tap for one output pixel, or NULL where the padding is zero. */
static const char *pixel_under(const npc_problem *problem, const npc_tensor *input, const char *from,
                               const int64_t *pixel, const int64_t *tap) {
    for (int a = 0; a < problem->spatial_axes; a++) {
        const npc_axis *axis = &problem->axis[a];
        const int64_t i = npc_border(pixel[a] * axis->stride + tap[a] * axis->dilation - axis->before,
                                     axis->input, problem->padding_mode);
        if (i < 0) return NULL;
        from += i * input->stride[a];
    }
    return from;
}

static void add_window(const job *job, number *sums, const char *input, const char *weight,
                       const int64_t *pixel) {
    const npc_problem *problem = job->problem;
    const npc_tensors *tensors = job->tensors;
    for (int64_t c = 0; c < npc_group_inputs(problem); c++) {
        int64_t tap[NPC_MAX_AXES] = {0};
        do {
            number a[2], b[2] = {{0}, {0}};
            const char *w = weight + c * tensors->weight.channel_stride;
            for (int i = 0; i < problem->spatial_axes; i++) w += tap[i] * tensors->weight.stride[i];
            const char *x =
                pixel_under(problem, &tensors->input, input + c * tensors->input.channel_stride, pixel, tap);
            memset(b, 0, sizeof b);
            fetch(a, problem, &tensors->weight, w);
            if (x) fetch(b, problem, &tensors->input, x);
            multiply_add_parts(problem, sums, a, b);
        } while (next_index(tap, problem, 1));
    }
}

static void run_channel(void *context, int64_t item, int thread) {
    const job *job = context;
    const npc_problem *problem = job->problem;
    const npc_tensors *t = job->tensors;
    const int64_t n = item / problem->output_channels, k = item % problem->output_channels;
    const int64_t first = k / npc_group_outputs(problem) * npc_group_inputs(problem);
    const char *input = t->input.data + n * t->input.batch_stride + first * t->input.channel_stride;
    const char *weight = t->weight.data + k * t->weight.batch_stride;
    char *output = t->output.data + n * t->output.batch_stride + k * t->output.channel_stride;
    const int64_t size = (int64_t)npc_scalar_size(problem->scalar);
    int64_t pixel[NPC_MAX_AXES] = {0};
    (void)thread;
    do {
        number sums[2];
        memset(sums, 0, sizeof sums);
        if (problem->has_bias) fetch(sums, problem, &t->bias, t->bias.data + k * t->bias.channel_stride);
        add_window(job, sums, input, weight, pixel);
        char *target = output;
        for (int a = 0; a < problem->spatial_axes; a++) target += pixel[a] * t->output.stride[a];
        for (int part = 0; part < problem->parts; part++) {
            npc_activate(problem, &sums[part], 1);
            npc_storer(problem->scalar)(target + part * size, size, &sums[part], 1);
        }
    } while (next_index(pixel, problem, 0));
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    job job = {&plan->problem, tensors};
    (void)weights, (void)workspace;
    npc_parallel_for(plan->threads, plan->problem.batch * plan->problem.output_channels, run_channel, &job);
    return NPC_OK;
}

const npc_algorithm npc_algorithm_reference = {
    .name = "reference", .applicable = applicable, .prepare = prepare, .run = run};
