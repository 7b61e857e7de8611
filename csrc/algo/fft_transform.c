/* Transforms of real lines. A line of 2n pixels is a polynomial modulo x^2n + 1, which is what products of lines wrap around
 * by; it is known by its remainder modulo x^n - i, whose coefficients are pixel j + i * pixel (j + n). That is split into
 * halves over and over: x^2m - r^2 = (x^m - r) (x^m + r), at the cost of one product with r a pair of points. So r is the
 * same for all pairs of a half, the points come out in the order of the halves, and nobody needs another. */
#include "fft.h"

/* Halves of so many are split to the end before the next: they stay in a first-level cache. */
enum { CACHED_POINTS = 128 };

npc_fft_transform npc_fft_transform_of(const npc_plan *plan, const npc_fft_recipe *recipe,
                                       const void *roots) {
    const npc_fft_transform transform = {&plan->kernels->fft, roots, recipe->level, plan->kernels->lanes,
                                         (int64_t)npc_compute_size(plan->problem.compute)};
    return transform;
}

static npc_fft_pass pass_at(const npc_fft_transform *transform, const npc_fft_points *points, int64_t first) {
    char *data = points->data + first * points->point_step * transform->size;
    const npc_fft_pass pass = {.source = data,
                               .target = data,
                               .roots = transform->roots,
                               .source_step = points->point_step,
                               .source_imaginary = points->imaginary,
                               .target_step = points->point_step,
                               .target_imaginary = points->imaginary};
    return pass;
}

/* Nodes next to each other, of 2^level points each from the first-th on. */
typedef struct {
    int64_t node, blocks, first, level;
} nodes;

/* Splits them to the end by passes of radix 4; backward, joins them again. */
static void walk(const npc_fft_transform *transform, const npc_fft_points *points, nodes n, int backward) {
    if (n.level == 0) return;
    if (n.blocks > 1 && n.blocks << n.level > CACHED_POINTS) {
        for (int64_t b = 0; b < n.blocks; b++) {
            const nodes one = {n.node + b, 1, n.first + (b << n.level), n.level};
            walk(transform, points, one, backward);
        }
        return;
    }
    const nodes quarters = {4 * n.node, 4 * n.blocks, n.first, n.level - 2};
    npc_fft_pass pass = pass_at(transform, points, n.first);
    pass.node = n.node;
    pass.blocks = n.blocks;
    pass.span = (int64_t)1 << (n.level - 2);
    if (backward) walk(transform, points, quarters, backward);
    (backward ? transform->kernels->backward : transform->kernels->forward)[1](&pass);
    if (!backward) walk(transform, points, quarters, backward);
}

/* The first split has radix 2 where the level is odd. */
static int64_t first_radix(const npc_fft_transform *transform) { return transform->level % 2 ? 2 : 4; }

static nodes nodes_after_first(const npc_fft_transform *transform) {
    const int64_t radix = first_radix(transform);
    const nodes rest = {radix, radix, 0, transform->level - radix / 2};
    return rest;
}

static npc_fft_pass first_pass(const npc_fft_transform *transform, const npc_fft_points *points) {
    npc_fft_pass pass = pass_at(transform, points, 0);
    pass.node = pass.blocks = 1;
    pass.span = ((int64_t)1 << transform->level) / first_radix(transform);
    return pass;
}

/* It reads pixels, of which the second half are imaginary parts; backward, the last pass writes them. */
void npc_fft_forward(const npc_fft_transform *transform, const char *pixels, const npc_fft_points *points) {
    npc_fft_pass pass = first_pass(transform, points);
    pass.source = pixels;
    pass.source_step = transform->lanes;
    pass.source_imaginary = transform->lanes << transform->level;
    transform->kernels->forward[first_radix(transform) / 4](&pass);
    walk(transform, points, nodes_after_first(transform), 0);
}

void npc_fft_backward(const npc_fft_transform *transform, const npc_fft_points *points, char *pixels) {
    npc_fft_pass pass = first_pass(transform, points);
    walk(transform, points, nodes_after_first(transform), 1);
    pass.target = pixels;
    pass.target_step = transform->lanes;
    pass.target_imaginary = transform->lanes << transform->level;
    transform->kernels->backward[first_radix(transform) / 4](&pass);
}
