/* What the kernels of stencil.c read: rows of the input where they lie, converted ones, or packed planes. */
#include "../convert.h"
#include "stencil.h"

/* Where the padded row i under the band is listed. */
static int64_t place_of(const npc_stencil_recipe *recipe, int64_t i) {
    const int64_t apart = recipe->interleaved;
    return apart == 1 ? i : i % apart * (recipe->listed_rows / apart) + i / apart;
}

/* Lists the padded rows under the band at multiples that the kernels reach, m * stride + r * dilation. */
static void list_packed_rows(const npc_stencil_item *item) {
    const npc_stencil_job *job = item->job;
    const npc_phases *phases = &item->planes.rows;
    for (int64_t r = 0; r < job->rows.kernel; r++) {
        const int64_t plane = r % phases->period * item->planes.columns.phases * item->planes.plane;
        for (int64_t m = 0; m < item->band.rows; m++) {
            const int64_t at = m + r / phases->period * phases->step;
            item->rows[place_of(job->recipe, m * job->rows.stride + r * job->rows.dilation)] =
                item->packed + (plane + at * item->planes.columns.extent) * job->size;
        }
    }
}

/* Rows of one channel at one outer tap. */
typedef struct {
    const char *first; /* pixel; NULL where the padding is zero */
    int64_t stride;
} stencil_image;

/* Converts the rows and columns under the band; all at once where they follow one another. */
static stencil_image stage_rows(const npc_stencil_item *item, const char *image) {
    const npc_stencil_job *job = item->job;
    const npc_tensor *input = &item->input;
    const npc_compute compute = job->problem->compute;
    const int64_t row = item->band.row * job->rows.stride - job->rows.before;
    const int64_t column = item->band.column * job->columns.stride - job->columns.before;
    const int64_t top = npc_clamp(row, 0, job->rows.input), left = npc_clamp(column, 0, job->columns.input);
    const int64_t rows = npc_clamp(row + job->recipe->listed_rows, top, job->rows.input) - top;
    const int64_t columns = npc_clamp(column + job->recipe->reach, left, job->columns.input) - left;
    const int64_t row_stride = npc_row_stride(job->problem, input),
                  stride = npc_column_stride(job->problem, input);
    const int joined = row_stride == columns * stride;
    const stencil_image staged = {item->packed - (top * columns + left) * job->size, columns * job->size};
    image += top * row_stride + left * stride;
    for (int64_t i = 0; i < (joined ? 1 : rows); i++)
        npc_load_part(item->packed + i * staged.stride, input, compute, image + i * row_stride, stride, 0,
                      joined ? rows * columns : columns);
    return staged;
}

static void list_rows_in_place(const npc_stencil_item *item, stencil_image image, const void **listed) {
    const npc_stencil_job *job = item->job;
    const int64_t first = item->band.row * job->rows.stride - job->rows.before;
    const int64_t count =
        (item->band.rows - 1) * job->rows.stride + (job->rows.kernel - 1) * job->rows.dilation + 1;
    const int64_t low = image.first ? npc_clamp(-first, 0, count) : count;
    const int64_t high = npc_clamp(job->rows.input - first, low, count);
    /* Columns are counted from the input's first, so the zeros begin where the band does. */
    const char *zeros =
        item->zeros - (item->band.column * job->columns.stride - job->columns.before) * job->size;
    if (job->recipe->interleaved == 1) {
        for (int64_t i = 0; i < low; i++) listed[i] = zeros;
        for (int64_t i = low; i < high; i++) listed[i] = image.first + (first + i) * image.stride;
        for (int64_t i = high; i < count; i++) listed[i] = zeros;
        return;
    }
    for (int64_t i = 0; i < count; i++)
        listed[place_of(job->recipe, i)] =
            i >= low && i < high ? image.first + (first + i) * image.stride : zeros;
}

/* a / stride, rounded up, for the strides that are read in place: 1 and 2. Division is slow. */
NPC_INLINE int64_t ceil_steps(int64_t a, int64_t stride) { return stride == 1 ? a : a / 2 + (a % 2 > 0); }

void npc_stencil_list_columns(npc_stencil_item *item) {
    const npc_stencil_job *job = item->job;
    const npc_axis *axis = &job->columns;
    const npc_phases *phases = &item->planes.columns;
    const int64_t first = item->band.column * axis->stride - axis->before, lanes = job->plan->kernels->lanes;
    const int64_t reach = (axis->kernel - 1) * axis->dilation + lanes * axis->stride;
    for (int64_t c = 0; c < axis->kernel && job->recipe->lines; c++)
        item->columns[c] = c % axis->stride * job->recipe->pitch + c / axis->stride * axis->dilation;
    if (job->recipe->lines) return;
    for (int64_t c = 0; c < axis->kernel; c++)
        item->columns[c] = job->reads_in_place
                               ? first + c * axis->dilation
                               : c % phases->period * item->planes.plane + c / phases->period * phases->step;
    /* No further than the band needs: rows outside the input are no longer. */
    const int64_t reached = item->columns[0] +
                            (item->band.columns - 1) * (job->reads_in_place ? axis->stride : 1) +
                            (axis->kernel - 1) * axis->dilation + 1;
    item->tile.end = job->reads_in_place ? npc_min(axis->input, reached) : reached;
    item->inside_from = job->reads_in_place ? ceil_steps(-first, axis->stride) : 0;
    item->inside_to = item->band.columns;
    if (job->reads_in_place)
        item->inside_to = npc_min(item->inside_to, ceil_steps(axis->input - reach - first + 1, axis->stride));
}

static int lies_inside(const npc_stencil_item *item, int64_t at) {
    return at >= item->inside_from && at < item->inside_to;
}

static void list_vector(const npc_stencil_item *item, int64_t at, int *from, int *to) {
    const npc_axis *axis = &item->job->columns;
    const int64_t lanes = item->job->plan->kernels->lanes, first = item->columns[0] + at * axis->stride;
    for (int64_t c = 0; c < axis->kernel; c++) {
        const int64_t start = first + c * axis->dilation;
        from[c] = (int)npc_clamp(ceil_steps(-start, axis->stride), 0, lanes);
        to[c] = (int)npc_clamp(ceil_steps(axis->input - start, axis->stride), from[c], lanes);
    }
}

int64_t npc_stencil_list_lanes(npc_stencil_item *item, int64_t at, int64_t left, int64_t back) {
    const npc_stencil_job *job = item->job;
    const int64_t lanes = job->plan->kernels->lanes, most = job->recipe->masked, taps = job->columns.kernel;
    npc_stencil *tile = &item->tile;
    tile->from = NULL;
    if (lies_inside(item, at)) {
        const int64_t inside = npc_min(left, npc_stencil_vectors(job, item->inside_to - at));
        if (inside == left || left > most) return inside;
    }
    /* A short row is one call, a vector inside it or not. */
    int64_t count = left <= most ? left : 1;
    while (count < npc_min(left, most) && !lies_inside(item, at + count * lanes)) count++;
    /* What is listed stays true, as the last vector goes back in all passes over an item or in none. */
    const int place = at > 0;
    int *from = item->lanes[place], *to = from + most * taps;
    if (item->lanes_listed[place] != at) {
        for (int64_t i = 0; i < count; i++)
            list_vector(item, at + i * lanes - (i > 0 && i + 1 == left ? back : 0), from + i * taps,
                        to + i * taps);
        item->lanes_listed[place] = at;
    }
    tile->from = from + (tile->columns - item->columns);
    tile->to = to + (tile->columns - item->columns);
    return count;
}

/* The phases of a row's stride follow one another. */
static void pad_rows(const npc_stencil_item *item, const char *image) {
    const npc_stencil_job *job = item->job;
    const npc_stencil_recipe *recipe = job->recipe;
    char *target = item->packed;
    for (int64_t m = 0; m < item->band.rows; m++) {
        const int64_t row = npc_border((item->band.row + m) * job->rows.stride - job->rows.before,
                                       job->rows.input, job->problem->padding_mode);
        const npc_row_run run = {
            image && row >= 0 ? image + row * npc_row_stride(job->problem, &item->input) : NULL, 1,
            item->band.column * job->columns.stride - job->columns.before, recipe->pitch, recipe->phases};
        item->rows[m * job->rows.stride] = target;
        if (job->turns && run.row) {
            const npc_turned_row all = {run.start, recipe->phases, recipe->pitch, recipe->pitch};
            npc_turn_row(job->plan->kernels, &job->packer.row, &all, run.row, target);
        } else {
            npc_pack_channels(&job->packer, &run, target);
        }
        target += recipe->phases * recipe->pitch * job->size;
    }
}

void npc_stencil_list_rows(npc_stencil_item *item, int64_t channel, int64_t tap, int64_t place) {
    const npc_stencil_job *job = item->job;
    const npc_tensor *input = &item->input;
    if (job->reads_in_place || job->recipe->lines) {
        const char *image = npc_outer_image(job->problem, input, item->band.outer, tap);
        if (job->recipe->lines) {
            pad_rows(item, image ? image + channel * input->channel_stride : NULL);
            return;
        }
        stencil_image rows = {image ? image + channel * input->channel_stride : NULL,
                              npc_row_stride(job->problem, input)};
        if (rows.first && job->stages) rows = stage_rows(item, rows.first);
        list_rows_in_place(item, rows, item->rows + place * job->recipe->listed_rows);
        return;
    }
    const npc_taps_block taps = {channel, 1, tap, 1, 0, job->rows.kernel, 0, job->columns.kernel};
    item->planes = npc_planes_of(job->problem, &taps, &item->band);
    const npc_planes_source source = {job->problem, job->plan->kernels, input, item->list, 0, 0};
    npc_planes_pack(&source, &taps, &item->band, &item->planes, item->packed);
    npc_zeros(item->packed + item->planes.elements * job->size, job->problem->compute,
              2 * job->plan->kernels->lanes);
    list_packed_rows(item);
}
