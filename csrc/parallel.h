/* Together with parallel.c the only place that names OpenMP. */
#ifndef NPC_PARALLEL_H
#define NPC_PARALLEL_H

#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* Once, before the first run. */
void npc_parallel_start(void);

/* How many of these threads a run may use: one in a forked child, and no more than a limit set since the start. */
int npc_thread_limit(int threads);

/* As _OPENMP, 0 without. */
int npc_openmp_version(void);

typedef void npc_task(void *context, int64_t item, int thread);

/* Runs task(context, i, thread) for every i < items; thread < threads tells apart those that run at once. */
static inline void npc_parallel_for(int threads, int64_t items, npc_task *task, void *context) {
#ifdef _OPENMP
    if (threads > 1 && items > 1 && (threads = npc_thread_limit(threads)) > 1) {
        int64_t i;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (i = 0; i < items; i++) task(context, i, omp_get_thread_num());
        return;
    }
#endif
    (void)threads;
    for (int64_t i = 0; i < items; i++) task(context, i, 0);
}

#endif
