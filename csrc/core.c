#define _GNU_SOURCE /* cores and their sets */

#include "core.h"

#if defined(__linux__)
#include <sched.h>

int npc_core_here(void) { return sched_getcpu(); }

/* The system moves a thread at once from where it may not be; then it may be everywhere as before. */
void npc_core_leave(int core, int threads) {
    cpu_set_t before, without;
    if (core < 0 || core >= CPU_SETSIZE || sched_getcpu() != core) return;
    if (sched_getaffinity(0, sizeof before, &before) != 0 || CPU_COUNT(&before) < threads) return;
    without = before;
    CPU_CLR((size_t)core, &without);
    if (sched_setaffinity(0, sizeof without, &without) == 0)
        (void)sched_setaffinity(0, sizeof before, &before);
}

#else

int npc_core_here(void) { return -1; }

void npc_core_leave(int core, int threads) { (void)core, (void)threads; }

#endif
