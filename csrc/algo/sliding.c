/* Depthwise convolution of images with short rows, a vector of pixels that slides down its image.
 *
 *     output[m, j] = bias + sum over r, c of weight[r, c] * pixel[m * stride + r - before, j * stride + c - before]
 *
 * Weights stay in registers for a whole image, and so do the sums of as many rows of output as one row of pixels is under: each row is read
 * once, each sum written once, and nothing is listed or packed in between. Rows outside the input are a row of zeros, and lanes outside it
 * are masked. Images that are not plain arrays are converted first, one at a time. Axes before rows and columns may be there, where kernels
 * have a single tap along them: each of their outputs is an image.
 *
 * Zhang, Lo and Lu, "High Performance Depthwise and Pointwise Convolutions on Mobile Devices", AAAI 2020, for sums in registers; larger
 * images, whose rows no first-level cache has at once, are for stencil.c. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "cycles.h"
#include "planes.h"
#include "weights.h"

enum {
    MOST_BYTES = 512 << 10, /* of an image */
    MOST_CHANNELS = 64, /* of an item */
    FEWEST_ROWS = 32, /* of a band: each begins with sums that are incomplete */
    ITEM_CYCLES = 8000, /* pay for handing out an item */
};

typedef struct {
    int64_t channels, band_rows; /* of an item */
    int64_t zero_bytes, image_bytes, sum_bytes; /* of a thread's workspace */
} recipe;

_Static_assert(sizeof(recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const recipe *recipe;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    npc_sliding_kernel *kernel;
    npc_axis rows, columns;
    int64_t chunks, bands, outers, outputs, size;
    int plain; /* images are read where they lie, */
    int stores; /* and results written */
    int activates; /* by another function than the kernels' clip */
    int asks; /* for the next image and its result */
} sliding_job;

static double image_bytes(const npc_problem *problem) {
    return (double)npc_rows(problem).input * (double)npc_columns(problem).input *
           (double)npc_compute_size(problem->compute);
}

static double result_bytes(const npc_problem *problem) {
    return (double)npc_rows(problem).output * (double)npc_columns(problem).output *
           (double)npc_compute_size(problem->compute);
}

static const char *applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (!plan->kernels->sliding[0][0]) return "only for floating point of 32 and 64 bits";
    if (problem->parts != 1) return "only for real results";
    if (problem->strict) return "its choice depends on sizes, and so would the order of sums";
    if (npc_group_inputs(problem) != 1) return "only for depthwise convolution";
    if (rows.kernel != columns.kernel || rows.dilation * columns.dilation != 1 ||
        (rows.kernel != 3 && rows.kernel != 5))
        return "only for kernels of 3x3 and 5x5";
    if (!npc_outer_axes_are_flat(problem)) return "only for a single tap and no padding along other axes";
    if (rows.stride != columns.stride || rows.stride > 2) return "only for strides of 1 and 2";
    if (!plan->kernels->sliding[rows.kernel == 5][0]) return "registers are too few for kernels of 5x5";
    if (columns.output < plan->kernels->sliding_columns) return "rows do not fill a vector";
    if (problem->padding_mode != NPC_PADDING_ZEROS) return "only for padding by zeros";
    if (image_bytes(problem) > MOST_BYTES || result_bytes(problem) > MOST_BYTES)
        return "images are not small";
    return NULL;
}

/* Rough cycles, as those of cycles.h, of an output channel: a tap takes one, as do loads that cross lines of a cache. */
static double channel_cycles(const npc_plan *plan) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    const int64_t vectors = npc_ceil_div(columns.output, plan->kernels->lanes);
    const double waits = rows.kernel == 5 && vectors % 2 ? npc_core_of(plan)->sliding.alone - 1 : 0;
    const double loads = rows.kernel == 3 ? (rows.stride == 1 ? 1 : 9) : (rows.stride == 1 ? 4.5 : 14);
    const double begun = (double)(rows.kernel / rows.stride) / 2; /* rows of sums */
    return npc_core_of(plan)->sliding.cycles *
           (12 + ((double)vectors + waits) * ((double)rows.output + begun) *
                     ((double)npc_taps(&plan->problem) + loads));
}

static double own_cycles(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return channel_cycles(plan) * (double)(problem->batch * npc_outer_outputs(problem)) *
           (double)problem->output_channels;
}

/* Down a vector's column, memory would be waited for in every row: of the result as well. */
static int lies_beyond_caches(const npc_problem *problem) {
    const double bytes = image_bytes(problem) * (double)problem->groups +
                         result_bytes(problem) * (double)problem->output_channels;
    return bytes * (double)(problem->batch * npc_outer_outputs(problem)) > NPC_LAST_CACHE;
}

/* Of images that are not better left to kernels of stencil.c that go along rows, and do not ask for memory in volumes. */
static double most_bytes(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_core *core = npc_core_of(plan);
    const int beyond = lies_beyond_caches(problem);
    if (npc_taps(problem) == 9) {
        const int waits = beyond && npc_outer_outputs(problem) > 1;
        return plan->kernels->stencil[NPC_STENCIL_3X3][0] && !waits ? core->sliding.square_bytes : MOST_BYTES;
    }
    return npc_columns(problem).stride == 1 && !beyond ? core->sliding.large_bytes : MOST_BYTES;
}

static const char *worthwhile(const npc_plan *plan) {
    if (image_bytes(&plan->problem) > most_bytes(plan)) return "rows are long enough to go along them";
    const double own = own_cycles(plan), stencil = npc_stencil_cycles(plan),
                 turned = npc_channelwise_cycles(plan);
    if (turned > 0 && turned < own) return "rows do not fill vectors";
    return own < (stencil > 0 ? stencil : npc_plain_cycles(plan))
               ? NULL
               : "others read pixels for more outputs at once";
}

static void prepare(npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    const double channel = channel_cycles(plan);
    recipe r = {.channels = npc_clamp((int64_t)(ITEM_CYCLES / channel), 1, MOST_CHANNELS),
                .band_rows = npc_max((int64_t)((double)rows.output * 2 * ITEM_CYCLES / channel), FEWEST_ROWS),
                .zero_bytes = npc_aligned_bytes(columns.input * size),
                .image_bytes = npc_aligned_bytes(rows.input * columns.input * size)};
    r.band_rows = npc_min(r.band_rows, rows.output);
    r.sum_bytes = npc_aligned_bytes(r.band_rows * columns.output * size);
    const int64_t items = problem->batch * npc_outer_outputs(problem) *
                          npc_ceil_div(problem->output_channels, r.channels) *
                          npc_ceil_div(rows.output, r.band_rows);
    plan->threads = (int)npc_min(npc_worthy_threads(plan, own_cycles(plan)), npc_max(1, items));
    plan->thread_bytes =
        (size_t)(r.zero_bytes + r.image_bytes + r.sum_bytes + npc_aligned_bytes(MOST_CHANNELS * size));
    memcpy(plan->recipe, &r, sizeof r);
}

/* The rows under a band, to where they lie in the image. */
static const char *convert_rows(const sliding_job *job, const npc_sliding *run, const char *image,
                                char *target) {
    const npc_tensor *input = &job->tensors->input;
    const int64_t row_stride = npc_row_stride(job->problem, input),
                  stride = npc_column_stride(job->problem, input), width = job->columns.input;
    const int64_t end = (run->output_rows - 1) * job->rows.stride + job->rows.kernel - run->before_rows;
    for (int64_t y = npc_max(0, -run->before_rows); y < npc_min(end, job->rows.input); y++)
        npc_load_part(target + y * width * job->size, input, job->problem->compute, image + y * row_stride,
                      stride, 0, width);
    return target;
}

/* Activated and stored. */
static void finish_rows(const sliding_job *job, const npc_sliding *run, char *result) {
    const npc_tensor *output = &job->tensors->output;
    const int64_t row_stride = npc_row_stride(job->problem, output),
                  stride = npc_column_stride(job->problem, output);
    char *sums = run->output;
    for (int64_t m = 0; m < run->output_rows;
         m++, result += row_stride, sums += run->output_row * job->size) {
        if (job->activates) npc_activate(job->problem, sums, run->output_columns);
        if (!job->stores) npc_storer(job->problem->scalar)(result, stride, sums, run->output_columns);
    }
}

/* What is asked for lies as far on as the next image, and its result, from these: of the next outer pixel, or of the next channel's
 * first. */
static void ask_outwards(const sliding_job *job, npc_band band, const char *image, const char *result,
                         npc_sliding *run) {
    const npc_tensor *input = &job->tensors->input, *output = &job->tensors->output;
    const int last = band.outer + 1 == job->outers;
    band.outer = last ? 0 : band.outer + 1;
    run->input_step =
        (npc_outer_image(job->problem, input, band.outer, 0) - image + last * input->channel_stride) /
        job->size;
    run->output_step =
        (npc_result_band(job->problem, output, &band) - result + last * output->channel_stride) / job->size;
}

/* Items in the order batch, output channels, outer pixel, band. */
static void run_item(void *context, int64_t index, int thread) {
    const sliding_job *job = context;
    const npc_problem *problem = job->problem;
    const recipe *recipe = job->recipe;
    const npc_tensor *input = &job->tensors->input, *bias = &job->tensors->bias,
                     *output = &job->tensors->output;
    npc_band band = {.row = index % job->bands * recipe->band_rows};
    band.outer = (index /= job->bands) % job->outers;
    const int64_t first = (index /= job->outers) % job->chunks * recipe->channels, n = index / job->chunks;
    const int64_t channels = npc_min(recipe->channels, problem->output_channels - first);
    const int64_t row_stride = npc_row_stride(problem, output), weight_bytes = npc_taps(problem) * job->size;
    const int together = job->plain && job->stores && !job->activates && job->outputs == 1;
    char *zeros = job->workspace + (size_t)thread * job->plan->thread_bytes;
    char *image = zeros + recipe->zero_bytes, *sums = image + recipe->image_bytes,
         *biases = sums + recipe->sum_bytes;
    const char *weights = job->weights + first * weight_bytes;
    const char *outer_image = npc_outer_image(problem, input, band.outer, 0);
    char *outer_result = npc_result_band(problem, output, &band);
    const char *pixels = outer_image + n * input->batch_stride;
    char *result = outer_result + n * output->batch_stride + first * output->channel_stride;
    npc_sliding run = {.zeros = zeros,
                       .channels = together ? channels : 1,
                       .input_step = input->channel_stride / job->size,
                       .output_step = output->channel_stride / job->size,
                       .input_row =
                           job->plain ? npc_row_stride(problem, input) / job->size : job->columns.input,
                       .output_row = job->stores ? row_stride / job->size : job->columns.output,
                       .rows = job->rows.input,
                       .columns = job->columns.input,
                       .before_rows = job->rows.before - band.row * job->rows.stride,
                       .before_columns = job->columns.before,
                       .output_rows = npc_min(recipe->band_rows, job->rows.output - band.row),
                       .output_columns = job->columns.output,
                       .clip = problem->activation == NPC_ACTIVATION_CLIP,
                       .asks = job->asks,
                       .low = problem->activation_a,
                       .high = problem->activation_b};
    if (recipe->channels == 1 && job->outers > 1) ask_outwards(job, band, outer_image, outer_result, &run);
    memset(zeros, 0, (size_t)recipe->zero_bytes);
    if (problem->has_bias)
        npc_load_part(biases, bias, problem->compute, bias->data + first * bias->channel_stride,
                      bias->channel_stride, 0, channels);
    int64_t group = first / job->outputs,
            next = 0; /* the output channel of the item that begins another group */
    for (int64_t k = 0; k < channels; k += run.channels, result += output->channel_stride) {
        run.weights = weights + k * weight_bytes;
        run.bias = problem->has_bias ? biases + k * job->size : NULL;
        run.output = job->stores ? result : sums;
        if (k == next) {
            run.input = pixels + group++ * input->channel_stride;
            if (!job->plain) run.input = convert_rows(job, &run, run.input, image);
            next = group * job->outputs - first;
        }
        job->kernel(&run);
        if (job->activates || !job->stores) finish_rows(job, &run, result);
    }
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    sliding_job job = {.plan = plan, .problem = problem, .recipe = &r, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.rows = npc_rows(problem);
    job.columns = npc_columns(problem);
    job.kernel = plan->kernels->sliding[job.rows.kernel == 5][job.rows.stride - 1];
    job.chunks = npc_ceil_div(problem->output_channels, r.channels);
    job.bands = npc_ceil_div(job.rows.output, r.band_rows);
    job.outers = npc_outer_outputs(problem);
    job.outputs = npc_group_outputs(problem);
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.plain =
        npc_lies_in_rows(problem, &tensors->input) && npc_counts_in_elements(problem, &tensors->input);
    job.stores =
        npc_lies_in_rows(problem, &tensors->output) && npc_counts_in_elements(problem, &tensors->output);
    job.asks = job.plain && job.stores && lies_beyond_caches(problem);
    job.activates = problem->activation != NPC_ACTIVATION_NONE && problem->activation != NPC_ACTIVATION_CLIP;
    npc_parallel_for(plan->threads, problem->batch * job.chunks * job.outers * job.bands, run_item, &job);
    return NPC_OK;
}

const npc_algorithm npc_algorithm_sliding = {
    .name = "sliding",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = npc_weights_bytes,
    .pack = npc_weights_pack,
    .takes_plain_weights = 1,
    .run = run,
};
