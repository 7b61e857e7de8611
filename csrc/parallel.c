#include "parallel.h"

#ifdef _OPENMP

static int forked;      /* a child's runtime has lost its threads, and would wait for them for ever */
static int
    usual_limit; /* the runtime's when npconv was loaded; a lower one was set since, by threadpoolctl say */

int npc_thread_limit(int threads) {
    const int limit = omp_get_max_threads();
    if (forked) return 1;
    return limit < usual_limit && limit < threads ? limit : threads;
}

#ifdef _WIN32
static void watch_forks(void) {}
#else
#include <pthread.h>
static void in_child(void) { forked = 1; }
static void watch_forks(void) { pthread_atfork(0, 0, in_child); }
#endif

void npc_parallel_start(void) {
    if (usual_limit) return;
    usual_limit = omp_get_max_threads();
    watch_forks();
}

int npc_openmp_version(void) { return _OPENMP; }

#else

int npc_openmp_version(void) { return 0; }

int npc_thread_limit(int threads) {
    (void)threads;
    return 1;
}

void npc_parallel_start(void) {}

#endif
