/* Row by row, as copies: a tap's windows along a row are a row of the image from another column on. All taps of a few
 * rows are copied one after the other, so that the image is read from memory once. Where the windows of a tap are the
 * image's rows moved (stride 1, as many windows as pixels), a whole band is one copy, and the columns that came in over
 * the ends of rows are cleared. What lost: one tap after the other, which reads a large image once a tap. */
#include <string.h>

#include "fold.h"
#include "parallel.h"

NPC_VECTORISE

/* Elements `stride` bytes apart become neighbours. */
typedef void copy_row(char *target, const char *source, int64_t stride, int64_t count);

typedef struct {
    const npc_problem *problem;
    const npc_tensor *image;
    char *columns;
    npc_fold_grid grid;
    npc_axis row_axis, column_axis;
    int64_t size, taps;
    int64_t row_stride, column_stride;
    int64_t row_step, column_step; /* bytes in the image from window to window */
    copy_row *copy;
    int flat;
} unfold_job;

typedef struct {
    uint64_t word[2];
} words2;
typedef struct {
    uint64_t word[4];
} words4;

#define NPC_COPY(name, type)                                                                                 \
    static void copy_##name(char *target, const char *source, int64_t stride, int64_t count) {               \
        type value;                                                                                          \
        if (stride == 2 * (int64_t)sizeof value) { /* every other pixel: compilers shuffle vectors */        \
            for (int64_t i = 0; i < count; i++) {                                                            \
                memcpy(&value, source + i * 2 * (int64_t)sizeof value, sizeof value);                        \
                memcpy(target + i * (int64_t)sizeof value, &value, sizeof value);                            \
            }                                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (int64_t i = 0; i < count; i++) {                                                                \
            memcpy(&value, source + i * stride, sizeof value);                                               \
            memcpy(target + i * (int64_t)sizeof value, &value, sizeof value);                                \
        }                                                                                                    \
    }
NPC_COPY(1, uint8_t)
NPC_COPY(2, uint16_t)
NPC_COPY(4, uint32_t)
NPC_COPY(8, uint64_t)
NPC_COPY(16, words2)
NPC_COPY(32, words4)

/* A long double of 12 bytes, as some systems have it, among them. */
static void copy_bytes(char *target, const char *source, int64_t stride, int64_t count, size_t size) {
    for (int64_t i = 0; i < count; i++) memcpy(target + i * (int64_t)size, source + i * stride, size);
}
static void copy_12(char *target, const char *source, int64_t stride, int64_t count) {
    copy_bytes(target, source, stride, count, 12);
}
static void copy_24(char *target, const char *source, int64_t stride, int64_t count) {
    copy_bytes(target, source, stride, count, 24);
}

static copy_row *copier(int64_t size) {
    switch (size) {
    case 1: return copy_1;
    case 2: return copy_2;
    case 4: return copy_4;
    case 8: return copy_8;
    case 12: return copy_12;
    case 16: return copy_16;
    case 24: return copy_24;
    default: return copy_32;
    }
}

/* The part [low, high) of the windows from `first` to `end` whose tap lies in the image. */
static void windows_inside(const npc_axis *axis, int64_t tap, int64_t first, int64_t end, int64_t *low,
                           int64_t *high) {
    const int64_t offset = axis->before - tap * axis->dilation;
    *low = npc_clamp(npc_ceil_div(offset, axis->stride), first, end);
    *high = npc_clamp(npc_ceil_div(axis->input + offset, axis->stride), *low, end);
}

/* Where the image's rows under an outer tap begin, NULL in the padding. */
static const char *rows_under(const unfold_job *job, const char *plane, const int64_t *window,
                              const int64_t *tap) {
    for (int a = 0; a < npc_outer_axes(job->problem); a++) {
        const npc_axis *axis = &job->problem->axis[a];
        const int64_t i = npc_border(window[a] * axis->stride + tap[a] * axis->dilation - axis->before,
                                     axis->input, NPC_PADDING_ZEROS);
        if (i < 0) return NULL;
        plane += i * job->image->stride[a];
    }
    return plane;
}

static void clear_rows(const unfold_job *job, char *target, int64_t rows, int64_t columns) {
    const int64_t pitch = job->column_axis.output;
    if (columns == pitch)
        memset(target, 0, (size_t)(rows * pitch * job->size));
    else
        for (int64_t row = 0; row < rows; row++)
            memset(target + row * pitch * job->size, 0, (size_t)(columns * job->size));
}

/* Rows of the image from a pixel on, which may lie a few columns before or after their first: one copy. */
static void copy_flat(const unfold_job *job, char *target, const char *rows, int64_t pixel, int64_t count,
                      int64_t left, int64_t right) {
    const int64_t width = job->column_axis.output, size = job->size;
    const int64_t from = npc_max(0, -pixel);
    const int64_t to = npc_min(count * width, job->row_axis.input * width - pixel);
    memcpy(target + from * size, rows + (pixel + from) * size, (size_t)((to - from) * size));
    for (int64_t row = 0; left > 0 && row < count; row++)
        memset(target + row * width * size, 0, (size_t)(left * size));
    for (int64_t row = 0; right < width && row < count; row++)
        memset(target + (row * width + right) * size, 0, (size_t)((width - right) * size));
}

/* The columns from `column` to `end` of a row of windows, those in [left, right) from the image. */
static void copy_one_row(const unfold_job *job, char *target, const char *source, const npc_fold_unit *unit,
                         int64_t left, int64_t right) {
    const int64_t size = job->size, stride = job->column_step;
    if (left > unit->column) memset(target, 0, (size_t)((left - unit->column) * size));
    target += (left - unit->column) * size;
    if (stride == size)
        memcpy(target, source, (size_t)((right - left) * size));
    else
        job->copy(target, source, stride, right - left);
    if (right < unit->column_end)
        memset(target + (right - left) * size, 0, (size_t)((unit->column_end - right) * size));
}

/* One tap's windows of a unit. */
static void copy_tap(const unfold_job *job, char *target, const char *rows, const npc_fold_unit *unit,
                     int64_t row_tap, int64_t column_tap) {
    const npc_axis *row_axis = &job->row_axis, *column_axis = &job->column_axis;
    const int64_t width = unit->column_end - unit->column, pitch = column_axis->output * job->size;
    int64_t low, high, left, right;
    windows_inside(row_axis, row_tap, unit->row, unit->row_end, &low, &high);
    windows_inside(column_axis, column_tap, unit->column, unit->column_end, &left, &right);
    if (!rows || low == high || left == right) {
        clear_rows(job, target, unit->row_end - unit->row, width);
        return;
    }
    clear_rows(job, target, low - unit->row, width);
    clear_rows(job, target + (high - unit->row) * pitch, unit->row_end - high, width);
    target += (low - unit->row) * pitch;
    const int64_t row = low * row_axis->stride + row_tap * row_axis->dilation - row_axis->before;
    const int64_t shift = column_tap * column_axis->dilation - column_axis->before;
    if (job->flat) {
        copy_flat(job, target, rows, row * column_axis->input + shift, high - low, left, right);
        return;
    }
    rows += row * job->row_stride + (left * column_axis->stride + shift) * job->column_stride;
    for (int64_t i = low; i < high; i++, target += pitch, rows += job->row_step)
        copy_one_row(job, target, rows, unit, left, right);
}

static void unfold_unit(const unfold_job *job, const npc_fold_unit *unit) {
    const npc_problem *problem = job->problem;
    const npc_fold_grid *grid = &job->grid;
    const int64_t windows = grid->outers * grid->rows * grid->columns;
    const int64_t n = unit->plane / problem->input_channels, c = unit->plane % problem->input_channels;
    const char *plane = job->image->data + n * job->image->batch_stride + c * job->image->channel_stride;
    char *target = job->columns + (unit->plane * job->taps * windows +
                                   (unit->outer * grid->rows + unit->row) * grid->columns + unit->column) *
                                      job->size;
    int64_t window[NPC_MAX_AXES], tap[NPC_MAX_AXES];
    npc_fold_outer_index(problem, 1, unit->outer, window);
    for (int a = 0; a < npc_outer_axes(problem); a++) tap[a] = 0;
    do {
        const char *rows = rows_under(job, plane, window, tap);
        for (int64_t r = 0; r < job->row_axis.kernel; r++)
            for (int64_t q = 0; q < job->column_axis.kernel; q++, target += windows * job->size)
                copy_tap(job, target, rows, unit, r, q);
    } while (npc_fold_next_tap(problem, tap));
}

static void run_item(void *context, int64_t item, int thread) {
    const unfold_job *job = context;
    const npc_fold_grid *grid = &job->grid;
    (void)thread;
    const int64_t first = item * grid->each, end = npc_min(first + grid->each, grid->units);
    npc_fold_unit unit = npc_fold_unit_at(grid, first);
    for (int64_t i = first; i < end; i++, npc_fold_next_unit(grid, &unit)) unfold_unit(job, &unit);
}

/* Whether a tap's windows are the image's rows moved, in memory too. */
static int is_flat(const unfold_job *job) {
    const npc_axis *row_axis = &job->row_axis, *column_axis = &job->column_axis;
    return row_axis->stride == 1 && column_axis->stride == 1 && column_axis->output == column_axis->input &&
           job->grid.segments == 1 && job->column_stride == job->size &&
           (row_axis->input == 1 || job->row_stride == column_axis->input * job->size);
}

void npc_unfold(const npc_problem *given, int threads, const npc_tensor *image, char *columns) {
    npc_problem merged = *given;
    npc_tensor pixels = *image;
    npc_fold_merge(&merged, &pixels, 0);
    const npc_problem *problem = &merged;
    unfold_job job = {.problem = problem, .image = &pixels, .columns = columns};
    job.grid = npc_fold_grid_of(problem, 1, threads);
    job.row_axis = npc_rows(problem);
    job.column_axis = npc_columns(problem);
    job.size = (int64_t)npc_scalar_size(problem->scalar) * problem->parts;
    job.taps = npc_taps(problem);
    job.row_stride = npc_row_stride(problem, &pixels);
    job.column_stride = npc_column_stride(problem, &pixels);
    /* Strides of more than the image lead to one window at most, and might overflow. */
    job.row_step = npc_min(job.row_axis.stride, job.row_axis.input) * job.row_stride;
    job.column_step = npc_min(job.column_axis.stride, job.column_axis.input) * job.column_stride;
    job.copy = copier(job.size);
    job.flat = is_flat(&job);
    npc_parallel_for(threads, job.grid.items, run_item, &job);
}
