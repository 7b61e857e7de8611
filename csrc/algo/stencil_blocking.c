/* How problems are cut for the stencil, and what that costs. */
#include <math.h>
#include <string.h>

#include "cycles.h"
#include "stencil.h"

enum {
    MOST_OUTPUTS = 2,         /* a group: with more, a matrix product shares more */
    MOST_SPAN = 1 << 12,      /* rows or columns that a kernel reaches over */
    MOST_REDUCTION = 64,      /* input channels and outer taps: each reads the sums again */
    MASKED = 4,               /* vectors of a row together whose lanes are listed, */
    SHORT_KERNEL = 64,        /* with so many columns: lists are short */
    MOST_IMAGES = 16,         /* summed at once: their rows under a vector stay in a first-level cache */
    BAND_COLUMNS = 1 << 12,   /* wider images are cut */
    BAND_BYTES = 24 << 10,    /* of packed input under a band: a first-level cache; */
    PLAIN_BAND_BYTES = 96 << 10, /* of rows where they lie, if there are */
    MANY_BANDS = 4,           /* bands so large: fewer must do for all threads */
    MOST_BAND_BYTES = 1 << 20, /* where kernels or strides are long */
    FEW_ROWS = 4,             /* of output, a dilation apart: with fewer, each vector waits for its sums; */
    MOST_WAITS = 15,          /* up to so many columns of a kernel others go on meanwhile */
    FEW_LINE_TAPS = 23,       /* of a kernel row: stores that pass the caches by save more than lines */
    SHORT_BYTES = 32,         /* of a vector */
    MOST_STRIDED_ROWS = 7,    /* of a kernel: with more it pays to separate pixels beforehand */
    FEW_STEPS = 4,            /* of a stride; longer ones read more lines for each pixel */
    FEW_IMAGES = 4,           /* from so many on it is too much to read them again */
    STAGED = 2,               /* times the pixels of packed planes may be converted */
    ITEM_CYCLES = 8000,       /* pay for handing out an item */
};

_Static_assert(sizeof(npc_stencil_recipe) <= sizeof(((npc_plan *)0)->recipe), "the recipe fits a plan");

static npc_planes band_planes(const npc_problem *problem, int64_t rows, int64_t columns) {
    const npc_taps_block taps = {0, 1, 0, 1, 0, npc_rows(problem).kernel, 0, npc_columns(problem).kernel};
    const npc_band band = {0, 0, rows, 0, columns};
    return npc_planes_of(problem, &taps, &band);
}

/* In floating point: sizes that no memory holds must not overflow before they are cut. */
static double band_bytes(const npc_plan *plan, int64_t band_rows, int64_t band_columns) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    const npc_phases row = npc_phases_of(&rows, rows.kernel, band_rows);
    const npc_phases column = npc_phases_of(&columns, columns.kernel, band_columns);
    return (double)row.phases * (double)row.extent * (double)column.phases * (double)column.extent *
           (double)npc_compute_size(plan->problem.compute);
}

/* Rows under a single kernel row are padded and summed one by one, many vectors at once, where that pays for the padding: where
 * they are few, or long, and so is the kernel. */
static int takes_lines(const npc_plan *plan) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    if (!plan->kernels->stencil_line || rows.kernel > 1 || (columns.stride > 1 && columns.dilation > 1))
        return 0;
    const int64_t vectors = npc_ceil_div(columns.output, plan->kernels->lanes);
    if (vectors < NPC_STENCIL_LINE)
        return rows.output < FEW_ROWS && vectors > 1 && columns.stride == 1 && columns.kernel > 4;
    /* Long vectors get every other pixel by one instruction. */
    const int64_t bytes = plan->kernels->lanes * (int64_t)npc_compute_size(plan->problem.compute);
    const int64_t few = columns.stride == 1 ? 4 : bytes > SHORT_BYTES ? 6 : 1;
    if (rows.output < FEW_ROWS) return columns.stride > 2 || columns.kernel > few;
    return columns.stride == 1 && columns.kernel > (npc_exceeds_caches(&plan->problem) ? FEW_LINE_TAPS : 6);
}

/* By the problem alone: threads must not decide, as sums of the last rows of a band may be in another order, nor the number of channels
 * where they are strict. Rows that turn out not to be plain are packed in such bands, too. */
static int takes_large_bands(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    return npc_stencil_masks(problem) && !takes_lines(plan) && !problem->strict &&
           npc_is_compute(problem->scalar, problem->compute) &&
           (double)(problem->batch * problem->output_channels) *
                   ceil(npc_channel_bytes(problem) / PLAIN_BAND_BYTES) >=
               MANY_BANDS;
}

static void choose_band(const npc_plan *plan, npc_stencil_recipe *recipe) {
    const int64_t lanes = plan->kernels->lanes, most = plan->kernels->stencil_rows;
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    const int64_t cuts = npc_ceil_div(columns.output, BAND_COLUMNS);
    recipe->band_columns = npc_min(npc_round_up(npc_ceil_div(columns.output, cuts), lanes), columns.output);
    const double bytes = takes_large_bands(plan) ? PLAIN_BAND_BYTES : BAND_BYTES;
    recipe->band_rows = rows.output;
    while (recipe->band_rows > most && band_bytes(plan, recipe->band_rows, recipe->band_columns) > bytes)
        recipe->band_rows = npc_round_up(recipe->band_rows / 2, most);
    while (recipe->band_rows > 1 &&
           band_bytes(plan, recipe->band_rows, recipe->band_columns) > MOST_BAND_BYTES)
        recipe->band_rows = npc_ceil_div(recipe->band_rows, 2);
    while (recipe->band_columns > lanes &&
           band_bytes(plan, recipe->band_rows, recipe->band_columns) > MOST_BAND_BYTES)
        recipe->band_columns = npc_round_up(recipe->band_columns / 2, lanes);
}

/* Under dilated kernels every `dilation`-th row is an image of its own, whose kernel is not dilated. */
static int64_t interleaved_rows(const npc_problem *problem, int64_t band_rows) {
    const npc_axis rows = npc_rows(problem);
    return rows.stride == 1 && rows.kernel > 1 && band_rows / FEW_ROWS >= rows.dilation ? rows.dilation : 1;
}

/* Elements from a padded line to the next: of every stride-th pixel where there is a stride. */
static int64_t line_pitch(const npc_plan *plan, int64_t band_columns) {
    const npc_axis columns = npc_columns(&plan->problem);
    const int64_t lanes = plan->kernels->lanes;
    const int64_t vectors = npc_round_up(npc_ceil_div(band_columns, lanes), NPC_STENCIL_LINE) + 1;
    return npc_round_up(vectors * lanes + (columns.kernel - 1) / columns.stride * columns.dilation, lanes);
}

const char *npc_stencil_applicable(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    if (npc_group_outputs(problem) > MOST_OUTPUTS) return "more than two output channels a group";
    if (problem->parts != 1 || problem->scalar == NPC_SCALAR_float16)
        return "only for real results, and not for float16";
    if (rows.kernel - 1 > MOST_SPAN / rows.dilation || columns.kernel - 1 > MOST_SPAN / columns.dilation ||
        rows.stride > MOST_SPAN || columns.stride > MOST_SPAN)
        return "the kernel reaches too far, or the stride is too long";
    if (npc_group_inputs(problem) > MOST_REDUCTION || npc_outer_taps(problem) > MOST_REDUCTION ||
        npc_group_inputs(problem) * npc_outer_taps(problem) > MOST_REDUCTION)
        return "too many input channels a group";
    npc_stencil_recipe recipe;
    choose_band(plan, &recipe);
    if (band_bytes(plan, recipe.band_rows, recipe.band_columns) > MOST_BAND_BYTES)
        return "the rows under one vector of output would not fit a cache";
    return NULL;
}

/* Each output channel reads and perhaps converts all images again; under a single tap little else is done. */
static int shares_nothing(const npc_problem *problem) {
    return npc_group_inputs(problem) * npc_outer_taps(problem) >= FEW_IMAGES &&
           (npc_group_outputs(problem) > 1 || npc_rows(problem).kernel * npc_columns(problem).kernel == 1);
}

/* So many cycles a tap for a vector of pixels, some for a vector of the result, and some to begin an image; long strides pack it. */
static double cycles_of(const npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int neighbours =
        rows.dilation == interleaved_rows(problem, rows.output) && rows.stride == columns.stride;
    double tap = columns.stride == 1 ? 2.6 : columns.stride == 2 ? 3.2 : 3.5;
    if (neighbours && columns.stride == 1 && rows.kernel > 3) tap = 1.35;
    if (neighbours && (rows.kernel == 3 || rows.kernel == 5 || (rows.kernel == 7 && columns.stride == 1)))
        tap = columns.stride == 2 ? 2.6 : 1.15;
    if (rows.output < FEW_ROWS) tap = 4;
    if (takes_lines(plan)) tap = 1.4;
    const double taps = (double)npc_taps(problem), outers = (double)npc_outer_taps(problem);
    const double vectors = (double)rows.output * (double)npc_ceil_div(columns.output, plan->kernels->lanes);
    const double packed = outers * (double)(rows.output * npc_min(rows.kernel, rows.stride));
    const double row = npc_splits_steps(plan)
                           ? 25 + 0.7 * (double)columns.input
                           : 25 * (double)npc_min(columns.kernel, columns.stride) +
                                 (columns.stride > FEW_STEPS ? 3 : 1) * (double)columns.input;
    const double begun = columns.stride == 1   ? 130 + 5 * taps
                         : columns.stride == 2 ? 175
                                               : 500 + packed * row;
    const npc_core *core = npc_core_of(plan);
    const double images = (double)problem->batch * (double)problem->output_channels *
                          (double)npc_outer_outputs(problem) * (double)npc_group_inputs(problem);
    const double vector = core->stencil.tap * tap * taps + core->stencil.vector * 11;
    return images * (core->stencil.image * begun + vectors * vector);
}

const char *npc_stencil_worthwhile(const npc_plan *plan) {
    const npc_axis rows = npc_rows(&plan->problem), columns = npc_columns(&plan->problem);
    if (shares_nothing(&plan->problem)) return "each output channel would read all pixels again";
    if (rows.output < FEW_ROWS && columns.kernel > MOST_WAITS && !takes_lines(plan))
        return "too few rows to sum at once";
    if (columns.stride > 1 && rows.kernel > MOST_STRIDED_ROWS) return "strided rows are better packed";
    return npc_core_of(plan)->stencil.worth * cycles_of(plan) < npc_direct_cycles(plan)
               ? NULL
               : "pixels had better be packed for matrix products";
}

double npc_stencil_cycles(const npc_plan *plan) {
    return npc_stencil_applicable(plan) || npc_stencil_worthwhile(plan) ? 0 : cycles_of(plan);
}

/* Integers alone: kernels differ in the order of their sums. */
static int can_stage(const npc_problem *problem) {
    return npc_stencil_masks(problem) &&
           (problem->compute == NPC_COMPUTE_u32 || problem->compute == NPC_COMPUTE_u64);
}

/* Of channels, whose rows lie far from each other, more than one would be slower to read. */
static int64_t images_at_once(const npc_problem *problem) {
    return npc_rows(problem).kernel == 3 ? npc_min(npc_outer_taps(problem), MOST_IMAGES) : 1;
}

void npc_stencil_prepare(npc_plan *plan) {
    const npc_problem *problem = &plan->problem;
    const npc_axis rows = npc_rows(problem), columns = npc_columns(problem);
    const int64_t size = (int64_t)npc_compute_size(problem->compute), lanes = plan->kernels->lanes;
    npc_stencil_recipe recipe = {0};
    choose_band(plan, &recipe);
    const double bands = (double)problem->batch * (double)npc_outer_outputs(problem) *
                         (double)npc_ceil_div(rows.output, recipe.band_rows) *
                         (double)npc_ceil_div(columns.output, recipe.band_columns);
    const double cycles = cycles_of(plan), each = cycles / bands / (double)problem->output_channels;
    recipe.channels = npc_clamp((int64_t)(ITEM_CYCLES / each), 1, problem->output_channels);
    const double items = bands * (double)npc_ceil_div(problem->output_channels, recipe.channels);
    plan->threads = (int)fmax(1, fmin(npc_worthy_threads(plan, cycles), items));
    const npc_planes planes = band_planes(problem, recipe.band_rows, recipe.band_columns);
    recipe.interleaved = interleaved_rows(problem, recipe.band_rows);
    recipe.listed_rows = npc_round_up(
        (recipe.band_rows - 1) * rows.stride + (rows.kernel - 1) * rows.dilation + 1, recipe.interleaved);
    recipe.reach =
        npc_round_up(recipe.band_columns, lanes) * columns.stride + (columns.kernel - 1) * columns.dilation;
    recipe.lines = takes_lines(plan);
    recipe.pitch = line_pitch(plan, recipe.band_columns);
    recipe.phases = npc_min(columns.stride, columns.kernel);
    const int64_t staged = recipe.listed_rows * npc_min(recipe.reach, columns.input);
    recipe.stages = can_stage(problem) && staged <= STAGED * planes.elements;
    const int64_t elements = recipe.lines ? recipe.band_rows * recipe.phases * recipe.pitch : planes.elements;
    recipe.plane_bytes =
        npc_aligned_bytes((npc_max(elements, recipe.stages ? staged : 0) + 2 * lanes) * size);
    recipe.zero_bytes = npc_aligned_bytes(
        (recipe.band_columns * columns.stride + (columns.kernel - 1) * columns.dilation + 4 * lanes) * size);
    recipe.images = images_at_once(problem);
    recipe.row_bytes = npc_aligned_bytes(recipe.images * recipe.listed_rows * (int64_t)sizeof(void *));
    recipe.masked = columns.kernel <= SHORT_KERNEL ? MASKED : 1;
    recipe.column_bytes = npc_aligned_bytes(
        columns.kernel * ((int64_t)sizeof(int64_t) + 4 * recipe.masked * (int64_t)sizeof(int)));
    recipe.sum_bytes = npc_aligned_bytes(recipe.band_rows * npc_round_up(recipe.band_columns, lanes) * size);
    plan->thread_bytes = (size_t)(recipe.plane_bytes + recipe.zero_bytes + recipe.row_bytes +
                                  recipe.column_bytes + recipe.sum_bytes);
    memcpy(plan->recipe, &recipe, sizeof recipe);
}
