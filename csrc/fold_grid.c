/* How unfold and fold cut their work, and what both need besides. */
#include "fold.h"

enum {
    BAND_BYTES = 16 << 10, /* of an image: half a first-level cache */
    ITEM_BYTES = 256 << 10, /* of windows, so that an item is worth handing out */
    THREAD_BYTES = 128 << 10, /* of windows that pay for waking one more thread */
    SEGMENT_COLUMNS = 4096, /* wider images are cut */
};

static double column_bytes(const npc_problem *problem) {
    double bytes = (double)npc_scalar_size(problem->scalar) * problem->parts * (double)problem->batch *
                   (double)problem->output_channels;
    for (int a = 0; a < problem->spatial_axes; a++) bytes *= (double)problem->axis[a].output;
    return bytes;
}

int npc_fold_threads(const npc_problem *problem, int threads) {
    const double paying = column_bytes(problem) / THREAD_BYTES;
    return paying < threads ? (int)npc_max(1, (int64_t)paying) : threads;
}

static int64_t extent(const npc_axis *axis, int of_windows) {
    return of_windows ? axis->output : axis->input;
}

npc_fold_grid npc_fold_grid_of(const npc_problem *problem, int of_windows, int threads) {
    const int64_t planes = problem->batch * problem->input_channels;
    const int64_t size = (int64_t)npc_scalar_size(problem->scalar) * problem->parts;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    npc_fold_grid grid = {
        .outers = 1, .rows = extent(&rows, of_windows), .columns = extent(&columns, of_windows)};
    for (int a = 0; a < npc_outer_axes(problem); a++) grid.outers *= extent(&problem->axis[a], of_windows);
    /* With a stride a tap lands on fewer columns, and finding out which costs as much. */
    const int64_t segment = SEGMENT_COLUMNS * (of_windows ? 1 : npc_min(columns.stride, 4));
    grid.segments = npc_ceil_div(grid.columns, segment);
    grid.band_columns = npc_ceil_div(grid.columns, grid.segments);
    grid.segments = npc_ceil_div(grid.columns, grid.band_columns);
    grid.band_rows = npc_clamp(BAND_BYTES / (grid.band_columns * size), 1, grid.rows);
    grid.bands = npc_ceil_div(grid.rows, grid.band_rows);
    grid.units = planes * grid.outers * grid.bands * grid.segments;
    const int64_t worthwhile = (int64_t)(ITEM_BYTES / (column_bytes(problem) / (double)grid.units)) + 1;
    grid.each = npc_min(worthwhile, npc_ceil_div(grid.units, 4 * (int64_t)threads));
    grid.items = npc_ceil_div(grid.units, grid.each);
    return grid;
}

static void end_unit(const npc_fold_grid *grid, npc_fold_unit *unit) {
    unit->column_end = npc_min(unit->column + grid->band_columns, grid->columns);
    unit->row_end = npc_min(unit->row + grid->band_rows, grid->rows);
}

npc_fold_unit npc_fold_unit_at(const npc_fold_grid *grid, int64_t index) {
    npc_fold_unit unit;
    unit.column = index % grid->segments * grid->band_columns;
    unit.row = (index /= grid->segments) % grid->bands * grid->band_rows;
    unit.outer = (index /= grid->bands) % grid->outers;
    unit.plane = index / grid->outers;
    end_unit(grid, &unit);
    return unit;
}

void npc_fold_next_unit(const npc_fold_grid *grid, npc_fold_unit *unit) {
    if ((unit->column = unit->column_end) == grid->columns) {
        unit->column = 0;
        if ((unit->row = unit->row_end) == grid->rows) {
            unit->row = 0;
            if (++unit->outer == grid->outers) {
                unit->outer = 0;
                unit->plane++;
            }
        }
    }
    end_unit(grid, unit);
}

void npc_fold_outer_index(const npc_problem *problem, int of_windows, int64_t outer, int64_t *index) {
    for (int a = npc_outer_axes(problem) - 1; a >= 0; a--) {
        const int64_t size = extent(&problem->axis[a], of_windows);
        index[a] = outer % size;
        outer /= size;
    }
}

int npc_fold_next_tap(const npc_problem *problem, int64_t *tap) {
    for (int a = npc_outer_axes(problem) - 1; a >= 0; a--) {
        if (++tap[a] < problem->axis[a].kernel) return 1;
        tap[a] = 0;
    }
    return 0;
}

static int is_copy(const npc_problem *problem) {
    for (int a = 0; a < problem->spatial_axes; a++) {
        const npc_axis *axis = &problem->axis[a];
        if (axis->kernel != 1 || axis->stride != 1 || axis->output != axis->input) return 0;
    }
    return 1;
}

/* Whether an axis of this size follows on those of `*bytes` together, to which it is added. */
static int follows(int64_t *bytes, int64_t stride, int64_t size) {
    const int plain = size == 1 || stride == *bytes;
    *bytes *= size;
    return plain;
}

void npc_fold_merge(npc_problem *problem, npc_tensor *tensor, int of_windows) {
    const int64_t size = (int64_t)npc_scalar_size(problem->scalar) * problem->parts;
    int64_t bytes = size, pixels = 1;
    int plain = is_copy(problem);
    for (int a = problem->spatial_axes - 1; a >= 0; a--) {
        pixels *= problem->axis[a].input;
        if (!of_windows) plain &= follows(&bytes, tensor->stride[a], problem->axis[a].input);
    }
    if (of_windows) plain &= follows(&bytes, tensor->stride[0], pixels);
    plain &= follows(&bytes, tensor->channel_stride, problem->input_channels);
    plain &= follows(&bytes, tensor->batch_stride, problem->batch);
    if (!plain) return;
    const int64_t elements = bytes / size;
    const npc_axis merged = {elements, 1, elements, 1, 1, 0};
    problem->axis[0] = merged;
    problem->spatial_axes = 1;
    problem->batch = problem->input_channels = problem->output_channels = 1;
    tensor->stride[0] = size;
    tensor->batch_stride = tensor->channel_stride = bytes;
}
