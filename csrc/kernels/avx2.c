/* AVX2 with FMA: 16 registers hold 4 x 3 sums, 3 vectors of pixels and a weight. */
#include "kernels.h"

#include <immintrin.h>

static const int32_t lanes_on[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

NPC_INLINE __m256i mask32(int n) { return _mm256_loadu_si256((const __m256i *)(lanes_on + 8 - n)); }
NPC_INLINE __m256i mask64(int n) { return _mm256_loadu_si256((const __m256i *)(lanes_on + 8 - 2 * n)); }

NPC_INLINE __m256i between32(int from, int to) { return _mm256_andnot_si256(mask32(from), mask32(to)); }
NPC_INLINE __m256i between64(int from, int to) { return _mm256_andnot_si256(mask64(from), mask64(to)); }

/* The first n words, by halves: a store under a mask takes AMD's processors up to 40 steps. Called, as it is longer than what calls it. */
static NPC_OPAQUE void store_words(void *target, __m256 v, int n) {
    float *p = target;
    __m128 rest = _mm256_castps256_ps128(v);
    if (n & 8) _mm256_storeu_ps(p, v);
    if (n & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)(void *)p, rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, rest);
    _mm256_zeroupper(); /* gcc leaves it out of what ends with this call, and code without AVX is slow then */
}

/* Every other lane comes in another order: that of the halves of both vectors, which only the end of a sum has to know. */
NPC_INLINE __m256d sort_pd(__m256d mixed) { return _mm256_permute4x64_pd(mixed, 0xd8); }
NPC_INLINE __m256 sort_ps(__m256 mixed) { return _mm256_castpd_ps(sort_pd(_mm256_castps_pd(mixed))); }

NPC_INLINE __m256 mix_low_ps(__m256 a, __m256 b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}

NPC_INLINE __m256 mix_high_ps(__m256 a, __m256 b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}

NPC_INLINE __m256d mix_low_pd(__m256d a, __m256d b) {
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x20);
}

NPC_INLINE __m256d mix_high_pd(__m256d a, __m256d b) {
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x31);
}

NPC_INLINE void transpose_ps(__m256 *v) {
    __m256 a[8], b[8];
    NPC_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    NPC_UNROLL
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    NPC_UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

NPC_INLINE void transpose_pd(__m256d *v) {
    const __m256d a = _mm256_unpacklo_pd(v[0], v[1]), b = _mm256_unpackhi_pd(v[0], v[1]);
    const __m256d c = _mm256_unpacklo_pd(v[2], v[3]), d = _mm256_unpackhi_pd(v[2], v[3]);
    v[0] = _mm256_permute2f128_pd(a, c, 0x20);
    v[1] = _mm256_permute2f128_pd(b, d, 0x20);
    v[2] = _mm256_permute2f128_pd(a, c, 0x31);
    v[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

/* Low 64 bits of a product from 32-bit halves: a * b = al * bl + ((ah * bl + al * bh) << 32). */
NPC_INLINE __m256i multiply64(__m256i a, __m256i b) {
    const __m256i cross = _mm256_mullo_epi32(a, _mm256_shuffle_epi32(b, 0xb1));
    const __m256i high = _mm256_slli_epi64(_mm256_add_epi32(cross, _mm256_srli_epi64(cross, 32)), 32);
    return _mm256_add_epi64(_mm256_mul_epu32(a, b), high);
}

static void move_words(const npc_move *moves, int64_t count, const char *source, int64_t ahead,
                       char *target) {
    __m256 found = _mm256_setzero_ps();
    for (const npc_move *move = moves; move < moves + count; target += move++->advance) {
        NPC_PREFETCH(source + move->from + ahead);
        const __m256i places = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)move->places));
        const __m256 words = _mm256_loadu_ps((const float *)(source + move->from));
        found = _mm256_and_ps(found, _mm256_castsi256_ps(_mm256_set1_epi32(move->keep)));
        found = _mm256_blendv_ps(_mm256_permutevar8x32_ps(words, places), found, _mm256_castsi256_ps(places));
        _mm256_storeu_ps((float *)target, found);
    }
}
#define MOVE move_words

#define T float
#define V __m256
#define PANELS
#define PANEL_ROWS(v) (12 / (v))
#define NAME(x) x##_f32
#define LANES 8
#define ROWS 4
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 6
#define BLOCK_VECTORS 2
#define LOAD(p) _mm256_loadu_ps(p)
#define LOAD_PART(p, n) _mm256_maskload_ps(p, mask32(n))
#define M __m256i
#define LANES_BETWEEN(from, to) between32(from, to)
#define LOAD_MASKED(p, mask) _mm256_maskload_ps(p, mask)
#define EVEN_UNSORTED(a, b) _mm256_shuffle_ps(a, b, 0x88)
#define ODD(a, b) _mm256_shuffle_ps(a, b, 0xdd)
#define SORT(v) sort_ps(v)
#define EVEN(a, b) SORT(EVEN_UNSORTED(a, b))
#define MIX_LOW(a, b) mix_low_ps(a, b)
#define MIX_HIGH(a, b) mix_high_ps(a, b)
#define TRANSPOSE(v) transpose_ps(v)
#define PLACES __m256i
#define LOAD_PLACES(p) _mm256_loadu_si256((const __m256i *)(p))
#define NEXT_PLACES(places) _mm256_add_epi32(places, _mm256_set1_epi32(1))
#define PICK(v, places) _mm256_permutevar8x32_ps(v, places)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define STORE_PART(p, v, n) store_words(p, v, n)
#define SET(s) _mm256_set1_ps(s)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUBTRACT(a, b) _mm256_sub_ps(a, b)
#define MULTIPLY(a, b) _mm256_mul_ps(a, b)
#define MULTIPLY_ADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MULTIPLY_SUBTRACT(a, b, c) _mm256_fmsub_ps(a, b, c)
#define CLIP(v, low, high)                                                                                   \
    _mm256_min_ps(high, _mm256_max_ps(low, v)) /* a NaN is the second operand, and stays */
#include "template.inc"

#define T double
#define V __m256d
#define PANELS
#define PANEL_ROWS(v) (12 / (v))
#define NAME(x) x##_f64
#define LANES 4
#define ROWS 4
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 6
#define BLOCK_VECTORS 2
#define LOAD(p) _mm256_loadu_pd(p)
#define LOAD_PART(p, n) _mm256_maskload_pd(p, mask64(n))
#define M __m256i
#define LANES_BETWEEN(from, to) between64(from, to)
#define LOAD_MASKED(p, mask) _mm256_maskload_pd(p, mask)
#define EVEN_UNSORTED(a, b) _mm256_unpacklo_pd(a, b)
#define ODD(a, b) _mm256_unpackhi_pd(a, b)
#define SORT(v) sort_pd(v)
#define EVEN(a, b) SORT(EVEN_UNSORTED(a, b))
#define MIX_LOW(a, b) mix_low_pd(a, b)
#define MIX_HIGH(a, b) mix_high_pd(a, b)
#define TRANSPOSE(v) transpose_pd(v)
#define PLACES __m256i
#define LOAD_PLACES(p) _mm256_loadu_si256((const __m256i *)(p))
#define NEXT_PLACES(places) _mm256_add_epi32(places, _mm256_set1_epi32(2))
#define PICK(v, places) _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(v), places))
#define STORE(p, v) _mm256_storeu_pd(p, v)
#define STORE_PART(p, v, n) store_words(p, _mm256_castpd_ps(v), 2 * (n))
#define SET(s) _mm256_set1_pd(s)
#define ADD(a, b) _mm256_add_pd(a, b)
#define SUBTRACT(a, b) _mm256_sub_pd(a, b)
#define MULTIPLY(a, b) _mm256_mul_pd(a, b)
#define MULTIPLY_ADD(a, b, c) _mm256_fmadd_pd(a, b, c)
#define MULTIPLY_SUBTRACT(a, b, c) _mm256_fmsub_pd(a, b, c)
#define CLIP(v, low, high) _mm256_min_pd(high, _mm256_max_pd(low, v))
#include "template.inc"

#define T uint32_t
#define V __m256i
#define NAME(x) x##_u32
#define LANES 8
#define ROWS 4
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 6
#define BLOCK_VECTORS 2
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define LOAD_PART(p, n) _mm256_maskload_epi32((const int *)(p), mask32(n))
#define M __m256i
#define LANES_BETWEEN(from, to) between32(from, to)
#define LOAD_MASKED(p, mask) _mm256_maskload_epi32((const int *)(p), mask)
#define TRANSPOSE(v) transpose_ps((__m256 *)(v))
#define PS(v) _mm256_castsi256_ps(v)
#define EVEN_UNSORTED(a, b) _mm256_castps_si256(_mm256_shuffle_ps(PS(a), PS(b), 0x88))
#define ODD(a, b) _mm256_castps_si256(_mm256_shuffle_ps(PS(a), PS(b), 0xdd))
#define SORT(v) _mm256_permute4x64_epi64(v, 0xd8)
#define EVEN(a, b) SORT(EVEN_UNSORTED(a, b))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define STORE_PART(p, v, n) store_words(p, _mm256_castsi256_ps(v), n)
#define SET(s) _mm256_set1_epi32((int)(s))
#define ADD(a, b) _mm256_add_epi32(a, b)
#define MULTIPLY_ADD(a, b, c) _mm256_add_epi32(_mm256_mullo_epi32(a, b), c)
#define CLIP(v, low, high) (v)
#include "template.inc"

#define T uint64_t
#define V __m256i
#define NAME(x) x##_u64
#define LANES 4
#define ROWS 4
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 6
#define BLOCK_VECTORS 2
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define LOAD_PART(p, n) _mm256_maskload_epi64((const long long *)(p), mask64(n))
#define M __m256i
#define LANES_BETWEEN(from, to) between64(from, to)
#define LOAD_MASKED(p, mask) _mm256_maskload_epi64((const long long *)(p), mask)
#define TRANSPOSE(v) transpose_pd((__m256d *)(v))
#define EVEN_UNSORTED(a, b) _mm256_unpacklo_epi64(a, b)
#define ODD(a, b) _mm256_unpackhi_epi64(a, b)
#define SORT(v) _mm256_permute4x64_epi64(v, 0xd8)
#define EVEN(a, b) SORT(EVEN_UNSORTED(a, b))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define STORE_PART(p, v, n) store_words(p, _mm256_castsi256_ps(v), 2 * (n))
#define SET(s) _mm256_set1_epi64x((long long)(s))
#define ADD(a, b) _mm256_add_epi64(a, b)
#define MULTIPLY_ADD(a, b, c) _mm256_add_epi64(multiply64(a, b), c)
#define CLIP(v, low, high) (v)
#include "template.inc"

const npc_isa npc_isa_avx2 = {
    .name = "avx2",
    .compute = {[NPC_COMPUTE_f32] = &kernels_f32,
                [NPC_COMPUTE_f64] = &kernels_f64,
                [NPC_COMPUTE_u32] = &kernels_u32,
                [NPC_COMPUTE_u64] = &kernels_u64},
};
