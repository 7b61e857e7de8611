/* Where threads run. A worker that the system woke on its caller's core waits there for that one's turn to end, then spins in the way of
 * the next call: milliseconds each, for as long as the system leaves it there while another core is idle. */
#ifndef NPC_CORE_H
#define NPC_CORE_H

/* The core that runs this thread, or -1 where that is unknown. */
int npc_core_here(void);

/* Moves this thread to another core if it runs on this one and may run on at least so many as there are threads. */
void npc_core_leave(int core, int threads);

#endif
