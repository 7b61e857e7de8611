#define _DEFAULT_SOURCE /* syscall */

#include "cpu.h"

int npc_cpu_has_scalar(void) { return 1; }

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#include <cpuid.h>

int npc_cpu_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

int npc_cpu_has_avx512(void) {
    return npc_cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

/* Compilers know the family from these versions on; the one before Zen 4 in it has no AVX-512. */
#if defined(__clang__) ? __clang_major__ >= 13 : __GNUC__ >= 11
int npc_cpu_halves_vectors(void) { return npc_cpu_has_avx512() && __builtin_cpu_is("amdfam19h"); }
int npc_cpu_is_zen_5(void) {
    return npc_cpu_has_avx512() && __builtin_cpu_is("amd") && !npc_cpu_halves_vectors();
}
#else
int npc_cpu_halves_vectors(void) { return 0; }
int npc_cpu_is_zen_5(void) { return 0; }
#endif

/* Asking takes long, even the processor where the machine is virtual. answer: 0 before, then 1 for no and 2 for yes. */
static int once(int *answer, int (*ask)(void)) {
    int known = __atomic_load_n(answer, __ATOMIC_RELAXED);
    if (!known) {
        known = 1 + ask();
        __atomic_store_n(answer, known, __ATOMIC_RELAXED);
    }
    return known == 2;
}

static int pairs_products(void) {
    const unsigned float16 = 1u << 23, tiles = 1u << 24; /* leaf 7 */
    unsigned a, b, c, d;
    return npc_cpu_has_avx512() && __builtin_cpu_is("intel") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (d & (float16 | tiles));
}

int npc_cpu_pairs_products(void) {
    static int answer;
    return once(&answer, pairs_products);
}

#elif defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>

/* Bits of leaf 7 EBX, and the state the system saves in XCR0, after Intel's manual, volume 1, chapters 14 and 15. */
static int supports(unsigned wanted, unsigned long long state) {
    int leaf[4];
    __cpuid(leaf, 0);
    if (leaf[0] < 7) return 0;
    __cpuid(leaf, 1);
    const unsigned osxsave_avx_fma = 1u << 27 | 1u << 28 | 1u << 12;
    if (((unsigned)leaf[2] & osxsave_avx_fma) != osxsave_avx_fma) return 0;
    if ((_xgetbv(0) & state) != state) return 0;
    __cpuidex(leaf, 7, 0);
    return ((unsigned)leaf[1] & wanted) == wanted;
}

int npc_cpu_has_avx2(void) { return supports(1u << 5, 0x6); }

int npc_cpu_has_avx512(void) { return supports(1u << 5 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, 0xe6); }

int npc_cpu_halves_vectors(void) { return 0; } /* unknown */
int npc_cpu_is_zen_5(void) { return 0; } /* unknown */
int npc_cpu_pairs_products(void) { return 0; } /* unknown */

#else

int npc_cpu_has_avx2(void) { return 0; }
int npc_cpu_has_avx512(void) { return 0; }
int npc_cpu_halves_vectors(void) { return 0; }
int npc_cpu_is_zen_5(void) { return 0; }
int npc_cpu_pairs_products(void) { return 0; }

#endif

#if defined(__linux__) && defined(__x86_64__) && defined(__GNUC__)
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of the system: Linux's Documentation/arch/x86/xstate.rst. One that does not know tiles refuses. */
enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

static int has_tiles(void) {
    const unsigned tile_and_bf16 = 1u << 24 | 1u << 22, avx512_bf16 = 1u << 5; /* leaf 7 */
    unsigned a, b, c, d;
    uint64_t supported = 0;
    if (!npc_cpu_has_avx512()) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tile_and_bf16) != tile_and_bf16) return 0;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & avx512_bf16)) return 0;
    return syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) == 0 &&
           (supported >> XFEATURE_XTILEDATA & 1);
}

static int asks_for_tiles(void) {
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

int npc_cpu_has_amx(void) {
    static int answer;
    return once(&answer, has_tiles);
}

int npc_cpu_may_use_tiles(void) {
    static int answer;
    return once(&answer, asks_for_tiles);
}
#else
int npc_cpu_has_amx(void) { return 0; }
int npc_cpu_may_use_tiles(void) { return 0; }
#endif
