#include "cpu.h"

int npc_cpu_has_scalar(void) { return 1; }

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

int npc_cpu_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

int npc_cpu_has_avx512(void) {
    return npc_cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
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

#else

int npc_cpu_has_avx2(void) { return 0; }
int npc_cpu_has_avx512(void) { return 0; }

#endif
