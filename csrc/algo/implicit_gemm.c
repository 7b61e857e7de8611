/* Convolution as a matrix product on units that multiply tiles of bfloat16, without the matrix of windows.
 *
 *     sums[k, p] = sum over blocks of input channels, taps t of weights[k, block, t] * plane[block, offset(t) + p]
 *
 * Each float32 is split into three bfloat16, whose 24 bits are its own, and the product of two is that of their pieces, six of
 * nine, without those that rounding takes anyway: as near as float32 products, and sums are those of float32. Henry, Tang and
 * Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations", 2019 (there BF16x3).
 * Three products in place of six would be faster, but are up to 2^-15 from the product.
 *
 * Pixels of a band are packed into planes, split, and stay in a second-level cache; the same planes serve all taps, tiles beginning
 * where the tap's pixels do. Pixels of neighbouring rows and what lies between them are one run, so that narrow images fill tiles, too.
 * Pieces below 2^-126 are lost: a band, or an output channel, whose numbers are all small is scaled by a power of two. Of infinities,
 * NaN and numbers that bfloat16 rounds to infinity no sum is finite, and the run is done again by plain sums. */
#include "implicit_gemm.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "cycles.h"

enum {
    LINE = 64,
    FLAG_BYTES = 64, /* at the head of a thread's workspace: not 0 where results are to be computed again */
};

_Static_assert(sizeof(npc_implicit_gemm_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const npc_pieces *pieces;
    const npc_implicit_gemm_recipe *recipe;
    const npc_tensors *tensors;
    const char *weights;
    const npc_gemm_outputs *heads;
    char *workspace;
    npc_axis rows, columns;
    int64_t outers, steps;
    int plain; /* results are written where they lie */
} gemm_job;

typedef struct {
    const gemm_job *job;
    npc_band band;
    npc_gemm_pixels under;
    npc_tensor input; /* from the first channel of the group on */
    int64_t group, first, count; /* output channels */
    char *result; /* the band's first pixel in the first of them */
    int *failed;
    char *pieces;
    float *stage, *sums, *lines;
    int64_t *offsets;
    float largest; /* pixel, scaled, */
    float scale;   /* and by what sums are to be multiplied, therefore */
} gemm_item;

static const char *worthwhile(const npc_plan *plan) {
    return npc_implicit_gemm_cycles(plan) < npc_plain_cycles(plan)
               ? NULL
               : "too few channels or pixels for its tiles";
}

static void prepare(npc_plan *plan) {
    plan->threads = npc_worthy_threads(plan, npc_implicit_gemm_cycles(plan));
    const npc_implicit_gemm_recipe r = npc_implicit_gemm_cut(plan);
    plan->thread_bytes =
        (size_t)(FLAG_BYTES + r.piece_bytes + r.stage_bytes + r.list_bytes + 2 * r.sum_bytes);
    memcpy(plan->recipe, &r, sizeof r);
}

/* A single tap of neighbouring pixels reads them from the input. */
static const char *pixels_in_place(const gemm_item *item, const npc_planes_source *source) {
    const gemm_job *job = item->job;
    if (item->band.rows != 1 || !npc_is_plain(source)) return NULL;
    const int64_t row = npc_phase_start(&job->rows, item->band.row, 0);
    const int64_t column = npc_phase_start(&job->columns, item->band.column, 0);
    if (row < 0 || row >= job->rows.input || column < 0 || column + item->band.columns > job->columns.input)
        return NULL;
    const char *image = npc_outer_image(job->problem, &item->input, item->band.outer, 0);
    return image ? image + row * npc_row_stride(job->problem, &item->input) + column * (int64_t)sizeof(float)
                 : NULL;
}

static void take_larger(uint32_t *largest, uint32_t found) {
    if (found > *largest) *largest = found;
}

/* What all runs of pixels of an item have in common. */
static npc_pieces_pixels pixels_of(const gemm_item *item, float scale) {
    const npc_implicit_gemm_recipe *r = item->job->recipe;
    const npc_pieces_pixels run = {.target = item->pieces,
                                   .piece = r->piece,
                                   .tile = r->turned ? NPC_PIECES_TILE * NPC_GEMM_PIXEL_BYTES : r->tile,
                                   .turned = (int)r->turned,
                                   .scale = scale};
    return run;
}

/* Under a single tap. Returns the bits of the largest pixel, as the next one. */
static uint32_t split_points(const gemm_item *item, float scale) {
    const gemm_job *job = item->job;
    npc_planes_list list;
    list.made = 0;
    const npc_planes_source source = {job->problem, job->plan->kernels, &item->input, &list, 0, 0};
    const char *in_place = pixels_in_place(item, &source);
    const int64_t inputs = npc_group_inputs(job->problem);
    npc_pieces_pixels run = pixels_of(item, scale);
    uint32_t largest = 0;
    run.source_stride = in_place ? item->input.channel_stride / (int64_t)sizeof(float) : item->under.count;
    run.count = run.to = item->under.count;
    for (int64_t c = 0; c < inputs; c += NPC_PIECES_CHANNELS, run.target += job->recipe->channel_block) {
        const npc_taps_block taps = {c, npc_min(NPC_PIECES_CHANNELS, inputs - c), 0, 1, 0, 1, 0, 1};
        run.channels = taps.channels;
        run.source = item->stage;
        if (in_place) {
            run.source = (const float *)(const void *)in_place + c * run.source_stride;
        } else {
            const npc_planes planes = npc_planes_of(job->problem, &taps, &item->band);
            npc_planes_pack(&source, &taps, &item->band, &planes, item->stage);
        }
        take_larger(&largest, job->pieces->pixels(&run));
    }
    return largest;
}

/* A row of pixels of all channels, or of zeros where there is none. */
static uint32_t split_row(const gemm_item *item, const npc_channel_packer *packer, npc_pieces_pixels run,
                          const char *row) {
    const gemm_job *job = item->job;
    const int64_t inputs = npc_group_inputs(job->problem), size = (int64_t)sizeof(float);
    const int64_t start = npc_phase_start(&job->columns, item->band.column, 0);
    const int in_place = !row || (packer->copy && item->under.step == 1);
    uint32_t largest = 0;
    run.count = item->under.pitch;
    run.source_stride = in_place ? item->input.channel_stride / size : run.count;
    run.from = in_place && row ? npc_clamp(-start, 0, run.count) : 0;
    run.to = in_place ? row ? npc_clamp(job->columns.input - start, run.from, run.count) : 0 : run.count;
    for (int64_t c = 0; c < inputs; c += NPC_PIECES_CHANNELS, run.target += job->recipe->channel_block) {
        const char *channel = row ? row + c * item->input.channel_stride : NULL;
        const npc_row_run pixels = {channel, npc_min(NPC_PIECES_CHANNELS, inputs - c), start, run.count, 1};
        run.channels = pixels.channels;
        run.source = item->stage;
        if (!in_place)
            npc_pack_channels(packer, &pixels, (char *)item->stage);
        else if (row)
            run.source = (const float *)(const void *)channel + start;
        take_larger(&largest, job->pieces->pixels(&run));
    }
    return largest;
}

/* Row by row, as each one's vectors write beyond its end. */
static uint32_t split_rows(const gemm_item *item, float scale) {
    const gemm_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_phases *rows = &item->under.rows;
    const npc_planes_source source = {problem, job->plan->kernels, &item->input, NULL, 0, 0};
    const npc_channel_packer packer = npc_channel_packer_of(&source, item->under.step);
    npc_pieces_pixels run = pixels_of(item, scale);
    uint32_t largest = 0;
    for (int64_t outer = 0; outer < npc_outer_taps(problem); outer++) {
        const char *image = npc_outer_image(problem, &item->input, item->band.outer, outer);
        for (int64_t phase = 0; phase < rows->phases; phase++) {
            const int64_t start = npc_phase_start(&job->rows, item->band.row, phase);
            for (int64_t r = 0; r < rows->extent;
                 r++, run.target += item->under.pitch * NPC_GEMM_PIXEL_BYTES) {
                const int64_t i =
                    npc_border(start + r * job->rows.stride, job->rows.input, problem->padding_mode);
                const char *row = image && i >= 0 ? image + i * npc_row_stride(problem, &item->input) : NULL;
                take_larger(&largest, split_row(item, &packer, run, row));
            }
        }
    }
    return largest;
}

static uint32_t split_pixels(const gemm_item *item, float scale) {
    return item->job->recipe->turned ? split_rows(item, scale) : split_points(item, scale);
}

/* Bytes from the first pixel to that of each step. */
static void list_offsets(const gemm_item *item) {
    const gemm_job *job = item->job;
    const npc_phases *rows = &item->under.rows;
    const int64_t row_bytes = item->under.pitch * NPC_GEMM_PIXEL_BYTES, plane = rows->extent * row_bytes;
    int64_t *offsets = item->offsets;
    for (int64_t block = 0; offsets < item->offsets + job->steps; block += job->recipe->channel_block)
        for (int64_t outer = 0; outer < npc_outer_taps(job->problem); outer++) {
            int64_t first = block + outer * rows->phases * plane, phase = 0;
            for (int64_t r = 0; r < job->rows.kernel; r++) {
                for (int64_t c = 0; c < job->columns.kernel; c++)
                    *offsets++ = first + phase * plane + c * job->columns.dilation * NPC_GEMM_PIXEL_BYTES;
                if (++phase < rows->period) continue;
                phase = 0;
                first += rows->step * row_bytes;
            }
        }
}

/* Sums of neighbouring pixels of a row into the result; returns what the kernel does. */
static uint32_t finish(const gemm_item *item, npc_pieces_finish *run, char *result) {
    const gemm_job *job = item->job;
    const npc_tensor *output = &job->tensors->output;
    const int64_t size = (int64_t)sizeof(float);
    if (job->plain) {
        run->target = (float *)(void *)result;
        run->target_stride = output->channel_stride / size;
        return job->pieces->finish(run);
    }
    run->target = item->lines;
    run->target_stride = run->count;
    const uint32_t largest = job->pieces->finish(run);
    if (!run->clip) npc_activate(job->problem, item->lines, run->outputs * run->count);
    for (int64_t k = 0; k < run->outputs; k++)
        npc_storer(job->problem->scalar)(result + k * output->channel_stride,
                                         npc_column_stride(job->problem, output),
                                         item->lines + k * run->count, run->count);
    return largest;
}

/* Output channels of a block, and where their next pixels are in the band. */
typedef struct {
    int64_t first, outputs;
    int64_t row, column;
} gemm_tile;

static char *first_result(const gemm_item *item, const gemm_tile *tile) {
    const npc_problem *problem = item->job->problem;
    const npc_tensor *output = &item->job->tensors->output;
    return item->result + tile->first * output->channel_stride + tile->row * npc_row_stride(problem, output) +
           tile->column * npc_column_stride(problem, output);
}

/* The pixels of a tile row by row, without what lies between rows; returns the bits of the largest sum. */
static uint32_t finish_tile(const gemm_item *item, gemm_tile *tile, npc_pieces_finish *run, int64_t pixels) {
    const int64_t extent = item->under.extent;
    uint32_t largest = 0;
    for (int64_t done = 0, some; done < pixels; done += some) {
        some = npc_min(pixels - done, extent - tile->column);
        run->sums = item->sums + done;
        run->count = npc_min(some, item->band.columns - tile->column);
        if (run->count > 0) take_larger(&largest, finish(item, run, first_result(item, tile)));
        tile->column += some;
        if (tile->column < extent) continue;
        tile->column = 0;
        tile->row++;
    }
    return largest;
}

/* They come while the sums are made. */
static void ask_for_results(const gemm_item *item, const gemm_tile *tile) {
    const char *result = first_result(item, tile);
    for (int64_t k = 0; k < tile->outputs; k++, result += item->job->tensors->output.channel_stride) {
        NPC_PREFETCH_WRITE(result);
        NPC_PREFETCH_WRITE(result + LINE);
    }
}

static void load_biases(const gemm_item *item, int64_t first, int64_t outputs, float *biases) {
    const npc_problem *problem = item->job->problem;
    const npc_tensor *bias = &item->job->tensors->bias;
    const int64_t channel = item->group * npc_group_outputs(problem) + item->first + first;
    npc_zeros(biases, NPC_COMPUTE_f32, outputs);
    if (problem->has_bias)
        npc_load_part(biases, bias, NPC_COMPUTE_f32, bias->data + channel * bias->channel_stride,
                      bias->channel_stride, 0, outputs);
}

/* Factors of sums; returns whether float32 has them all. */
static int load_factors(const gemm_item *item, const npc_gemm_outputs *head, float *factors) {
    int good = 1;
    for (int k = 0; k < NPC_GEMM_BLOCK; k++) {
        factors[k] = head->factors[k] * item->scale;
        good &= factors[k] >= FLT_MIN;
    }
    return good;
}

/* Whether the largest sum is finite, and far above what is lost of those of numbers and products below 2^-126. */
static int is_good(const gemm_item *item, const npc_gemm_outputs *head, uint32_t bits) {
    enum { INFINITE = 0x7f800000 };
    const float least = 0x1p-86f * fmaxf(1, fmaxf(item->largest, head->largest));
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    return bits < INFINITE && (largest >= least || !(head->largest > 0) || !(item->largest > 0));
}

/* All pixels of the band in a block of output channels; returns whether its results are good. */
static int run_block(const gemm_item *item, int64_t first) {
    const gemm_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_implicit_gemm_recipe *r = job->recipe;
    const int64_t pixels = (item->band.rows - 1) * item->under.extent + item->band.columns;
    const int64_t block =
        item->group * npc_implicit_gemm_blocks(problem) + (item->first + first) / NPC_GEMM_BLOCK;
    gemm_tile tile = {.first = first, .outputs = npc_min(NPC_GEMM_BLOCK, item->count - first)};
    float factors[NPC_GEMM_BLOCK], biases[NPC_GEMM_BLOCK];
    npc_pieces_product product = {.weights = job->weights + block * job->steps * NPC_PIECES_STEP_BYTES,
                                  .pixels = item->pieces,
                                  .offsets = item->offsets,
                                  .sums = item->sums,
                                  .steps = job->steps,
                                  .row = r->row,
                                  .piece = r->piece,
                                  .tile = r->tile,
                                  .turned = (int)r->turned};
    npc_pieces_finish run = {.factors = factors,
                             .bias = biases,
                             .outputs = tile.outputs,
                             .clip = problem->activation == NPC_ACTIVATION_CLIP,
                             .low = (float)problem->activation_a,
                             .high = (float)problem->activation_b};
    uint32_t largest = 0;
    load_biases(item, first, tile.outputs, biases);
    if (!load_factors(item, &job->heads[block], factors)) return 0;
    for (int64_t done = 0; done < pixels; done += NPC_GEMM_BLOCK, product.pixels += 2 * r->tile) {
        const int64_t some = npc_min(NPC_GEMM_BLOCK, pixels - done);
        if (job->plain) ask_for_results(item, &tile);
        job->pieces->product[tile.outputs > NPC_PIECES_TILE][some > NPC_PIECES_TILE](&product);
        take_larger(&largest, finish_tile(item, &tile, &run, some));
    }
    return is_good(item, &job->heads[block], largest);
}

static void place_workspace(gemm_item *item, int thread) {
    const npc_implicit_gemm_recipe *r = item->job->recipe;
    char *place = item->job->workspace + (size_t)thread * item->job->plan->thread_bytes;
    item->failed = (int *)(void *)place;
    item->pieces = place += FLAG_BYTES;
    item->stage = (float *)(void *)(place += r->piece_bytes);
    item->offsets = (int64_t *)(void *)(place += r->stage_bytes);
    item->sums = (float *)(void *)(place += r->list_bytes);
    item->lines = (float *)(void *)(place + r->sum_bytes);
}

/* Items in the order group, image, outer pixel, row band, column band, output channels. */
static void run_item(void *context, int64_t index, int thread) {
    const gemm_job *job = context;
    const npc_problem *problem = job->problem;
    const npc_implicit_gemm_recipe *r = job->recipe;
    const npc_tensors *tensors = job->tensors;
    const int64_t inputs = npc_group_inputs(problem), outputs = npc_group_outputs(problem);
    gemm_item item = {.job = job};
    place_workspace(&item, thread);
    if (*item.failed) return;
    item.first = index % r->chunks * r->blocks * NPC_GEMM_BLOCK;
    item.band.column = (index /= r->chunks) % r->column_bands * r->band_columns;
    item.band.row = (index /= r->column_bands) % r->row_bands * r->band_rows;
    item.band.outer = (index /= r->row_bands) % job->outers;
    const int64_t image = (index /= job->outers) % problem->batch;
    item.group = index / problem->batch;
    item.band.rows = npc_min(r->band_rows, job->rows.output - item.band.row);
    item.band.columns = npc_min(r->band_columns, job->columns.output - item.band.column);
    item.count = npc_min(r->blocks * NPC_GEMM_BLOCK, outputs - item.first);
    item.under = npc_gemm_pixels_of(problem, item.band.rows, item.band.columns);
    item.input = tensors->input;
    item.input.data += image * item.input.batch_stride + item.group * inputs * item.input.channel_stride;
    item.result = npc_result_band(problem, &tensors->output, &item.band) +
                  image * tensors->output.batch_stride +
                  (item.group * outputs + item.first) * tensors->output.channel_stride;
    list_offsets(&item);
    const uint32_t largest = split_pixels(&item, 1);
    const float scale = npc_implicit_gemm_scale(largest);
    if (scale != 1) split_pixels(&item, scale);
    memcpy(&item.largest, &largest, sizeof largest);
    item.largest *= scale;
    item.scale = 1 / scale;
    job->pieces->begin();
    for (int64_t k = 0; k < item.count && !*item.failed; k += NPC_GEMM_BLOCK)
        *item.failed = !run_block(&item, k);
    job->pieces->end();
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    npc_implicit_gemm_recipe recipe;
    memcpy(&recipe, plan->recipe, sizeof recipe);
    gemm_job job = {.plan = plan,
                    .problem = problem,
                    .pieces = plan->isa->pieces,
                    .recipe = &recipe,
                    .tensors = tensors,
                    .weights = (const char *)weights + npc_implicit_gemm_head_bytes(problem),
                    .heads = weights,
                    .workspace = workspace,
                    .rows = npc_rows(problem),
                    .columns = npc_columns(problem),
                    .outers = npc_outer_outputs(problem),
                    .steps = npc_implicit_gemm_steps(problem)};
    const int clips =
        problem->activation == NPC_ACTIVATION_CLIP || problem->activation == NPC_ACTIVATION_NONE;
    job.plain = clips && npc_lies_in_rows(problem, &tensors->output) &&
                npc_counts_in_elements(problem, &tensors->output);
    int failed = 0;
    for (int thread = 0; thread < plan->threads; thread++)
        memset(workspace + (size_t)thread * plan->thread_bytes, 0, sizeof failed);
    npc_parallel_for(plan->threads,
                     problem->groups * problem->batch * job.outers * recipe.row_bands * recipe.column_bands *
                         recipe.chunks,
                     run_item, &job);
    for (int thread = 0; thread < plan->threads; thread++)
        failed |= *(const int *)(const void *)(workspace + (size_t)thread * plan->thread_bytes);
    return failed ? NPC_NOT_FINITE : NPC_OK;
}

const npc_algorithm npc_algorithm_implicit_gemm = {
    .name = "implicit_gemm",
    .applicable = npc_implicit_gemm_applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = npc_implicit_gemm_packed_bytes,
    .pack = npc_implicit_gemm_pack,
    .run = run,
};
