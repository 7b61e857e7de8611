#include "parallel.h"

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>

/* Denormal numbers count as zeros in tasks: Intel's cores take a hundred times as long for a product with one. The caller's
 * arithmetic stays as it was. */
static unsigned flush_denormals(void) {
    enum { FLUSH_TO_ZERO = 1 << 15, DENORMALS_ARE_ZEROS = 1 << 6 };
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH_TO_ZERO | DENORMALS_ARE_ZEROS);
    return before;
}

static void restore_denormals(unsigned before) { _mm_setcsr(before); }
#else
static unsigned flush_denormals(void) { return 0; }
static void restore_denormals(unsigned before) { (void)before; }
#endif

static void run_alone(int64_t items, npc_task *task, void *context) {
    const unsigned before = flush_denormals();
    for (int64_t i = 0; i < items; i++) task(context, i, 0);
    restore_denormals(before);
}

#ifdef _OPENMP
#include <omp.h>

#include "affinity.h"
#include "atomic.h"

/* A child's runtime has lost its threads, and would wait for them for ever. */
static int forked;
/* The runtime's when npconv was loaded; a lower one was set since, by threadpoolctl say. */
static int usual_limit;

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

enum { MOST_SHARES = 64 };

/* Items of one thread, or of several where there are more than shares. */
typedef struct {
    int64_t next, end;
    char apart[112]; /* from the next one, which another thread counts on */
} share;

static void run_share(share *own, npc_task *task, void *context, int thread) {
    for (;;) {
        const int64_t item = npc_take_next(&own->next);
        if (item >= own->end) return;
        task(context, item, thread);
    }
}

void npc_parallel_for(int threads, int64_t items, npc_task *task, void *context) {
    if (threads <= 1 || items <= 1 || (threads = npc_thread_limit(threads)) <= 1) {
        run_alone(items, task, context);
        return;
    }
    share shares[MOST_SHARES];
    const int count = threads < MOST_SHARES ? threads : MOST_SHARES;
    for (int i = 0; i < count; i++) {
        shares[i].next = items * i / count;
        shares[i].end = items * (i + 1) / count;
    }
    const int core = npc_affinity_core();
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        if (thread > 0) npc_affinity_leave(core, omp_get_num_threads());
        const unsigned before = flush_denormals();
        for (int i = 0; i < count; i++) run_share(&shares[(thread + i) % count], task, context, thread);
        restore_denormals(before);
    }
}

#else

int npc_openmp_version(void) { return 0; }

int npc_thread_limit(int threads) {
    (void)threads;
    return 1;
}

void npc_parallel_start(void) {}

void npc_parallel_for(int threads, int64_t items, npc_task *task, void *context) {
    (void)threads;
    run_alone(items, task, context);
}

#endif
