#include "plan.h"

#include <string.h>

#include "algo/algo.h"
#include "algo/weights.h"
#include "memory.h"

#define NPC_ALGORITHM(name) &npc_algorithm_##name,
static const npc_algorithm *const algorithms[] = {
#include "algo/algo_list.inc"
    NULL};
#undef NPC_ALGORITHM

const npc_algorithm *npc_algorithm_at(int i) { return algorithms[i]; }

const char *npc_algorithm_name(const npc_algorithm *algorithm) { return algorithm->name; }

static const char *refusal(const npc_plan *plan, const npc_algorithm *algorithm, const char *wanted) {
    if (wanted && strcmp(wanted, algorithm->name) != 0) return "another algorithm was asked for";
    const char *reason = algorithm->applicable(plan);
    if (reason || wanted) return reason;
    if (plan->algorithm) return "an algorithm before it in the list takes the problem";
    return algorithm->worthwhile ? algorithm->worthwhile(plan) : NULL;
}

/* The first of the last axes along which each pixel is only multiplied. */
static int first_of_one_tap(const npc_problem *problem) {
    int first = problem->spatial_axes;
    for (; first > 0; first--) {
        const npc_axis *axis = &problem->axis[first - 1];
        if (axis->kernel != 1 || axis->stride != 1 || axis->output != axis->input) break;
    }
    return first;
}

int npc_merge_axes(npc_problem *problem) {
    const int first = first_of_one_tap(problem);
    int64_t pixels = 1;
    if (problem->spatial_axes - first < 2) return 0;
    for (int a = first; a < problem->spatial_axes; a++) pixels *= problem->axis[a].output;
    const npc_axis merged = {pixels, 1, pixels, 1, 1, 0};
    problem->axis[first] = merged;
    problem->spatial_axes = first + 1;
    return 1;
}

static int merges(const npc_problem *given, const npc_tensor *tensor) {
    for (int a = first_of_one_tap(given); a + 1 < given->spatial_axes; a++)
        if (tensor->stride[a] != tensor->stride[a + 1] * given->axis[a + 1].input) return 0;
    return 1;
}

static void move_stride(npc_tensor *tensor, int from, int to) {
    const int64_t stride = tensor->stride[from];
    for (int a = from; a < to; a++) tensor->stride[a] = tensor->stride[a + 1];
    tensor->stride[to] = stride;
}

int npc_merge_tensors(const npc_problem *given, npc_problem *problem, npc_tensors *tensors) {
    const int first = first_of_one_tap(given), last = given->spatial_axes - 1;
    if (merges(given, &tensors->input) && merges(given, &tensors->output)) {
        tensors->input.stride[first] = tensors->input.stride[last];
        tensors->output.stride[first] = tensors->output.stride[last];
        return 1;
    }
    *problem = *given;
    if (first == 0) return 0;
    for (int a = first - 1; a < last - 1; a++) problem->axis[a] = given->axis[a + 1];
    problem->axis[last - 1] = given->axis[first - 1];
    move_stride(&tensors->input, first - 1, last - 1);
    move_stride(&tensors->weight, first - 1, last - 1);
    move_stride(&tensors->output, first - 1, last - 1);
    return 0;
}

static npc_status make_unmerged(npc_plan *plan, const char *wanted) {
    plan->kernels = npc_kernels_of(plan->isa, plan->problem.compute);
    plan->algorithm = NULL;
    for (int i = 0; algorithms[i]; i++) {
        plan->refused[i] = refusal(plan, algorithms[i], wanted);
        if (!plan->refused[i]) plan->algorithm = algorithms[i];
    }
    if (!plan->algorithm) return NPC_REFUSED;
    plan->algorithm->prepare(plan);
    return NPC_OK;
}

/* Pixels after the last window, left over by a stride: algorithms that transform them would have others feel them. */
static void leave_unread_out(npc_problem *problem) {
    for (int a = 0; a < problem->spatial_axes && problem->padding_mode == NPC_PADDING_ZEROS; a++) {
        npc_axis *axis = &problem->axis[a];
        const int64_t last = (axis->output - 1) * axis->stride + (axis->kernel - 1) * axis->dilation;
        axis->input = npc_clamp(last - axis->before + 1, 0, axis->input);
    }
}

/* Of a single tap, which has none. */
static void leave_dilations_out(npc_problem *problem) {
    for (int a = 0; a < problem->spatial_axes; a++)
        if (problem->axis[a].kernel == 1) problem->axis[a].dilation = 1;
}

npc_status npc_plan_make(npc_plan *plan, const char *wanted) {
    leave_unread_out(&plan->problem);
    leave_dilations_out(&plan->problem);
    plan->given = plan->problem;
    plan->merged = npc_merge_axes(&plan->problem);
    return make_unmerged(plan, wanted);
}

size_t npc_plan_workspace(const npc_plan *plan) { return (size_t)plan->threads * plan->thread_bytes; }

size_t npc_plan_packed_bytes(const npc_plan *plan) {
    return plan->algorithm->packed_bytes ? plan->algorithm->packed_bytes(plan) : 0;
}

int64_t npc_plan_packed_order(const npc_plan *plan) {
    return plan->algorithm->order ? plan->algorithm->order(plan) : 0;
}

int npc_plan_reads_plain_weights(const npc_plan *plan, const npc_tensor *weight) {
    return plan->algorithm->takes_plain_weights && npc_weights_have_plain_type(&plan->problem, weight);
}

int64_t npc_plan_turns_taps(const npc_plan *plan) { return plan->algorithm->turns_taps; }

void npc_plan_pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    plan->algorithm->pack(plan, weight, packed);
}

/* Once: strict algorithms are content with any result. */
static npc_status run_strictly(const npc_plan *plan, const npc_tensors *tensors) {
    npc_plan again = *plan;
    again.problem.strict = 1;
    again.prepacked = 0;
    make_unmerged(&again, NULL);
    return npc_plan_run(&again, tensors, NULL);
}

static npc_status run_merged(const npc_plan *plan, const npc_tensors *tensors, const void *packed) {
    const npc_problem *given = &plan->given;
    npc_plan single = *plan;
    npc_tensors merged = *tensors;
    single.merged = 0;
    if (npc_merge_tensors(given, &single.problem, &merged)) return npc_plan_run(&single, &merged, packed);
    /* The packed weights of a single tap are alike for one algorithm. */
    const int alike = make_unmerged(&single, npc_algorithm_name(plan->algorithm)) == NPC_OK;
    if (!alike) make_unmerged(&single, NULL);
    return npc_plan_run(&single, &merged, alike && plan->problem.spatial_axes == 1 ? packed : NULL);
}

npc_status npc_plan_run(const npc_plan *plan, const npc_tensors *tensors, const void *packed) {
    if (plan->merged) return run_merged(plan, tensors, packed);
    const npc_algorithm *algorithm = plan->algorithm;
    const size_t workspace_bytes = npc_plan_workspace(plan);
    size_t packed_bytes = packed ? 0 : npc_plan_packed_bytes(plan);
    if (packed_bytes && algorithm->takes_plain_weights &&
        npc_weights_lie_plainly(&plan->problem, &tensors->weight)) {
        packed = tensors->weight.data;
        packed_bytes = 0;
    }
    char *workspace = NULL, *packed_here = NULL;
    if (workspace_bytes && !(workspace = npc_acquire(workspace_bytes))) return NPC_NO_MEMORY;
    if (packed_bytes && !(packed_here = npc_acquire(packed_bytes))) {
        npc_release(workspace);
        return NPC_NO_MEMORY;
    }
    if (packed_here) algorithm->pack(plan, &tensors->weight, packed_here);
    const npc_status status = algorithm->run(plan, tensors, packed ? packed : packed_here, workspace);
    npc_release(packed_here);
    npc_release(workspace);
    return status == NPC_NOT_FINITE ? run_strictly(plan, tensors) : status;
}
