/* Transforms of real lines. A line of 2n pixels is a polynomial modulo x^2n + 1, which is what products of lines wrap around
 * by; it is known by its remainder modulo x^n - i, whose coefficients are pixel j + i * pixel (j + n). That is split into
 * halves over and over: x^2m - r^2 = (x^m - r) (x^m + r), at the cost of one product with r a pair of points. So r is the
 * same for all pairs of a half, the points come out in the order of the halves, and nobody needs another. */
#include "fft.h"

enum {
    CACHED_POINTS = 128
}; /* halves of so many are split to the end before the next: they stay in a first-level cache */

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

static void split(const npc_fft_transform *transform, const npc_fft_points *points, nodes n) {
    if (n.level == 0) return;
    if (n.blocks > 1 && n.blocks << n.level > CACHED_POINTS) {
        for (int64_t b = 0; b < n.blocks; b++) {
            const nodes one = {n.node + b, 1, n.first + (b << n.level), n.level};
            split(transform, points, one);
        }
        return;
    }
    npc_fft_pass pass = pass_at(transform, points, n.first);
    pass.node = n.node;
    pass.blocks = n.blocks;
    pass.span = (int64_t)1 << (n.level - 2);
    transform->kernels->forward[1](&pass);
    const nodes quarters = {4 * n.node, 4 * n.blocks, n.first, n.level - 2};
    split(transform, points, quarters);
}

static void join(const npc_fft_transform *transform, const npc_fft_points *points, nodes n) {
    if (n.level == 0) return;
    if (n.blocks > 1 && n.blocks << n.level > CACHED_POINTS) {
        for (int64_t b = 0; b < n.blocks; b++) {
            const nodes one = {n.node + b, 1, n.first + (b << n.level), n.level};
            join(transform, points, one);
        }
        return;
    }
    const nodes quarters = {4 * n.node, 4 * n.blocks, n.first, n.level - 2};
    join(transform, points, quarters);
    npc_fft_pass pass = pass_at(transform, points, n.first);
    pass.node = n.node;
    pass.blocks = n.blocks;
    pass.span = (int64_t)1 << (n.level - 2);
    transform->kernels->backward[1](&pass);
}

/* The first split has radix 2 where the level is odd; it reads pixels, and writes points. */
void npc_fft_forward(const npc_fft_transform *transform, const char *pixels, const npc_fft_points *points) {
    const int64_t half = (int64_t)1 << transform->level, odd = transform->level % 2;
    npc_fft_pass pass = pass_at(transform, points, 0);
    pass.source = pixels;
    pass.source_step = transform->lanes;
    pass.source_imaginary = half * transform->lanes;
    pass.node = pass.blocks = 1;
    pass.span = odd ? half / 2 : half / 4;
    transform->kernels->forward[odd ? 0 : 1](&pass);
    const nodes rest = {odd ? 2 : 4, odd ? 2 : 4, 0, transform->level - (odd ? 1 : 2)};
    split(transform, points, rest);
}

void npc_fft_backward(const npc_fft_transform *transform, const npc_fft_points *points, char *pixels) {
    const int64_t half = (int64_t)1 << transform->level, odd = transform->level % 2;
    const nodes rest = {odd ? 2 : 4, odd ? 2 : 4, 0, transform->level - (odd ? 1 : 2)};
    join(transform, points, rest);
    npc_fft_pass pass = pass_at(transform, points, 0);
    pass.target = pixels;
    pass.target_step = transform->lanes;
    pass.target_imaginary = half * transform->lanes;
    pass.node = pass.blocks = 1;
    pass.span = odd ? half / 2 : half / 4;
    transform->kernels->backward[odd ? 0 : 1](&pass);
}
