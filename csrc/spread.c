/* Transposed convolution of one input channel a group, with stride 2 along the columns.
 *
 *     output[2 j + p] = bias + sum over the taps t of place p, t * dilation = before + p modulo 2, of
 *                       weight[t] * input[j + (before + p - t * dilation) / 2]
 *
 * A place's taps alone are a convolution of stride 1, as phases.py makes one of each place. Such small sums cost less than
 * storing every other pixel of a row, so here both places of a row are summed and stored in turn: the result is written
 * once, in whole vectors. Rows of the other axes, with any stride, are those that a row of the result has taps for. */
#include "spread.h"

#include "algo/planes.h"
#include "convert.h"
#include "parallel.h"

enum {
    THREAD_WORK = 200 * 1000, /* multiplications that pay for waking one more thread */
    ITEM_PIXELS = 16 * 1024,  /* of the result */
    ITEM_CHANNELS = 8,
};

typedef struct {
    const npc_spread *plan;
    const npc_tensors *tensors;
    int64_t size;
    int64_t chunks, bands, rows; /* rows of the result's channel */
    int64_t columns[NPC_SPREAD_COLUMNS];
    npc_spread_row row; /* what is the same for all */
} spread_job;

static int64_t modulo_2(int64_t a) { return (a % 2 + 2) % 2; }

static int64_t result_rows(const npc_problem *problem) {
    return npc_outer_outputs(problem) * npc_rows(problem).output;
}

int npc_spread_make(npc_spread *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis columns = npc_columns(problem);
    plan->kernels = npc_kernels_of(plan->isa, problem->compute);
    if (!plan->kernels->spread || problem->parts != 1 || !npc_is_compute(problem->scalar, problem->compute))
        return 0;
    if (problem->padding_mode != NPC_PADDING_ZEROS || problem->activation != NPC_ACTIVATION_NONE) return 0;
    if (npc_group_inputs(problem) != 1 || columns.stride != 2) return 0;
    if (columns.kernel > NPC_SPREAD_COLUMNS || npc_taps(problem) / columns.kernel > NPC_SPREAD_ROWS) return 0;
    const double share = npc_multiplications(problem) / THREAD_WORK;
    plan->threads = share < plan->most_threads ? (int)npc_max(1, (int64_t)share) : plan->most_threads;
    plan->channels = npc_min(ITEM_CHANNELS, problem->output_channels);
    plan->rows = npc_clamp(ITEM_PIXELS / (plan->channels * columns.output), 1, result_rows(problem));
    return 1;
}

/* Input rows under a row of the result, and the kernel rows that go with them; returns how many. */
static int64_t list_rows(const spread_job *job, int64_t index, int64_t *rows, int64_t *kernel_rows) {
    const npc_problem *problem = &job->plan->problem;
    int64_t count = 1;
    rows[0] = kernel_rows[0] = 0;
    for (int a = problem->spatial_axes - 2; a >= 0; a--) {
        const npc_axis *axis = &problem->axis[a];
        const int64_t place = index % axis->output + axis->before;
        int64_t next = 0, given[2][NPC_SPREAD_ROWS];
        index /= axis->output;
        for (int64_t i = 0; i < count; i++) {
            given[0][i] = rows[i];
            given[1][i] = kernel_rows[i];
        }
        for (int64_t tap = 0; tap < axis->kernel; tap++) {
            const int64_t from = place - tap * axis->dilation, row = from / axis->stride;
            if (from < 0 || from % axis->stride || row >= axis->input) continue;
            for (int64_t i = 0; i < count; i++, next++) {
                rows[next] = given[0][i] + row * (job->tensors->input.stride[a] / job->size);
                kernel_rows[next] = given[1][i] + tap * (job->tensors->weight.stride[a] / job->size);
            }
        }
        count = next;
    }
    return count;
}

static char *row_at(const spread_job *job, int64_t index) {
    const npc_problem *problem = &job->plan->problem;
    char *row = job->tensors->output.data;
    for (int a = problem->spatial_axes - 2; a >= 0; a--) {
        row += index % problem->axis[a].output * job->tensors->output.stride[a];
        index /= problem->axis[a].output;
    }
    return row;
}

/* The row of every channel from `first` on. */
static void run_channels(const spread_job *job, npc_spread_row *row, int64_t n, int64_t first, char *output) {
    const npc_problem *problem = &job->plan->problem;
    const npc_tensors *tensors = job->tensors;
    const int64_t outputs = npc_group_outputs(problem);
    const int64_t end = npc_min(first + job->plan->channels, problem->output_channels);
    int64_t c = first / outputs, which = first % outputs;
    output += n * tensors->output.batch_stride;
    for (int64_t k = first; k < end; k++) {
        long double bias; /* the widest: holds any compute type */
        if (problem->has_bias) {
            npc_load_part(&bias, &tensors->bias, problem->compute,
                          tensors->bias.data + k * tensors->bias.channel_stride, 0, 0, 1);
            row->bias = &bias;
        }
        row->input =
            tensors->input.data + n * tensors->input.batch_stride + c * tensors->input.channel_stride;
        row->weights =
            tensors->weight.data + c * tensors->weight.batch_stride + which * tensors->weight.channel_stride;
        row->output = output + k * tensors->output.channel_stride;
        job->plan->kernels->spread(row);
        if (++which < outputs) continue;
        which = 0;
        c++;
    }
}

/* Items in the order batch, channels, rows. */
static void run_item(void *context, int64_t index, int thread) {
    const spread_job *job = context;
    const npc_spread *plan = job->plan;
    const int64_t first = index % job->bands * plan->rows;
    const int64_t chunk = index / job->bands % job->chunks, n = index / job->bands / job->chunks;
    int64_t rows[NPC_SPREAD_ROWS], kernel_rows[NPC_SPREAD_ROWS];
    npc_spread_row row = job->row;
    (void)thread;
    row.rows = rows;
    row.kernel_rows = kernel_rows;
    for (int64_t r = first; r < npc_min(first + plan->rows, job->rows); r++) {
        row.count = list_rows(job, r, rows, kernel_rows);
        run_channels(job, &row, n, chunk * plan->channels, row_at(job, r));
    }
}

/* Where the taps of each place are, and what they read for the result's first pixels. */
static void list_columns(spread_job *job) {
    const npc_axis axis = npc_columns(&job->plan->problem);
    for (int64_t tap = 0; tap < axis.kernel; tap++) {
        const int64_t from = axis.before - tap * axis.dilation;
        job->columns[tap] = (from + modulo_2(from)) / 2;
    }
    const int64_t place = modulo_2(axis.before), alternate = axis.dilation % 2; /* of tap 0 */
    job->row.columns = job->columns;
    job->row.taps = axis.kernel;
    job->row.step = alternate ? 2 : 1;
    job->row.first[place] = 0;
    job->row.first[1 - place] = alternate ? 1 : axis.kernel;
    job->row.extent = axis.input;
    job->row.width = axis.output;
}

static int lies(const npc_problem *problem, const npc_tensor *tensor) {
    return npc_lies_in_rows(problem, tensor) && npc_counts_in_elements(problem, tensor);
}

npc_status npc_spread_run(const npc_spread *plan, const npc_tensors *tensors) {
    const npc_problem *problem = &plan->problem;
    spread_job job = {.plan = plan, .tensors = tensors, .size = (int64_t)npc_compute_size(problem->compute)};
    if (!lies(problem, &tensors->input) || !lies(problem, &tensors->weight) ||
        !lies(problem, &tensors->output))
        return NPC_REFUSED;
    job.chunks = npc_ceil_div(problem->output_channels, plan->channels);
    job.rows = result_rows(problem);
    job.bands = npc_ceil_div(job.rows, plan->rows);
    const long double none = 0; /* in any compute type */
    job.row.bias = &none;
    list_columns(&job);
    npc_parallel_for(plan->threads, problem->batch * job.chunks * job.bands, run_item, &job);
    return NPC_OK;
}
