/* Convolution as inner products, with vectors along the reduction.
 *
 *     output[k, p] = bias[k] + weight[k, :] . window[p, :]
 *
 * For results of so few pixels that weights seen for the first time take longer to be packed than to be used: here they are read where
 * they lie, once for all pixels of a band. What is packed are windows, the pixels under all taps one after the other, a run of the
 * reduction at a time: where the taps of a channel read is listed for each pixel, and the list serves all channels of the run. Lanes
 * of sums are added at the end of a run, as many vectors at a time as a tile has, which takes about a tenth of the time. The sum of an
 * output channel and a pixel is the same for all bands, tiles and threads: a lane adds its own elements of a run, and runs follow one
 * another.
 *
 * Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, call products of this shape panel dots. */
#include <math.h>
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "blocked.h"
#include "cycles.h"
#include "weights.h"

enum {
    RUN_BYTES = 4096,         /* of a row of weights at a time */
    BAND_PIXELS = 64,         /* whose windows of a run stay in a second-level cache */
    MOST_CHANNELS = 4096,     /* of an item, whose sums wait */
    LINE = 64,                /* bytes of a cache's line, */
    MOST_BYTES = 16,          /* and of an element */
    HEADER = 64,              /* bytes of a thread's workspace for its flag */
    FAR_BYTES = 4096,         /* from channel to channel */
    NEAR_BYTES = 4 << 20,     /* of an image, which stays in a cache */
    THREAD_WORK = 100 * 1000, /* multiplications that pay for waking one more thread */
};

#define NEIGHBOUR_CYCLES 0.2 /* to copy one beside another */

/* A band has several images, of the batch and of outer pixels, only where it has all pixels of each. */
typedef struct {
    int64_t band_rows, band_columns, images;
    int64_t channels; /* output channels of an item */
    npc_split split;  /* the runs, */
    int64_t longest;  /* elements of the longest */
    int64_t pitch; /* from window to window, so that they do not crowd the same sets of a cache */
    int64_t raw_bytes, window_bytes, from_bytes, to_bytes, sum_bytes; /* of a thread's workspace */
} recipe;

_Static_assert(sizeof(recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const recipe *recipe;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    npc_axis rows, columns;
    int64_t outers, images, image_bands, row_bands, column_bands, chunks;
    int64_t reduction, size;
} inner_job;

static int64_t bands_of(const npc_problem *problem, const recipe *r) {
    return npc_ceil_div(problem->batch * npc_outer_outputs(problem), r->images) *
           npc_ceil_div(npc_rows(problem).output, r->band_rows) *
           npc_ceil_div(npc_columns(problem).output, r->band_columns);
}

/* A band of some images and some output channels of one group. */
typedef struct {
    const inner_job *job;
    npc_band band;
    int64_t image, images, group, first, count;
    int64_t pixels; /* of all its images */
    int64_t row_step, column_step; /* elements of its sums: between output channels, between pixels */
    int *not_finite; /* the thread's own */
    char *raw, *windows, *sums;
    int64_t *from; /* bytes */
    int32_t *to; /* elements */
} inner_item;

static int64_t size_of(const npc_problem *problem) { return (int64_t)npc_compute_size(problem->compute); }

static recipe cut(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const int64_t size = size_of(problem), outputs = npc_group_outputs(problem), threads = plan->threads;
    const int64_t height = npc_rows(problem).output, width = npc_columns(problem).output;
    const int64_t images = problem->batch * npc_outer_outputs(problem);
    recipe r = {.split = npc_split_evenly(problem, RUN_BYTES / size)};
    const npc_taps_block taps = npc_split_taps(problem, &r.split, 0);
    r.band_columns = npc_ceil_div(width, npc_ceil_div(width, BAND_PIXELS));
    r.band_rows = npc_clamp(BAND_PIXELS / r.band_columns, 1, height);
    r.band_rows = npc_ceil_div(height, npc_ceil_div(height, r.band_rows));
    const int whole = r.band_rows == height && r.band_columns == width;
    r.images = whole ? npc_min(images, npc_max(1, BAND_PIXELS / (height * width))) : 1;
    r.images = npc_ceil_div(images, npc_ceil_div(images, r.images));
    const int64_t items = problem->groups * bands_of(problem, &r);
    r.channels = npc_min(outputs, MOST_CHANNELS);
    if (items % threads && items < 4 * threads)
        r.channels = npc_min(r.channels, npc_round_up(npc_ceil_div(outputs, threads), 2 * NPC_INNER_ROWS));
    const int64_t line = LINE / size, pixels = r.images * r.band_rows * r.band_columns;
    const int64_t places = taps.outers * taps.rows * taps.columns;
    r.longest = taps.channels * places;
    r.pitch = npc_round_up(r.longest, line) + line;
    r.raw_bytes = npc_aligned_bytes(r.longest * MOST_BYTES);
    r.window_bytes = npc_aligned_bytes(pixels * r.pitch * size);
    r.from_bytes = npc_aligned_bytes(places * (int64_t)sizeof(int64_t));
    r.to_bytes = npc_aligned_bytes(places * (int64_t)sizeof(int32_t));
    r.sum_bytes = npc_aligned_bytes(pixels * r.channels * size);
    return r;
}

const char *npc_inner_product_applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    if (!plan->kernels->inner[0]) return "only for floating point of 32 and 64 bits";
    if (problem->parts != 1) return "only for real results";
    if (problem->strict) return "its sums have another order than plain ones";
    return NULL;
}

/* Of the taps, those that do not fall on zeros. */
static double read_share(const npc_problem *problem) {
    double share = 1;
    if (problem->padding_mode != NPC_PADDING_ZEROS) return 1;
    for (int a = 0; a < problem->spatial_axes; a++) share *= npc_blocked_share_along(&problem->axis[a], 1);
    return share;
}

/* An element of a window: channels far apart lie in other pages, or even in the same set of a cache. Neighbours come together, which
 * gains nothing where memory is waited for. */
static double gather_cycles(const npc_problem *problem) {
    const double bytes = npc_channel_bytes(problem);
    const double place = bytes < FAR_BYTES ? 1.3 : fmod(bytes, FAR_BYTES) > 0 ? 1.8 : 3;
    const npc_axis columns = npc_columns(problem);
    if (columns.kernel == 1 || columns.dilation > 1 || problem->padding_mode != NPC_PADDING_ZEROS ||
        bytes * (double)npc_group_inputs(problem) > NEAR_BYTES)
        return place;
    return place / (double)columns.kernel + NEIGHBOUR_CYCLES;
}

double npc_inner_product_cycles(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    npc_plan single = *plan;
    single.threads = 1;
    const recipe r = cut(&single);
    const double pixels = (double)npc_rows(problem).output * (double)npc_columns(problem).output *
                          (double)npc_outer_outputs(problem) * (double)problem->batch;
    const double reduction = (double)npc_reduction(problem), outputs = (double)npc_group_outputs(problem);
    const double groups = (double)problem->groups, lanes = plan->kernels->lanes;
    const double bands = (double)bands_of(problem, &r);
    const double runs = (double)r.split.blocks;
    const double vectors = ceil((double)r.longest / lanes) * runs;
    const npc_taps_block taps = npc_split_taps(problem, &r.split, 0);
    const double listed = (double)(taps.outers * taps.rows * taps.columns) * runs;
    const int64_t columns = pixels <= plan->kernels->inner_columns / 2 ? plan->kernels->inner_columns / 2
                                                                       : plan->kernels->inner_columns;
    const int64_t rows = NPC_INNER_ROWS * plan->kernels->inner_columns / columns;
    const double sums = groups * (double)npc_round_up((int64_t)outputs, rows) *
                        ceil(pixels / (double)columns) * (double)columns;
    /* Small tiles load more for each product. */
    const double product = plan->kernels->inner_columns < NPC_INNER_ROWS ? 1.4 : 0.98;
    const npc_core *core = npc_core_of(plan);
    const double products = sums * (product * vectors + core->inner.sums * 10 * runs);
    const double bytes = groups * outputs * reduction * (double)size_of(problem);
    const double read = bands * fmax(npc_weights_cycles(plan), bytes / 14);
    const double gathered = gather_cycles(problem) * read_share(problem) * reduction + 7 * listed;
    return fmax(products, read) + core->inner.pixels * groups * pixels * gathered +
           npc_turning_cycles(plan, 0) + core->inner.begun;
}

static const char *worthwhile(const npc_plan *plan) {
    return npc_inner_product_cycles(plan) <= npc_untransformed_cycles(plan)
               ? NULL
               : "pixels are many enough to pack weights";
}

static void prepare(npc_plan *plan) {
    const double work = npc_multiplications(&plan->problem) / THREAD_WORK;
    if (work < plan->threads) plan->threads = (int)npc_max(1, (int64_t)work);
    const recipe r = cut(plan);
    const npc_problem *problem = &plan->problem;
    const int64_t chunks = npc_ceil_div(npc_group_outputs(problem), r.channels);
    plan->threads = (int)npc_min(plan->threads, problem->groups * bands_of(problem, &r) * chunks);
    plan->thread_bytes =
        (size_t)(HEADER + r.raw_bytes + r.window_bytes + r.from_bytes + r.to_bytes + r.sum_bytes);
    memcpy(plan->recipe, &r, sizeof r);
}

/* Elements of all channels of a run: `each` neighbours from each place listed. */
typedef struct {
    const char *pixels;
    char *window;
    int64_t channels, channel_stride, taps; /* bytes; elements of a channel's window */
    const int64_t *from;
    const int32_t *to;
    int64_t count, each;
} listed;

/* Where the taps of a run read a channel's image under one pixel: those that do not fall on zeros. */
static void list_taps(const inner_item *item, const npc_tensor *input, const npc_taps_block *taps,
                      int64_t row, int64_t column, listed *l) {
    const inner_job *job = item->job;
    const npc_padding_mode mode = job->problem->padding_mode;
    const int64_t row_stride = npc_row_stride(job->problem, input),
                  stride = npc_column_stride(job->problem, input);
    const int64_t first = npc_phase_start(&job->columns, column, taps->column);
    const int64_t low = npc_clamp(-first, 0, taps->columns),
                  high = npc_clamp(job->columns.input - first, low, taps->columns);
    const int neighbours = mode == NPC_PADDING_ZEROS && job->columns.dilation == 1 &&
                           stride == (int64_t)npc_scalar_size(input->scalar);
    int64_t count = 0;
    int32_t to = 0;
    l->each = neighbours ? high - low : 1;
    for (int64_t outer = taps->outer; outer < taps->outer + taps->outers; outer++) {
        const char *image = npc_outer_image(job->problem, input, item->band.outer, outer);
        for (int64_t r = taps->row; r < taps->row + taps->rows; r++, to += (int32_t)taps->columns) {
            const int64_t i = npc_border(npc_phase_start(&job->rows, row, r), job->rows.input, mode);
            if (!image || i < 0) continue;
            const int64_t before = image - input->data + i * row_stride;
            if (neighbours && low < high) {
                item->from[count] = before + (first + low) * stride;
                item->to[count++] = to + (int32_t)low;
            }
            for (int64_t c = 0; c < taps->columns && !neighbours; c++) {
                const int64_t j = npc_border(npc_phase_start(&job->columns, column, taps->column + c),
                                             job->columns.input, mode);
                if (j < 0) continue;
                item->from[count] = before + j * stride;
                item->to[count++] = to + (int32_t)c;
            }
        }
    }
    l->count = count;
}

/* The longer loop is the inner one. `length` is that of `each`. */
NPC_INLINE void gather_of(const listed *l, const int64_t bytes, const int64_t length) {
    const int64_t stride = l->channel_stride, taps = l->taps * bytes;
    if (l->channels < l->count) {
        for (int64_t c = 0; c < l->channels; c++)
            for (int64_t i = 0; i < l->count; i++)
                memcpy(l->window + c * taps + l->to[i] * bytes, l->pixels + c * stride + l->from[i],
                       (size_t)length);
        return;
    }
    for (int64_t i = 0; i < l->count; i++) {
        const char *source = l->pixels + l->from[i];
        char *target = l->window + l->to[i] * bytes;
        for (int64_t c = 0; c < l->channels; c++, source += stride, target += taps)
            memcpy(target, source, (size_t)length);
    }
}

static void gather(const listed *l, int64_t bytes) {
    switch (l->each * bytes) {
    case 2: gather_of(l, bytes, 2); break;
    case 4: gather_of(l, bytes, 4); break;
    case 8: gather_of(l, bytes, 8); break;
    case 12: gather_of(l, bytes, 12); break;
    case 16: gather_of(l, bytes, 16); break;
    case 20: gather_of(l, bytes, 20); break;
    case 24: gather_of(l, bytes, 24); break;
    case 28: gather_of(l, bytes, 28); break;
    default: gather_of(l, bytes, l->each * bytes);
    }
}

/* The windows of all of the item's pixels under some taps: as they lie, and then in compute type. */
static void bring_windows(inner_item *item, const npc_taps_block *taps, int64_t count) {
    const inner_job *job = item->job;
    const npc_problem *problem = job->problem;
    npc_tensor input = job->tensors->input;
    const int64_t bytes = (int64_t)npc_scalar_size(input.scalar), pitch = job->recipe->pitch * job->size;
    const int plain = !input.swapped && npc_is_compute(input.scalar, problem->compute);
    char *window = item->windows;
    listed l = {.channels = taps->channels,
                .channel_stride = input.channel_stride,
                .taps = count / taps->channels,
                .from = item->from,
                .to = item->to};
    for (int64_t n = 0; n < item->images; n++) {
        const int64_t image = item->image + n;
        input.data = job->tensors->input.data + image / job->outers * input.batch_stride +
                     (item->group * npc_group_inputs(problem) + taps->channel) * input.channel_stride;
        item->band.outer = image % job->outers;
        for (int64_t row = 0; row < item->band.rows; row++)
            for (int64_t column = 0; column < item->band.columns; column++, window += pitch) {
                l.window = plain ? window : item->raw;
                l.pixels = input.data;
                list_taps(item, &input, taps, item->band.row + row, item->band.column + column, &l);
                if (l.count * l.each < l.taps) memset(l.window, 0, (size_t)(count * bytes));
                gather(&l, bytes);
                if (!plain) npc_load_part(window, &input, problem->compute, item->raw, bytes, 0, count);
            }
    }
}

/* All output channels over all pixels, in taller tiles where these are few. */
static void multiply(const inner_item *item, const char *weights, int64_t count) {
    const inner_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t few = kernels->inner_columns / 2;
    npc_inner tile = {.count = count,
                      .weight_stride = job->reduction,
                      .pixel_stride = job->recipe->pitch,
                      .row_step = item->row_step,
                      .column_step = item->column_step};
    const int tall = item->pixels <= few;
    const int64_t rows = tall ? 2 * NPC_INNER_ROWS : NPC_INNER_ROWS;
    for (int64_t k = 0; k < item->count; k += rows)
        for (int64_t p = 0; p < item->pixels; p += tile.columns) {
            tile.weights = weights + k * job->reduction * job->size;
            tile.ahead = p == 0 ? rows * job->reduction : 0;
            tile.pixels = item->windows + p * job->recipe->pitch * job->size;
            tile.output = item->sums + (k * item->row_step + p * item->column_step) * job->size;
            tile.rows = (int)npc_min(rows, item->count - k);
            tile.columns = (int)npc_min(tall ? few : kernels->inner_columns, item->pixels - p);
            kernels->inner[tall](&tile);
        }
}

static void begin_sums(const inner_item *item) {
    const inner_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *bias = &job->tensors->bias;
    if (!problem->has_bias) {
        npc_zeros(item->sums, problem->compute, item->count * item->pixels);
        return;
    }
    const char *from =
        bias->data + (item->group * npc_group_outputs(problem) + item->first) * bias->channel_stride;
    if (item->row_step == 1) {
        for (int64_t p = 0; p < item->pixels; p++)
            npc_load_part(item->sums + p * item->count * job->size, bias, problem->compute, from,
                          bias->channel_stride, 0, item->count);
    } else {
        for (int64_t k = 0; k < item->count; k++)
            npc_load_part(item->sums + k * item->pixels * job->size, bias, problem->compute,
                          from + k * bias->channel_stride, 0, 0, item->pixels);
    }
}

/* Lanes of a sum may overflow where plain sums would not. */
#define ARE_FINITE(name, T)                                                                                  \
    static int are_finite_##name(const T *sums, int64_t count) {                                             \
        T rest = 0;                                                                                          \
        for (int64_t i = 0; i < count; i++) rest += sums[i] - sums[i];                                       \
        return rest == 0;                                                                                    \
    }
ARE_FINITE(f32, float)
ARE_FINITE(f64, double)

/* Rows of pixels or, where a row is a pixel, of channels. */
static void store_sums(inner_item *item) {
    const inner_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *output = &job->tensors->output;
    npc_store *store = npc_storer(problem->scalar);
    const int64_t width = item->band.columns, row_stride = npc_row_stride(problem, output);
    const int64_t count = item->count * item->pixels;
    const void *all = item->sums;
    if (!(problem->compute == NPC_COMPUTE_f32 ? are_finite_f32(all, count) : are_finite_f64(all, count)))
        *item->not_finite = 1;
    npc_activate(problem, item->sums, count);
    for (int64_t n = 0; n < item->images; n++) {
        const int64_t image = item->image + n;
        item->band.outer = image % job->outers;
        char *result = npc_result_band(problem, output, &item->band) +
                       image / job->outers * output->batch_stride +
                       (item->group * npc_group_outputs(problem) + item->first) * output->channel_stride;
        for (int64_t row = 0; row < item->band.rows; row++, result += row_stride) {
            const char *sums =
                item->sums + (n * item->band.rows + row) * width * item->column_step * job->size;
            if (item->row_step == 1) {
                store(result, output->channel_stride, sums, item->count);
                continue;
            }
            for (int64_t k = 0; k < item->count; k++)
                store(result + k * output->channel_stride, npc_column_stride(problem, output),
                      sums + k * item->row_step * job->size, width);
        }
    }
}

/* Items in the order group, images, row band, column band, output channels. */
static void run_item(void *context, int64_t index, int thread) {
    const inner_job *job = context;
    const npc_problem *problem = job->problem;
    const recipe *r = job->recipe;
    inner_item item = {.job = job};
    item.first = index % job->chunks * r->channels;
    item.band.column = (index /= job->chunks) % job->column_bands * r->band_columns;
    item.band.row = (index /= job->column_bands) % job->row_bands * r->band_rows;
    item.image = (index /= job->row_bands) % job->image_bands * r->images;
    item.group = index / job->image_bands;
    item.images = npc_min(r->images, job->images - item.image);
    item.band.rows = npc_min(r->band_rows, job->rows.output - item.band.row);
    item.band.columns = npc_min(r->band_columns, job->columns.output - item.band.column);
    item.count = npc_min(r->channels, npc_group_outputs(problem) - item.first);
    item.pixels = item.images * item.band.rows * item.band.columns;
    item.row_step = item.band.columns == 1 ? 1 : item.pixels;
    item.column_step = item.band.columns == 1 ? item.count : 1;
    item.not_finite = (int *)(void *)(job->workspace + (size_t)thread * job->plan->thread_bytes);
    item.raw = (char *)item.not_finite + HEADER;
    item.windows = item.raw + r->raw_bytes;
    item.from = (int64_t *)(void *)(item.windows + r->window_bytes);
    item.to = (int32_t *)(void *)((char *)item.from + r->from_bytes);
    item.sums = (char *)item.to + r->to_bytes;
    const char *weights =
        job->weights + (item.group * npc_group_outputs(problem) + item.first) * job->reduction * job->size;
    begin_sums(&item);
    for (int64_t run = 0; run < r->split.blocks; run++) {
        const npc_taps_block taps = npc_split_taps(problem, &r->split, run);
        const int64_t count = taps.channels * taps.outers * taps.rows * taps.columns;
        bring_windows(&item, &taps, count);
        multiply(&item, weights, count);
        weights += count * job->size;
    }
    store_sums(&item);
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    inner_job job = {.plan = plan, .problem = problem, .recipe = &r, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.rows = npc_rows(problem);
    job.columns = npc_columns(problem);
    job.outers = npc_outer_outputs(problem);
    job.images = problem->batch * job.outers;
    job.image_bands = npc_ceil_div(job.images, r.images);
    job.row_bands = npc_ceil_div(job.rows.output, r.band_rows);
    job.column_bands = npc_ceil_div(job.columns.output, r.band_columns);
    job.chunks = npc_ceil_div(npc_group_outputs(problem), r.channels);
    job.reduction = npc_reduction(problem);
    job.size = size_of(problem);
    for (int thread = 0; thread < plan->threads; thread++)
        memset(workspace + (size_t)thread * plan->thread_bytes, 0, HEADER);
    npc_parallel_for(plan->threads, problem->groups * bands_of(problem, &r) * job.chunks, run_item, &job);
    for (int thread = 0; thread < plan->threads; thread++)
        if (*(const int *)(const void *)(workspace + (size_t)thread * plan->thread_bytes))
            return NPC_NOT_FINITE;
    return NPC_OK;
}

const npc_algorithm npc_algorithm_inner_product = {
    .name = "inner_product",
    .applicable = npc_inner_product_applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = npc_weights_bytes,
    .pack = npc_weights_pack,
    .takes_plain_weights = 1,
    .run = run,
};
