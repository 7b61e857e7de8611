#include "planes.h"

#include <string.h>

#include "../convert.h"

static int64_t greatest_common_divisor(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

npc_phases npc_phases_of(const npc_axis *axis, int64_t taps, int64_t band) {
    const int64_t divisor = greatest_common_divisor(axis->stride, axis->dilation);
    npc_phases shared = {axis->stride / divisor, axis->dilation / divisor, 0, 0};
    const npc_phases separate = {taps, 0, taps, band};
    shared.phases = npc_min(taps, shared.period);
    const int64_t steps = (taps - 1) / shared.period;
    /* In floating point: a huge dilation must not overflow the comparison. */
    if (shared.phases * (band + (double)steps * (double)shared.step) > (double)taps * (double)band)
        return separate;
    shared.extent = band + steps * shared.step;
    return shared;
}

npc_planes npc_planes_of(const npc_problem *problem, const npc_taps_block *taps, const npc_band *band) {
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    npc_planes planes = {npc_phases_of(&rows, taps->rows, band->rows),
                         npc_phases_of(&columns, taps->columns, band->columns), 0, 0};
    planes.plane = planes.rows.extent * planes.columns.extent;
    planes.elements = taps->channels * problem->parts * taps->outers * planes.rows.phases *
                      planes.columns.phases * planes.plane;
    return planes;
}

void npc_planes_offsets(const npc_problem *problem, const npc_taps_block *taps, const npc_planes *planes,
                        int64_t *offsets) {
    const npc_phases *rows = &planes->rows, *columns = &planes->columns;
    const int64_t image = rows->phases * columns->phases * planes->plane;
    for (int64_t channel = 0; channel < taps->channels; channel++)
        for (int64_t tap = 0; tap < taps->outers * taps->rows; tap++) {
            const int64_t outer = tap / taps->rows, r = tap % taps->rows;
            const int64_t row = (channel * problem->parts * taps->outers + outer) * image +
                                r % rows->period * columns->phases * planes->plane +
                                r / rows->period * rows->step * columns->extent;
            for (int64_t c = 0; c < taps->columns; c++)
                for (int part = 0; part < problem->parts; part++)
                    *offsets++ = row + part * taps->outers * image + c % columns->period * planes->plane +
                                 c / columns->period * columns->step;
        }
}

/* Pixels under a band and a block of taps that lie inside the input. */
typedef struct {
    int64_t row, rows, column, columns;
} region;

enum { STAGE_BYTES = 1 << 14 };

typedef struct {
    const npc_problem *problem;
    const npc_tensor *input;
    const npc_taps_block *taps;
    const npc_band *band;
    const npc_planes *planes;
    npc_axis rows, columns;
    npc_row_packer packer;
    int64_t row_stride; /* bytes in the input */
    int64_t size;       /* bytes of a packed element */
    npc_copy_kernel *copy; /* of rows in compute type whose borders are zeros; NULL: element by element */
    const npc_kernels
        *turns; /* the phases of such rows, neighbouring pixels, all at once; NULL: one by one */
    int stages;            /* that region, converted before it is copied */
    region staged;
} packer;

/* What is copied: rows of the input, or converted ones. */
typedef struct {
    const char *image; /* the first pixel of the channel, were all of it there */
    int64_t row_stride;
} copy_source;

/* Position in the unpadded axis of element 0 of a phase. */
static int64_t phase_start(const npc_axis *axis, int64_t first_output, int64_t tap) {
    return first_output * axis->stride + tap * axis->dilation - axis->before;
}

int npc_counts_in_elements(const npc_problem *problem, const npc_tensor *tensor) {
    int64_t strides = (int64_t)(uintptr_t)tensor->data | tensor->batch_stride | tensor->channel_stride;
    for (int a = 0; a < problem->spatial_axes; a++) strides |= tensor->stride[a];
    return strides % (int64_t)npc_compute_size(problem->compute) == 0;
}

int npc_lies_in_rows(const npc_problem *problem, const npc_tensor *tensor) {
    return !tensor->swapped && tensor->parts == 1 && problem->parts == 1 &&
           npc_is_compute(tensor->scalar, problem->compute) &&
           npc_column_stride(problem, tensor) == (int64_t)npc_compute_size(problem->compute);
}

npc_row_packer npc_row_packer_of(const npc_problem *problem, const npc_tensor *input) {
    const npc_axis columns = npc_columns(problem);
    const npc_row_packer packer = {problem, input, columns.stride, columns.input,
                                   npc_column_stride(problem, input)};
    return packer;
}

static void fill_border(const npc_row_packer *p, char *target, const char *row, int part, int64_t start,
                        int64_t from, int64_t to) {
    const int64_t size = (int64_t)npc_compute_size(p->problem->compute);
    if (p->problem->padding_mode == NPC_PADDING_ZEROS) {
        npc_zeros(target + from * size, p->problem->compute, to - from);
        return;
    }
    for (int64_t j = from; j < to; j++) {
        const int64_t i = npc_border(start + j * p->step, p->width, p->problem->padding_mode);
        if (i < 0)
            npc_zeros(target + j * size, p->problem->compute, 1);
        else
            npc_load_part(target + j * size, p->input, p->problem->compute, row + i * p->stride, 0, part, 1);
    }
}

void npc_pack_row(const npc_row_packer *p, char *target, const char *row, int part, int64_t start,
                  int64_t extent) {
    const npc_compute compute = p->problem->compute;
    const int64_t size = (int64_t)npc_compute_size(compute);
    if (!row) {
        npc_zeros(target, compute, extent);
        return;
    }
    const int64_t low = npc_clamp(npc_ceil_div(-start, p->step), 0, extent);
    const int64_t high = npc_clamp(npc_ceil_div(p->width - start, p->step), low, extent);
    if (low > 0) fill_border(p, target, row, part, start, 0, low);
    if (low < high)
        npc_load_part(target + low * size, p->input, compute, row + (start + low * p->step) * p->stride,
                      p->step * p->stride, part, high - low);
    if (high < extent) fill_border(p, target, row, part, start, high, extent);
}

/* Rows of one plane as they lie, between rows of zeros above and below. */
static void copy_plane(const packer *p, char *target, copy_source source, int64_t row_start,
                       int64_t column_start) {
    const int64_t height = p->planes->rows.extent, extent = p->planes->columns.extent;
    const int64_t step = p->packer.step, row_step = p->rows.stride;
    const int64_t low = npc_clamp(npc_ceil_div(-row_start, row_step), 0, height);
    const int64_t high = npc_clamp(npc_ceil_div(p->rows.input - row_start, row_step), low, height);
    const npc_copy rows = {.source = source.image + (row_start + low * row_step) * source.row_stride +
                                     column_start * p->size,
                           .target = target + low * extent * p->size,
                           .count = high - low,
                           .extent = extent,
                           .source_stride = row_step * source.row_stride / p->size,
                           .from = npc_clamp(npc_ceil_div(-column_start, step), 0, extent),
                           .to = npc_clamp(npc_ceil_div(p->columns.input - column_start, step), 0, extent),
                           .step = step};
    npc_zeros(target, p->problem->compute, low * extent);
    if (high > low) p->copy(&rows);
    npc_zeros(target + high * extent * p->size, p->problem->compute, (height - high) * extent);
}

/* The rows of one plane, element by element. */
static void pack_plane(const packer *p, char *target, const char *image, int part, int64_t row_start,
                       int64_t column_start) {
    const int64_t extent = p->planes->columns.extent;
    for (int64_t r = 0; r < p->planes->rows.extent; r++, target += extent * p->size) {
        const int64_t i = npc_border(row_start + r * p->rows.stride, p->rows.input, p->problem->padding_mode);
        npc_pack_row(&p->packer, target, i < 0 ? NULL : image + i * p->row_stride, part, column_start,
                     extent);
    }
}

/* One row of every phase. Of so many phases as a vector has lanes, the pixels are a matrix, `step` elements from row to row,
 * which is turned around in registers; only what reaches beyond the input is packed one by one. */
static void turn_row(const packer *p, char *target, const char *row, int64_t column_start) {
    const npc_kernels *kernels = p->turns;
    const int64_t phases = p->planes->columns.phases, extent = p->planes->columns.extent;
    const int64_t step = p->packer.step, plane = p->planes->plane * p->size;
    for (int64_t first = 0; first < phases; first += kernels->lanes) {
        const int64_t start = column_start + first, last = p->columns.input - kernels->lanes - start;
        const int64_t low = npc_clamp(npc_ceil_div(-start, step), 0, extent);
        const int64_t high = last < 0 ? low : npc_clamp(last / step + 1, low, extent);
        const npc_block_rows run = {.source = row + (start + low * step) * p->size,
                                    .target = target + first * plane + low * p->size,
                                    .count = high - low,
                                    .source_stride = step,
                                    .target_stride = p->planes->plane,
                                    .channels = (int)npc_min(kernels->lanes, phases - first)};
        kernels->block_store(&run);
        for (int64_t phase = first; phase < first + run.channels; phase++) {
            char *to = target + phase * plane;
            npc_pack_row(&p->packer, to, row, 0, column_start + phase, low);
            npc_pack_row(&p->packer, to + high * p->size, row, 0, column_start + phase + high * step,
                         extent - high);
        }
    }
}

/* All column phases of one row phase. */
static void turn_planes(const packer *p, char *target, const char *image, int64_t row_start,
                        int64_t column_start) {
    for (int64_t r = 0; r < p->planes->rows.extent; r++, target += p->planes->columns.extent * p->size) {
        const int64_t i = row_start + r * p->rows.stride;
        if (i >= 0 && i < p->rows.input) {
            turn_row(p, target, image + i * p->row_stride, column_start);
            continue;
        }
        for (int64_t phase = 0; phase < p->planes->columns.phases; phase++)
            npc_zeros(target + phase * p->planes->plane * p->size, p->problem->compute,
                      p->planes->columns.extent);
    }
}

/* Converts what the planes of one channel share: all rows at once where they follow one another. */
static copy_source stage_image(const packer *p, char *stage, const char *image) {
    const region *r = &p->staged;
    const int64_t stride = p->packer.stride;
    const int joined = p->row_stride == r->columns * stride;
    const copy_source source = {stage - (r->row * r->columns + r->column) * p->size, r->columns * p->size};
    image += r->row * p->row_stride + r->column * stride;
    for (int64_t row = 0; row < (joined ? 1 : r->rows); row++)
        npc_load_part(stage + row * source.row_stride, p->input, p->problem->compute,
                      image + row * p->row_stride, stride, 0, r->columns * (joined ? r->rows : 1));
    return source;
}

/* All planes of one channel's part at one outer tap; image is NULL where the padding is zero. */
static char *pack_image(const packer *p, char *target, const char *image, int part) {
    long double stage[STAGE_BYTES / sizeof(long double)]; /* the best aligned */
    copy_source source = {image, p->row_stride};
    if (image && p->stages) source = stage_image(p, (char *)stage, image);
    for (int64_t row_phase = 0; row_phase < p->planes->rows.phases; row_phase++) {
        const int64_t row_start = phase_start(&p->rows, p->band->row, p->taps->row + row_phase);
        if (image && p->turns) {
            turn_planes(p, target, image, row_start,
                        phase_start(&p->columns, p->band->column, p->taps->column));
            target += p->planes->columns.phases * p->planes->plane * p->size;
            continue;
        }
        for (int64_t phase = 0; phase < p->planes->columns.phases; phase++) {
            const int64_t column_start = phase_start(&p->columns, p->band->column, p->taps->column + phase);
            if (!image)
                npc_zeros(target, p->problem->compute, p->planes->plane);
            else if (p->copy)
                copy_plane(p, target, source, row_start, column_start);
            else
                pack_plane(p, target, image, part, row_start, column_start);
            target += p->planes->plane * p->size;
        }
    }
    return target;
}

const char *npc_outer_image(const npc_problem *problem, const npc_tensor *input, int64_t pixel, int64_t tap) {
    const char *image = input->data;
    for (int a = npc_outer_axes(problem) - 1; a >= 0; a--) {
        const npc_axis *axis = &problem->axis[a];
        const int64_t i = npc_border(phase_start(axis, pixel % axis->output, tap % axis->kernel), axis->input,
                                     problem->padding_mode);
        if (i < 0) return NULL;
        image += i * input->stride[a];
        pixel /= axis->output;
        tap /= axis->kernel;
    }
    return image;
}

char *npc_result_band(const npc_problem *problem, const npc_tensor *output, const npc_band *band) {
    char *result = output->data + band->row * npc_row_stride(problem, output) +
                   band->column * npc_column_stride(problem, output);
    int64_t rest = band->outer;
    for (int a = npc_outer_axes(problem) - 1; a >= 0; a--) {
        result += rest % problem->axis[a].output * output->stride[a];
        rest /= problem->axis[a].output;
    }
    return result;
}

/* Rows that kernels read, with zeros around them. */
static int is_plain(const npc_planes_source *source) {
    const npc_problem *problem = source->problem;
    return problem->padding_mode == NPC_PADDING_ZEROS && npc_lies_in_rows(problem, source->input) &&
           npc_counts_in_elements(problem, source->input);
}

/* The kernel that copies every step-th pixel of plain rows, if there is one. */
static npc_copy_kernel *copy_kernel(const npc_planes_source *source, int64_t step) {
    return step <= NPC_COPY_STEPS ? source->kernels->copy[npc_min(step, NPC_COPY_KERNELS) - 1] : NULL;
}

/* Phases of neighbouring pixels that fill half a vector and more. */
static const npc_kernels *turning_kernels(const npc_planes_source *source, const npc_planes *planes) {
    const npc_axis columns = npc_columns(source->problem);
    const int turns = columns.stride > 2 && columns.dilation == 1 &&
                      2 * planes->columns.phases >= source->kernels->lanes && is_plain(source);
    return turns ? source->kernels : NULL;
}

/* What the phases of an axis read of the input: the first one of it, and how many. */
static int64_t clip_span(const npc_axis *axis, const npc_phases *phases, int64_t output, int64_t tap,
                         int64_t *first) {
    const int64_t last = phase_start(axis, output + phases->extent - 1, tap + phases->phases - 1);
    *first = npc_clamp(phase_start(axis, output, tap), 0, axis->input);
    return npc_clamp(last + 1, *first, axis->input) - *first;
}

/* Rows that are not plain are converted and then copied, as long as they stay in a first-level cache and the copies read
 * them all; a single plane's row, in its place. */
static void choose_stage(packer *p, const npc_planes_source *source) {
    const npc_problem *problem = p->problem;
    const npc_planes *planes = p->planes;
    const int64_t most = STAGE_BYTES / p->size, step = p->packer.step;
    region *r = &p->staged;
    if (p->copy || p->turns || problem->padding_mode != NPC_PADDING_ZEROS || problem->parts > 1 ||
        !copy_kernel(source, step))
        return;
    r->rows = clip_span(&p->rows, &planes->rows, p->band->row, p->taps->row, &r->row);
    r->columns = clip_span(&p->columns, &planes->columns, p->band->column, p->taps->column, &r->column);
    if (r->rows < 2 && step == 1) return;
    if (r->columns > most || r->rows > most / npc_max(1, r->columns)) return;
    if (r->rows * r->columns > 2 * planes->rows.phases * planes->columns.phases * planes->plane) return;
    p->stages = 1;
    p->copy = copy_kernel(source, step);
}

void npc_planes_pack(const npc_planes_source *source, const npc_taps_block *taps, const npc_band *band,
                     const npc_planes *planes, void *target) {
    const npc_problem *problem = source->problem;
    const npc_tensor *input = source->input;
    packer p = {.problem = problem,
                .input = input,
                .taps = taps,
                .band = band,
                .planes = planes,
                .rows = npc_rows(problem),
                .columns = npc_columns(problem),
                .packer = npc_row_packer_of(problem, input),
                .row_stride = npc_row_stride(problem, input),
                .size = (int64_t)npc_compute_size(problem->compute),
                .copy = is_plain(source) ? copy_kernel(source, npc_columns(problem).stride) : NULL,
                .turns = turning_kernels(source, planes)};
    choose_stage(&p, source);
    char *out = target;
    for (int64_t c = taps->channel; c < taps->channel + taps->channels; c++)
        for (int part = 0; part < problem->parts; part++)
            for (int64_t tap = taps->outer; tap < taps->outer + taps->outers; tap++) {
                const char *image = npc_outer_image(problem, input, band->outer, tap);
                out = pack_image(&p, out, image ? image + c * input->channel_stride : NULL, part);
            }
}

npc_channel_packer npc_channel_packer_of(const npc_planes_source *source, int64_t step) {
    npc_channel_packer packer = {npc_row_packer_of(source->problem, source->input),
                                 is_plain(source) ? copy_kernel(source, step) : NULL};
    packer.row.step = step;
    return packer;
}

void npc_pack_channels(const npc_channel_packer *packer, const npc_row_run *run, char *target) {
    const npc_row_packer *row = &packer->row;
    const int64_t size = (int64_t)npc_compute_size(row->problem->compute);
    if (packer->copy && run->row) {
        const npc_copy rows = {
            .source = run->row + run->start * size,
            .target = target,
            .count = run->channels,
            .extent = run->extent,
            .source_stride = row->input->channel_stride / size,
            .from = npc_clamp(npc_ceil_div(-run->start, row->step), 0, run->extent),
            .to = npc_clamp(npc_ceil_div(row->width - run->start, row->step), 0, run->extent),
            .step = row->step};
        packer->copy(&rows);
        return;
    }
    for (int64_t c = 0; c < run->channels; c++)
        npc_pack_row(row, target + c * run->extent * size,
                     run->row ? run->row + c * row->input->channel_stride : NULL, 0, run->start, run->extent);
}

enum { LINE = 64, CACHE_BYTES = 32 << 20 };

int npc_exceeds_caches(const npc_problem *problem) {
    double bytes = (double)problem->batch * (double)problem->output_channels *
                   (double)npc_compute_size(problem->compute);
    for (int a = 0; a < problem->spatial_axes; a++) bytes *= (double)problem->axis[a].output;
    return bytes >= CACHE_BYTES;
}

int npc_streams(const npc_problem *problem, const npc_kernels *kernels, const npc_tensor *output,
                int64_t *lead) {
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    int64_t lines = output->batch_stride | output->channel_stride;
    for (int a = 0; a + 1 < problem->spatial_axes; a++) lines |= output->stride[a];
    const int streams = kernels->end_streams && npc_exceeds_caches(problem) && lines % LINE == 0;
    *lead = streams ? (LINE - (int64_t)((uintptr_t)output->data % LINE)) % LINE / size : 0;
    return streams;
}
