/* The direct algorithm's single taps with pixels in panels, each those of a tile: all channels in one piece.
 *
 * Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008. In planes, rows of many channels lie in the same
 * few sets of a first-level cache and push each other out of it. */
#include "direct.h"

enum {
    WEIGHT_BYTES = 192 << 10, /* that go by panels, and come back for the next ones; */
    PANELS_BYTES = 16 << 10,  /* of these at a time, */
    MOST_PANELS = 8,          /* and their number */
};

/* Where a panel's tiles are, but for their rows of weights. */
typedef struct {
    npc_direct_place place;
    npc_gemm tile;
    char *output;
} panel;

static void place_panel(const npc_direct_item *item, npc_parts columns, int64_t pixels, int64_t i, panel *p) {
    const npc_kernels *kernels = item->job->plan->kernels;
    const int64_t lanes = kernels->lanes, from = npc_part_start(columns, i),
                  to = npc_part_start(columns, i + 1);
    p->place.row = 0;
    p->place.rows = 1;
    p->place.at = from * lanes;
    p->place.vectors = to - from;
    p->place.pixels = npc_min(to * lanes, pixels) - p->place.at;
    p->place.last = p->place.pixels - (p->place.vectors - 1) * lanes;
    p->place.input = item->panels + i * item->taps.channels * kernels->vectors * lanes * item->job->size;
    npc_direct_prepare_tile(item, &p->place, &p->tile);
    p->output = p->tile.output;
}

/* All tiles of all panels. Those that fill half a first-level cache stay there while weights go by, and rows of the result are
 * written as far as they reach; of the weights as many go by as stay in the second level. */
static void run_panels(const npc_direct_item *item, int64_t panels, int64_t pixels) {
    const npc_direct_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t lanes = kernels->lanes, tiles = npc_ceil_div(item->rows, kernels->rows);
    const npc_parts columns = npc_parts_of(npc_ceil_div(pixels, lanes), panels),
                    rows = npc_parts_of(item->rows, tiles);
    const int64_t bytes = item->reduction * job->size;
    const int64_t group = npc_clamp(PANELS_BYTES / (bytes * kernels->vectors * lanes), 1, MOST_PANELS);
    const int64_t together = npc_max(1, WEIGHT_BYTES / (bytes * kernels->rows));
    panel placed[MOST_PANELS];
    for (int64_t first = 0; first < tiles; first += together)
        for (int64_t i = 0; i < panels; i += group) {
            const int64_t count = npc_min(group, panels - i);
            for (int64_t n = 0; n < count; n++) place_panel(item, columns, pixels, i + n, &placed[n]);
            for (int64_t t = first; t < npc_min(first + together, tiles); t++) {
                const int64_t m0 = npc_part_start(rows, t), m1 = npc_part_start(rows, t + 1);
                for (panel *p = placed; p < placed + count; p++)
                    npc_direct_run_tile(item, &p->tile, p->output, m0, (int)(m1 - m0), &p->place);
            }
        }
}

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

void npc_direct_run_panels(npc_direct_item *item, const npc_planes_source *source) {
    const npc_direct_job *job = item->job;
    const npc_kernels *kernels = job->plan->kernels;
    const int64_t pixels = item->band.rows * item->band.columns, tile = kernels->vectors * kernels->lanes;
    const char *in_place = pixels_in_place(item);
    npc_panels panels = {.source = in_place ? in_place : item->packed,
                         .target = item->panels,
                         .channels = item->taps.channels,
                         .vectors = npc_ceil_div(pixels, kernels->lanes),
                         .count = npc_ceil_div(pixels, tile),
                         .source_stride =
                             in_place ? item->input.channel_stride / job->size : item->planes.plane,
                         .panel_stride = item->taps.channels * tile};
    panels.last = (int)(pixels - (panels.vectors - 1) * kernels->lanes);
    if (!in_place) npc_planes_pack(source, &item->taps, &item->band, &item->planes, item->packed);
    kernels->panels(&panels);
    for (int64_t r = 0; r < item->reduction; r++) item->offsets[r] = r * tile;
    run_panels(item, panels.count, pixels);
}
