/* Long kernels: Fourier transforms of rows, and plain sums over everything else.
 *
 *     line of the result = inverse [ sum over channels, kernel rows of conj(transform of taps) * transform of pixels ]
 *
 * A row is cut into blocks, each transformed with the pixels that its windows reach beyond it (overlap-save); what the product
 * wraps around falls on results that are not used. Kernel rows longer than a transform are cut likewise, and their parts
 * summed where taps of several rows would be (partitioned convolution), so that transforms stay in a cache: Stockham,
 * "High-speed convolution and correlation", 1966; Kulp, "Digital equalization using Fourier transform techniques", 1988.
 * Products wrap around with the other sign, so that one complex number stands for two pixels at every step, and no step
 * rearranges points (fft_transform.c): Nussbaumer, "Fast Fourier Transform and Convolution Algorithms", 1982.
 *
 * Only rows are transformed: a transform of columns, too, would save few sums of the kernels that there are, and has to have
 * whole images in a cache. Vectors lie along lines, which are rows of the image or blocks of one row: transforms of single
 * lines would shuffle lanes at every other step. Strides make several lines of one, each with taps of its own.
 *
 * Infinities, NaN and numbers near the largest spread over a line: where a result is not finite, the whole run is done again
 * by plain sums. */
#include "fft.h"

#include <math.h>
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "cycles.h"
#include "winograd.h"

enum {
    LEAST_TAPS = 4, /* of a row: fewer are never worth a transform */
    MOST_STRIDE = 64,
    MOST_DILATION = 1 << 16,
    MOST_TAPS = 1 << 16, /* rows of taps */
};

static const char *applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (problem->strict) return "precision is strict";
    if (problem->parts != 1 || !npc_is_compute(problem->scalar, problem->compute) ||
        !plan->kernels->fft.finish)
        return "only for float32 and float64";
    /* Where axes of one tap are merged or not, bits would differ. */
    if (columns.kernel == 1) return "only for kernels of more than one column";
    if (columns.dilation > 1) return "only for kernels that are not dilated along the last axis";
    if (rows.stride > 1 && rows.dilation > 1) return "only for stride 1 or dilation 1";
    if (rows.stride > MOST_STRIDE || columns.stride > MOST_STRIDE) return "too long a stride";
    if (rows.dilation > MOST_DILATION) return "too large a dilation";
    if ((double)npc_group_inputs(problem) * (double)npc_taps(problem) / (double)columns.kernel > MOST_TAPS ||
        columns.kernel > MOST_TAPS)
        return "too large a kernel";
    return npc_fft_fits(plan) ? NULL : "the transforms of its input channels would not fit its workspace";
}

static const char *worthwhile(const npc_plan *plan) {
    const npc_axis columns = npc_columns(&plan->problem);
    npc_fft_recipe recipe;
    if (columns.kernel < LEAST_TAPS * columns.stride)
        return "rows of the kernel are too short to be transformed";
    const double stencil = npc_stencil_cycles(plan);
    const double others = stencil > 0 ? stencil : npc_winograd_least_cycles(plan);
    const double limit = others / npc_core_of(plan)->fft;
    const double cycles = npc_fft_cut(plan, limit, &recipe);
    return cycles > 0 && cycles < limit ? NULL : "its transforms would cost more than they save";
}

static void prepare(npc_plan *plan) {
    npc_fft_recipe recipe;
    const double cycles = npc_core_of(plan)->fft * npc_fft_cut(plan, HUGE_VAL, &recipe);
    const int threads = npc_worthy_threads(plan, cycles);
    if (threads < plan->threads) {
        plan->threads = threads;
        npc_fft_cut(plan, HUGE_VAL, &recipe);
    }
    memcpy(plan->recipe, &recipe, sizeof recipe);
    plan->thread_bytes = (size_t)npc_fft_thread_bytes(&recipe);
}

static int64_t order(const npc_plan *plan) {
    const npc_fft_recipe r = npc_fft_recipe_of(plan);
    return (r.parts * 2 + r.by_blocks) * 64 + r.level;
}

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    npc_fft_recipe recipe;
    npc_fft_transform transform;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    npc_axis rows, columns;
    npc_channel_packer packer;
    int64_t chunks, parts; /* of lines, of output channels */
    int plain_output;
} fft_job;

typedef struct {
    const fft_job *job;
    npc_tensor input, output; /* from the first channel of the group on */
    int64_t group, outer, across, line, lines, output_channel, outputs;
    int *not_finite;
    char *slots, *sums, *pixels, *rows;
    int64_t *offsets;
} fft_item;

static void place_workspace(fft_item *item, int thread) {
    const fft_job *job = item->job;
    const npc_fft_recipe *r = &job->recipe;
    char *workspace = job->workspace + (size_t)thread * job->plan->thread_bytes;
    item->not_finite = (int *)(void *)workspace;
    item->slots = workspace + NPC_FFT_HEAD;
    item->sums = item->slots + r->slots * r->slot_bytes;
    item->pixels = item->sums + r->sum_bytes;
    item->rows = item->pixels + r->pixel_bytes;
    item->offsets = (int64_t *)(void *)(item->rows + r->pixel_bytes);
}

/* A slot's lines, LANES at a time: where each lies. */
typedef struct {
    const char *image; /* NULL: zeros */
    int64_t row, start;           /* of the first line: padded row and column */
    int64_t row_step, start_step; /* from line to line */
} fft_lines;

static fft_lines lines_of(const fft_item *item, int64_t slot) {
    const fft_job *job = item->job;
    const npc_fft_recipe *r = &job->recipe;
    const int64_t phase = slot % r->phases, row = slot / r->phases % r->row_phases;
    const int64_t image = slot / r->phases / r->row_phases, outer_taps = npc_outer_taps(job->problem);
    const int64_t line_start = r->block * job->columns.stride;
    fft_lines lines = {.image = npc_outer_image(job->problem, &item->input, item->outer, image % outer_taps),
                       .row = row * (r->by_blocks ? job->rows.dilation : 1) - job->rows.before,
                       .start = phase - job->columns.before};
    if (lines.image) lines.image += image / outer_taps * item->input.channel_stride;
    lines.row += (r->by_blocks ? item->across : item->line) * job->rows.stride;
    lines.start += (r->by_blocks ? item->line : item->across) * line_start;
    lines.row_step = r->by_blocks ? 0 : job->rows.stride;
    lines.start_step = r->by_blocks ? line_start : 0;
    return lines;
}

/* One row: NULL outside a border of zeros. */
static const char *row_at(const fft_job *job, const char *image, int64_t row) {
    const int64_t i = npc_border(row, job->rows.input, job->problem->padding_mode);
    return image && i >= 0 ? image + i * npc_row_stride(job->problem, &job->tensors->input) : NULL;
}

/* Whether LANES lines, or those that there are, can be turned where they lie. */
static int turn_in_place(const fft_item *item, const fft_lines *lines, npc_winograd_gather *run) {
    const fft_job *job = item->job;
    const int64_t lanes = job->transform.lanes, size = job->transform.size;
    const int64_t row_stride = npc_row_stride(job->problem, &job->tensors->input);
    if (!job->packer.copy || job->columns.stride > 1 || !lines->image || lines->row < 0 ||
        lines->row >= job->rows.input)
        return 0;
    if (job->recipe.by_blocks &&
        (lines->start < 0 ||
         lines->start + (lanes - 1) * lines->start_step + run->extent > job->columns.input))
        return 0;
    run->rows = lines->image + lines->row * row_stride + lines->start * size;
    run->channel_stride = lines->row_step * (row_stride / size) + lines->start_step;
    run->from = npc_clamp(-lines->start, 0, run->extent);
    run->to = npc_clamp(job->columns.input - lines->start, run->from, run->extent);
    if (!job->recipe.by_blocks)
        run->channels = (int)npc_min(lanes, npc_ceil_div(job->rows.input - lines->row, lines->row_step));
    return 1;
}

static void turn_lines(const fft_item *item, const fft_lines *lines) {
    const fft_job *job = item->job;
    const int64_t lanes = job->transform.lanes, pixels = 2 * job->recipe.points;
    npc_winograd_gather run = {.pixels = item->pixels, .extent = pixels, .channels = (int)lanes};
    if (!turn_in_place(item, lines, &run)) {
        for (int64_t l = 0; l < lanes; l++) {
            const npc_row_run line = {row_at(job, lines->image, lines->row + l * lines->row_step), 1,
                                      lines->start + l * lines->start_step, pixels, 1};
            npc_pack_channels(&job->packer, &line, item->rows + l * pixels * job->transform.size);
        }
        run.rows = item->rows;
        run.channel_stride = run.to = pixels;
    }
    job->plan->kernels->winograd.gather(&run);
}

static void transform_slots(const fft_item *item) {
    const fft_job *job = item->job;
    const npc_fft_recipe *r = &job->recipe;
    for (int64_t slot = 0; slot < r->slots; slot++) {
        fft_lines lines = lines_of(item, slot);
        for (int64_t at = 0; at < r->listed; at += job->transform.lanes) {
            const npc_fft_points points = {item->slots + slot * r->slot_bytes + at * job->transform.size,
                                           r->point_step, r->listed};
            turn_lines(item, &lines);
            npc_fft_forward(&job->transform, item->pixels, &points);
            lines.row += job->transform.lanes * lines.row_step;
            lines.start += job->transform.lanes * lines.start_step;
        }
    }
}

/* One line of finished pixels to where it belongs. */
static void store_line(const fft_item *item, int64_t lane, char *target, int64_t count) {
    const fft_job *job = item->job;
    const int64_t lanes = job->transform.lanes, size = job->transform.size;
    for (int64_t x = 0; x < count; x++)
        memcpy(item->rows + x * size, item->pixels + (x * lanes + lane) * size, (size_t)size);
    npc_storer(job->problem->scalar)(target, npc_column_stride(job->problem, &item->output), item->rows,
                                     count);
}

/* LANES lines from the `first`-th of the item on. */
static void store_lines(const fft_item *item, int64_t first, char *channel) {
    const fft_job *job = item->job;
    const npc_fft_recipe *r = &job->recipe;
    const int64_t lines = npc_min(job->transform.lanes, item->lines - first), line = item->line + first;
    const int64_t row_stride = npc_row_stride(job->problem, &item->output),
                  column_stride = npc_column_stride(job->problem, &item->output);
    const int64_t row = r->by_blocks ? item->across : line, block = r->by_blocks ? line : item->across;
    const int64_t step = r->by_blocks ? r->block * column_stride : row_stride;
    const int64_t left = job->columns.output - block * r->block;
    char *target = channel + row * row_stride + block * r->block * column_stride;
    int64_t whole = r->by_blocks ? npc_min(lines, left / r->block) : lines;
    if (!job->plain_output) whole = 0;
    const npc_winograd_scatter run = {item->pixels, target, step / job->transform.size,
                                      npc_min(left, r->block), (int)whole};
    if (whole) job->plan->kernels->winograd.scatter(&run);
    for (int64_t l = whole; l < lines; l++)
        store_line(item, l, target + l * step, npc_min(r->block, r->by_blocks ? left - l * r->block : left));
}

static void finish_lines(const fft_item *item, int64_t first, int64_t output) {
    const fft_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_band band = {.outer = item->outer};
    const npc_tensor *bias = &job->tensors->bias;
    long double bias_value; /* the widest type */
    npc_fft_finish run = {.pixels = item->pixels,
                          .bias = problem->has_bias ? &bias_value : NULL,
                          .count = job->recipe.block,
                          .clip = problem->activation == NPC_ACTIVATION_CLIP,
                          .low = problem->activation_a,
                          .high = problem->activation_b};
    if (problem->has_bias)
        npc_load_part(&bias_value, bias, problem->compute,
                      bias->data + (item->group * npc_group_outputs(problem) + output) * bias->channel_stride,
                      0, 0, 1);
    if (!job->transform.kernels->finish(&run)) *item->not_finite = 1;
    if (problem->activation != NPC_ACTIVATION_CLIP)
        npc_activate(problem, item->pixels, job->recipe.block * job->transform.lanes);
    store_lines(item, first,
                npc_result_band(problem, &item->output, &band) + output * item->output.channel_stride);
}

/* `vectors` (a power of two) of lines of one block of outputs. */
static void run_block(const fft_item *item, int64_t first, int vectors, int64_t output, int64_t outputs) {
    const fft_job *job = item->job;
    const npc_fft_recipe *r = &job->recipe;
    const int64_t lanes = job->transform.lanes, size = job->transform.size;
    const int64_t most = npc_fft_most_outputs(job->plan), width = ((int64_t)1 << vectors) * lanes;
    const npc_fft_product run = {
        .input = item->slots + first * size,
        .weights = job->weights + npc_fft_weights_of(job->plan, r, item->group, output / most * most) * size,
        .offsets = item->offsets,
        .output = item->sums,
        .points = r->points,
        .reduction = r->taps,
        .input_step = r->point_step,
        .input_imaginary = r->listed,
        .output_stride = r->points * 2 * width};
    job->transform.kernels->product[outputs - 1][vectors](&run);
    for (int64_t k = 0; k < outputs; k++)
        for (int64_t at = 0; at < width && first + at < item->lines; at += lanes) {
            const npc_fft_points points = {item->sums + (k * run.output_stride + at) * size, 2 * width,
                                           width};
            npc_fft_backward(&job->transform, &points, item->pixels);
            finish_lines(item, first + at, output + k);
        }
}

static void run_item(void *context, int64_t index, int thread) {
    const fft_job *job = context;
    const npc_problem *problem = job->problem;
    const npc_fft_recipe *r = &job->recipe;
    const int64_t lanes = job->transform.lanes;
    fft_item item = {.job = job, .input = job->tensors->input, .output = job->tensors->output};
    place_workspace(&item, thread);
    item.line = index % job->chunks * r->lines;
    item.lines = npc_min(r->lines, r->all_lines - item.line);
    item.across = (index /= job->chunks) % r->across;
    item.outer = (index /= r->across) % npc_outer_outputs(problem);
    item.output_channel = (index /= npc_outer_outputs(problem)) % job->parts * r->outputs;
    item.outputs = npc_min(r->outputs, npc_group_outputs(problem) - item.output_channel);
    item.group = (index /= job->parts) % problem->groups;
    const int64_t n = index / problem->groups;
    item.input.data +=
        n * item.input.batch_stride + item.group * npc_group_inputs(problem) * item.input.channel_stride;
    item.output.data +=
        n * item.output.batch_stride + item.group * npc_group_outputs(problem) * item.output.channel_stride;
    for (int64_t tap = 0; tap < r->taps; tap++) {
        const npc_fft_tap found = npc_fft_tap_of(problem, r, tap);
        item.offsets[tap] = found.slot * (r->slot_bytes / job->transform.size) + found.line;
    }
    transform_slots(&item);
    const npc_fft *kernels = job->transform.kernels;
    for (int64_t k = 0, outputs; k < item.outputs; k += outputs) {
        outputs = npc_min(npc_fft_most_outputs(job->plan), item.outputs - k);
        for (int64_t first = 0; first < item.lines;) {
            int vectors = NPC_FFT_VECTORS - 1;
            while (!kernels->product[outputs - 1][vectors] ||
                   1 << vectors > npc_ceil_div(item.lines - first, lanes))
                vectors--;
            run_block(&item, first, vectors, item.output_channel + k, outputs);
            first += lanes << vectors;
        }
    }
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    fft_job job = {.plan = plan, .problem = problem, .recipe = npc_fft_recipe_of(plan), .tensors = tensors};
    job.transform = npc_fft_transform_of(plan, &job.recipe, weights);
    job.weights = (const char *)weights + npc_fft_roots_bytes(plan, &job.recipe);
    job.workspace = workspace;
    job.rows = npc_rows(problem);
    job.columns = npc_columns(problem);
    const npc_planes_source source = {problem, plan->kernels, &tensors->input, NULL, 0, 0};
    job.packer = npc_channel_packer_of(&source, job.columns.stride);
    job.chunks = npc_ceil_div(job.recipe.all_lines, job.recipe.lines);
    job.parts = npc_ceil_div(npc_group_outputs(problem), job.recipe.outputs);
    job.plain_output =
        npc_lies_in_rows(problem, &tensors->output) && npc_counts_in_elements(problem, &tensors->output);
    for (int thread = 0; thread < plan->threads; thread++)
        *(int *)(void *)(workspace + (size_t)thread * plan->thread_bytes) = 0;
    npc_parallel_for(plan->threads,
                     problem->batch * problem->groups * job.parts * npc_outer_outputs(problem) *
                         job.recipe.across * job.chunks,
                     run_item, &job);
    for (int thread = 0; thread < plan->threads; thread++)
        if (*(int *)(void *)(workspace + (size_t)thread * plan->thread_bytes)) return NPC_NOT_FINITE;
    return NPC_OK;
}

const npc_algorithm npc_algorithm_fft = {
    .name = "fft",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = npc_fft_packed_bytes,
    .pack = npc_fft_pack,
    .order = order,
    .run = run,
};
