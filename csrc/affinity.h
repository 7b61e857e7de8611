/* Where threads run. A worker that the system woke on its caller's core waits there for that one's turn to end, then spins in the way of
 * the next call: milliseconds each, for as long as the system leaves it there while another core is idle. */
#ifndef NPC_AFFINITY_H
#define NPC_AFFINITY_H

/* The core that runs this thread, or -1 where that is unknown. */
int npc_affinity_core(void);

/* Moves this thread to another core if it runs on this one and may run on at least so many as there are threads. */
void npc_affinity_leave(int core, int threads);

#endif
