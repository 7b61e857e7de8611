/* Winograd's minimal filtering F(4x4, 3x3): 36 products for 16 outputs of a 3x3 kernel in place of 144.
 *
 *     output tile = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A,   d a tile of 6x6 pixels, g the kernel
 *
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The interpolation points are 0, +-1/sqrt(2),
 * +-sqrt(2) and infinity, whose error is a third of that of 0, +-1, +-2 and infinity: Barabasz et al., "Error Analysis
 * and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.
 *
 * Vectors lie along tiles. Of an item's band of tiles each channel is packed into 4x4 phases, from which a tile's
 * elements are read with unit stride, and transformed; then, for a few output channels at a time, 36 matrix products by
 * the gemm kernel, and the transform back. The sums of the products of infinities and NaN, and of numbers near the
 * largest, are not those of plain sums: where a result is not finite, the whole run is done again by the direct algorithm.
 * Where transforms cost more than they save (few channels, few tiles, weights to be transformed for one use), it refuses. */
#include <string.h>

#include "../activation.h"
#include "../convert.h"
#include "../parallel.h"
#include "algo.h"
#include "planes.h"
#include "weights.h"

enum {
    POINTS = 36,
    FLAG_BYTES = 64,
    PRODUCTS_BYTES = 256
        << 10,  /* of products before they are transformed: a part of the second-level cache */
    TRANSFORMED_BYTES = 3 << 20, /* of transformed input */
    MOST_TILES = 128,            /* of an item */
    CHANNELS_A_TURN = 8,         /* of input, where threads share a band */
};

typedef struct {
    int64_t tile_rows, tile_columns;           /* of an image */
    int64_t rows, columns;                     /* tiles of an item */
    int64_t outputs, block;                    /* output channels of an item, and at a time */
    int64_t pitch, phase_stride, stride; /* elements: rows of phases, phases, rows of transformed tiles */
    int64_t vectors, dense_vectors; /* of phases, of tiles */
    int64_t phase_bytes, row_bytes, input_bytes, product_bytes, list_bytes;
} winograd_recipe;

typedef struct {
    const npc_plan *plan;
    const npc_problem *problem;
    const winograd_recipe *recipe;
    const npc_tensors *tensors;
    const char *weights;
    char *workspace;
    int64_t row_bands, column_bands, chunks;
    int64_t size;
} winograd_job;

typedef struct {
    const winograd_job *job;
    npc_tensor input; /* from the first channel of the group on */
    int64_t group, first, count; /* output channels */
    int64_t row, column; /* first tile */
    int64_t rows, columns; /* tiles */
    char *output; /* first channel of the image */
    int *not_finite; /* the thread's own */
    char *phases, *line, *transformed, *products;
    int64_t *offsets, *places;
    uint32_t *kept;
} winograd_item;

/* Tiles of an item: few vectors in all, lanes full, and as many items as threads. */
static void choose_tiles(const npc_plan *plan, winograd_recipe *r) {
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    const int64_t images = problem->batch * problem->groups;
    r->columns = npc_ceil_div(r->tile_columns, npc_ceil_div(r->tile_columns, MOST_TILES / 2));
    const int64_t column_bands = npc_ceil_div(r->tile_columns, r->columns);
    double best = 0;
    for (int64_t rows = 1; rows <= r->tile_rows && (rows == 1 || rows * r->columns <= MOST_TILES); rows++) {
        const int64_t bands = npc_ceil_div(r->tile_rows, rows), items = bands * column_bands * images;
        const int64_t tiles = rows * r->columns, vectors = npc_ceil_div(tiles, lanes);
        if (rows > 1 && POINTS * npc_group_inputs(problem) * (tiles + 2 * lanes) * size > TRANSFORMED_BYTES)
            break;
        /* A quarter of a vector's time for reading the transformed weights again. */
        const double turns = (double)npc_ceil_div(items, plan->threads) * plan->threads;
        const double cost = (double)(items < plan->threads ? items : turns) * ((double)vectors + 0.25);
        if (rows == 1 || cost < best) {
            best = cost;
            r->rows = rows;
        }
    }
    r->rows = npc_ceil_div(r->tile_rows, npc_ceil_div(r->tile_rows, r->rows));
}

static winograd_recipe recipe_of(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_kernels *kernels = plan->kernels;
    const int64_t lanes = kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    const int64_t inputs = npc_group_inputs(problem), outputs = npc_group_outputs(problem);
    winograd_recipe r = {.tile_rows = npc_ceil_div(npc_rows(problem).output, 4),
                         .tile_columns = npc_ceil_div(npc_columns(problem).output, 4)};
    choose_tiles(plan, &r);
    const int64_t items = npc_ceil_div(r.tile_rows, r.rows) * npc_ceil_div(r.tile_columns, r.columns) *
                          problem->batch * problem->groups;
    const int64_t share = npc_ceil_div(outputs, plan->threads);
    r.outputs = items < plan->threads ? npc_min(outputs, npc_round_up(share, kernels->rows)) : outputs;
    r.pitch = r.columns + 1;
    r.vectors = npc_ceil_div((r.rows - 1) * r.pitch + r.columns, lanes);
    r.dense_vectors = npc_ceil_div(r.rows * r.columns, lanes);
    r.stride = npc_round_up(r.rows * r.columns + lanes, lanes);
    r.phase_stride = npc_round_up((r.rows + 1) * r.pitch + 2 * lanes, lanes);
    r.block = npc_clamp(PRODUCTS_BYTES / (POINTS * r.stride * size) / kernels->rows * kernels->rows,
                        kernels->rows, npc_round_up(r.outputs, kernels->rows));
    r.phase_bytes = npc_aligned_bytes(16 * r.phase_stride * size);
    r.row_bytes = npc_aligned_bytes(npc_max(npc_round_up(r.pitch, lanes) * 4, 16 * lanes) * size);
    r.input_bytes = npc_aligned_bytes((POINTS * inputs * r.stride + lanes) * size);
    r.product_bytes = npc_aligned_bytes(POINTS * r.block * r.stride * size);
    r.list_bytes = npc_aligned_bytes(inputs * (int64_t)sizeof(int64_t)) +
                   npc_aligned_bytes(r.vectors * (int64_t)(sizeof(int64_t) + sizeof(uint32_t)));
    return r;
}

/* The number of threads must not decide on the algorithm, or it would change the result's bits. */
static winograd_recipe recipe_of_one_thread(const npc_plan *plan) {
    npc_plan single = *plan;
    single.threads = 1;
    return recipe_of(&single);
}

/* Rough cycles, all with vectors of this ISA: this algorithm's and the direct one's. */
static int is_faster(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const winograd_recipe r = recipe_of_one_thread(plan);
    const double lanes = plan->kernels->lanes;
    const double inputs = (double)npc_group_inputs(problem), outputs = (double)npc_group_outputs(problem);
    const double images = (double)problem->batch * (double)problem->groups;
    const double bands =
        (double)npc_ceil_div(r.tile_rows, r.rows) * (double)npc_ceil_div(r.tile_columns, r.columns);
    const double dense = (double)r.dense_vectors;
    const double pack = 4.0 * (double)(r.rows + 1) * (60 + 6 * (double)r.pitch * 4 / lanes);
    const double input = inputs * ((double)r.vectors * 180 + pack);
    const double product = POINTS * inputs * outputs * (dense + 0.25);
    const double output = outputs * dense * 220;
    const double reuse = plan->prepacked ? 0 : outputs * inputs * 30 * (double)problem->groups;
    const double pixels =
        (double)npc_rows(problem).output * (double)(npc_columns(problem).output + 2) / lanes;
    const double direct = images * outputs * inputs * 9 * (pixels + 0.5);
    return images * bands * (input + product + output) + reuse < 0.95 * direct;
}

_Static_assert(sizeof(winograd_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

static const char *applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    if (problem->spatial_axes != 2) return "only for two spatial axes";
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (rows.kernel != 3 || columns.kernel != 3) return "only for 3x3 kernels";
    if (rows.stride != 1 || columns.stride != 1 || rows.dilation != 1 || columns.dilation != 1)
        return "only for stride 1 and dilation 1";
    if (problem->strict) return "precision is strict";
    if (problem->parts != 1 || !npc_is_compute(problem->scalar, problem->compute) ||
        !plan->kernels->winograd.input)
        return "only for float32, float64 and long double";
    if (recipe_of_one_thread(plan).input_bytes > 2 * TRANSFORMED_BYTES) return "too many input channels";
    return NULL;
}

static const char *worthwhile(const npc_plan *plan) {
    return is_faster(plan) ? NULL : "its transforms would cost more than they save";
}

static void prepare(npc_plan *plan) {
    const winograd_recipe r = recipe_of(plan);
    const npc_problem *problem = &plan->problem;
    const int64_t items = npc_ceil_div(r.tile_rows, r.rows) * npc_ceil_div(r.tile_columns, r.columns) *
                          npc_ceil_div(npc_group_outputs(problem), r.outputs) * problem->batch *
                          problem->groups;
    plan->threads = (int)npc_min(plan->threads, items);
    plan->thread_bytes =
        (size_t)(FLAG_BYTES + r.phase_bytes + r.row_bytes + r.input_bytes + r.product_bytes + r.list_bytes);
    memcpy(plan->recipe, &r, sizeof r);
}

static size_t packed_bytes(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return (size_t)(POINTS * problem->output_channels * npc_group_inputs(problem)) *
           npc_compute_size(problem->compute);
}

typedef struct {
    const npc_plan *plan;
    const npc_tensor *weight;
    char *packed;
} pack_job;

/* One output channel: packed[group][point][output channel][input channel]. */
static void pack_channel(void *context, int64_t k, int thread) {
    const pack_job *job = context;
    const npc_problem *problem = &job->plan->problem;
    const npc_tensor *weight = job->weight;
    const int64_t inputs = npc_group_inputs(problem), outputs = npc_group_outputs(problem);
    const int64_t size = (int64_t)npc_compute_size(problem->compute), lanes = job->plan->kernels->lanes;
    const int plain = npc_weights_lie_plainly(problem, weight);
    const char *from = weight->data + k * weight->batch_stride;
    char *to = job->packed + (k / outputs * POINTS * outputs + k % outputs) * inputs * size;
    long double copy[9 * 16]; /* the widest and best aligned: 16 is the most lanes */
    (void)thread;
    for (int64_t c = 0; c < inputs; c += lanes) {
        const int64_t count = npc_min(lanes, inputs - c);
        const void *kernels = from + c * 9 * size;
        for (int64_t i = 0; !plain && i < 3 * count; i++) {
            npc_load_part((char *)copy + i * 3 * size, weight, problem->compute,
                          from + (c + i / 3) * weight->channel_stride + i % 3 * weight->stride[0],
                          weight->stride[1], 0, 3);
            kernels = copy;
        }
        job->plan->kernels->winograd.weights(kernels, to + c * size, outputs * inputs, (int)count);
    }
}

static void pack(const npc_plan *plan, const npc_tensor *weight, void *packed) {
    pack_job job = {plan, weight, packed};
    npc_parallel_for(plan->threads, plan->problem.output_channels, pack_channel, &job);
}

static void place_workspace(winograd_item *item, int thread) {
    const winograd_recipe *r = item->job->recipe;
    char *workspace = item->job->workspace + (size_t)thread * item->job->plan->thread_bytes;
    item->not_finite = (int *)(void *)workspace;
    item->phases = workspace + FLAG_BYTES;
    item->line = item->phases + r->phase_bytes;
    item->transformed = item->line + r->row_bytes;
    item->products = item->transformed + r->input_bytes;
    item->offsets = (int64_t *)(void *)(item->products + r->product_bytes);
    const int64_t inputs = npc_group_inputs(item->job->problem);
    item->places =
        (int64_t *)(void *)((char *)item->offsets + npc_aligned_bytes(inputs * (int64_t)sizeof(int64_t)));
    item->kept = (uint32_t *)(void *)(item->places + r->vectors);
    for (int64_t c = 0; c < inputs; c++) item->offsets[c] = c * r->stride;
}

/* Which lanes of the phases are tiles: not the one between two rows, nor those past the last. */
static int64_t list_lanes(const winograd_item *item) {
    const int64_t lanes = item->job->plan->kernels->lanes, pitch = item->job->recipe->pitch;
    const int64_t vectors = npc_ceil_div((item->rows - 1) * pitch + item->columns, lanes);
    int64_t place = 0, row = 0, column = 0;
    for (int64_t v = 0; v < vectors; v++) {
        item->places[v] = place;
        item->kept[v] = 0;
        for (int64_t lane = 0; lane < lanes; lane++) {
            const int is_tile = column < item->columns && row < item->rows;
            item->kept[v] |= (uint32_t)is_tile << lane;
            place += is_tile;
            if (++column == pitch) {
                column = 0;
                row++;
            }
        }
    }
    return vectors;
}

/* Channels from `first` on. */
static void transform_input(const winograd_item *item, int64_t first, int64_t count) {
    const winograd_job *job = item->job;
    const npc_problem *problem = job->problem;
    const winograd_recipe *r = job->recipe;
    const npc_axis rows = npc_rows(problem);
    const npc_row_packer packer = npc_row_packer_of(problem, &item->input);
    const int64_t line_vectors = npc_ceil_div(r->pitch, job->plan->kernels->lanes);
    npc_winograd_input tile = {.phases = item->phases,
                               .phase_stride = r->phase_stride,
                               .pitch = r->pitch,
                               .output_stride = npc_group_inputs(problem) * r->stride,
                               .vectors = list_lanes(item),
                               .kept = item->kept,
                               .places = item->places};
    const int64_t start = item->column * 4 - npc_columns(problem).before;
    for (int64_t c = first; c < first + count; c++) {
        const char *channel = item->input.data + c * item->input.channel_stride;
        for (int64_t y = 0; y < 4 * item->rows + 2; y++) {
            const int64_t i = npc_border(item->row * 4 + y - rows.before, rows.input, problem->padding_mode);
            npc_pack_row(&packer, item->line,
                         i < 0 ? NULL : channel + i * npc_row_stride(problem, &item->input), 0, start,
                         4 * item->columns + 2);
            job->plan->kernels->winograd.split(
                item->line, item->phases + (y % 4 * 4 * r->phase_stride + y / 4 * r->pitch) * job->size,
                r->phase_stride, line_vectors);
        }
        tile.output = item->transformed + c * r->stride * job->size;
        job->plan->kernels->winograd.input(&tile);
    }
}

static void multiply(const winograd_item *item, int64_t first, int64_t count) {
    const winograd_job *job = item->job;
    const winograd_recipe *r = job->recipe;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t inputs = npc_group_inputs(job->problem), outputs = npc_group_outputs(job->problem);
    const int64_t vectors = npc_ceil_div(item->rows * item->columns, kernels->lanes);
    npc_gemm tile = {.offsets = item->offsets,
                     .reduction = inputs,
                     .weight_stride = inputs,
                     .output_stride = r->stride,
                     .input_step = kernels->lanes,
                     .output_step = kernels->lanes,
                     .last = kernels->lanes};
    for (int64_t point = 0; point < POINTS; point++)
        for (int64_t m = 0; m < count; m += kernels->rows) {
            const int64_t rows = npc_min(kernels->rows, count - m);
            const int64_t k = (item->group * POINTS + point) * outputs + item->first + first + m;
            tile.weights = job->weights + k * inputs * job->size;
            for (int64_t v = 0; v < vectors;) {
                const int64_t wide = npc_next_part(vectors - v, kernels->vectors);
                tile.input =
                    item->transformed + (point * inputs * r->stride + v * kernels->lanes) * job->size;
                tile.output =
                    item->products + ((point * r->block + m) * r->stride + v * kernels->lanes) * job->size;
                kernels->gemm[rows - 1][wide - 1](&tile);
                v += wide;
            }
        }
}

/* Stores the 4 x 4 pixels of each of some tiles, the first of which is `place`. */
static void store_tiles(const winograd_item *item, int64_t k, int64_t place, int64_t tiles) {
    const winograd_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *output = &job->tensors->output;
    const int64_t height = npc_rows(problem).output, width = npc_columns(problem).output;
    const int64_t lanes = job->plan->kernels->lanes, stride = npc_column_stride(problem, output);
    const int activates = problem->activation != NPC_ACTIVATION_CLIP;
    char *image = item->output + k * output->channel_stride;
    for (int64_t done = 0; done < tiles;) {
        const int64_t row = (place + done) / item->columns, column = (place + done) % item->columns;
        const int64_t run = npc_min(item->columns - column, tiles - done);
        const int64_t x = (item->column + column) * 4, y = (item->row + row) * 4;
        const int64_t pixels = npc_min(run * 4, width - x);
        for (int64_t i = 0; i < npc_min(4, height - y); i++) {
            char *sums = item->line + (i * lanes + done) * 4 * job->size;
            char *result = image + (y + i) * npc_row_stride(problem, output) + x * stride;
            if (activates) npc_activate(problem, sums, pixels);
            npc_storer(problem->scalar)(result, stride, sums, pixels);
        }
        done += run;
    }
}

static void transform_output(const winograd_item *item, int64_t first, int64_t count) {
    const winograd_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *bias = &job->tensors->bias;
    const winograd_recipe *r = job->recipe;
    const int64_t lanes = job->plan->kernels->lanes, tiles = item->rows * item->columns;
    long double start; /* the widest: holds any compute type */
    npc_winograd_output tile = {.bias = &start,
                                .rows = item->line,
                                .product_stride = r->block * r->stride,
                                .clip = problem->activation == NPC_ACTIVATION_CLIP,
                                .low = problem->activation_a,
                                .high = problem->activation_b};
    npc_zeros(&start, problem->compute, 1);
    for (int64_t m = 0; m < count; m++) {
        const int64_t k = item->first + first + m;
        if (problem->has_bias)
            npc_load_part(&start, bias, problem->compute,
                          bias->data + (item->group * npc_group_outputs(problem) + k) * bias->channel_stride,
                          0, 0, 1);
        for (int64_t place = 0; place < tiles; place += lanes) {
            tile.products = item->products + (m * r->stride + place) * job->size;
            tile.tiles = (int)npc_min(lanes, tiles - place);
            if (!job->plan->kernels->winograd.output(&tile)) *item->not_finite = 1;
            store_tiles(item, k, place, tile.tiles);
        }
    }
}

/* Bands in the order batch, group, row, column. */
static winograd_item band_at(const winograd_job *job, int64_t index) {
    const npc_problem *problem = job->problem;
    const winograd_recipe *r = job->recipe;
    const npc_tensors *tensors = job->tensors;
    winograd_item item = {.job = job, .input = tensors->input, .count = r->outputs};
    item.column = index % job->column_bands * r->columns;
    item.row = (index /= job->column_bands) % job->row_bands * r->rows;
    item.group = (index /= job->row_bands) % problem->groups;
    const int64_t n = index / problem->groups;
    item.rows = npc_min(r->rows, r->tile_rows - item.row);
    item.columns = npc_min(r->columns, r->tile_columns - item.column);
    item.input.data += n * tensors->input.batch_stride +
                       item.group * npc_group_inputs(problem) * tensors->input.channel_stride;
    item.output = tensors->output.data + n * tensors->output.batch_stride +
                  item.group * npc_group_outputs(problem) * tensors->output.channel_stride;
    return item;
}

static void run_outputs(const winograd_item *item) {
    for (int64_t k = 0; k < item->count; k += item->job->recipe->block) {
        const int64_t count = npc_min(item->job->recipe->block, item->count - k);
        multiply(item, k, count);
        transform_output(item, k, count);
    }
}

static void run_band(void *context, int64_t index, int thread) {
    const winograd_job *job = context;
    winograd_item item = band_at(job, index);
    place_workspace(&item, thread);
    transform_input(&item, 0, npc_group_inputs(job->problem));
    run_outputs(&item);
}

/* Fewer bands than threads: all threads work at one band, first at its input channels, then at its output channels. */
static void share_inputs(void *context, int64_t index, int thread) {
    winograd_item item = *(const winograd_item *)context;
    char *transformed = item.transformed;
    const int64_t inputs = npc_group_inputs(item.job->problem), first = index * CHANNELS_A_TURN;
    place_workspace(&item, thread);
    item.transformed = transformed;
    transform_input(&item, first, npc_min(CHANNELS_A_TURN, inputs - first));
}

static void share_outputs(void *context, int64_t index, int thread) {
    winograd_item item = *(const winograd_item *)context;
    char *transformed = item.transformed;
    place_workspace(&item, thread);
    item.transformed = transformed;
    item.first = index * item.count;
    item.count = npc_min(item.count, npc_group_outputs(item.job->problem) - item.first);
    run_outputs(&item);
}

static void run_shared_band(const winograd_job *job, int64_t index) {
    winograd_item item = band_at(job, index);
    const int threads = job->plan->threads;
    place_workspace(&item, 0);
    npc_parallel_for(threads, npc_ceil_div(npc_group_inputs(job->problem), CHANNELS_A_TURN), share_inputs,
                     &item);
    npc_parallel_for(threads, job->chunks, share_outputs, &item);
}

static npc_status run(const npc_plan *plan, const npc_tensors *tensors, const void *weights,
                      char *workspace) {
    const npc_problem *problem = &plan->problem;
    winograd_recipe r;
    memcpy(&r, plan->recipe, sizeof r);
    winograd_job job = {.plan = plan, .problem = problem, .recipe = &r, .tensors = tensors};
    job.weights = weights;
    job.workspace = workspace;
    job.row_bands = npc_ceil_div(r.tile_rows, r.rows);
    job.column_bands = npc_ceil_div(r.tile_columns, r.columns);
    job.chunks = npc_ceil_div(npc_group_outputs(problem), r.outputs);
    job.size = (int64_t)npc_compute_size(problem->compute);
    for (int thread = 0; thread < plan->threads; thread++)
        *(int *)(void *)(workspace + (size_t)thread * plan->thread_bytes) = 0;
    const int64_t bands = problem->batch * problem->groups * job.row_bands * job.column_bands;
    if (job.chunks == 1)
        npc_parallel_for(plan->threads, bands, run_band, &job);
    else
        for (int64_t band = 0; band < bands; band++) run_shared_band(&job, band);
    for (int thread = 0; thread < plan->threads; thread++)
        if (*(int *)(void *)(workspace + (size_t)thread * plan->thread_bytes)) return NPC_NOT_FINITE;
    return NPC_OK;
}

const npc_algorithm npc_algorithm_winograd = {
    .name = "winograd",
    .applicable = applicable,
    .worthwhile = worthwhile,
    .prepare = prepare,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .run = run,
};
