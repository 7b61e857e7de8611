/* What instruction sets with AVX-512 share. */
#ifndef NPC_AVX512_H
#define NPC_AVX512_H

#include <immintrin.h>

#include "kernels.h"

/* 16 x 16 words. */
NPC_INLINE void transpose_ps(__m512 *v) {
    __m512 a[16];
    NPC_UNROLL
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    NPC_UNROLL
    for (int i = 0; i < 16; i += 4) { /* v[i + j]: column j of every fourth, of rows i to i + 3 */
        v[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        v[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        v[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        v[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    NPC_UNROLL
    for (int j = 0; j < 4; j++) {
        const __m512 low = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x88),
                     high = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xdd);
        const __m512 more = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x88);
        const __m512 most = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xdd);
        a[j] = _mm512_shuffle_f32x4(low, more, 0x88);
        a[8 + j] = _mm512_shuffle_f32x4(low, more, 0xdd);
        a[4 + j] = _mm512_shuffle_f32x4(high, most, 0x88);
        a[12 + j] = _mm512_shuffle_f32x4(high, most, 0xdd);
    }
    NPC_UNROLL
    for (int i = 0; i < 16; i++) v[i] = a[i];
}

#endif
