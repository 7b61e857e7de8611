/* The direct algorithm's single taps with pixels in panels, each those of a tile: all channels in one piece. The first tile of a panel
 * reads them where they lie and leaves a copy for the others, and all of them ask for the input that comes next.
 *
 * Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008. In planes, rows of many channels lie in the same
 * few sets of a first-level cache and push each other out of it. */
#include "direct.h"

enum {
    WEIGHT_BYTES = 192 << 10, /* that go by panels, and come back for the next ones; */
    PANELS_BYTES = 16 << 10, /* of these at a time, */
    MOST_PANELS = 8, /* and their number */
    LINE = 64, /* bytes of a cache's line */
};

/* Input that comes next, a line of all channels at a time. */
typedef struct {
    const char *pixels; /* NULL: nothing comes */
    int64_t row_stride; /* bytes */
    int64_t rows, row_lines;
    int64_t row, line; /* to ask for now */
    int64_t tiles; /* that ask, */
    int64_t
        credit; /* of which each brings as many as there are lines; a line costs as many as there are tiles */
} upcoming;

/* A band of pixels where they lie, rows joined. */
typedef struct {
    const npc_direct_item *item;
    const char *pixels;
    int64_t stride; /* elements from channel to channel */
    int64_t count;
    int64_t panels, tiles; /* tiles of a panel */
    npc_parts columns; /* vectors of pixels in panels */
} panel_band;

/* Where a panel's tiles are, but for their rows of weights. */
typedef struct {
    npc_direct_place place;
    npc_gemm tile;
    char *output;
} panel;

/* Where the band's pixels follow one another in the input itself, or NULL. */
static const char *pixels_in_place(const npc_direct_item *item) {
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

/* Under the rows that come next, to be packed. */
static upcoming upcoming_band(const npc_direct_item *item, int64_t tiles) {
    const npc_problem *problem = item->job->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const npc_tensor *input = &item->input;
    const int64_t stride = npc_row_stride(problem, input), output = item->band.row + item->band.rows;
    const int64_t row = npc_max(0, output * rows.stride - rows.before);
    const int64_t column = npc_max(0, item->band.column * columns.stride - columns.before);
    const int64_t height =
        npc_min(npc_min(item->band.rows, rows.output - output), npc_ceil_div(rows.input - row, rows.stride));
    const int64_t bytes =
        npc_min(item->band.columns * columns.stride, columns.input - column) * item->job->size;
    const char *image = npc_outer_image(problem, input, item->band.outer, 0);
    upcoming next = {.row_stride = stride * rows.stride, .tiles = tiles};
    if (height <= 0 || bytes <= 0 || !image || !npc_lies_in_rows(problem, input)) return next;
    const int joined = next.row_stride == bytes;
    next.pixels =
        image + item->taps.channel * input->channel_stride + row * stride + column * item->job->size;
    next.rows = joined ? 1 : height;
    next.row_lines = (joined ? bytes * height : bytes) / LINE + 1;
    return next;
}

/* In the next panels, to be filled; after the last one it is that of no panel, which does no harm. */
static upcoming upcoming_panels(const panel_band *band, int64_t panel, int64_t panels, int64_t tiles) {
    const npc_kernels *kernels = band->item->job->plan->kernels;
    const int64_t size = band->item->job->size, at = npc_part_start(band->columns, panel) * kernels->lanes;
    const upcoming next = {.pixels = band->pixels + at * size,
                           .rows = 1,
                           .row_lines = panels * kernels->vectors * kernels->lanes * size / LINE + 1,
                           .tiles = panels * tiles};
    return next;
}

static void ask_for(upcoming *next, const npc_direct_item *item, npc_direct_place *place) {
    place->far = place->panel;
    place->far_stride = 0;
    next->credit += next->rows * next->row_lines;
    if (!next->pixels || next->credit < next->tiles || next->row == next->rows) return;
    next->credit -= next->tiles;
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
    p->place.panel = item->panels + i * item->taps.channels * kernels->vectors * lanes * item->job->size;
    p->place.input = p->place.panel;
    p->place.pixel_stride = band->stride;
    npc_direct_prepare_tile(item, &p->place, &p->tile);
    p->output = p->tile.output;
}

/* All tiles of all panels. Those that fill half a first-level cache stay there while weights go by, and rows of the result are
 * written as far as they reach; of the weights as many go by as stay in the second level. */
static void run_panels(const panel_band *band) {
    const npc_direct_item *item = band->item;
    const npc_kernels *kernels = item->job->plan->kernels;
    const int64_t bytes = item->reduction * item->job->size, height = kernels->rows;
    const int64_t group =
        npc_clamp(PANELS_BYTES / (bytes * kernels->vectors * kernels->lanes), 1, MOST_PANELS);
    const int64_t together = npc_max(1, WEIGHT_BYTES / (bytes * height));
    const int in_place = band->pixels != item->packed;
    upcoming next = {0};
    if (!in_place) next = upcoming_band(item, band->tiles * band->panels);
    panel placed[MOST_PANELS];
    for (int64_t first = 0; first < band->tiles; first += together)
        for (int64_t i = 0; i < band->panels; i += group) {
            const int64_t count = npc_min(group, band->panels - i);
            for (int64_t n = 0; n < count; n++) place_panel(band, i + n, &placed[n]);
            if (in_place && first == 0)
                next = upcoming_panels(band, i + count, count, npc_min(together, band->tiles));
            else if (in_place)
                next.pixels = NULL; /* all panels are full */
            for (int64_t t = first; t < npc_min(first + together, band->tiles); t++) {
                const int rows = (int)npc_min(height, item->rows - t * height);
                for (panel *p = placed; p < placed + count; p++) {
                    p->place.source = t == 0 ? band->pixels + p->place.at * item->job->size : NULL;
                    ask_for(&next, item, &p->place);
                    npc_direct_run_tile(item, &p->tile, p->output, t * height, rows, &p->place);
                }
            }
        }
}

void npc_direct_run_panels(npc_direct_item *item, const npc_planes_source *source) {
    const npc_direct_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t pixels = item->band.rows * item->band.columns, tile = kernels->vectors * kernels->lanes;
    const int64_t panels = npc_ceil_div(pixels, tile);
    const char *in_place = pixels_in_place(item);
    const panel_band band = {.item = item,
                             .pixels = in_place ? in_place : item->packed,
                             .stride = in_place ? item->input.channel_stride / job->size : item->planes.plane,
                             .count = pixels,
                             .panels = panels,
                             .tiles = npc_ceil_div(item->rows, kernels->rows),
                             .columns = npc_parts_of(npc_ceil_div(pixels, kernels->lanes), panels)};
    if (!in_place) npc_planes_pack(source, &item->taps, &item->band, &item->planes, item->packed);
    if (item->rows % kernels->rows) { /* kernels of fewer rows take offsets */
        for (int64_t r = 0; r < item->reduction; r++) item->offsets[r] = r * tile;
        item->listed[0] = 0;
    }
    run_panels(&band);
}
