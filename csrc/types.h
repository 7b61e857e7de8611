/* Element types as they lie in memory, and the types that sums are computed in. */
#ifndef NPC_TYPES_H
#define NPC_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* X(name, C type): complex elements are two scalars, bool is uint8, float16 is read as its bits. */
#define NPC_SCALARS(X)                                                                                       \
    X(int8, int8_t)                                                                                          \
    X(uint8, uint8_t)                                                                                        \
    X(int16, int16_t)                                                                                        \
    X(uint16, uint16_t)                                                                                      \
    X(int32, int32_t)                                                                                        \
    X(uint32, uint32_t)                                                                                      \
    X(int64, int64_t)                                                                                        \
    X(uint64, uint64_t)                                                                                      \
    X(float16, npc_half)                                                                                     \
    X(float32, float)                                                                                        \
    X(float64, double)                                                                                       \
    X(longdouble, long double)

/* X(name, C type): integers are computed unsigned, so that they wrap around without undefined behaviour. */
#define NPC_COMPUTES(X)                                                                                      \
    X(f32, float)                                                                                            \
    X(f64, double)                                                                                           \
    X(u32, uint32_t)                                                                                         \
    X(u64, uint64_t)                                                                                         \
    X(ld, long double)

typedef struct {
    uint16_t bits;
} npc_half;

#define NPC_ENUM(name, type) NPC_SCALAR_##name,
typedef enum { NPC_SCALARS(NPC_ENUM) NPC_SCALAR_COUNT } npc_scalar;
#undef NPC_ENUM

#define NPC_ENUM(name, type) NPC_COMPUTE_##name,
typedef enum { NPC_COMPUTES(NPC_ENUM) NPC_COMPUTE_COUNT } npc_compute;
#undef NPC_ENUM

size_t npc_scalar_size(npc_scalar scalar);
size_t npc_compute_size(npc_compute compute);

/* The type that results of this scalar are summed in. */
npc_compute npc_compute_of(npc_scalar scalar);
/* The scalar whose memory is the compute type's own, or whose bits are (signed integers). */
int npc_is_compute(npc_scalar scalar, npc_compute compute);

#if defined(_MSC_VER)
#define NPC_INLINE static __forceinline
#define NPC_NOINLINE __declspec(noinline)
#define NPC_RESTRICT __restrict
#elif defined(__GNUC__)
#define NPC_INLINE static inline __attribute__((always_inline))
#define NPC_NOINLINE __attribute__((noinline))
#define NPC_RESTRICT __restrict__
#else
#define NPC_INLINE static inline
#define NPC_NOINLINE
#define NPC_RESTRICT
#endif

/* The rest of a file loops over elements itself: gcc makes vectors of that at -O3, where files that call kernels only grow. */
#if defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && defined(__GNUC__) && !defined(__clang__)
#define NPC_VECTORISE _Pragma("GCC optimize(\"O3\")")
#else
#define NPC_VECTORISE
#endif

/* Not inlined, and callers may not count on what registers it leaves alone. */
#if defined(__GNUC__) && __GNUC__ >= 8 && !defined(__clang__)
#define NPC_OPAQUE __attribute__((noipa))
#else
#define NPC_OPAQUE NPC_NOINLINE
#endif

/* Memory that will be read or written soon. */
#if defined(__GNUC__)
#define NPC_PREFETCH(p) __builtin_prefetch(p)
#define NPC_PREFETCH_WRITE(p) __builtin_prefetch(p, 1)
#define NPC_PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2) /* no nearer than the second-level cache */
#else
#define NPC_PREFETCH(p) ((void)(p))
#define NPC_PREFETCH_WRITE(p) ((void)(p))
#define NPC_PREFETCH_FAR(p) ((void)(p))
#endif

/* A vector stays in a register of x86 from here on. */
#if defined(__GNUC__)
#define NPC_KEEP(v) __asm__("" : "+v"(v))
#else
#define NPC_KEEP(v) ((void)(v))
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define NPC_UNROLL _Pragma("GCC unroll 16")
#define NPC_ROLL _Pragma("GCC unroll 1")
#elif defined(__clang__)
#define NPC_UNROLL _Pragma("clang loop unroll(full)")
#define NPC_ROLL _Pragma("clang loop unroll(disable)")
#else
#define NPC_UNROLL
#define NPC_ROLL
#endif

NPC_INLINE int64_t npc_min(int64_t a, int64_t b) { return a < b ? a : b; }
NPC_INLINE int64_t npc_max(int64_t a, int64_t b) { return a > b ? a : b; }
NPC_INLINE int64_t npc_clamp(int64_t value, int64_t low, int64_t high) {
    return npc_max(low, npc_min(value, high));
}
/* b > 0, any a; division is slow, and 1 is the usual stride. */
NPC_INLINE int64_t npc_ceil_div(int64_t a, int64_t b) { return b == 1 ? a : a / b + (a % b > 0); }
NPC_INLINE int64_t npc_round_up(int64_t a, int64_t b) { return npc_ceil_div(a, b) * b; }

/* Parts of a workspace begin at whole cache lines. */
NPC_INLINE int64_t npc_aligned_bytes(int64_t bytes) { return npc_round_up(bytes, 64); }
/* The next part of `left` things, `most` at a time: two of like size rather than a whole one and a single rest. */
NPC_INLINE int64_t npc_next_part(int64_t left, int64_t most) {
    return left == most + 1 ? (left + 1) / 2 : npc_min(left, most);
}

/* `total` things in `count` parts of like size, the first `narrow` of which have one less than the others. */
typedef struct {
    int64_t most, narrow;
} npc_parts;
NPC_INLINE npc_parts npc_parts_of(int64_t total, int64_t count) {
    const int64_t most = npc_ceil_div(total, count);
    const npc_parts parts = {most, count * most - total};
    return parts;
}
NPC_INLINE int64_t npc_part_start(npc_parts parts, int64_t i) {
    return i * parts.most - npc_min(i, parts.narrow);
}

#endif
