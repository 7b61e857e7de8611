#include "problem.h"

static const npc_axis single = {1, 1, 1, 1, 1, 0};

npc_axis npc_columns(const npc_problem *problem) { return problem->axis[problem->spatial_axes - 1]; }

npc_axis npc_rows(const npc_problem *problem) {
    return problem->spatial_axes > 1 ? problem->axis[problem->spatial_axes - 2] : single;
}

int npc_outer_axes(const npc_problem *problem) {
    return problem->spatial_axes > 2 ? problem->spatial_axes - 2 : 0;
}

int64_t npc_outer_outputs(const npc_problem *problem) {
    int64_t count = 1;
    for (int a = 0; a < npc_outer_axes(problem); a++) count *= problem->axis[a].output;
    return count;
}

int64_t npc_outer_taps(const npc_problem *problem) {
    int64_t count = 1;
    for (int a = 0; a < npc_outer_axes(problem); a++) count *= problem->axis[a].kernel;
    return count;
}

int64_t npc_taps(const npc_problem *problem) {
    return npc_outer_taps(problem) * npc_rows(problem).kernel * npc_columns(problem).kernel;
}

int64_t npc_row_stride(const npc_problem *problem, const npc_tensor *tensor) {
    return problem->spatial_axes > 1 ? tensor->stride[problem->spatial_axes - 2] : 0;
}

int64_t npc_column_stride(const npc_problem *problem, const npc_tensor *tensor) {
    return tensor->stride[problem->spatial_axes - 1];
}

double npc_multiplications(const npc_problem *problem) {
    double count = (double)problem->batch * (double)problem->output_channels *
                   (double)npc_group_inputs(problem) * (problem->parts == 2 ? 4.0 : 1.0);
    for (int a = 0; a < problem->spatial_axes; a++)
        count *= (double)problem->axis[a].output * (double)problem->axis[a].kernel;
    return count;
}
