/* AVX-512 F, BW, DQ, VL: 32 registers hold 8 x 3 sums, 3 vectors of pixels and a weight. */
#include "avx512.h"

#define MASK16(n) ((__mmask16)((1u << (n)) - 1))
#define MASK8(n) ((__mmask8)((1u << (n)) - 1))

NPC_INLINE __m512 even_ps(__m512 a, __m512 b) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, even, b);
}

NPC_INLINE __m512d even_pd(__m512d a, __m512d b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
}

NPC_INLINE __m512 odd_ps(__m512 a, __m512 b) {
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(a, odd, b);
}

NPC_INLINE __m512d odd_pd(__m512d a, __m512d b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), b);
}

NPC_INLINE __m512 mix_low_ps(__m512 a, __m512 b) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, low, b);
}

NPC_INLINE __m512 mix_high_ps(__m512 a, __m512 b) {
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, high, b);
}

NPC_INLINE __m512d mix_low_pd(__m512d a, __m512d b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), b);
}

NPC_INLINE __m512d mix_high_pd(__m512d a, __m512d b) {
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), b);
}

NPC_INLINE void transpose_pd(__m512d *v) {
    __m512d a[8];
    NPC_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm512_unpacklo_pd(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_pd(v[i], v[i + 1]);
    }
    NPC_UNROLL
    for (int j = 0; j < 2; j++) {
        const __m512d low = _mm512_shuffle_f64x2(a[j], a[2 + j], 0x88),
                      high = _mm512_shuffle_f64x2(a[j], a[2 + j], 0xdd);
        const __m512d more = _mm512_shuffle_f64x2(a[4 + j], a[6 + j], 0x88);
        const __m512d most = _mm512_shuffle_f64x2(a[4 + j], a[6 + j], 0xdd);
        v[j] = _mm512_shuffle_f64x2(low, more, 0x88);
        v[4 + j] = _mm512_shuffle_f64x2(low, more, 0xdd);
        v[2 + j] = _mm512_shuffle_f64x2(high, most, 0x88);
        v[6 + j] = _mm512_shuffle_f64x2(high, most, 0xdd);
    }
}

static void move_words(const npc_move *moves, int64_t count, const char *source, int64_t ahead,
                       char *target) {
    __m512i found = _mm512_setzero_si512();
    for (const npc_move *move = moves; move < moves + count; target += move++->advance) {
        NPC_PREFETCH(source + move->from + ahead);
        const __m512i places = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)move->places));
        const __m512i words = _mm512_loadu_si512(source + move->from);
        found = _mm512_and_si512(found, _mm512_set1_epi32(move->keep));
        found =
            _mm512_mask_permutexvar_epi32(found, _knot_mask16(_mm512_movepi32_mask(places)), places, words);
        _mm512_storeu_si512(target, found);
    }
}
#define MOVE move_words

#define T float
#define V __m512
#define PANELS
#define PANEL_ROWS(v) 8
#define NAME(x) x##_f32
#define LANES 16
#define ROWS 8
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 14
#define BLOCK_VECTORS 2
#define LOAD(p) _mm512_loadu_ps(p)
#define LOAD_PART(p, n) _mm512_maskz_loadu_ps(MASK16(n), p)
#define M __mmask16
#define LANES_BETWEEN(from, to) ((__mmask16)(MASK16(to) & ~MASK16(from)))
#define LOAD_MASKED(p, mask) _mm512_maskz_loadu_ps(mask, p)
#define EVEN(a, b) even_ps(a, b)
#define ODD(a, b) odd_ps(a, b)
#define NEXT_LANES(n, a, b)                                                                                  \
    _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(b), _mm512_castps_si512(a), n))
#define MIX_LOW(a, b) mix_low_ps(a, b)
#define MIX_HIGH(a, b) mix_high_ps(a, b)
#define TRANSPOSE(v) transpose_ps(v)
#define PLACES __m512i
#define LOAD_PLACES(p) _mm512_loadu_si512(p)
#define NEXT_PLACES(places) _mm512_add_epi32(places, _mm512_set1_epi32(1))
#define PICK(v, places) _mm512_permutexvar_ps(places, v)
#define PICK_PAIR(a, b, places) _mm512_permutex2var_ps(a, places, b)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define STREAM(p, v) _mm512_stream_ps(p, v)
#define END_STREAMS() _mm_sfence()
#define STORE_PART(p, v, n) _mm512_mask_storeu_ps(p, MASK16(n), v)
#define SET(s) _mm512_set1_ps(s)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUBTRACT(a, b) _mm512_sub_ps(a, b)
#define MULTIPLY(a, b) _mm512_mul_ps(a, b)
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define MULTIPLY_SUBTRACT(a, b, c) _mm512_fmsub_ps(a, b, c)
#define CLIP(v, low, high)                                                                                   \
    _mm512_min_ps(high, _mm512_max_ps(low, v)) /* a NaN is the second operand, and stays */
#include "template.inc"

#define T double
#define V __m512d
#define PANELS
#define PANEL_ROWS(v) 8
#define NAME(x) x##_f64
#define LANES 8
#define ROWS 8
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 14
#define BLOCK_VECTORS 2
#define LOAD(p) _mm512_loadu_pd(p)
#define LOAD_PART(p, n) _mm512_maskz_loadu_pd(MASK8(n), p)
#define M __mmask8
#define LANES_BETWEEN(from, to) ((__mmask8)(MASK8(to) & ~MASK8(from)))
#define LOAD_MASKED(p, mask) _mm512_maskz_loadu_pd(mask, p)
#define EVEN(a, b) even_pd(a, b)
#define ODD(a, b) odd_pd(a, b)
#define NEXT_LANES(n, a, b)                                                                                  \
    _mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_castpd_si512(b), _mm512_castpd_si512(a), n))
#define MIX_LOW(a, b) mix_low_pd(a, b)
#define MIX_HIGH(a, b) mix_high_pd(a, b)
#define TRANSPOSE(v) transpose_pd(v)
#define PLACES __m512i
#define LOAD_PLACES(p) _mm512_loadu_si512(p)
#define NEXT_PLACES(places) _mm512_add_epi32(places, _mm512_set1_epi32(2))
#define PICK(v, places) _mm512_castps_pd(_mm512_permutexvar_ps(places, _mm512_castpd_ps(v)))
#define STORE(p, v) _mm512_storeu_pd(p, v)
#define STREAM(p, v) _mm512_stream_pd(p, v)
#define END_STREAMS() _mm_sfence()
#define STORE_PART(p, v, n) _mm512_mask_storeu_pd(p, MASK8(n), v)
#define SET(s) _mm512_set1_pd(s)
#define ADD(a, b) _mm512_add_pd(a, b)
#define SUBTRACT(a, b) _mm512_sub_pd(a, b)
#define MULTIPLY(a, b) _mm512_mul_pd(a, b)
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_pd(a, b, c)
#define MULTIPLY_SUBTRACT(a, b, c) _mm512_fmsub_pd(a, b, c)
#define CLIP(v, low, high) _mm512_min_pd(high, _mm512_max_pd(low, v))
#include "template.inc"

#define T uint32_t
#define V __m512i
#define NAME(x) x##_u32
#define LANES 16
#define ROWS 4
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 6 /* products are slow enough for loads to be free, and the library smaller */
#define BLOCK_VECTORS 2
#define LOAD(p) _mm512_loadu_si512(p)
#define LOAD_PART(p, n) _mm512_maskz_loadu_epi32(MASK16(n), p)
#define M __mmask16
#define LANES_BETWEEN(from, to) ((__mmask16)(MASK16(to) & ~MASK16(from)))
#define LOAD_MASKED(p, mask) _mm512_maskz_loadu_epi32(mask, p)
#define TRANSPOSE(v) transpose_ps((__m512 *)(v))
#define EVEN(a, b) _mm512_castps_si512(even_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)))
#define ODD(a, b) _mm512_castps_si512(odd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)))
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define STORE_PART(p, v, n) _mm512_mask_storeu_epi32(p, MASK16(n), v)
#define SET(s) _mm512_set1_epi32((int)(s))
#define ADD(a, b) _mm512_add_epi32(a, b)
#define MULTIPLY_ADD(a, b, c) _mm512_add_epi32(_mm512_mullo_epi32(a, b), c)
#define CLIP(v, low, high) (v)
#include "template.inc"

#define T uint64_t
#define V __m512i
#define NAME(x) x##_u64
#define LANES 8
#define ROWS 4
#define VECTORS 3
#define KEEP(v) NPC_KEEP(v)
#define STENCIL_ROWS 8
#define FREE_MASKS
#define PIXELS 6
#define BLOCK_VECTORS 2
#define LOAD(p) _mm512_loadu_si512(p)
#define LOAD_PART(p, n) _mm512_maskz_loadu_epi64(MASK8(n), p)
#define M __mmask8
#define LANES_BETWEEN(from, to) ((__mmask8)(MASK8(to) & ~MASK8(from)))
#define LOAD_MASKED(p, mask) _mm512_maskz_loadu_epi64(mask, p)
#define TRANSPOSE(v) transpose_pd((__m512d *)(v))
#define EVEN(a, b) _mm512_castpd_si512(even_pd(_mm512_castsi512_pd(a), _mm512_castsi512_pd(b)))
#define ODD(a, b) _mm512_castpd_si512(odd_pd(_mm512_castsi512_pd(a), _mm512_castsi512_pd(b)))
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define STORE_PART(p, v, n) _mm512_mask_storeu_epi64(p, MASK8(n), v)
#define SET(s) _mm512_set1_epi64((long long)(s))
#define ADD(a, b) _mm512_add_epi64(a, b)
#define MULTIPLY_ADD(a, b, c) _mm512_add_epi64(_mm512_mullo_epi64(a, b), c)
#define CLIP(v, low, high) (v)
#include "template.inc"

const npc_isa npc_isa_avx512 = {
    .name = "avx512",
    .compute = {[NPC_COMPUTE_f32] = &kernels_f32,
                [NPC_COMPUTE_f64] = &kernels_f64,
                [NPC_COMPUTE_u32] = &kernels_u32,
                [NPC_COMPUTE_u64] = &kernels_u64},
};
