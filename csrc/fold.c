/* Band by band of the image: a band's sums stay in the first-level cache, and every tap's windows over it are added as
 * rows. With a stride the sums are kept by phase, the columns of one remainder next to each other, so that rows are added
 * to rows there too, and phases are interleaved at the end. The alternative that lost scatters each window into the image.
 *
 * Numbers that lie as the machine has them are added in their own type; others (byte order, gaps, float16, whose sums are
 * float32) go through the compute type. Taps are added in ascending order, whatever the band or the thread. */
#include "fold.h"

#include <string.h>

#include "convert.h"
#include "memory.h"
#include "parallel.h"

NPC_VECTORISE

/* `rows` rows of `count` numbers, added to others; pitches in bytes. */
typedef void add_rows(char *sums, int64_t sum_pitch, const char *terms, int64_t term_pitch, int64_t rows,
                      int64_t count);

#define NPC_ADD(name, type)                                                                                  \
    static void add_##name(char *sums, int64_t sum_pitch, const char *terms, int64_t term_pitch,             \
                           int64_t rows, int64_t count) {                                                    \
        for (; rows > 0; rows--, sums += sum_pitch, terms += term_pitch) {                                   \
            type *NPC_RESTRICT sum = (type *)(void *)sums;                                                   \
            const type *NPC_RESTRICT term = (const type *)(const void *)terms;                               \
            for (int64_t i = 0; i < count; i++) sum[i] = (type)(sum[i] + term[i]);                           \
        }                                                                                                    \
    }
NPC_ADD(u8, uint8_t)
NPC_ADD(u16, uint16_t)
NPC_COMPUTES(NPC_ADD)

static add_rows *adder(npc_compute compute) {
#define NPC_CASE(name, type)                                                                                 \
    case NPC_COMPUTE_##name: return add_##name;
    switch (compute) {
        NPC_COMPUTES(NPC_CASE)
    default: return NULL;
    }
#undef NPC_CASE
}

static add_rows *adder_of_own_type(const npc_problem *problem) {
    switch (npc_scalar_size(problem->scalar)) {
    case 1: return add_u8;
    case 2: return add_u16;
    default: return adder(problem->compute);
    }
}

typedef struct {
    const npc_problem *problem;
    const npc_tensor *columns;
    char *image;
    npc_fold_grid grid;
    npc_axis row_axis, column_axis;
    int64_t taps, size; /* bytes of an element of the image */
    int own_type; /* terms are added as they lie, complex ones as pairs */
    int in_place; /* sums are the image itself */
    add_rows *add;
    int64_t sum_size; /* bytes of an element of the sums */
    int64_t phases, length; /* sums of a row: so many phases of so many elements */
    int64_t sum_pitch; /* bytes from a row of sums to the next */
    int64_t part_bytes; /* bytes from the sums of real parts to those of imaginary ones */
    int64_t thread_bytes;
    char *workspace;
} fold_job;

typedef struct {
    const fold_job *job;
    npc_fold_unit unit;
    char *sums, *loaded;
} fold_band;

/* A tap's windows of one axis that fall into a band of the image, [low, high): window `low` lies at `place` in the band. */
typedef struct {
    int64_t low, high, place;
} landing;

static landing land(const npc_axis *axis, int64_t tap, int64_t first, int64_t end) {
    const int64_t offset = tap * axis->dilation - axis->before - first;
    landing on = {npc_clamp(npc_ceil_div(-offset, axis->stride), 0, axis->output), 0, 0};
    on.high = npc_clamp(npc_ceil_div(end - first - offset, axis->stride), on.low, axis->output);
    if (on.low < on.high) on.place = on.low * axis->stride + offset;
    return on;
}

/* The windows, as a number among all, that put an outer tap on an outer pixel, -1 if none does. */
static int64_t outer_window(const npc_problem *problem, const int64_t *pixel, const int64_t *tap) {
    int64_t index = 0;
    for (int a = 0; a < npc_outer_axes(problem); a++) {
        const npc_axis *axis = &problem->axis[a];
        const int64_t start = pixel[a] + axis->before - tap[a] * axis->dilation;
        if (start < 0 || start % axis->stride != 0 || start / axis->stride >= axis->output) return -1;
        index = index * axis->output + start / axis->stride;
    }
    return index;
}

/* Adds one tap's windows: `terms` is the first of those under the band's outer pixel. */
static void add_tap(const fold_band *band, const char *terms, const landing *rows, int64_t column_tap) {
    const fold_job *job = band->job;
    const landing columns = land(&job->column_axis, column_tap, band->unit.column, band->unit.column_end);
    const int64_t stride = job->columns->stride[0], count = columns.high - columns.low;
    const int64_t phase = columns.place % job->column_axis.stride,
                  at = columns.place / job->column_axis.stride;
    const int64_t term_pitch = job->column_axis.output * stride;
    /* A stride of more than the image leads to one row at most, and might overflow. */
    const int64_t sum_step = npc_min(job->row_axis.stride, job->row_axis.input) * job->sum_pitch;
    if (count <= 0 || rows->low == rows->high) return;
    char *sums = band->sums + rows->place * job->sum_pitch + (phase * job->length + at) * job->sum_size;
    terms += (rows->low * job->column_axis.output + columns.low) * stride;
    if (job->own_type) {
        job->add(sums, sum_step, terms, term_pitch, rows->high - rows->low, count * job->problem->parts);
        return;
    }
    for (int64_t row = rows->low; row < rows->high; row++, sums += sum_step, terms += term_pitch)
        for (int part = 0; part < job->problem->parts; part++) {
            npc_load_part(band->loaded, job->columns, job->problem->compute, terms, stride, part, count);
            job->add(sums + part * job->part_bytes, 0, band->loaded, 0, 1, count);
        }
}

static void add_taps(const fold_band *band) {
    const fold_job *job = band->job;
    const npc_problem *problem = job->problem;
    const npc_tensor *columns = job->columns;
    const int64_t n = band->unit.plane / problem->input_channels,
                  c = band->unit.plane % problem->input_channels;
    const char *terms = columns->data + n * columns->batch_stride + c * job->taps * columns->channel_stride;
    const int64_t outer_bytes = job->row_axis.output * job->column_axis.output * columns->stride[0];
    int64_t pixel[NPC_MAX_AXES], tap[NPC_MAX_AXES];
    npc_fold_outer_index(problem, 0, band->unit.outer, pixel);
    for (int a = 0; a < npc_outer_axes(problem); a++) tap[a] = 0;
    do {
        const int64_t window = outer_window(problem, pixel, tap);
        for (int64_t r = 0; r < job->row_axis.kernel; r++) {
            const landing rows = land(&job->row_axis, r, band->unit.row, band->unit.row_end);
            for (int64_t q = 0; q < job->column_axis.kernel; q++, terms += columns->channel_stride)
                if (window >= 0) add_tap(band, terms + window * outer_bytes, &rows, q);
        }
    } while (npc_fold_next_tap(problem, tap));
}

#define NPC_SPREAD(name, type)                                                                               \
    static void spread_##name(char *target, const char *sums, int64_t length, int64_t phases,                \
                              int64_t width) {                                                               \
        type value;                                                                                          \
        if (phases == 2) { /* compilers interleave vectors */                                                \
            const char *odd = sums + length * (int64_t)sizeof value;                                         \
            for (int64_t i = 0; i < width / 2; i++) {                                                        \
                memcpy(&value, sums + i * (int64_t)sizeof value, sizeof value);                              \
                memcpy(target + 2 * i * (int64_t)sizeof value, &value, sizeof value);                        \
                memcpy(&value, odd + i * (int64_t)sizeof value, sizeof value);                               \
                memcpy(target + (2 * i + 1) * (int64_t)sizeof value, &value, sizeof value);                  \
            }                                                                                                \
            if (width % 2)                                                                                   \
                memcpy(target + (width - 1) * (int64_t)sizeof value,                                         \
                       sums + width / 2 * (int64_t)sizeof value, sizeof value);                              \
            return;                                                                                          \
        }                                                                                                    \
        for (int64_t phase = 0; phase < phases; phase++, sums += length * (int64_t)sizeof value)             \
            for (int64_t x = phase, i = 0; x < width; x += phases, i++)                                      \
                memcpy(target + x * (int64_t)sizeof value, sums + i * (int64_t)sizeof value, sizeof value);  \
    }
typedef struct {
    uint64_t word[2];
} words2;
NPC_SPREAD(1, uint8_t)
NPC_SPREAD(2, uint16_t)
NPC_SPREAD(4, uint32_t)
NPC_SPREAD(8, uint64_t)
NPC_SPREAD(16, words2)

/* As those, of elements of any size. */
static void spread_bytes(char *target, const char *sums, int64_t length, int64_t phases, int64_t width,
                         int64_t size) {
    for (int64_t phase = 0; phase < phases; phase++, sums += length * size)
        for (int64_t x = phase, i = 0; x < width; x += phases, i++)
            memcpy(target + x * size, sums + i * size, (size_t)size);
}

static void spread(const fold_job *job, char *target, const char *sums, int64_t width) {
    switch (job->size) {
    case 1: spread_1(target, sums, job->length, job->phases, width); break;
    case 2: spread_2(target, sums, job->length, job->phases, width); break;
    case 4: spread_4(target, sums, job->length, job->phases, width); break;
    case 8: spread_8(target, sums, job->length, job->phases, width); break;
    case 16: spread_16(target, sums, job->length, job->phases, width); break;
    default: spread_bytes(target, sums, job->length, job->phases, width, job->size);
    }
}

/* Row of sums to row of the image. */
static void store_row(const fold_job *job, char *target, const char *sums, int64_t width) {
    const npc_problem *problem = job->problem;
    if (job->own_type) {
        spread(job, target, sums, width);
    } else {
        const int64_t part_size = job->size / problem->parts;
        npc_store *store = npc_storer(problem->scalar);
        for (int part = 0; part < problem->parts; part++)
            for (int64_t phase = 0; phase < npc_min(job->phases, width); phase++)
                store(target + phase * job->size + part * part_size, job->phases * job->size,
                      sums + part * job->part_bytes + phase * job->length * job->sum_size,
                      npc_ceil_div(width - phase, job->phases));
    }
}

static void fold_unit(const fold_job *job, const npc_fold_unit *unit, int thread) {
    const npc_fold_grid *grid = &job->grid;
    fold_band band = {.job = job, .unit = *unit};
    const int64_t rows = unit->row_end - unit->row, width = unit->column_end - unit->column;
    char *target =
        job->image + (((unit->plane * grid->outers + unit->outer) * grid->rows + unit->row) * grid->columns +
                      unit->column) *
                         job->size;
    if (job->in_place) {
        band.sums = target;
        for (int64_t row = 0; row < rows; row++)
            memset(target + row * job->sum_pitch, 0, (size_t)(width * job->size));
    } else {
        band.loaded = job->workspace + thread * job->thread_bytes;
        band.sums = band.loaded + npc_aligned_bytes(grid->band_columns * job->sum_size);
        memset(band.sums, 0,
               (size_t)(job->own_type ? rows * job->sum_pitch : job->part_bytes * job->problem->parts));
    }
    add_taps(&band);
    for (int64_t row = 0; !job->in_place && row < rows; row++)
        store_row(job, target + row * grid->columns * job->size, band.sums + row * job->sum_pitch, width);
}

static void run_item(void *context, int64_t item, int thread) {
    const fold_job *job = context;
    const npc_fold_grid *grid = &job->grid;
    const int64_t first = item * grid->each, end = npc_min(first + grid->each, grid->units);
    npc_fold_unit unit = npc_fold_unit_at(grid, first);
    for (int64_t i = first; i < end; i++, npc_fold_next_unit(grid, &unit)) fold_unit(job, &unit, thread);
}

/* Whether terms can be added where they lie. */
static int lies_plainly(const npc_problem *problem, const npc_tensor *columns) {
    const int64_t size = (int64_t)npc_scalar_size(problem->scalar);
    const int64_t strides[] = {columns->batch_stride, columns->channel_stride};
    if (problem->scalar == NPC_SCALAR_float16 || columns->swapped) return 0;
    if (columns->stride[0] != size * problem->parts || (uintptr_t)columns->data % (uintptr_t)size != 0)
        return 0;
    return strides[0] % size == 0 && strides[1] % size == 0;
}

static void choose_sums(fold_job *job) {
    const npc_problem *problem = job->problem;
    const npc_fold_grid *grid = &job->grid;
    const int64_t stride = job->column_axis.stride;
    job->add = job->own_type ? adder_of_own_type(problem) : adder(problem->compute);
    job->sum_size = job->own_type ? job->size : (int64_t)npc_compute_size(problem->compute);
    job->in_place = job->own_type && stride == 1;
    job->phases = npc_min(stride, grid->band_columns);
    job->length = npc_ceil_div(grid->band_columns, stride);
    job->sum_pitch = job->in_place ? grid->columns * job->size : job->phases * job->length * job->sum_size;
    job->part_bytes = npc_aligned_bytes(grid->band_rows * job->sum_pitch);
    job->thread_bytes = npc_aligned_bytes(grid->band_columns * job->sum_size) +
                        job->part_bytes * (job->own_type ? 1 : problem->parts);
}

npc_status npc_fold(const npc_problem *given, int threads, const npc_tensor *columns, char *image) {
    npc_problem merged = *given;
    npc_tensor terms = *columns;
    npc_fold_merge(&merged, &terms, 1);
    const npc_problem *problem = &merged;
    fold_job job = {.problem = problem, .columns = &terms, .image = image};
    job.grid = npc_fold_grid_of(problem, 0, threads);
    job.row_axis = npc_rows(problem);
    job.column_axis = npc_columns(problem);
    job.taps = npc_taps(problem);
    job.size = (int64_t)npc_scalar_size(problem->scalar) * problem->parts;
    job.own_type = lies_plainly(problem, &terms);
    choose_sums(&job);
    if (!job.in_place && !(job.workspace = npc_acquire((size_t)(threads * job.thread_bytes))))
        return NPC_NO_MEMORY;
    npc_parallel_for(threads, job.grid.items, run_item, &job);
    npc_release(job.workspace);
    return NPC_OK;
}
