/* Which instruction sets this build has and this machine runs. */
#ifndef NPC_ISA_H
#define NPC_ISA_H

#include "kernels/kernels.h"

/* The i-th best built in, or of those the i-th that runs here; NULL past the last. */
const npc_isa *npc_built_isa(int i);
const npc_isa *npc_usable_isa(int i);
/* NULL names the best; an ISA that is unknown or does not run here gives NULL. */
const npc_isa *npc_find_isa(const char *name);
const npc_kernels *npc_kernels_of(const npc_isa *isa, npc_compute compute);

#endif
