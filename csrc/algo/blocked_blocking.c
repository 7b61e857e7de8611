#include "blocked.h"

#include "cycles.h"
#include "weights.h"

enum {
    RUN = 256,                   /* elements of the reduction at a time */
    BAND_PIXELS = 512,           /* whose sums stay in a second-level cache beside the planes */
    PLANE_BYTES = 448 << 10,     /* of packed planes */
    MOST_WEIGHT_BYTES = 3 << 20, /* of a block packed for use at once */
    SHARED_BANDS = 8,            /* from so many on weights are packed once for all */
    MERGED_PIXELS = 64,          /* of an image that shares a band with others; */
    FEW_PIXELS = 12,             /* of one whose outer padding counts then, */
    POINT_PIXELS = 2,            /* or that is packed for it alone */
    MERGED_BAND = 224,           /* pixels */
    TILES_ASKED = 64,            /* of an axis, at least, how much they leave out */
    NO_LANES = 4,                /* sums that a tile needs to keep the multipliers busy, of two vectors, */
    NO_WAIT = 8,                 /* and of one */
    MEMORY_BYTES = 4 << 20,      /* of input, which comes from beyond the second-level cache */
};

#define ROW_PART 40.0 /* elements that take as long as to begin and end a tile of a kernel row alone */
#define RUN_BEGUN 30 /* cycles of a row and a vector to go on with its sums */
#define WORTH_SHARE 0.9 /* of the products, to leave the others out column by column */

double npc_blocked_plane_bytes(const npc_problem *problem, int64_t band_rows, int64_t band_columns) {
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const npc_phases row = npc_phases_of(&rows, rows.kernel, band_rows);
    const npc_phases column = npc_phases_of(&columns, columns.kernel, band_columns);
    return (double)row.phases * (double)row.extent * (double)column.phases * (double)column.extent *
           (double)npc_group_inputs(problem) * (double)npc_outer_taps(problem) *
           (double)npc_compute_size(problem->compute);
}

npc_blocked_range npc_blocked_inside(const npc_axis *axis, int64_t output, int64_t first, int64_t count) {
    const int64_t start = output * axis->stride - axis->before, end = first + count;
    const npc_blocked_range taps = {npc_clamp(npc_ceil_div(-start, axis->dilation), first, end),
                                    npc_clamp(npc_ceil_div(axis->input - start, axis->dilation), first, end)};
    return taps;
}

/* The part of the products along an axis that tiles of so many pixels do; of many tiles, some speak for their neighbours. */
double npc_blocked_share_along(const npc_axis *axis, int64_t tile) {
    const int64_t step = tile * npc_max(1, axis->output / (tile * TILES_ASKED));
    const int64_t last = (axis->output - 1) * axis->stride + (axis->kernel - 1) * axis->dilation;
    double left_out = 0;
    if (axis->before <= 0 && last - axis->before < axis->input) return 1;
    for (int64_t o = 0; o < axis->output; o += step) {
        const int64_t end = npc_min(o + tile, axis->output), next = npc_min(o + step, axis->output);
        const int64_t from = npc_blocked_inside(axis, end - 1, 0, axis->kernel).from;
        const int64_t to = npc_blocked_inside(axis, o, 0, axis->kernel).to;
        left_out += (double)(next - o) * (double)(axis->kernel - npc_max(0, to - from));
    }
    return 1 - left_out / ((double)axis->output * (double)axis->kernel);
}

int npc_blocked_by_columns(const npc_plan *plan) {
    const npc_axis columns = npc_columns(&plan->problem);
    return plan->problem.padding_mode == NPC_PADDING_ZEROS && columns.kernel > 1 &&
           npc_blocked_share_along(&columns, plan->kernels->pixels) < WORTH_SHARE;
}

/* Whether tiles that leave columns out take the rows of a kernel one by one: there are several. */
static int has_rows(const npc_problem *problem) { return npc_taps(problem) > npc_columns(problem).kernel; }

static npc_split runs_of(const npc_problem *problem, int by_columns) {
    return npc_split_evenly(problem, by_columns && has_rows(problem) ? NPC_BLOCKED_RUN : RUN);
}

double npc_blocked_share(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis columns = npc_columns(problem);
    double share = 1;
    if (npc_blocked_by_columns(plan)) {
        const npc_split split = runs_of(problem, 1);
        const npc_taps_block taps = npc_split_taps(problem, &split, 0);
        share = npc_blocked_share_along(&columns, plan->kernels->pixels);
        if (has_rows(problem)) share += ROW_PART / (double)(taps.channels * taps.columns);
    }
    if (problem->padding_mode != NPC_PADDING_ZEROS) return share;
    for (int a = 0; a + 1 < problem->spatial_axes; a++)
        share *= npc_blocked_share_along(&problem->axis[a], 1);
    return share;
}

/* Kernels read every pixel or, for whole blocks of two vectors, every other one. */
static int has_kernels(const npc_kernels *kernels, int64_t step, int64_t outputs, int64_t width) {
    const int64_t rest = outputs % (kernels->lanes * NPC_BLOCK_VECTORS);
    return step == 1 || (step == 2 && (rest == 0 || rest > kernels->lanes) &&
                         kernels->block_half[npc_min(width, kernels->pixels) - 1]);
}

int npc_blocked_reads_in_place(const npc_plan *plan, int64_t outputs, int64_t width) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    return npc_taps(&plan->problem) == 1 && rows.before == 0 && columns.before == 0 &&
           (rows.output - 1) * rows.stride < rows.input &&
           (columns.output - 1) * columns.stride < columns.input &&
           has_kernels(plan->kernels, columns.stride, outputs, width);
}

static int reads_in_place(const npc_plan *plan) {
    return npc_blocked_reads_in_place(plan, npc_group_outputs(&plan->problem),
                                      npc_columns(&plan->problem).output);
}

/* Of the caches, taken by the input under a band: with a stride, pixels that nobody reads come with those in place. */
static double band_bytes(const npc_plan *plan, int64_t band_rows, int64_t band_columns) {
    const double bytes = npc_blocked_plane_bytes(&plan->problem, band_rows, band_columns);
    return reads_in_place(plan) ? bytes * (double)npc_columns(&plan->problem).stride : bytes;
}

/* Bands of like size whose sums and planes fit, narrower than the image only where a row does not. */
static void choose_band(const npc_plan *plan, npc_blocked_recipe *recipe) {
    const npc_problem *problem = &plan->problem;
    const int64_t tile = plan->kernels->pixels, width = npc_columns(problem).output;
    const int64_t height = npc_rows(problem).output;
    int64_t columns = width, rows = 1;
    if (width > BAND_PIXELS)
        columns = npc_round_up(npc_ceil_div(width, npc_ceil_div(width, BAND_PIXELS)), tile);
    while (columns > 4 * tile && band_bytes(plan, 1, columns) > PLANE_BYTES)
        columns = npc_round_up(columns / 2, tile);
    while (columns > tile && npc_blocked_plane_bytes(problem, 1, columns) > NPC_BLOCKED_MOST_BYTES)
        columns = npc_round_up(columns / 2, tile);
    columns = npc_min(columns, width);
    while (rows < height && (rows + 1) * columns <= BAND_PIXELS &&
           band_bytes(plan, rows + 1, columns) <= PLANE_BYTES)
        rows++;
    recipe->band_rows = npc_ceil_div(height, npc_ceil_div(height, rows));
    recipe->band_columns = columns;
}

/* Of all groups. */
static int64_t images_of(const npc_problem *problem) {
    return problem->batch * problem->groups * npc_outer_outputs(problem);
}

static int64_t bands_of(const npc_problem *problem, const npc_blocked_recipe *recipe) {
    return problem->groups * npc_ceil_div(images_of(problem) / problem->groups, recipe->images) *
           npc_ceil_div(npc_rows(problem).output, recipe->band_rows) *
           npc_ceil_div(npc_columns(problem).output, recipe->band_columns);
}

/* Images of few pixels together: their tiles are fuller, and weights serve all of them. Pixels that would be read in place are packed
 * for it; outer taps in the padding are not left out any more. Which columns a tile leaves out must not depend on threads, as products
 * with padding make +0 of -0: of these, two bands are made where there is nothing else to share. */
static void choose_images(const npc_plan *plan, npc_blocked_recipe *recipe) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const npc_phases row = npc_phases_of(&rows, rows.kernel, rows.output);
    const npc_phases column = npc_phases_of(&columns, columns.kernel, columns.output);
    const double pixels = (double)rows.output * (double)columns.output;
    const double planes = npc_blocked_plane_bytes(problem, rows.output, columns.output);
    const int64_t all = problem->batch * npc_outer_outputs(problem);
    recipe->images = 1;
    recipe->merges = 0;
    const int most_pixels = npc_taps(problem) == 1        ? POINT_PIXELS
                            : npc_outer_taps(problem) > 1 ? FEW_PIXELS
                                                          : MERGED_PIXELS;
    const int leaves_out = recipe->by_columns && npc_outer_taps(problem) > 1; /* more than others win */
    if (pixels > most_pixels || leaves_out ||
        (double)(row.phases * column.phases) * (double)row.extent * (double)column.extent > NPC_PLANES_LISTED)
        return;
    const int64_t block = plan->kernels->lanes * NPC_BLOCK_VECTORS;
    const int halves = recipe->by_columns && problem->groups == 1 && npc_group_outputs(problem) <= block;
    const int64_t most = npc_min(halves ? npc_ceil_div(all, 2) : all,
                                 npc_min((int64_t)(MERGED_BAND / pixels), (int64_t)(PLANE_BYTES / planes)));
    if (most < 2) return;
    recipe->images = npc_ceil_div(all, npc_ceil_div(all, most));
    recipe->merges = 1;
}

/* Gives every thread as much to do: by a few more bands, or by fewer output channels an item. */
static void share_among_threads(npc_plan *plan, npc_blocked_recipe *recipe) {
    const npc_problem *problem = &plan->problem;
    const int64_t height = npc_rows(problem).output, outputs = npc_group_outputs(problem);
    const int64_t block = plan->kernels->lanes * NPC_BLOCK_VECTORS;
    const int64_t threads = plan->threads;
    recipe->channels = outputs;
    int64_t bands = bands_of(problem, recipe);
    if (threads > 1 && bands % threads && bands < 8 * threads) {
        const int64_t images = bands / npc_ceil_div(height, recipe->band_rows);
        const int64_t row_bands = npc_ceil_div(height, recipe->band_rows);
        const int64_t all = images_of(problem) / problem->groups;
        const int64_t chunk = npc_round_up(npc_ceil_div(outputs, threads), block);
        const int uneven = chunk * threads * 7 > outputs * 8; /* too few blocks of channels to share them */
        int64_t more = row_bands;
        while (more < row_bands + threads && images * more % threads) more++;
        if (recipe->merges && !recipe->by_columns && (bands > 1 || outputs < threads * block))
            recipe->images =
                npc_ceil_div(all, npc_round_up(npc_ceil_div(all, recipe->images), npc_min(threads, all)));
        else if (!recipe->merges && (bands > threads || uneven) && height >= 2 * more &&
                 npc_ceil_div(height, npc_ceil_div(height, more)) == more)
            recipe->band_rows = npc_ceil_div(height, more);
        else
            recipe->channels = npc_min(outputs, chunk);
    }
    bands = bands_of(problem, recipe);
    plan->threads = (int)npc_min(threads, bands * npc_ceil_div(outputs, recipe->channels));
}

int64_t npc_blocked_line(const npc_plan *plan, const npc_blocked_recipe *recipe) {
    return npc_round_up(recipe->band_rows * recipe->band_columns, plan->kernels->lanes);
}

npc_blocked_recipe npc_blocked_cut(npc_plan *plan) {
    /* The count of cycles comes here again, for one thread. */
    if (plan->threads > 1) plan->threads = npc_worthy_threads(plan, npc_blocked_cycles(plan));
    const npc_problem *problem = &plan->problem;
    const int64_t lanes = plan->kernels->lanes, size = (int64_t)npc_compute_size(problem->compute);
    npc_blocked_recipe recipe = {.by_columns = npc_blocked_by_columns(plan)};
    recipe.split = runs_of(problem, (int)recipe.by_columns);
    choose_band(plan, &recipe);
    choose_images(plan, &recipe);
    share_among_threads(plan, &recipe);
    const int64_t reduction = npc_reduction(problem), block = lanes * NPC_BLOCK_VECTORS;
    recipe.packs = !plan->prepacked && bands_of(problem, &recipe) < SHARED_BANDS * problem->groups &&
                   reduction * block * size <= MOST_WEIGHT_BYTES;
    const npc_taps_block taps = {0, npc_group_inputs(problem), 0, npc_outer_taps(problem),
                                 0, npc_rows(problem).kernel,  0, npc_columns(problem).kernel};
    const npc_band band = {0, 0, recipe.band_rows, 0, recipe.band_columns};
    recipe.plane_bytes =
        npc_aligned_bytes((npc_planes_of(problem, &taps, &band).elements * recipe.images + lanes) * size);
    const int64_t tiles = npc_ceil_div(recipe.band_columns * recipe.images, plan->kernels->pixels);
    recipe.list_bytes = npc_aligned_bytes((int64_t)sizeof(npc_blocked_listed)) +
                        npc_aligned_bytes(2 * NPC_BLOCKED_RUN * (int64_t)sizeof(int64_t) +
                                          tiles * (int64_t)sizeof(npc_blocked_range));
    recipe.bias_bytes = npc_aligned_bytes(npc_round_up(recipe.channels, block) * size);
    recipe.sum_bytes = npc_aligned_bytes(npc_blocked_line(plan, &recipe) * recipe.images * block * size);
    recipe.line_bytes =
        npc_aligned_bytes(lanes * npc_max(npc_blocked_line(plan, &recipe), NPC_BLOCKED_RUN) * size);
    recipe.weight_bytes = recipe.packs ? npc_aligned_bytes(reduction * block * size) : 0;
    return recipe;
}

double npc_blocked_cycles(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    npc_plan single = *plan;
    single.threads = 1;
    const npc_blocked_recipe recipe = npc_blocked_cut(&single);
    const double outputs = (double)npc_group_outputs(problem), reduction = (double)npc_reduction(problem);
    const double height = (double)npc_rows(problem).output, width = (double)npc_columns(problem).output;
    const double images = (double)images_of(problem), merged = (double)recipe.images;
    const int64_t vectors = npc_ceil_div(npc_group_outputs(problem), plan->kernels->lanes);
    /* A block of a single vector whose tile has too few sums waits for them. */
    const double waits =
        vectors % 2 && plan->kernels->pixels < NO_WAIT ? (double)NO_WAIT / plan->kernels->pixels - 1 : 0;
    const double tile = width * merged < NO_LANES ? NO_LANES / merged : width;
    const npc_core *core = npc_core_of(plan);
    const double begun = 50 + RUN_BEGUN * (double)(recipe.split.blocks - 1);
    const double pixel_vectors = ((double)vectors + waits) * tile;
    const double products = images * height *
                            (core->blocked.tap * pixel_vectors * npc_blocked_share(plan) * reduction +
                             core->blocked.sums * (7 * pixel_vectors + begun * (double)vectors));
    const double bands = (double)bands_of(problem, &recipe) * merged;
    const double planes = (double)npc_group_inputs(problem) * (double)npc_outer_taps(problem);
    const double pixels = npc_blocked_plane_bytes(problem, recipe.band_rows, recipe.band_columns) /
                          (double)npc_compute_size(problem->compute);
    /* Rows of many channels come from memory by pieces as short as a tile. */
    const double piece =
        (double)npc_group_inputs(problem) * npc_channel_bytes(problem) < MEMORY_BYTES ? 0 : 3;
    const double packing = reads_in_place(plan) ? images * height * width * reduction * piece
                                                : bands * (npc_pixel_cycles(plan) * pixels + 30 * planes);
    const double elements = outputs * reduction * (double)problem->groups;
    const double times = recipe.packs ? bands / merged / (double)problem->groups : 1;
    const double weights = plan->prepacked ? 0 : times * elements * (recipe.by_columns ? 2.2 : 0.9);
    return products + core->blocked.packing * packing + weights + npc_weights_cycles(plan) +
           npc_turning_cycles(plan, NPC_BLOCKED_TURNS_TAPS) + core->blocked.begun;
}
