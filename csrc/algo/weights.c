#include "weights.h"

#include "../convert.h"
#include "planes.h"

int64_t npc_reduction(const npc_problem *problem) {
    return npc_group_inputs(problem) * npc_taps(problem) * problem->parts;
}

size_t npc_weights_bytes(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return (size_t)(problem->output_channels * problem->parts * npc_reduction(problem)) *
           npc_compute_size(problem->compute);
}

/* Row 2k of a complex product, from (re, im) of the input: re * wr - im * wi; row 2k + 1: re * wi + im * wr. */
#define NPC_COMPLEX_ROWS(name, T)                                                                            \
    static void complex_rows_##name(T *row, int64_t reduction, const T *part, int64_t taps) {                \
        for (int64_t i = 0; i < taps; i++) {                                                                 \
            const T real = part[i], imaginary = part[taps + i];                                              \
            row[2 * i] = real;                                                                               \
            row[2 * i + 1] = -imaginary;                                                                     \
            row[reduction + 2 * i] = imaginary;                                                              \
            row[reduction + 2 * i + 1] = real;                                                               \
        }                                                                                                    \
    }
NPC_COMPLEX_ROWS(f32, float)
NPC_COMPLEX_ROWS(f64, double)
NPC_COMPLEX_ROWS(ld, long double)

static void complex_rows(npc_compute compute, void *row, int64_t reduction, const void *part, int64_t taps) {
    if (compute == NPC_COMPUTE_f32) complex_rows_f32(row, reduction, part, taps);
    if (compute == NPC_COMPUTE_f64) complex_rows_f64(row, reduction, part, taps);
    if (compute == NPC_COMPUTE_ld) complex_rows_ld(row, reduction, part, taps);
}

const char *npc_weights_row(const npc_problem *problem, const npc_tensor *weight, int64_t k, int64_t row) {
    const char *from = weight->data + k * weight->batch_stride;
    for (int a = problem->spatial_axes - 2; a >= 0; a--) {
        from += row % problem->axis[a].kernel * weight->stride[a];
        row /= problem->axis[a].kernel;
    }
    return from + row * weight->channel_stride;
}

enum { WEIGHT_CHUNK = 128 };

static void pack_complex_row(const npc_problem *problem, const npc_tensor *weight, const char *from,
                             char *to) {
    const int64_t taps = npc_columns(problem).kernel, stride = npc_column_stride(problem, weight);
    const int64_t size = (int64_t)npc_compute_size(problem->compute), reduction = npc_reduction(problem);
    long double parts[2 * WEIGHT_CHUNK]; /* the widest and best aligned */
    for (int64_t done = 0; done < taps; done += WEIGHT_CHUNK) {
        const int64_t count = npc_min(WEIGHT_CHUNK, taps - done);
        for (int part = 0; part < 2; part++)
            npc_load_part((char *)parts + part * count * size, weight, problem->compute, from + done * stride,
                          stride, part, count);
        complex_rows(problem->compute, to + 2 * done * size, reduction, parts, count);
    }
}

void npc_weights_pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    const npc_problem *problem = &plan->problem;
    const int64_t columns = npc_columns(problem).kernel, reduction = npc_reduction(problem);
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    if (problem->parts == 1) {
        npc_weights_load(problem, weight, 0, problem->output_channels * reduction, packed);
        return;
    }
    for (int64_t k = 0; k < problem->output_channels; k++)
        for (int64_t row = 0; row < reduction / problem->parts / columns; row++)
            pack_complex_row(problem, weight, npc_weights_row(problem, weight, k, row),
                             (char *)packed + problem->parts * (k * reduction + row * columns) * size);
}

/* Elements that lie one stride apart, in the weight's own order. */
typedef struct {
    int64_t count, stride;
} weight_run;

static void lengthen(weight_run *run, int *ended, int64_t extent, int64_t stride) {
    if (extent == 1 || *ended) return;
    if (run->count == 1) run->stride = stride;
    *ended = stride != run->stride * run->count;
    if (!*ended) run->count *= extent;
}

/* The longest runs that make up the whole weight: most often that is one. */
static weight_run weight_run_of(const npc_problem *problem, const npc_tensor *weight) {
    weight_run run = {1, 0};
    int ended = 0;
    for (int a = problem->spatial_axes - 1; a >= 0; a--)
        lengthen(&run, &ended, problem->axis[a].kernel, weight->stride[a]);
    lengthen(&run, &ended, npc_group_inputs(problem), weight->channel_stride);
    lengthen(&run, &ended, problem->output_channels, weight->batch_stride);
    return run;
}

void npc_weights_load(const npc_problem *problem, const npc_tensor *weight, int64_t first, int64_t count,
                      void *target) {
    const weight_run run = weight_run_of(problem, weight);
    const int64_t taps = npc_columns(problem).kernel, stride = npc_column_stride(problem, weight);
    const int64_t rows = npc_reduction(problem) / taps, size = (int64_t)npc_compute_size(problem->compute);
    for (int64_t done = 0; done < count;) {
        const int64_t at = first + done, row = at / taps;
        const int64_t some = npc_min(count - done, run.count - at % run.count);
        npc_load_part((char *)target + done * size, weight, problem->compute,
                      npc_weights_row(problem, weight, row / rows, row % rows) + at % taps * stride,
                      run.stride, 0, some);
        done += some;
    }
}

int npc_weights_have_plain_type(const npc_problem *problem, const npc_tensor *weight) {
    return !weight->swapped && weight->parts == 1 && problem->parts == 1 &&
           npc_is_compute(weight->scalar, problem->compute);
}

int npc_weights_lie_plainly(const npc_problem *problem, const npc_tensor *weight) {
    int64_t stride = (int64_t)npc_compute_size(problem->compute);
    if (!npc_weights_have_plain_type(problem, weight)) return 0;
    if ((uintptr_t)weight->data % (uintptr_t)stride) return 0;
    for (int a = problem->spatial_axes - 1; a >= 0; a--) {
        if (problem->axis[a].kernel > 1 && weight->stride[a] != stride) return 0;
        stride *= problem->axis[a].kernel;
    }
    if (npc_group_inputs(problem) > 1 && weight->channel_stride != stride) return 0;
    stride *= npc_group_inputs(problem);
    return problem->output_channels == 1 || weight->batch_stride == stride;
}

int npc_weights_side_by_side(const npc_problem *problem, const npc_tensor *weight) {
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    return npc_weights_have_plain_type(problem, weight) && npc_counts_in_elements(problem, weight) &&
           weight->batch_stride == size;
}

int npc_weights_by_outputs(const npc_problem *problem, const npc_tensor *weight) {
    int64_t stride = (int64_t)npc_compute_size(problem->compute);
    int order = 0;
    if (!npc_weights_have_plain_type(problem, weight) || (uintptr_t)weight->data % (uintptr_t)stride ||
        weight->channel_stride % stride)
        return 0;
    for (int a = problem->spatial_axes - 1; a >= 0; a--) {
        if (problem->axis[a].kernel == 1) continue;
        const int forwards = weight->stride[a] == stride, backwards = weight->stride[a] == -stride;
        if (!(forwards && order >= 0) && !(backwards && order <= 0)) return 0;
        order = forwards ? 1 : -1;
        stride *= problem->axis[a].kernel;
    }
    if (weight->batch_stride != stride) return 0;
    return order ? order : 1;
}
