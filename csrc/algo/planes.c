#include "planes.h"

#include <string.h>

#include "../convert.h"

NPC_VECTORISE

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
    /* Divisions only where there is padding. */
    const int64_t low = start >= 0 ? 0 : npc_clamp(npc_ceil_div(-start, p->step), 0, extent);
    const int64_t high = start >= 0 && start + (extent - 1) * p->step < p->width
                             ? extent
                             : npc_clamp(npc_ceil_div(p->width - start, p->step), low, extent);
    if (low > 0) fill_border(p, target, row, part, start, 0, low);
    if (low < high)
        npc_load_part(target + low * size, p->input, compute, row + (start + low * p->step) * p->stride,
                      p->step * p->stride, part, high - low);
    if (high < extent) fill_border(p, target, row, part, start, high, extent);
}

const char *npc_outer_image(const npc_problem *problem, const npc_tensor *input, int64_t pixel, int64_t tap) {
    const char *image = input->data;
    for (int a = npc_outer_axes(problem) - 1; a >= 0; a--) {
        const npc_axis *axis = &problem->axis[a];
        const int64_t i = npc_border(npc_phase_start(axis, pixel % axis->output, tap % axis->kernel),
                                     axis->input, problem->padding_mode);
        if (i < 0) return NULL;
        image += i * input->stride[a];
        pixel /= axis->output;
        tap /= axis->kernel;
    }
    return image;
}

int npc_outer_axes_are_flat(const npc_problem *problem) {
    for (int a = 0; a < npc_outer_axes(problem); a++) {
        const npc_axis *axis = &problem->axis[a];
        if (axis->kernel != 1 || axis->before != 0 || (axis->output - 1) * axis->stride >= axis->input)
            return 0;
    }
    return 1;
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

int npc_is_plain(const npc_planes_source *source) {
    const npc_problem *problem = source->problem;
    return problem->padding_mode == NPC_PADDING_ZEROS && npc_lies_in_rows(problem, source->input) &&
           npc_counts_in_elements(problem, source->input);
}

npc_copy_kernel *npc_copy_kernel_of(const npc_planes_source *source, int64_t step) {
    return step <= NPC_COPY_STEPS ? source->kernels->copy[npc_min(step, NPC_COPY_KERNELS) - 1] : NULL;
}

int npc_turns(const npc_planes_source *source, int64_t phases) {
    const npc_axis columns = npc_columns(source->problem);
    return columns.stride > 2 && columns.dilation == 1 && 2 * phases >= source->kernels->lanes &&
           npc_is_plain(source);
}

/* Of so many phases as a vector has lanes, the pixels are a matrix, `step` elements from row to row, which is turned around in
 * registers; only what reaches beyond the input is packed one by one. */
void npc_turn_row(const npc_kernels *kernels, const npc_row_packer *packer, const npc_turned_row *run,
                  const char *row, char *target) {
    const int64_t size = (int64_t)npc_compute_size(packer->problem->compute);
    const int64_t step = packer->step, extent = run->extent, pitch = run->pitch * size;
    for (int64_t first = 0; first < run->phases; first += kernels->lanes) {
        const int64_t start = run->start + first, last = packer->width - kernels->lanes - start;
        const int64_t low = npc_clamp(npc_ceil_div(-start, step), 0, extent);
        const int64_t high = last < 0 ? low : npc_clamp(last / step + 1, low, extent);
        const npc_block_rows rows = {.source = row + (start + low * step) * size,
                                     .target = target + first * pitch + low * size,
                                     .count = high - low,
                                     .source_stride = step,
                                     .target_stride = run->pitch,
                                     .channels = (int)npc_min(kernels->lanes, run->phases - first)};
        kernels->block_store(&rows);
        for (int64_t phase = first; phase < first + rows.channels; phase++) {
            char *to = target + phase * pitch;
            npc_pack_row(packer, to, row, 0, run->start + phase, low);
            npc_pack_row(packer, to + high * size, row, 0, run->start + phase + high * step, extent - high);
        }
    }
}

npc_channel_packer npc_channel_packer_of(const npc_planes_source *source, int64_t step) {
    npc_channel_packer packer = {npc_row_packer_of(source->problem, source->input),
                                 npc_is_plain(source) ? npc_copy_kernel_of(source, step) : NULL};
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
            .from = npc_clamp(-run->start, 0, run->extent * row->step),
            .to = npc_clamp(row->width - run->start, 0, (run->extent - 1) * row->step + run->phases),
            .phases = run->phases,
            .pitch = run->channels * run->extent,
            .step = row->step};
        packer->copy(&rows);
        return;
    }
    for (int64_t phase = 0; phase < run->phases; phase++)
        for (int64_t c = 0; c < run->channels; c++, target += run->extent * size)
            npc_pack_row(row, target, run->row ? run->row + c * row->input->channel_stride : NULL, 0,
                         run->start + phase, run->extent);
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
