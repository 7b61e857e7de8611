#define _DEFAULT_SOURCE /* posix_memalign, madvise */

#include "memory.h"

#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <sys/mman.h>
#endif

#include "atomic.h"

enum { KEPT_BLOCKS = 4 };
static const size_t most_kept = (size_t)32 << 20; /* bytes in all: what is more goes back to the system */
/* But for one that is larger, such as a result of which the next like it is due: fresh pages cost as much as filling it. */
static const size_t largest_kept = (size_t)256 << 20;
static const size_t huge_page = (size_t)2 << 20;

typedef struct {
    size_t bytes;
} header; /* stands NPC_ALIGNMENT bytes before the block */

/* Whoever finds the lock taken does without the cache, so nothing ever waits: not even a forked child whose parent held it. */
static npc_lock cache_lock;
static void *cache[KEPT_BLOCKS];
static size_t kept;
static void *large;

static header *header_of(void *block) { return (header *)((char *)block - NPC_ALIGNMENT); }

static void *system_allocate(size_t bytes) {
#if defined(_WIN32)
    return _aligned_malloc(bytes, NPC_ALIGNMENT);
#else
    void *memory = NULL;
    if (posix_memalign(&memory, bytes < 2 * huge_page ? NPC_ALIGNMENT : huge_page, bytes)) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= 2 * huge_page) (void)madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
    return memory;
#endif
}

static void system_free(void *memory) {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    free(memory);
#endif
}

/* The smallest kept block that is large enough; a large one only for what fills most of it. */
static void *take_kept(size_t bytes) {
    int best = -1;
    if (large && bytes <= header_of(large)->bytes && bytes >= header_of(large)->bytes / 4 * 3) {
        void *block = large;
        large = NULL;
        return block;
    }
    for (int i = 0; i < KEPT_BLOCKS; i++) {
        if (!cache[i] || header_of(cache[i])->bytes < bytes) continue;
        if (best < 0 || header_of(cache[i])->bytes < header_of(cache[best])->bytes) best = i;
    }
    if (best < 0) return NULL;
    void *block = cache[best];
    cache[best] = NULL;
    kept -= header_of(block)->bytes;
    return block;
}

/* Puts the block in an empty place or in that of the smallest; returns what is to be freed. */
static void *keep(void *block) {
    int place = 0;
    if (header_of(block)->bytes > most_kept && header_of(block)->bytes <= largest_kept) {
        void *before = large;
        large = block;
        return before;
    }
    for (int i = 0; i < KEPT_BLOCKS; i++) {
        if (!cache[i]) {
            place = i;
            break;
        }
        if (header_of(cache[i])->bytes < header_of(cache[place])->bytes) place = i;
    }
    void *before = cache[place];
    const size_t leaving = before ? header_of(before)->bytes : 0, coming = header_of(block)->bytes;
    if (leaving >= coming || kept - leaving + coming > most_kept) return block;
    cache[place] = block;
    kept += coming - leaving;
    return before;
}

void *npc_acquire(size_t bytes) {
    if (bytes > SIZE_MAX - 2 * NPC_ALIGNMENT) return NULL;
    if (npc_lock_try(&cache_lock)) {
        void *block = take_kept(bytes);
        npc_lock_release(&cache_lock);
        if (block) return block;
    }
    char *memory = system_allocate(bytes + NPC_ALIGNMENT);
    if (!memory) return NULL;
    void *block = memory + NPC_ALIGNMENT;
    header_of(block)->bytes = bytes;
    return block;
}

void npc_release(void *block) {
    if (!block) return;
    if (npc_lock_try(&cache_lock)) {
        block = keep(block);
        npc_lock_release(&cache_lock);
    }
    if (block) system_free((char *)block - NPC_ALIGNMENT);
}
