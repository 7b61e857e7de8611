/* What algorithms would cost, for the choice between them: rough cycles of a core that begins one product of vectors a cycle, fitted to
 * times of about two thousand problems with AVX-512 and some with AVX2. The number of threads must not decide on the algorithm, or it would
 * change bits, so all count one. */
#ifndef NPC_CYCLES_H
#define NPC_CYCLES_H

#include "../plan.h"

double npc_stencil_cycles(const npc_plan *plan); /* 0 where it does not take the problem */
double npc_direct_cycles(const npc_plan *plan);
double npc_blocked_cycles(const npc_plan *plan);
/* NULL, or why it does not take the problem. */
const char *npc_inner_product_applicable(const npc_plan *plan);
double npc_inner_product_cycles(const npc_plan *plan);

/* The better of direct and blocked. */
double npc_plain_cycles(const npc_plan *plan);
/* The best of all that transform neither pixels nor weights. */
double npc_untransformed_cycles(const npc_plan *plan);

/* What they have in common: packing a pixel, where long strides take longer if rows are not turned around; reading weights that lie
 * beyond the last cache. */
double npc_pixel_cycles(const npc_plan *plan);
double npc_weights_cycles(const npc_plan *plan);
/* Taking weights that lie as those of a transpose for algorithms that turn no more than so many taps. */
double npc_turning_cycles(const npc_plan *plan, int64_t turns_taps);

/* Of an image of one input channel. */
double npc_channel_bytes(const npc_problem *problem);

enum { NPC_LAST_CACHE = 16 << 20 }; /* bytes of weights that stay in one */

#endif
