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

/* Lists what makes way for the block, smaller ones first, or the block itself: then freed outside the lock. */
static int keep(void *block, void **leaving) {
    const size_t bytes = header_of(block)->bytes;
    int count = 0;
    if (bytes > most_kept) {
        leaving[0] = bytes <= largest_kept ? large : block;
        if (bytes <= largest_kept) large = block;
        return 1;
    }
    for (;;) {
        int empty = -1, smallest = -1;
        for (int i = 0; i < KEPT_BLOCKS; i++) {
            if (!cache[i])
                empty = i;
            else if (smallest < 0 || header_of(cache[i])->bytes < header_of(cache[smallest])->bytes)
                smallest = i;
        }
        if (empty >= 0 && kept + bytes <= most_kept) {
            cache[empty] = block;
            kept += bytes;
            return count;
        }
        if (smallest < 0 || header_of(cache[smallest])->bytes >= bytes) {
            leaving[count] = block;
            return count + 1;
        }
        leaving[count++] = cache[smallest];
        kept -= header_of(cache[smallest])->bytes;
        cache[smallest] = NULL;
    }
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
    void *leaving[KEPT_BLOCKS + 1] = {block};
    int count = 1;
    if (!block) return;
    if (npc_lock_try(&cache_lock)) {
        count = keep(block, leaving);
        npc_lock_release(&cache_lock);
    }
    for (int i = 0; i < count; i++)
        if (leaving[i]) system_free((char *)leaving[i] - NPC_ALIGNMENT);
}
