/* Between images and transformed tiles: what winograd.c does to a band before and after its products. */
#include "../activation.h"
#include "../convert.h"
#include "planes.h"
#include "winograd.h"

static int64_t first_column(const npc_winograd_item *item) {
    return item->column * item->job->recipe->tile_width * npc_columns(item->job->problem).dilation;
}

/* The input channels of a vector, in a block of those of all pieces. No divisions below this: a row of them is little work. */
typedef struct {
    int64_t first, channels; /* of the block, as in npc_winograd_channels */
    int64_t count;           /* of the vector */
    int64_t piece, channel;  /* of its first one; channel: in the block */
} vector_inputs;

static vector_inputs inputs_of(const npc_winograd_item *item, int64_t vector) {
    const npc_winograd_job *job = item->job;
    const int64_t vectors = NPC_WINOGRAD_CHANNELS / job->lanes, place = vector % vectors * job->lanes;
    const npc_winograd_channels all =
        npc_winograd_channels_of(job->problem, (npc_winograd_kind)job->recipe->kind, vector / vectors);
    const vector_inputs inputs = {all.first, all.channels, npc_clamp(all.inputs - place, 0, job->lanes),
                                  place / all.channels, place % all.channels};
    return inputs;
}

/* A run of channels of one piece in a vector. */
typedef struct {
    int64_t channel, channels;
    int64_t row, column; /* of the input: column of its first pixel; the row is -1 where all is zero */
} piece_run;

/* Of row y, as the tiles count them, the channels from the c-th of the vector on. */
static piece_run piece_run_at(const npc_winograd_item *item, const vector_inputs *inputs, int64_t c,
                              int64_t y) {
    const npc_winograd_job *job = item->job;
    const npc_axis *rows = &job->rows, *columns = &job->columns;
    const npc_winograd_piece *piece = &job->pieces[inputs->piece];
    int64_t channel = inputs->channel + c;
    for (; channel >= inputs->channels; channel -= inputs->channels) piece++;
    const int64_t x = item->column * npc_winograd_across(job->recipe) * columns->dilation;
    const piece_run run = {inputs->first + channel, inputs->channels - channel,
                           npc_border(y * rows->stride + piece->row * rows->dilation - rows->before,
                                      rows->input, job->problem->padding_mode),
                           x * columns->stride + piece->column * columns->dilation - columns->before};
    return run;
}

/* The first channel of a run, at its row, or NULL. */
static const char *row_of(const npc_winograd_item *item, const char *image, const piece_run *run) {
    if (!image || run->row < 0) return NULL;
    return image + run->channel * item->input.channel_stride +
           run->row * npc_row_stride(item->job->problem, &item->input);
}

/* One row of pixels of every channel of a vector, one after the other. */
static void pack_rows(const npc_winograd_item *item, const vector_inputs *inputs, const char *image,
                      int64_t y) {
    const npc_winograd_job *job = item->job;
    const int64_t count = inputs->count, row_bytes = job->recipe->extent * job->size;
    const npc_planes_source source = {job->problem, job->plan->kernels, &item->input, NULL, 0, 0};
    const npc_channel_packer packer = npc_channel_packer_of(&source, job->columns.stride);
    for (int64_t c = 0; c < count;) {
        const piece_run run = piece_run_at(item, inputs, c, y);
        const npc_row_run rows = {row_of(item, image, &run), npc_min(run.channels, count - c), run.column,
                                  job->recipe->extent, 1};
        npc_pack_channels(&packer, &rows, item->line + c * row_bytes);
        c += rows.channels;
    }
}

/* One row of pixels, a vector of channels a pixel. */
static void load_row(const npc_winograd_item *item, const char *image, const vector_inputs *inputs, int64_t y,
                     char *target) {
    const npc_winograd_job *job = item->job;
    const int64_t extent = job->recipe->extent, lanes = job->lanes;
    const piece_run first = piece_run_at(item, inputs, 0, y);
    const char *row = row_of(item, image, &first);
    npc_winograd_gather run = {.pixels = target, .extent = extent, .to = extent};
    run.channels = (int)inputs->count;
    const int one_piece = first.channels >= run.channels;
    if (one_piece && !row) {
        npc_zeros(target, job->problem->compute, extent * lanes);
        return;
    }
    if (one_piece && item->plain_input && job->columns.stride == 1) {
        run.rows = row + first.column * job->size;
        run.channel_stride = item->input.channel_stride / job->size;
        run.ahead = job->ahead;
        run.from = npc_clamp(-first.column, 0, extent);
        run.to = npc_clamp(job->columns.input - first.column, 0, extent);
    } else {
        pack_rows(item, inputs, image, y);
        run.rows = item->line;
        run.channel_stride = extent;
    }
    job->kernels->gather(&run);
}

static void transform_image(const npc_winograd_item *item, const char *image, char *target,
                            const vector_inputs *inputs) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    const int64_t height = npc_winograd_height(r), dilation = npc_columns(job->problem).dilation;
    const int64_t row_bytes = r->extent * job->lanes * job->size;
    const int64_t down = npc_winograd_down(r);
    npc_winograd_input run = {.column_step = dilation * job->lanes,
                              .tile_step = npc_winograd_across(r) * dilation * job->lanes,
                              .point_stride = r->point_stride,
                              .tiles = item->columns};
    int64_t phase_row = item->row / r->tile_rows, row = item->row % r->tile_rows;
    int64_t slot = row * down % height; /* rows of pixels take turns in as many places */
    for (int64_t done = 0; done < item->rows; done++) {
        /* Below another tile of its phase only the last rows are new. */
        const int64_t known = done > 0 && row > 0 ? height - down : 0;
        const char *place[NPC_WINOGRAD_POINTS];
        for (int64_t i = 0; i < height; i++) {
            char *pixels = item->pixels + (slot + i < height ? slot + i : slot + i - height) * row_bytes;
            if (i >= known)
                load_row(item, image, inputs, (row * down + i) * job->rows.dilation + phase_row, pixels);
            place[i] = pixels;
        }
        for (int64_t phase = 0; phase < r->column_phases; phase++) {
            for (int64_t i = 0; i < height; i++) run.rows[i] = place[i] + phase * job->lanes * job->size;
            run.output = target;
            job->kernels->input[r->kind](&run);
            target += item->columns * job->lanes * job->size;
        }
        slot += down;
        while (slot >= height) slot -= height;
        if (++row == r->tile_rows) {
            row = slot = 0;
            phase_row++;
        }
    }
}

void npc_winograd_transform_input(const npc_winograd_item *item, const char *image, char *slice,
                                  int64_t vector) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    const int64_t image_tiles = item->rows * r->column_phases * item->columns;
    const vector_inputs inputs = inputs_of(item, vector);
    for (int64_t n = 0; n < item->images; n++)
        transform_image(item, image ? image + n * item->input.batch_stride : NULL,
                        slice + (vector * r->tiles + n * image_tiles) * job->lanes * job->size, &inputs);
}

/* One row of sums, a vector of output channels a pixel, becomes a row of the result. */
static void store_row(const npc_winograd_item *item, char *sums, char *target, int channels) {
    const npc_winograd_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *output = &job->tensors->output;
    const int64_t dilation = npc_columns(problem).dilation, stride = npc_column_stride(problem, output);
    const int64_t count = npc_min(item->columns * job->recipe->tile_width * dilation,
                                  npc_columns(problem).output - first_column(item));
    if (problem->activation != NPC_ACTIVATION_CLIP) npc_activate(problem, sums, count * job->lanes);
    if (item->plain_output) {
        const npc_winograd_scatter run = {sums, target, output->channel_stride / job->size, count, channels};
        job->kernels->scatter(&run);
        return;
    }
    for (int64_t x = 0; x < count; x++)
        npc_storer(problem->scalar)(target + x * stride, output->channel_stride,
                                    sums + x * job->lanes * job->size, channels);
}

static void load_bias(const npc_winograd_item *item, int64_t first, int64_t channels, void *target) {
    const npc_winograd_job *job = item->job;
    const npc_tensor *bias = &job->tensors->bias;
    npc_zeros(target, job->problem->compute, job->lanes);
    if (job->problem->has_bias)
        npc_load_part(target, bias, job->problem->compute,
                      bias->data +
                          (item->group * npc_group_outputs(job->problem) + first) * bias->channel_stride,
                      bias->channel_stride, 0, channels);
}

/* One of the vectors of a block of output channels. */
typedef struct {
    const npc_winograd_block *block;
    int64_t index;
    const char *weights;
} block_vector;

/* One row of tiles from the item's n-th on, of a vector of output channels; whether all pixels are finite. */
static int transform_tiles(const npc_winograd_item *item, const block_vector *vector, int64_t n,
                           npc_winograd_output *run) {
    const npc_winograd_job *job = item->job;
    const npc_winograd_recipe *r = job->recipe;
    const npc_winograd_block *block = vector->block;
    if (!r->fused) {
        run->products =
            item->products + (vector->index * r->tiles + n) * npc_winograd_points(r) * job->lanes * job->size;
        return job->kernels->output[r->kind](run);
    }
    const npc_winograd_fused fused = {*run,
                                      vector->weights + vector->index * job->lanes * job->size,
                                      item->transformed + n * job->lanes * job->size,
                                      block->inputs,
                                      block->vectors * job->lanes,
                                      block->panel,
                                      r->point_stride};
    return job->kernels->fused(&fused);
}

/* One image's part of a vector of output channels, `result` their first pixel. */
static void transform_vector(const npc_winograd_item *item, char *result, int64_t first,
                             const block_vector *vector, int64_t tile) {
    const npc_winograd_job *job = item->job;
    const npc_problem *problem = job->problem;
    const npc_winograd_recipe *r = job->recipe;
    const int64_t channels = npc_min(job->lanes, npc_group_outputs(problem) - first);
    const int64_t row_bytes = r->extent * job->lanes * job->size, dilation = npc_columns(problem).dilation;
    long double bias[NPC_MOST_LANES]; /* the widest type */
    npc_winograd_output run = {.bias = bias,
                               .column_step = dilation * job->lanes,
                               .tiles = item->columns,
                               .clip = problem->activation == NPC_ACTIVATION_CLIP,
                               .low = problem->activation_a,
                               .high = problem->activation_b};
    load_bias(item, first, channels, bias);
    result += first * job->tensors->output.channel_stride +
              first_column(item) * npc_column_stride(problem, &job->tensors->output);
    int64_t phase_row = item->row / r->tile_rows, row = item->row % r->tile_rows;
    for (int64_t done = 0; done < item->rows; done++) {
        for (int64_t phase = 0; phase < r->column_phases; phase++) {
            for (int64_t i = 0; i < r->tile_height; i++)
                run.rows[i] = item->pixels + i * row_bytes + phase * job->lanes * job->size;
            if (!transform_tiles(item, vector, tile, &run)) *item->not_finite = 1;
            tile += item->columns;
        }
        for (int64_t i = 0; i < r->tile_height; i++) {
            const int64_t y = (row * r->tile_height + i) * npc_rows(problem).dilation + phase_row;
            if (y < npc_rows(problem).output)
                store_row(item, item->pixels + i * row_bytes,
                          result + y * npc_row_stride(problem, &job->tensors->output), (int)channels);
        }
        if (++row == r->tile_rows) {
            row = 0;
            phase_row++;
        }
    }
}

void npc_winograd_transform_output(const npc_winograd_item *item, char *result, int64_t first,
                                   const npc_winograd_block *block, const char *weights) {
    const npc_winograd_recipe *r = item->job->recipe;
    const int64_t image_tiles = item->rows * r->column_phases * item->columns;
    for (int64_t v = 0; v < block->vectors; v++) {
        const block_vector vector = {block, v, weights};
        for (int64_t n = 0; n < item->images; n++)
            transform_vector(item, result + n * item->output.batch_stride, first + v * item->job->lanes,
                             &vector, n * image_tiles);
    }
}
