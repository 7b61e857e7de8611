#include "gradient_bands.h"

#include <string.h>

#include "convert.h"

NPC_VECTORISE

enum { BLOCK = 16, SEGMENT = NPC_BAND_SCRATCH / BLOCK };

npc_band_axis npc_band_axis_of(const npc_axis *axis, int64_t taps, int64_t outputs, int joined) {
    const npc_band_axis apart = {taps, 1, taps * outputs, taps};
    /* In floating point: a huge dilation must not overflow the comparison. */
    const double reach =
        (double)(outputs - 1) * (double)axis->stride + (double)(taps - 1) * (double)axis->dilation + 1;
    if (taps > 1 && (reach > (double)apart.extent || (joined && axis->dilation > 1))) return apart;
    if (taps == 1) {
        const npc_band_axis single = {1, 1, outputs, 1};
        return single;
    }
    const npc_band_axis shared = {axis->stride, axis->dilation, (int64_t)reach, 1};
    return shared;
}

#define NPC_TRANSPOSE(name, T)                                                                               \
    static void transpose_##name(T *NPC_RESTRICT to, int64_t to_pitch, const T *NPC_RESTRICT from,           \
                                 int64_t from_pitch, int64_t count, int64_t others) {                        \
        int64_t i = 0;                                                                                       \
        for (; i + 4 <= count; i += 4)                                                                       \
            for (int64_t j = 0; j < others; j++) {                                                           \
                const T *four = from + j * from_pitch + i;                                                   \
                T *target = to + i * to_pitch + j;                                                           \
                target[0] = four[0];                                                                         \
                target[to_pitch] = four[1];                                                                  \
                target[2 * to_pitch] = four[2];                                                              \
                target[3 * to_pitch] = four[3];                                                              \
            }                                                                                                \
        for (; i < count; i++)                                                                               \
            for (int64_t j = 0; j < others; j++) to[i * to_pitch + j] = from[j * from_pitch + i];            \
    }
NPC_COMPUTES(NPC_TRANSPOSE)
#undef NPC_TRANSPOSE

void npc_transpose(npc_compute compute, void *to, int64_t to_pitch, const void *from, int64_t from_pitch,
                   int64_t count, int64_t others) {
#define NPC_CASE(name, type)                                                                                 \
    case NPC_COMPUTE_##name: transpose_##name(to, to_pitch, from, from_pitch, count, others); break;
    switch (compute) {
        NPC_COMPUTES(NPC_CASE)
    default: break;
    }
#undef NPC_CASE
}

/* Channels lie closer together than columns: one pixel at a time. */
static void pack_pixels(const npc_input_band *p, char *target, const char *row, int part, int64_t start,
                        int64_t step, int64_t count, int64_t pitch) {
    const npc_problem *problem = p->problem;
    const npc_axis columns = npc_columns(problem);
    for (int64_t j = 0; j < count; j++, target += pitch) {
        const int64_t i = npc_border(start + j * step, columns.input, problem->padding_mode);
        if (!row || i < 0)
            npc_zeros(target, problem->compute, p->channels);
        else
            npc_load_part(target, &p->input, problem->compute,
                          row + i * npc_column_stride(problem, &p->input), p->input.channel_stride, part,
                          p->channels);
    }
}

static void zero_pixels(const npc_input_band *p, char *target, int64_t count, int64_t pitch) {
    for (int64_t i = 0; i < count; i++) npc_zeros(target + i * pitch, p->problem->compute, p->channels);
}

/* `count` pixels from a row of each channel, whole vectors of pixels and most of a vector of channels in registers. */
static void turn_run(const npc_input_band *p, char *target, int64_t pitch, const char *row, int64_t count) {
    const npc_kernels *kernels = p->kernels;
    const int64_t size = (int64_t)npc_compute_size(p->problem->compute), lanes = kernels->lanes;
    const int64_t whole = count / lanes * lanes;
    npc_block_rows block = {.source_stride = p->input.channel_stride / size,
                            .target_stride = pitch / size,
                            .channels = (int)lanes};
    int64_t first = 0;
    for (; 2 * (p->channels - first) >= lanes; first += block.count) {
        block.count = npc_min(lanes, p->channels - first);
        for (int64_t i = 0; i < whole; i += lanes) {
            block.source = row + first * p->input.channel_stride + i * size;
            block.target = target + i * pitch + first * size;
            kernels->block_store(&block);
        }
    }
    npc_transpose(p->problem->compute, target + whole * pitch, pitch / size, row + whole * size,
                  block.source_stride, count - whole, first);
    npc_transpose(p->problem->compute, target + first * size, pitch / size,
                  row + first * p->input.channel_stride, block.source_stride, count, p->channels - first);
}

/* Every step-th pixel from `start` on, as elements `pitch` bytes apart. */
static void pack_run(const npc_input_band *p, char *target, const char *row, int part, int64_t start,
                     int64_t step, int64_t count, int64_t pitch, char *scratch) {
    const npc_problem *problem = p->problem;
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    const npc_row_packer packer = {problem, &p->input, step, npc_columns(problem).input,
                                   npc_column_stride(problem, &p->input)};
    if (p->channels == 1 && pitch == size) {
        npc_pack_row(&packer, target, row, part, start, count);
        return;
    }
    if (row && step == 1 && problem->padding_mode == NPC_PADDING_ZEROS && p->plain) {
        const int64_t low = npc_clamp(-start, 0, count), high = npc_clamp(packer.width - start, low, count);
        zero_pixels(p, target, low, pitch);
        turn_run(p, target + low * pitch, pitch, row + (start + low) * size, high - low);
        zero_pixels(p, target + high * pitch, count - high, pitch);
        return;
    }
    for (int64_t first = 0; first < p->channels; first += BLOCK)
        for (int64_t from = 0; from < count; from += SEGMENT) {
            const int64_t channels = npc_min(BLOCK, p->channels - first),
                          pixels = npc_min(SEGMENT, count - from);
            for (int64_t c = 0; c < channels; c++)
                npc_pack_row(&packer, scratch + c * SEGMENT * size,
                             row ? row + (first + c) * p->input.channel_stride : NULL, part,
                             start + from * step, pixels);
            npc_transpose(problem->compute, target + from * pitch + first * size, pitch / size, scratch,
                          SEGMENT, pixels, channels);
        }
}

static void pack_row(const npc_input_band *p, char *target, const char *row, int part, char *scratch) {
    const npc_axis axis = npc_columns(p->problem);
    const int64_t size = (int64_t)npc_compute_size(p->problem->compute), pixel = p->channels * size;
    const int64_t start = p->band.column * axis.stride + p->taps.column * axis.dilation - axis.before;
    const int64_t near = p->input.channel_stride, far = npc_column_stride(p->problem, &p->input);
    const int by_pixel = p->channels > 1 && (near < 0 ? -near : near) < (far < 0 ? -far : far);
    for (int64_t tap = 0; tap < p->columns.copies; tap++) {
        const int shared = p->columns.copies == 1 && p->taps.columns > 1;
        const int64_t step = shared ? 1 : axis.stride;
        const int64_t count = shared ? p->columns.extent : p->band.columns;
        const int64_t from = start + tap * axis.dilation, pitch = p->columns.copies * pixel;
        if (by_pixel)
            pack_pixels(p, target + tap * pixel, row, part, from, step, count, pitch);
        else
            pack_run(p, target + tap * pixel, row, part, from, step, count, pitch, scratch);
    }
}

void npc_input_band_pack(const npc_input_band *p, int64_t outer_tap, char *target, char *scratch) {
    const npc_problem *problem = p->problem;
    const npc_axis axis = npc_rows(problem);
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    const int64_t start = p->band.row * axis.stride + p->taps.row * axis.dilation - axis.before;
    const int shared = p->rows.copies == 1 && p->taps.rows > 1;
    const char *image = npc_outer_image(problem, &p->input, p->band.outer, outer_tap);
    for (int part = 0; part < problem->parts; part++)
        for (int64_t row = 0; row < p->rows.extent; row++) {
            const int64_t output = row / p->rows.copies, tap = row % p->rows.copies;
            const int64_t at = start + (shared ? row : output * axis.stride + tap * axis.dilation);
            const int64_t i = npc_border(at, axis.input, problem->padding_mode);
            const char *from = image && i >= 0 ? image + i * npc_row_stride(problem, &p->input) : NULL;
            pack_row(p, target, from, part, scratch);
            target += p->columns.extent * p->channels * size;
        }
}

int npc_gradient_lies_plainly(const npc_problem *problem, const npc_tensor *gradient, const npc_band *band) {
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    if (!npc_lies_in_rows(problem, gradient) || !npc_counts_in_elements(problem, gradient)) return 0;
    return band->rows == 1 || npc_row_stride(problem, gradient) == band->columns * size;
}

#define NPC_COMPLEX_GRADIENT(name, T)                                                                        \
    static void complex_gradient_##name(T *row, int64_t pitch, const T *part, int64_t pixels) {              \
        for (int64_t i = 0; i < pixels; i++) {                                                               \
            const T real = part[i], imaginary = part[pixels + i];                                            \
            row[2 * i] = row[pitch + 2 * i + 1] = real;                                                      \
            row[2 * i + 1] = row[pitch + 2 * i] = imaginary;                                                 \
            row[pitch + 2 * i + 1] = -real;                                                                  \
        }                                                                                                    \
    }
NPC_COMPLEX_GRADIENT(f32, float)
NPC_COMPLEX_GRADIENT(f64, double)
NPC_COMPLEX_GRADIENT(ld, long double)
#undef NPC_COMPLEX_GRADIENT

static void complex_gradient(npc_compute compute, void *row, int64_t pitch, const void *part,
                             int64_t pixels) {
    if (compute == NPC_COMPUTE_f32) complex_gradient_f32(row, pitch, part, pixels);
    if (compute == NPC_COMPUTE_f64) complex_gradient_f64(row, pitch, part, pixels);
    if (compute == NPC_COMPUTE_ld) complex_gradient_ld(row, pitch, part, pixels);
}

void npc_gradient_pack(const npc_problem *problem, const npc_tensor *gradient, const char *from,
                       const npc_band *band, int64_t channels, int64_t pitch, char *target, char *scratch) {
    const int64_t size = (int64_t)npc_compute_size(problem->compute);
    const int64_t stride = npc_column_stride(problem, gradient), parts = problem->parts;
    for (int64_t k = 0; k < channels; k++)
        for (int64_t row = 0; row < band->rows; row++) {
            const char *pixels =
                from + k * gradient->channel_stride + row * npc_row_stride(problem, gradient);
            char *to = target + (k * parts * pitch + row * band->columns * parts) * size;
            if (parts == 1) {
                npc_load_part(to, gradient, problem->compute, pixels, stride, 0, band->columns);
                continue;
            }
            for (int64_t done = 0; done < band->columns; done += SEGMENT) {
                const int64_t count = npc_min(SEGMENT, band->columns - done);
                for (int part = 0; part < 2; part++)
                    npc_load_part(scratch + part * count * size, gradient, problem->compute,
                                  pixels + done * stride, stride, part, count);
                complex_gradient(problem->compute, to + 2 * done * size, pitch, scratch, count);
            }
        }
}

void npc_add_sums(npc_compute compute, void *to, const void *from, int64_t count) {
#define NPC_CASE(name, type)                                                                                 \
    case NPC_COMPUTE_##name:                                                                                 \
        for (int64_t i = 0; i < count; i++) ((type *)to)[i] += ((const type *)from)[i];                      \
        break;
    switch (compute) {
        NPC_COMPUTES(NPC_CASE)
    default: break;
    }
#undef NPC_CASE
}
