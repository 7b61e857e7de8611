/* Pixels into packed planes: rows copied, turned around, or their pixels taken one by one from a list. */
#include <string.h>

#include "../convert.h"
#include "planes.h"

NPC_VECTORISE

/* Pixels under a band and a block of taps that lie inside the input. */
typedef struct {
    int64_t row, rows, column, columns;
} region;

enum {
    STAGE_BYTES = 1 << 14,
    PLANE_WORK = 48,   /* pixels of a list that take as long as to begin a plane, */
    ROW_WORK = 2,      /* to copy a vector of a row, */
    HALF_WORK = 5,     /* and one of every other pixel, */
    STEPS_WORK = 38,   /* to begin planes of longer steps, */
    PICKS_WORK = 2,    /* to know the places of a pick, */
    LOADS = 3,         /* as many vectors or picks as take that long, */
    MOVES = 3,         /* moves of a list that take as long as four of its pixels */
    LIST_CHANNELS = 4, /* that pay for a list */
    LIST_USES = 8,     /* of a list that pay for its moves, */
    MOVED_PIXELS = 3,  /* with so many pixels each */
    OUTERS = 27,       /* outer taps whose pixels are found once for all channels */
};

typedef struct {
    const npc_problem *problem;
    const npc_tensor *input;
    const npc_taps_block *taps;
    const npc_band *band;
    const npc_planes *planes;
    npc_axis rows, columns;
    npc_row_packer packer;
    int64_t row_stride; /* bytes in the input */
    int64_t size;       /* bytes of a packed element */
    int native;         /* pixels, or staged ones, are of compute type */
    npc_copy_kernel *copy; /* of rows in compute type whose borders are zeros; NULL: element by element */
    int turns; /* the phases of such rows, neighbouring pixels, all at once, not one by one */
    int stages;            /* that region, converted before it is copied */
    region staged;
    const npc_planes_list *list; /* NULL: rows are copied */
    int64_t images;              /* whose pixels alternate */
    const npc_kernels *kernels;
    int64_t moves; /* so many channels' listed pixels by vectors */
} packer;

/* What is copied: rows of the input, or converted ones. */
typedef struct {
    const char *image; /* the first pixel of the channel, were all of it there */
    int64_t row_stride;
    int64_t next; /* bytes to those of the next channel, 0 where they are not there yet */
} copy_source;

/* Rows of one plane, or of several whose pixels alternate, between rows of zeros above and below. */
static void copy_planes(const packer *p, char *target, copy_source source, int64_t row_start,
                        int64_t column_start, int64_t phases) {
    const int64_t height = p->planes->rows.extent, extent = p->planes->columns.extent;
    const int64_t step = p->packer.step, row_step = p->rows.stride;
    /* Divisions only where there is padding. */
    const int inside = row_start >= 0 && row_start + (height - 1) * row_step < p->rows.input;
    const int64_t low = inside ? 0 : npc_clamp(npc_ceil_div(-row_start, row_step), 0, height);
    const int64_t high =
        inside ? height : npc_clamp(npc_ceil_div(p->rows.input - row_start, row_step), low, height);
    const npc_copy rows = {.source = source.image + (row_start + low * row_step) * source.row_stride +
                                     column_start * p->size,
                           .target = target + low * extent * p->size,
                           .count = high - low,
                           .extent = extent,
                           .source_stride = row_step * source.row_stride / p->size,
                           .from = npc_clamp(-column_start, 0, extent * step),
                           .to = npc_clamp(p->columns.input - column_start, 0, (extent - 1) * step + phases),
                           .phases = phases,
                           .pitch = p->planes->plane,
                           .next = source.next / p->size,
                           .step = step};
    if (high > low) p->copy(&rows); /* beyond its rows perhaps, into those that are zeroed now */
    for (int64_t i = 0; i < phases && !inside; i++, target += p->planes->plane * p->size) {
        npc_zeros(target, p->problem->compute, low * extent);
        npc_zeros(target + high * extent * p->size, p->problem->compute, (height - high) * extent);
    }
}

/* The rows of one plane, element by element. */
static void pack_plane(const packer *p, char *target, const char *image, int part, int64_t row_start,
                       int64_t column_start) {
    const int64_t extent = p->planes->columns.extent;
    for (int64_t r = 0; r < p->planes->rows.extent; r++, target += extent * p->size) {
        const int64_t i = npc_border(row_start + r * p->rows.stride, p->rows.input, p->problem->padding_mode);
        npc_pack_row(&p->packer, target, i < 0 ? NULL : image + i * p->row_stride, part, column_start,
                     extent);
    }
}

/* All column phases of one row phase. */
static void turn_planes(const packer *p, char *target, const char *image, int64_t row_start,
                        int64_t column_start) {
    const npc_turned_row run = {column_start, p->planes->columns.phases, p->planes->columns.extent,
                                p->planes->plane};
    for (int64_t r = 0; r < p->planes->rows.extent; r++, target += p->planes->columns.extent * p->size) {
        const int64_t i = row_start + r * p->rows.stride;
        if (i >= 0 && i < p->rows.input) {
            npc_turn_row(p->kernels, &p->packer, &run, image + i * p->row_stride, target);
            continue;
        }
        for (int64_t phase = 0; phase < p->planes->columns.phases; phase++)
            npc_zeros(target + phase * p->planes->plane * p->size, p->problem->compute,
                      p->planes->columns.extent);
    }
}

/* Converts what the planes of one channel share: all rows at once where they follow one another. */
static copy_source stage_image(const packer *p, char *stage, const char *image) {
    const region *r = &p->staged;
    const int64_t stride = p->packer.stride;
    const int joined = p->row_stride == r->columns * stride;
    const copy_source source = {stage - (r->row * r->columns + r->column) * p->size, r->columns * p->size, 0};
    image += r->row * p->row_stride + r->column * stride;
    for (int64_t row = 0; row < (joined ? 1 : r->rows); row++)
        npc_load_part(stage + row * source.row_stride, p->input, p->problem->compute,
                      image + row * p->row_stride, stride, 0, r->columns * (joined ? r->rows : 1));
    return source;
}

/* Appends a row in all its phases, whose first place in the planes and first pixel are given; one of zeros if not inside. */
static void list_row(const packer *p, npc_planes_list *list, int64_t place, int inside, int64_t pixel) {
    const npc_phases *columns = &p->planes->columns;
    const int64_t stride = p->stages ? p->size : p->packer.stride;
    for (int64_t phase = 0; phase < columns->phases; phase++, place += p->planes->plane) {
        const int64_t column = npc_phase_start(&p->columns, p->band->column, p->taps->column + phase);
        for (int64_t x = 0; x < columns->extent; x++) {
            const int64_t j =
                npc_border(column + x * p->packer.step, p->columns.input, p->problem->padding_mode);
            if (!inside || j < 0) {
                list->zeros[list->zero_count++] = (int32_t)((place + x) * p->images);
                continue;
            }
            list->from[list->count] = pixel + j * stride;
            list->to[list->count++] = (int32_t)((place + x) * p->images);
        }
    }
}

/* Row y of a row phase in the input, or -1. */
static int64_t listed_row(const packer *p, int64_t phase, int64_t y) {
    return npc_border(npc_phase_start(&p->rows, p->band->row, p->taps->row + phase) + y * p->rows.stride,
                      p->rows.input, p->problem->padding_mode);
}

/* Appends the places of as many more channels as there is room for. */
static void list_channels(const packer *p, npc_planes_list *list, int64_t elements) {
    const int64_t most = NPC_PLANES_LISTED / npc_max(1, elements);
    list->channels = npc_max(1, npc_min(p->taps->channels, most));
    for (int64_t c = 1; c < list->channels; c++) {
        const int64_t bytes = c * p->input->channel_stride, place = c * elements * p->images;
        for (int64_t i = 0; i < list->count; i++) {
            list->from[c * list->count + i] = list->from[i] + bytes;
            list->to[c * list->count + i] = (int32_t)(list->to[i] + place);
        }
        for (int64_t i = 0; i < list->zero_count; i++)
            list->zeros[c * list->zero_count + i] = (int32_t)(list->zeros[i] + place);
    }
}

/* The same as moves of vectors: one for each run of the input that holds pixels of a vector of the planes. */
static void list_moves(const packer *p, npc_planes_list *list, int64_t elements) {
    enum { NOWHERE = -1 };
    const int lanes = p->kernels->lanes, words = (int)(p->size / (int64_t)sizeof(uint32_t));
    const int64_t all = list->channels * elements, pixels = list->channels * list->count;
    const int64_t most = npc_min(NPC_PLANES_MOVES, all / MOVED_PIXELS);
    int64_t low = INT64_MAX, high = INT64_MIN, moves = 0;
    int32_t pixel_of[NPC_PLANES_LISTED + NPC_MOST_LANES];
    if (!pixels) return;
    for (int64_t i = 0; i < all + lanes; i++) pixel_of[i] = NOWHERE;
    for (int64_t i = 0; i < pixels; i++) {
        pixel_of[list->to[i]] = (int32_t)i;
        low = npc_min(low, list->from[i]);
        high = npc_max(high, list->from[i]);
    }
    /* Nothing before the first pixel is read, nor behind the last. */
    high -= (lanes - 1) * p->size;
    if (high < low) return;
    for (int64_t first = 0; first < all; first += lanes) {
        int32_t *left = pixel_of + first;
        int lane = 0, begun = 0;
        do {
            while (lane < lanes && left[lane] == NOWHERE) lane++;
            if (lane == lanes && begun) break;
            if (moves == most) return;
            npc_move *move = &list->move[moves++];
            move->from = lane < lanes ? npc_min(list->from[left[lane]], high) : low;
            move->keep = begun ? -1 : 0;
            move->advance = 0;
            memset(move->places, NOWHERE, sizeof move->places);
            for (int i = lane; i < lanes; i++) {
                const int64_t bytes = left[i] == NOWHERE ? -1 : list->from[left[i]] - move->from;
                if (bytes < 0 || bytes >= lanes * p->size) continue;
                for (int word = 0; word < words; word++)
                    move->places[i * words + word] = (int8_t)(bytes / (int64_t)sizeof(uint32_t) + word);
                left[i] = NOWHERE;
            }
            begun = 1;
        } while (lane < lanes);
        list->move[moves - 1].advance = (int32_t)(lanes * p->size);
    }
    list->moves = moves;
}

static void list_places(const packer *p, npc_planes_list *list, int64_t elements) {
    const npc_planes *planes = p->planes;
    const int64_t image = planes->columns.phases * planes->plane;
    const region *r = &p->staged;
    const int64_t row_stride = p->stages ? r->columns * p->size : p->row_stride;
    const int64_t first = p->stages ? r->row * row_stride + r->column * p->size : 0;
    list->made = 1;
    list->count = list->zero_count = list->moves = 0;
    list->whole = elements <= NPC_PLANES_LISTED;
    list->channels = 1;
    if (!list->whole) list_row(p, list, 0, 1, 0);
    for (int64_t phase = 0; phase < planes->rows.phases && list->whole; phase++)
        for (int64_t y = 0; y < planes->rows.extent; y++) {
            const int64_t i = listed_row(p, phase, y);
            list_row(p, list, phase * image + y * planes->columns.extent, i >= 0, i * row_stride - first);
        }
    if (list->whole && !p->stages && p->taps->outers == 1) list_channels(p, list, elements);
    if (list->whole && p->moves >= LIST_USES * list->channels) list_moves(p, list, elements);
}

#define COPY_LISTED(type)                                                                                    \
    for (int64_t i = 0; i < zeros; i++)                                                                      \
        memset(target + list->zeros[i] * (int64_t)sizeof(type), 0, sizeof(type));                            \
    for (int64_t i = 0; i < count; i++)                                                                      \
    memcpy(target + list->to[i] * (int64_t)sizeof(type), pixels + list->from[i], sizeof(type))

static void copy_listed(const packer *p, char *target, const char *pixels, int64_t channels) {
    const npc_planes_list *list = p->list;
    const int64_t count = channels * list->count, zeros = channels * list->zero_count;
    if (list->moves && channels == list->channels) {
        p->kernels->move(list->move, list->moves, pixels, p->stages ? 0 : channels * p->input->channel_stride,
                         target);
    } else if (p->native && p->size == sizeof(uint32_t)) {
        COPY_LISTED(uint32_t);
    } else if (p->native && p->size == sizeof(uint64_t)) {
        COPY_LISTED(uint64_t);
    } else {
        for (int64_t i = 0; i < zeros; i++)
            npc_zeros(target + list->zeros[i] * p->size, p->problem->compute, 1);
        for (int64_t i = 0; i < count; i++)
            npc_load_part(target + list->to[i] * p->size, p->input, p->problem->compute,
                          pixels + list->from[i], 0, 0, 1);
    }
}

/* All planes of one channel at one outer tap, row by row. */
static void copy_listed_rows(const packer *p, char *target, const char *image) {
    const npc_phases *columns = &p->planes->columns;
    for (int64_t phase = 0; phase < p->planes->rows.phases; phase++)
        for (int64_t y = 0; y < p->planes->rows.extent; y++) {
            const int64_t i = listed_row(p, phase, y);
            char *row = target + (phase * columns->phases * p->planes->plane + y * columns->extent) * p->size;
            if (i >= 0) copy_listed(p, row, image + i * p->row_stride, 1);
            for (int64_t other = 0; i < 0 && other < columns->phases; other++)
                npc_zeros(row + other * p->planes->plane * p->size, p->problem->compute, columns->extent);
        }
}

/* So many elements of an image. */
static void zero_image(const packer *p, char *target, int64_t elements) {
    if (p->images == 1) npc_zeros(target, p->problem->compute, elements);
    for (int64_t i = 0; i < elements && p->images > 1; i++)
        npc_zeros(target + i * p->images * p->size, p->problem->compute, 1);
}

/* How many neighbouring phases of the columns are copied at once. */
static int64_t phases_together(const packer *p) {
    const int64_t phases = p->planes->columns.phases;
    return p->columns.dilation == 1 && phases <= p->packer.step ? phases : 1;
}

/* All planes of one channel's part at one outer tap. */
static void pack_image(const packer *p, char *target, const char *image, int part) {
    long double stage[STAGE_BYTES / sizeof(long double)]; /* the best aligned */
    const copy_source source = p->stages ? stage_image(p, (char *)stage, image)
                                         : (copy_source){image, p->row_stride, p->input->channel_stride};
    if (p->list && p->stages) {
        copy_listed(p, target, (char *)stage, 1);
        return;
    }
    if (p->list) {
        copy_listed_rows(p, target, image);
        return;
    }
    const int64_t column = npc_phase_start(&p->columns, p->band->column, p->taps->column);
    const int64_t phases = p->planes->columns.phases, together = p->copy ? phases_together(p) : 1;
    for (int64_t row_phase = 0; row_phase < p->planes->rows.phases; row_phase++) {
        const int64_t row = npc_phase_start(&p->rows, p->band->row, p->taps->row + row_phase);
        if (p->turns) turn_planes(p, target, image, row, column);
        for (int64_t phase = 0; phase < phases; phase += together) {
            const int64_t start = column + phase * p->columns.dilation;
            if (p->copy && !p->turns)
                copy_planes(p, target, source, row, start, together);
            else if (!p->turns)
                pack_plane(p, target, image, part, row, start);
            target += together * p->planes->plane * p->size;
        }
    }
}

/* What the phases of an axis read of the input: the first one of it, and how many. */
static int64_t clip_span(const npc_axis *axis, const npc_phases *phases, int64_t output, int64_t tap,
                         int64_t *first) {
    const int64_t last = npc_phase_start(axis, output + phases->extent - 1, tap + phases->phases - 1);
    *first = npc_clamp(npc_phase_start(axis, output, tap), 0, axis->input);
    return npc_clamp(last + 1, *first, axis->input) - *first;
}

/* Rows that are not plain are converted and then copied, as long as they stay in a first-level cache and the copies read
 * them all; a single plane's row, in its place. */
static void choose_stage(packer *p, const npc_planes_source *source) {
    const npc_problem *problem = p->problem;
    const npc_planes *planes = p->planes;
    const int64_t most = STAGE_BYTES / p->size, step = p->packer.step;
    region *r = &p->staged;
    if (p->copy || p->turns || problem->padding_mode != NPC_PADDING_ZEROS || problem->parts > 1 ||
        !npc_copy_kernel_of(source, step))
        return;
    r->rows = clip_span(&p->rows, &planes->rows, p->band->row, p->taps->row, &r->row);
    r->columns = clip_span(&p->columns, &planes->columns, p->band->column, p->taps->column, &r->column);
    if (r->rows < 2 && step == 1) return;
    if (r->columns > most || r->rows > most / npc_max(1, r->columns)) return;
    if (r->rows * r->columns > 2 * planes->rows.phases * planes->columns.phases * planes->plane) return;
    p->stages = 1;
    p->copy = npc_copy_kernel_of(source, step);
}

/* Whether rows are turned around without borders, which are packed phase by phase. */
static int turns_plainly(const packer *p) {
    const npc_phases *columns = &p->planes->columns;
    const int64_t first = npc_phase_start(&p->columns, p->band->column, p->taps->column);
    const int64_t last = first + (columns->extent - 1) * p->packer.step + columns->phases;
    return p->turns && first >= 0 && last <= p->columns.input;
}

/* Of how many channels the list's pixels may be moved by vectors. */
static int64_t moved_channels(const packer *p, const npc_planes_source *source) {
    const int may = source->kernels->move && !source->images &&
                    (p->stages || (p->native && npc_counts_in_elements(p->problem, p->input)));
    return !may ? 0 : source->list ? INT64_MAX : p->taps->channels * p->taps->outers;
}

/* Whether copying the rows of a plane takes longer than as many pixels one by one. */
static int has_short_rows(const packer *p, const npc_planes_source *source) {
    const npc_phases *rows = &p->planes->rows, *columns = &p->planes->columns;
    const int64_t lanes = source->kernels->lanes,
                  vectors = rows->extent * npc_ceil_div(columns->extent, lanes);
    const int64_t step = p->packer.step, phases = phases_together(p), plane = p->planes->plane;
    if (step <= 2) return plane < PLANE_WORK + (step == 1 ? ROW_WORK : HALF_WORK) * vectors;
    const int64_t moves = plane * step / lanes + rows->extent, picks = phases * (step - 1);
    const int64_t listed =
        moved_channels(p, source) < LIST_USES ? plane : npc_min(plane, moves + moves / MOVES);
    return phases * listed < STEPS_WORK + PICKS_WORK * picks + (2 * step + picks) * vectors / LOADS;
}

/* Pixel by pixel, where rows are short or no kernel copies them. */
static int takes_list(const packer *p, const npc_planes_source *source) {
    const npc_planes *planes = p->planes;
    const int64_t phases = planes->rows.phases * planes->columns.phases;
    const int whole =
        planes->plane <= NPC_PLANES_LISTED && phases <= NPC_PLANES_LISTED / npc_max(1, planes->plane);
    const int by_row = !p->stages && planes->columns.extent <= NPC_PLANES_LISTED &&
                       planes->columns.phases <= NPC_PLANES_LISTED / npc_max(1, planes->columns.extent);
    if (source->images) return 1;
    if (p->problem->parts > 1 || p->size > (int64_t)sizeof(uint64_t) || !p->native ||
        (p->taps->channels * p->taps->outers < LIST_CHANNELS && !source->list))
        return 0;
    if (p->turns) return (whole || by_row) && !turns_plainly(p);
    if (p->copy) return whole && has_short_rows(p, source);
    return whole || by_row;
}

void npc_planes_pack(const npc_planes_source *source, const npc_taps_block *taps, const npc_band *band,
                     const npc_planes *planes, void *target) {
    const npc_problem *problem = source->problem;
    const npc_tensor *input = source->input;
    packer p = {.problem = problem,
                .input = input,
                .taps = taps,
                .band = band,
                .planes = planes,
                .rows = npc_rows(problem),
                .columns = npc_columns(problem),
                .packer = npc_row_packer_of(problem, input),
                .row_stride = npc_row_stride(problem, input),
                .size = (int64_t)npc_compute_size(problem->compute),
                .images = npc_max(1, source->images),
                .native = !input->swapped && npc_is_compute(input->scalar, problem->compute),
                .copy = npc_is_plain(source) ? npc_copy_kernel_of(source, npc_columns(problem).stride) : NULL,
                .turns = npc_turns(source, planes->columns.phases),
                .kernels = source->kernels};
    const int64_t elements = planes->rows.phases * planes->columns.phases * planes->plane;
    const int64_t outers = taps->outers, step = elements * p.images * p.size;
    npc_planes_list here, *list = source->list ? source->list : &here;
    if (!p.native || !takes_list(&p, source)) choose_stage(&p, source);
    p.native = p.native || p.stages;
    if (takes_list(&p, source)) {
        p.moves = moved_channels(&p, source);
        if (list == &here || !list->made) list_places(&p, list, elements);
        p.list = list;
    }
    const int64_t end = taps->channel + taps->channels;
    const int64_t together = p.list && p.list->whole && !p.stages ? p.list->channels : 0;
    const char *first[OUTERS]; /* pixels of the first channel */
    for (int64_t tap = 0; tap < npc_min(outers, OUTERS); tap++)
        first[tap] = npc_outer_image(problem, input, band->outer, taps->outer + tap);
    char *out = (char *)target + source->image * p.size;
    for (int64_t c = taps->channel, next; c < end; c = next) {
        next = npc_min(c + npc_max(1, together), end);
        for (int part = 0; part < problem->parts; part++)
            for (int64_t tap = 0; tap < outers; tap++, out += (next - c) * step) {
                const char *image = tap < OUTERS
                                        ? first[tap]
                                        : npc_outer_image(problem, input, band->outer, taps->outer + tap);
                const char *pixels = image ? image + c * input->channel_stride : NULL;
                if (!image)
                    zero_image(&p, out, elements * (next - c));
                else if (image && together)
                    copy_listed(&p, out, pixels, next - c);
                else
                    pack_image(&p, out, pixels, part);
            }
    }
}
