/* Depthwise convolution of small images, with vectors along channels.
 *
 *     output[p, c] = bias[c] + sum over t of weight[t, c] * pixel[start(p) + offset(t), c]
 *
 * A row shorter than a vector, or a stride, leaves most lanes of a vector along pixels idle, and each channel would begin anew. Here the
 * images of as many channels as a vector has lanes are turned around, borders included, into vectors of a pixel each; then taps and
 * pixels are places in one list, whatever the axes, strides and dilations, eight pixels share a weight, and sums are turned back into rows.
 * Images whose channels are neighbours already need no turning. Volumes that are not small are as many images as they have outer pixels,
 * where kernels have a single tap and the input no padding along those axes.
 *
 * Zhang, Lo and Lu, "High Performance Depthwise and Pointwise Convolutions on Mobile Devices", AAAI 2020, for registers that hold
 * several pixels of a channel's sums; the alternative that loses on small images is stencil.c. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "cycles.h"
#include "planes.h"
#include "weights.h"

enum {
    MOST_BYTES = 256 << 10, /* of an image with its borders, or of its sums: a second-level cache has both */
    MOST_MULTIPLIER = 4, /* output channels a group: each reads the pixels again */
    HEADER = 64, /* bytes of a thread's workspace for its flag */
};

/* Sizes, all in elements but for bytes. */
typedef struct {
    int first_axis; /* of an image */
    int64_t outers; /* images of each of the batch */
    int64_t pixels; /* of an image with its borders, */
    int64_t inputs; /* without, */
    int64_t outputs; /* and of its sums, */
    int64_t rounded; /* in whole tiles */
    int64_t list_bytes, pixel_bytes, sum_bytes, line_bytes; /* of a thread's workspace */
} recipe;

_Static_assert(sizeof(recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const recipe *recipe;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    int64_t *starts, *offsets, *places; /* of outputs, taps, and inputs that are turned at once */
    int64_t pitch[NPC_MAX_AXES]; /* pixels from one to the next along an axis */
    int64_t extent[NPC_MAX_AXES];
    int64_t blocks, taps, multiplier, size, lanes;
    int whole; /* images are turned in one piece */
    int plain; /* pixels are of compute type and count in elements */
} channelwise_job;

typedef struct {
    const channelwise_job *job;
    npc_tensor input, output; /* at the first channel */
    int64_t first, channels; /* groups */
    char *pixels, *sums, *lines;
} channelwise_item;

static int64_t extent_of(const npc_axis *axis) {
    return (axis->output - 1) * axis->stride + (axis->kernel - 1) * axis->dilation + 1;
}

/* Along the axes of an image, from the first of them on. */
static double volume(const npc_problem *problem, int first, int64_t (*along)(const npc_axis *)) {
    double pixels = 1;
    for (int a = first; a < problem->spatial_axes; a++) pixels *= (double)along(&problem->axis[a]);
    return pixels;
}

static int64_t input_of(const npc_axis *axis) { return axis->input; }
static int64_t output_of(const npc_axis *axis) { return axis->output; }

static int fits(const npc_plan *plan, int first) {
    const npc_problem *problem = &plan->problem;
    const double most = MOST_BYTES / (plan->kernels->lanes * (double)npc_compute_size(problem->compute));
    return volume(problem, first, extent_of) <= most && volume(problem, first, input_of) <= most &&
           volume(problem, first, output_of) <= most;
}

/* Of an image: those before it only tell images apart, if a volume of all axes is not small itself. */
static int first_axis(const npc_plan *plan) {
    return fits(plan, 0) || !npc_outer_axes_are_flat(&plan->problem) ? 0 : npc_outer_axes(&plan->problem);
}

static int64_t outers_of(const npc_plan *plan) {
    return first_axis(plan) > 0 ? npc_outer_outputs(&plan->problem) : 1;
}

static int64_t images_of(const npc_plan *plan) { return plan->problem.batch * outers_of(plan); }

static const char *applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    if (!plan->kernels->channelwise) return "only for floating point of 32 and 64 bits";
    if (problem->parts != 1) return "only for real results";
    if (problem->strict) return "its choice depends on sizes, and so would the order of sums";
    if (npc_group_inputs(problem) != 1 || npc_group_outputs(problem) > MOST_MULTIPLIER)
        return "only for depthwise convolution";
    if (!fits(plan, first_axis(plan))) return "images are not small";
    return NULL;
}

/* Rough cycles, as those of cycles.h, fitted to a few hundred problems. */
static double own_cycles(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const double lanes = plan->kernels->lanes, taps = (double)npc_taps(problem), turning = 0.4 * lanes + 0.6;
    const double blocks =
        (double)images_of(plan) * (double)npc_ceil_div(problem->groups, plan->kernels->lanes);
    const int first = first_axis(plan);
    const double inputs = volume(problem, first, input_of), multiplier = (double)npc_group_outputs(problem);
    const double outputs =
        (double)npc_round_up((int64_t)volume(problem, first, output_of), NPC_CHANNELWISE_PIXELS);
    const double listed = inputs + outputs + taps;
    return npc_core_of(plan)->channelwise *
           (blocks * (130 + inputs * turning + multiplier * (90 + outputs * (1.3 * taps + turning))) +
            4 * listed);
}

double npc_channelwise_cycles(const npc_plan *plan) { return applicable(plan) ? 0 : own_cycles(plan); }

/* Blocks of channels are what threads share: an odd one keeps one of two waiting, whatever their number really is. */
static double uneven(const npc_plan *plan, double cycles) {
    const int64_t blocks = images_of(plan) * npc_ceil_div(plan->problem.groups, plan->kernels->lanes);
    return cycles < 2 * NPC_THREAD_CYCLES ? 1 : (double)npc_round_up(blocks, 2) / (double)blocks;
}

static const char *worthwhile(const npc_plan *plan) {
    const double stencil = npc_stencil_cycles(plan), others = stencil > 0 ? stencil : npc_plain_cycles(plan);
    const double own = own_cycles(plan);
    return own * uneven(plan, own) < others ? NULL : "rows fill vectors along pixels";
}

static void prepare(npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    const npc_axis columns = npc_columns(problem);
    const int first = first_axis(plan);
    recipe r = {.first_axis = first,
                .outers = outers_of(plan),
                .pixels = (int64_t)volume(problem, first, extent_of),
                .inputs = (int64_t)volume(problem, first, input_of),
                .outputs = (int64_t)volume(problem, first, output_of)};
    r.rounded = npc_round_up(r.outputs, NPC_CHANNELWISE_PIXELS);
    r.list_bytes = npc_aligned_bytes(
        (r.rounded + npc_taps(problem) + npc_max(r.inputs, extent_of(&columns))) * (int64_t)sizeof(int64_t));
    r.pixel_bytes = npc_aligned_bytes(r.pixels * lanes * size);
    r.sum_bytes = npc_aligned_bytes(r.rounded * lanes * size);
    r.line_bytes = npc_aligned_bytes(npc_max(r.outputs, extent_of(&columns)) * lanes * size);
    const int64_t items = images_of(plan) * npc_ceil_div(problem->groups, lanes);
    plan->threads = (int)npc_min(npc_worthy_threads(plan, own_cycles(plan)), npc_max(1, items));
    plan->thread_bytes = (size_t)(HEADER + r.list_bytes + r.pixel_bytes + r.sum_bytes + r.line_bytes);
    memcpy(plan->recipe, &r, sizeof r);
}

static size_t packed_bytes(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return (size_t)(npc_round_up(problem->groups, plan->kernels->lanes) * npc_group_outputs(problem) *
                    npc_taps(problem)) *
           npc_compute_size(problem->compute);
}

enum { TAPS_AT_ONCE = 64 };

/* In the order block of channels, output channel of a group, tap, channel. */
static void pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    const int64_t taps = npc_taps(problem), multiplier = npc_group_outputs(problem);
    const int plain = npc_weights_lie_plainly(problem, weight);
    long double stage[NPC_MOST_LANES * TAPS_AT_ONCE / 2]; /* the best aligned, of floats and doubles */
    int64_t places[TAPS_AT_ONCE];
    char *target = packed;
    for (int64_t i = 0; i < TAPS_AT_ONCE; i++) places[i] = i;
    for (int64_t first = 0; first < problem->groups; first += lanes)
        for (int64_t m = 0; m < multiplier; m++)
            for (int64_t t = 0; t < taps; t += TAPS_AT_ONCE) {
                npc_block_rows rows = {.places = places,
                                       .target = target,
                                       .count = npc_min(TAPS_AT_ONCE, taps - t),
                                       .target_stride = lanes,
                                       .channels = (int)npc_min(lanes, problem->groups - first)};
                rows.source = weight->data + ((first * multiplier + m) * taps + t) * size;
                rows.source_stride = multiplier * taps;
                for (int k = 0; k < rows.channels && !plain; k++) {
                    rows.source = stage;
                    rows.source_stride = TAPS_AT_ONCE;
                    npc_weights_load(problem, weight, ((first + k) * multiplier + m) * taps + t, rows.count,
                                     (char *)stage + k * TAPS_AT_ONCE * size);
                }
                plan->kernels->block_weights(&rows);
                target += rows.count * lanes * size;
            }
}

/* Some neighbouring pixels of a row in the input, from pixel `from` on, in all channels, to `target`. */
static void turn_pixels(const channelwise_item *item, const char *row, int64_t from, int64_t count,
                        char *target) {
    const channelwise_job *job = item->job;
    const npc_tensor *input = &item->input;
    const int64_t stride = npc_column_stride(job->problem, input), vector = job->lanes * job->size;
    npc_block_rows rows = {.source = row + from * stride,
                           .target = target,
                           .places = job->places,
                           .count = count,
                           .source_stride = input->channel_stride / job->size,
                           .target_stride = job->lanes,
                           .channels = (int)item->channels};
    if (job->plain && input->channel_stride == job->size) {
        for (int64_t i = 0; i < count; i++)
            memcpy(target + i * vector, (const char *)rows.source + i * stride,
                   (size_t)(item->channels * job->size));
        return;
    }
    if (!job->plain || stride != job->size) {
        for (int64_t k = 0; k < item->channels; k++)
            npc_load_part(item->lines + k * count * job->size, input, job->problem->compute,
                          (const char *)rows.source + k * input->channel_stride, stride, 0, count);
        rows.source = item->lines;
        rows.source_stride = count;
    }
    job->plan->kernels->block_weights(&rows);
}

/* A row of the image with its borders; zeros are there already. */
static void turn_row(const channelwise_item *item, const char *row, char *target) {
    const npc_problem *problem = item->job->problem;
    const npc_axis columns = npc_columns(problem);
    const int64_t extent = extent_of(&columns), vector = item->job->lanes * item->job->size;
    const int64_t from = npc_clamp(columns.before, 0, extent);
    const int64_t to = npc_clamp(columns.before + columns.input, from, extent);
    if (from < to) turn_pixels(item, row, from - columns.before, to - from, target + from * vector);
    for (int64_t c = 0; c < extent && problem->padding_mode != NPC_PADDING_ZEROS; c++) {
        if (c == from) c = to;
        const int64_t i =
            c < extent ? npc_border(c - columns.before, columns.input, problem->padding_mode) : -1;
        if (i >= 0) turn_pixels(item, row, i, 1, target + c * vector);
    }
}

static void turn_image(const channelwise_item *item) {
    const channelwise_job *job = item->job;
    const npc_problem *problem = job->problem;
    const int last = problem->spatial_axes - 1;
    const int64_t rows = job->recipe->pixels / job->extent[last];
    if (job->whole) {
        const npc_block_rows all = {.source = item->input.data,
                                    .target = item->pixels,
                                    .places = job->places,
                                    .count = job->recipe->inputs,
                                    .source_stride = item->input.channel_stride / job->size,
                                    .target_stride = job->lanes,
                                    .channels = (int)item->channels};
        job->plan->kernels->block_weights(&all);
        return;
    }
    int64_t at[NPC_MAX_AXES] = {0};
    char *target = item->pixels;
    for (int64_t r = 0; r < rows; r++, target += job->extent[last] * job->lanes * job->size) {
        const char *row = item->input.data;
        for (int a = job->recipe->first_axis; a < last && row; a++) {
            const npc_axis *axis = &problem->axis[a];
            const int64_t i = npc_border(at[a] - axis->before, axis->input, problem->padding_mode);
            row = i < 0 ? NULL : row + i * item->input.stride[a];
        }
        if (row) turn_row(item, row, target);
        for (int a = last - 1; a >= job->recipe->first_axis && ++at[a] == job->extent[a]; a--) at[a] = 0;
    }
}

/* Sums of the m-th output channel of each group to the result. */
static void store_sums(const channelwise_item *item, int64_t m) {
    const channelwise_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *output = &item->output;
    const npc_axis columns = npc_columns(problem);
    const int64_t vector = job->lanes * job->size, step = job->multiplier * output->channel_stride;
    const int64_t stride = npc_column_stride(problem, output);
    const int is_compute = npc_is_compute(problem->scalar, problem->compute);
    const int in_rows = is_compute && stride == job->size && npc_counts_in_elements(problem, output);
    char *result = output->data + m * output->channel_stride;
    npc_store *store = npc_storer(problem->scalar);
    npc_block_rows rows = {.source_stride = job->lanes, .channels = (int)item->channels};
    int64_t at[NPC_MAX_AXES] = {0}, joined = in_rows;
    for (int a = job->recipe->first_axis; a + 1 < problem->spatial_axes; a++)
        joined = joined && output->stride[a] == output->stride[a + 1] * problem->axis[a + 1].output;
    rows.count = joined ? job->recipe->outputs : columns.output;
    for (int64_t done = 0; done < job->recipe->outputs; done += rows.count) {
        char *target = result;
        for (int a = job->recipe->first_axis; a + 1 < problem->spatial_axes; a++)
            target += at[a] * output->stride[a];
        for (int a = problem->spatial_axes - 2;
             a >= job->recipe->first_axis && ++at[a] == problem->axis[a].output; a--)
            at[a] = 0;
        rows.source = item->sums + done * vector;
        if (!in_rows && is_compute && step == job->size) {
            for (int64_t i = 0; i < rows.count; i++)
                memcpy(target + i * stride, (const char *)rows.source + i * vector,
                       (size_t)(item->channels * job->size));
            continue;
        }
        rows.target = in_rows ? target : item->lines;
        rows.target_stride = in_rows ? step / job->size : columns.output;
        job->plan->kernels->block_store(&rows);
        for (int64_t k = 0; k < item->channels && !in_rows; k++)
            store(target + k * step, stride, item->lines + k * columns.output * job->size, columns.output);
    }
}

/* Items in the order batch, block of channels, image. */
static void find_image(channelwise_item *item, int64_t index) {
    const channelwise_job *job = item->job;
    const npc_problem *problem = job->problem;
    npc_tensor *input = &item->input, *output = &item->output;
    const npc_band image = {.outer = index % job->recipe->outers};
    const int64_t block = index / job->recipe->outers % job->blocks,
                  n = index / job->recipe->outers / job->blocks;
    item->first = block * job->lanes;
    item->channels = npc_min(job->lanes, problem->groups - item->first);
    if (job->recipe->first_axis > 0)
        input->data += npc_outer_image(problem, input, image.outer, 0) - input->data;
    input->data += n * input->batch_stride + item->first * input->channel_stride;
    output->data = npc_result_band(problem, output, &image) + n * output->batch_stride +
                   item->first * job->multiplier * output->channel_stride;
}

static void run_item(void *context, int64_t index, int thread) {
    const channelwise_job *job = context;
    const npc_problem *problem = job->problem;
    const npc_tensor *bias = &job->tensors->bias;
    const recipe *r = job->recipe;
    long double biases[NPC_MOST_LANES / 2]; /* the best aligned */
    char *workspace = job->workspace + (size_t)thread * job->plan->thread_bytes;
    int64_t *cleared = (int64_t *)(void *)workspace;
    channelwise_item item = {.job = job, .input = job->tensors->input, .output = job->tensors->output};
    find_image(&item, index);
    item.pixels = workspace + HEADER + r->list_bytes;
    item.sums = item.pixels + r->pixel_bytes;
    item.lines = item.sums + r->sum_bytes;
    if (!*cleared) memset(item.pixels, 0, (size_t)r->pixel_bytes);
    *cleared = 1;
    turn_image(&item);
    npc_channelwise run = {.input = item.pixels,
                           .bias = problem->has_bias ? biases : NULL,
                           .starts = job->starts,
                           .offsets = job->offsets,
                           .output = item.sums,
                           .pixels = r->rounded,
                           .taps = job->taps,
                           .clip = problem->activation == NPC_ACTIVATION_CLIP,
                           .low = problem->activation_a,
                           .high = problem->activation_b};
    memset(biases, 0, sizeof biases);
    for (int64_t m = 0; m < job->multiplier; m++) {
        if (problem->has_bias)
            npc_load_part(biases, bias, problem->compute,
                          bias->data + (item.first * job->multiplier + m) * bias->channel_stride,
                          job->multiplier * bias->channel_stride, 0, item.channels);
        run.weights = job->weights + (item.first * job->multiplier + m * job->lanes) * job->taps * job->size;
        job->plan->kernels->channelwise(&run);
        if (!run.clip) npc_activate(problem, item.sums, r->outputs * job->lanes);
        store_sums(&item, m);
    }
}

/* From the first pixel to those of a box of so many along each axis, a step apart, `unit` for a pixel: a row at a time, as divisions
 * are slow. */
static int64_t *list_places(const channelwise_job *job, int64_t *list, int64_t (*along)(const npc_axis *),
                            int64_t (*step)(const npc_axis *), int64_t unit) {
    const npc_problem *problem = job->problem;
    const int last = problem->spatial_axes - 1;
    const int64_t width = along(&problem->axis[last]), apart = step(&problem->axis[last]) * unit;
    const int64_t rows = (int64_t)volume(problem, job->recipe->first_axis, along) / width;
    for (int64_t row = 0; row < rows; row++) {
        int64_t rest = row, place = 0;
        for (int a = last - 1; a >= job->recipe->first_axis; a--) {
            const int64_t n = along(&problem->axis[a]);
            place += rest % n * step(&problem->axis[a]) * job->pitch[a] * unit;
            rest /= n;
        }
        for (int64_t i = 0; i < width; i++, place += apart) *list++ = place;
    }
    return list;
}

static int64_t kernel_of(const npc_axis *axis) { return axis->kernel; }
static int64_t stride_of(const npc_axis *axis) { return axis->stride; }
static int64_t dilation_of(const npc_axis *axis) { return axis->dilation; }
static int64_t one(const npc_axis *axis) {
    (void)axis;
    return 1;
}

/* Whether the images of all channels are as many elements, one after the other, all of which windows read. */
static int lie_whole(const channelwise_job *job) {
    const npc_problem *problem = job->problem;
    const npc_tensor *input = &job->tensors->input;
    int64_t stride = job->size;
    if (!job->plain || problem->padding_mode != NPC_PADDING_ZEROS) return 0;
    for (int a = problem->spatial_axes - 1; a >= job->recipe->first_axis; a--) {
        const npc_axis *axis = &problem->axis[a];
        if (axis->input == 0 || (axis->input > 1 && input->stride[a] != stride) || axis->before < 0 ||
            axis->before + axis->input > job->extent[a])
            return 0;
        stride *= axis->input;
    }
    return 1;
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    channelwise_job job = {.plan = plan, .problem = problem, .recipe = &r, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.lanes = plan->kernels->lanes;
    job.size = (int64_t)npc_compute_size(problem->compute);
    job.blocks = npc_ceil_div(problem->groups, job.lanes);
    job.taps = npc_taps(problem);
    job.multiplier = npc_group_outputs(problem);
    int64_t pitch = 1, before = 0;
    for (int a = problem->spatial_axes - 1; a >= r.first_axis; a--) {
        job.extent[a] = extent_of(&problem->axis[a]);
        job.pitch[a] = pitch;
        before += problem->axis[a].before * pitch;
        pitch *= job.extent[a];
    }
    job.plain = !tensors->input.swapped && tensors->input.parts == 1 &&
                npc_is_compute(tensors->input.scalar, problem->compute) &&
                npc_counts_in_elements(problem, &tensors->input);
    job.whole = lie_whole(&job);
    for (int thread = 0; thread < plan->threads; thread++)
        memset(workspace + (size_t)thread * plan->thread_bytes, 0, HEADER);
    job.starts = (int64_t *)(void *)(workspace + HEADER);
    job.offsets = list_places(&job, job.starts, output_of, stride_of, job.lanes);
    for (int64_t p = r.outputs; p < r.rounded; p++) *job.offsets++ = job.starts[r.outputs - 1];
    job.places = list_places(&job, job.offsets, kernel_of, dilation_of, job.lanes);
    if (job.whole) list_places(&job, job.places, input_of, one, 1);
    for (int64_t i = 0; i < (job.whole ? r.inputs : job.extent[problem->spatial_axes - 1]); i++)
        job.places[i] = job.whole ? job.places[i] + before : i;
    npc_parallel_for(plan->threads, problem->batch * r.outers * job.blocks, run_item, &job);
    return NPC_OK;
}

const npc_algorithm npc_algorithm_channelwise = {
    .name = "channelwise",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .run = run,
};
