/* The only allocator: aligned blocks, of which a few are kept between calls because fresh pages cost more than sums. */
#ifndef NPC_MEMORY_H
#define NPC_MEMORY_H

#include <stddef.h>

#define NPC_ALIGNMENT 64

void *npc_acquire(size_t bytes); /* uninitialised; NULL when there is none */
void npc_release(void *block); /* NULL is fine */

#endif
