#define _GNU_SOURCE /* cores and their sets */

#include "affinity.h"

#if defined(__linux__)
#include <sched.h>

int npc_affinity_core(void) { return sched_getcpu(); }

/* The system moves a thread at once from where it may not be; then it may be wherever it might before. Linux keeps that as asked for by
 * the thread itself: cores that its control group is given later are not for it. */
void npc_affinity_leave(int core, int threads) {
    cpu_set_t before, without;
    if (core < 0 || core >= CPU_SETSIZE || sched_getcpu() != core) return;
    if (sched_getaffinity(0, sizeof before, &before) != 0 || CPU_COUNT(&before) < threads) return;
    without = before;
    CPU_CLR((size_t)core, &without);
    if (sched_setaffinity(0, sizeof without, &without) == 0)
        (void)sched_setaffinity(0, sizeof before, &before);
}

#else

int npc_affinity_core(void) { return -1; }

void npc_affinity_leave(int core, int threads) { (void)core, (void)threads; }

#endif
