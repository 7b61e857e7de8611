/* How winograd.c takes kernels of any size and stride apart. Along an axis, tap t of output o reads pixel o * stride + t, so
 * the taps t = first + j * stride are a kernel of stride 1 over every stride-th pixel: a phase. A phase of more taps than a
 * tile has is cut again. The products of all pieces are summed before the transform back, as if each piece had brought
 * channels of its own. */
#include "winograd.h"

enum { LARGEST_KERNEL = 64 };

static int64_t pieces_along(const npc_axis *axis, int64_t taps) {
    if (axis->kernel > LARGEST_KERNEL) return NPC_WINOGRAD_PIECES + 1;
    if (axis->stride >= axis->kernel) return axis->kernel;
    const int64_t round = axis->stride * taps;
    return axis->kernel / round * axis->stride + npc_min(axis->kernel % round, axis->stride);
}

npc_axis npc_winograd_axis(npc_winograd_kind kind, npc_axis axis) {
    axis.stride /= npc_winograd_shapes[kind].stride;
    return axis;
}

int64_t npc_winograd_pieces(const npc_problem *problem, npc_winograd_kind kind) {
    const npc_winograd_shape *shape = &npc_winograd_shapes[kind];
    const npc_axis rows = npc_winograd_axis(kind, npc_rows(problem)),
                   columns = npc_winograd_axis(kind, npc_columns(problem));
    return pieces_along(&rows, shape->tap_rows) * pieces_along(&columns, shape->tap_columns);
}

static int64_t first_tap(const npc_axis *axis, int64_t taps, int64_t piece) {
    return piece / axis->stride * axis->stride * taps + piece % axis->stride;
}

static int64_t taps_from(const npc_axis *axis, int64_t taps, int64_t first) {
    return npc_min(taps, npc_ceil_div(axis->kernel - first, axis->stride));
}

npc_winograd_piece npc_winograd_piece_of(const npc_problem *problem, npc_winograd_kind kind, int64_t index) {
    const npc_winograd_shape *shape = &npc_winograd_shapes[kind];
    const npc_axis rows = npc_winograd_axis(kind, npc_rows(problem)),
                   columns = npc_winograd_axis(kind, npc_columns(problem));
    const int64_t across = pieces_along(&columns, shape->tap_columns);
    npc_winograd_piece piece = {first_tap(&rows, shape->tap_rows, index / across),
                                first_tap(&columns, shape->tap_columns, index % across), 0, 0};
    piece.rows = taps_from(&rows, shape->tap_rows, piece.row);
    piece.columns = taps_from(&columns, shape->tap_columns, piece.column);
    return piece;
}

/* Input channels of a block of all pieces. */
static int64_t channels_of_block(int64_t pieces) { return NPC_WINOGRAD_CHANNELS / pieces; }

int64_t npc_winograd_channel_blocks(const npc_problem *problem, npc_winograd_kind kind) {
    return npc_ceil_div(npc_group_inputs(problem), channels_of_block(npc_winograd_pieces(problem, kind)));
}

npc_winograd_channels npc_winograd_channels_of(const npc_problem *problem, npc_winograd_kind kind,
                                               int64_t block) {
    npc_winograd_channels channels = {.pieces = npc_winograd_pieces(problem, kind)};
    channels.first = block * channels_of_block(channels.pieces);
    channels.channels =
        npc_min(channels_of_block(channels.pieces), npc_group_inputs(problem) - channels.first);
    channels.inputs = channels.pieces * channels.channels;
    return channels;
}

int64_t npc_winograd_channel_vectors(const npc_plan *plan, npc_winograd_kind kind) {
    const int64_t lanes = plan->kernels->lanes, last = npc_winograd_channel_blocks(&plan->problem, kind) - 1;
    return last * (NPC_WINOGRAD_CHANNELS / lanes) +
           npc_ceil_div(npc_winograd_channels_of(&plan->problem, kind, last).inputs, lanes);
}
