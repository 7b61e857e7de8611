/* What threads share without waiting for each other. C11's own atomics are missing from MSVC's C. */
#ifndef NPC_ATOMIC_H
#define NPC_ATOMIC_H

#include "types.h"

#if defined(_MSC_VER)
#include <intrin.h>
typedef volatile long npc_lock;
NPC_INLINE int npc_lock_try(npc_lock *lock) { return _InterlockedExchange(lock, 1) == 0; }
NPC_INLINE void npc_lock_release(npc_lock *lock) { (void)_InterlockedExchange(lock, 0); }
NPC_INLINE int64_t npc_take_next(int64_t *counter) {
    return (int64_t)_InterlockedExchangeAdd64((volatile __int64 *)counter, 1);
}
#else
typedef int npc_lock;
NPC_INLINE int npc_lock_try(npc_lock *lock) { return __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0; }
NPC_INLINE void npc_lock_release(npc_lock *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }
NPC_INLINE int64_t npc_take_next(int64_t *counter) {
    return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}
#endif

#endif
