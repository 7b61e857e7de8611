/* Together with parallel.c the only place that names OpenMP. */
#ifndef NPC_PARALLEL_H
#define NPC_PARALLEL_H

#include <stdint.h>

/* Once, before the first run. */
void npc_parallel_start(void);

/* How many of these threads a run may use: one in a forked child, and no more than a limit set since the start. */
int npc_thread_limit(int threads);

/* As _OPENMP, 0 without. */
int npc_openmp_version(void);

typedef void npc_task(void *context, int64_t item, int thread);

/* Runs task(context, i, thread) for every i < items; thread < threads tells apart those that run at once. Neighbouring
 * items are run by one thread, so that its caches keep what they share, and what the call before left there; a thread that
 * has run its own takes over those of others. Denormal numbers count as zeros in tasks, where the processor can do that. */
void npc_parallel_for(int threads, int64_t items, npc_task *task, void *context);

#endif
