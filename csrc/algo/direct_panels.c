/* The direct algorithm's single taps with pixels in panels, each those of a tile: all channels in one piece. The first tile of a panel
 * reads them where they lie and leaves a copy for the others, and all of them ask for the input that comes next.
 *
 * Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008. In planes, rows of many channels lie in the same
 * few sets of a first-level cache and push each other out of it. */
#include "direct.h"

enum {
    WEIGHT_BYTES = 192 << 10, /* that go by a panel, and come back for the next one */
    LINE = 64, /* bytes of a cache's line */
};

/* Input that comes next, a line of all channels at a time. */
typedef struct {
    const char *pixels; /* NULL: nothing comes */
    int64_t row_stride; /* bytes */
    int64_t rows, row_lines;
    int64_t row, line; /* to ask for now */
    int64_t share; /* rows of weights that go by for each */
} upcoming;

/* A band of pixels where they lie, rows joined. */
typedef struct {
    const npc_direct_item *item;
    const char *pixels;
    int64_t stride; /* elements from channel to channel */
    int64_t count;
    int64_t panels;
    npc_parts columns; /* vectors of pixels in panels */
} panel_band;

/* Where a panel's tiles are, but for their rows of weights. */
typedef struct {
    npc_direct_place place;
    npc_gemm tile;
    const char *source;
    char *pixels, *output;
} panel;

const char *npc_direct_pixels_in_place(const npc_direct_item *item) {
    const npc_problem *problem = item->job->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const npc_tensor *input = &item->input;
    const npc_band *band = &item->band;
    const int64_t row_stride = npc_row_stride(problem, input);
    const int inside = rows.before == 0 && columns.before == 0 && columns.stride == 1 &&
                       (rows.output - 1) * rows.stride < rows.input && columns.output <= columns.input;
    const int joined = band->rows == 1 || rows.stride * row_stride == band->columns * item->job->size;
    if (!inside || !joined || !npc_lies_in_rows(problem, input) || !npc_counts_in_elements(problem, input))
        return NULL;
    const char *image = npc_outer_image(problem, input, band->outer, 0);
    return image ? image + item->taps.channel * input->channel_stride + band->row * rows.stride * row_stride +
                       band->column * item->job->size
                 : NULL;
}

/* Under the rows that come next, to be packed, while so many rows of weights go by. */
static upcoming upcoming_band(const npc_direct_item *item, int64_t rows) {
    const npc_problem *problem = item->job->problem;
    const npc_axis down = npc_rows(problem), columns = npc_columns(problem);
    const npc_tensor *input = &item->input;
    const int64_t stride = npc_row_stride(problem, input), output = item->band.row + item->band.rows;
    const int64_t row = npc_max(0, output * down.stride - down.before);
    const int64_t column = npc_max(0, item->band.column * columns.stride - columns.before);
    const int64_t height =
        npc_min(npc_min(item->band.rows, down.output - output), npc_ceil_div(down.input - row, down.stride));
    const int64_t bytes =
        npc_min(item->band.columns * columns.stride, columns.input - column) * item->job->size;
    const char *image = npc_outer_image(problem, input, item->band.outer, 0);
    upcoming next = {.row_stride = stride * down.stride, .share = rows};
    if (height <= 0 || bytes <= 0 || !image || !npc_lies_in_rows(problem, input)) return next;
    const int joined = next.row_stride == bytes;
    next.pixels =
        image + item->taps.channel * input->channel_stride + row * stride + column * item->job->size;
    next.rows = joined ? 1 : height;
    next.row_lines = (joined ? bytes * height : bytes) / LINE + 1;
    next.share = rows / (next.rows * next.row_lines);
    return next;
}

/* In the next panel, to be filled; after the last one it is that of no panel, which does no harm. */
static upcoming upcoming_panel(const panel_band *band, int64_t panel, int64_t rows) {
    const npc_kernels *kernels = band->item->job->plan->kernels;
    const int64_t size = band->item->job->size, at = npc_part_start(band->columns, panel) * kernels->lanes;
    const int64_t lines = kernels->vectors * kernels->lanes * size / LINE + 1;
    const upcoming next = {
        .pixels = band->pixels + at * size, .rows = 1, .row_lines = lines, .share = rows / lines};
    return next;
}

static void ask_for(upcoming *next, const npc_direct_item *item, npc_direct_place *place) {
    place->far = place->input;
    place->far_stride = 0;
    if (!next->pixels || next->row == next->rows) return;
    place->far = next->pixels + next->row * next->row_stride + next->line * LINE;
    place->far_stride = item->input.channel_stride;
    if (++next->line == next->row_lines) {
        next->line = 0;
        next->row++;
    }
}

static void place_panel(const panel_band *band, int64_t i, panel *p) {
    const npc_direct_item *item = band->item;
    const npc_kernels *kernels = item->job->plan->kernels;
    const int64_t lanes = kernels->lanes, from = npc_part_start(band->columns, i),
                  to = npc_part_start(band->columns, i + 1);
    p->place.row = 0;
    p->place.rows = 1;
    p->place.at = from * lanes;
    p->place.vectors = to - from;
    p->place.pixels = npc_min(to * lanes, band->count) - p->place.at;
    p->place.last = p->place.pixels - (p->place.vectors - 1) * lanes;
    p->pixels = item->panels + i * item->taps.channels * kernels->vectors * lanes * item->job->size;
    p->place.input = p->pixels;
    p->place.pixel_stride = band->stride;
    npc_direct_prepare_tile(item, &p->place, &p->tile);
    p->source = band->pixels + p->place.at * item->job->size;
    p->output = p->tile.output;
}

/* Rows of weights `from` to `to` over a panel, which those from 0 on fill; the last few are a gemm tile. */
static void run_rows(const npc_direct_item *item, panel *p, upcoming *next, int64_t from, int64_t to) {
    const npc_direct_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    npc_direct_place *place = &p->place;
    for (int64_t m = from, rows; m < to; m += rows) {
        const int64_t height = m == 0 ? kernels->rows : kernels->panel_rows[place->vectors - 1];
        const int64_t most = m == 0 || !job->in_place ? 1 : npc_max(1, next->share / height);
        place->source = m == 0 ? p->source : NULL;
        place->panel = to - m < height ? NULL : p->pixels;
        place->tiles = place->panel ? npc_min((to - m) / height, most) : 1;
        rows = place->panel ? place->tiles * height : npc_min(to - m, kernels->rows);
        ask_for(next, item, place);
        npc_direct_run_tile(item, &p->tile, p->output, m, (int)rows, place);
    }
}

/* All tiles of all panels: a panel stays in the first-level cache while weights go by, of which as many do as stay in the second
 * level. */
static void run_panels(const panel_band *band) {
    const npc_direct_item *item = band->item;
    const npc_kernels *kernels = item->job->plan->kernels;
    const int64_t step = kernels->panel_rows[0],
                  together = npc_round_up(WEIGHT_BYTES / (item->reduction * item->job->size) + 1, step);
    const int in_place = band->pixels != item->packed;
    upcoming next = {.share = item->rows};
    if (!in_place) next = upcoming_band(item, band->panels * item->rows);
    for (int64_t from = 0, to; from < item->rows; from = to) {
        to = npc_min(from + together + (from ? 0 : kernels->rows % step), item->rows);
        for (int64_t i = 0; i < band->panels; i++) {
            panel p;
            place_panel(band, i, &p);
            if (in_place && from == 0)
                next = upcoming_panel(band, i + 1, to);
            else if (in_place)
                next = (upcoming){.share = item->rows}; /* all panels are full */
            run_rows(item, &p, &next, from, to);
        }
    }
}

void npc_direct_run_panels(npc_direct_item *item, const npc_planes_source *source) {
    const npc_direct_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t pixels = item->band.rows * item->band.columns, tile = kernels->vectors * kernels->lanes;
    const int64_t panels = npc_ceil_div(pixels, tile);
    const char *in_place = npc_direct_pixels_in_place(item);
    const panel_band band = {.item = item,
                             .pixels = in_place ? in_place : item->packed,
                             .stride = in_place ? item->input.channel_stride / job->size : item->planes.plane,
                             .count = pixels,
                             .panels = panels,
                             .columns = npc_parts_of(npc_ceil_div(pixels, kernels->lanes), panels)};
    if (!in_place) npc_planes_pack(source, &item->taps, &item->band, &item->planes, item->packed);
    if ((item->rows - kernels->rows) %
        kernels->panel_rows[0]) { /* tiles of the rows that are left take offsets */
        for (int64_t r = 0; r < item->reduction; r++) item->offsets[r] = r * tile;
        item->listed[0] = 0;
    }
    run_panels(&band);
}
