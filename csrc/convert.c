#include "convert.h"

#include <string.h>

NPC_VECTORISE

size_t npc_scalar_size(npc_scalar scalar) {
#define NPC_CASE(name, type)                                                                                 \
    case NPC_SCALAR_##name: return sizeof(type);
    switch (scalar) {
        NPC_SCALARS(NPC_CASE)
    default: return 0;
    }
#undef NPC_CASE
}

size_t npc_compute_size(npc_compute compute) {
#define NPC_CASE(name, type)                                                                                 \
    case NPC_COMPUTE_##name: return sizeof(type);
    switch (compute) {
        NPC_COMPUTES(NPC_CASE)
    default: return 0;
    }
#undef NPC_CASE
}

npc_compute npc_compute_of(npc_scalar scalar) {
    switch (scalar) {
    case NPC_SCALAR_float16:
    case NPC_SCALAR_float32: return NPC_COMPUTE_f32;
    case NPC_SCALAR_float64: return NPC_COMPUTE_f64;
    case NPC_SCALAR_longdouble: return NPC_COMPUTE_ld;
    case NPC_SCALAR_int64:
    case NPC_SCALAR_uint64: return NPC_COMPUTE_u64;
    default: return NPC_COMPUTE_u32;
    }
}

int npc_is_compute(npc_scalar scalar, npc_compute compute) {
    return scalar != NPC_SCALAR_float16 && npc_compute_of(scalar) == compute &&
           npc_scalar_size(scalar) == npc_compute_size(compute);
}

/* IEEE 754 binary16. */
static float half_to_float(npc_half half) {
    uint32_t sign = (uint32_t)(half.bits & 0x8000u) << 16, rest = half.bits & 0x7fffu, bits;
    float value;
    if (rest >= 0x7c00u) {
        bits = sign | 0x7f800000u | (rest & 0x3ffu) << 13;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    /* By a subtraction, as denormal floats count as zeros: those below 2^-14 have no leading bit. */
    bits = (rest << 13) + (rest < 0x400u ? 0x38800000u : 0x38000000u);
    memcpy(&value, &bits, sizeof value);
    if (rest < 0x400u) value -= 0x1p-14f;
    return sign ? -value : value;
}

/* Rounds to nearest even; overflow gives infinity, a NaN stays one. */
static npc_half float_to_half(float value) {
    npc_half half;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) {
        half.bits = (uint16_t)(sign | 0x7e00u);
    } else if (bits >= 0x477ff000u) { /* 65520 and more round to infinity */
        half.bits = (uint16_t)(sign | 0x7c00u);
    } else if (bits < 0x38800000u) { /* below 2^-14: the sum's last place is 2^-24 */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, sizeof bits);
        half.bits = (uint16_t)(sign | (bits - 0x3f000000u));
    } else {
        bits += 0xfffu + (bits >> 13 & 1u);
        half.bits = (uint16_t)(sign | (bits - 0x38000000u) >> 13);
    }
    return half;
}

/* Into sums of other types, which few want, by one function for all. */
static NPC_NOINLINE float half_apart(npc_half half) { return half_to_float(half); }

#define NPC_READ_HALF(v) (sizeof *out == sizeof(float) ? half_to_float(v) : half_apart(v))
#define NPC_READ_PLAIN(v) (v)
#define NPC_READ_int8 NPC_READ_PLAIN
#define NPC_READ_uint8 NPC_READ_PLAIN
#define NPC_READ_int16 NPC_READ_PLAIN
#define NPC_READ_uint16 NPC_READ_PLAIN
#define NPC_READ_int32 NPC_READ_PLAIN
#define NPC_READ_uint32 NPC_READ_PLAIN
#define NPC_READ_int64 NPC_READ_PLAIN
#define NPC_READ_uint64 NPC_READ_PLAIN
#define NPC_READ_float16 NPC_READ_HALF
#define NPC_READ_float32 NPC_READ_PLAIN
#define NPC_READ_float64 NPC_READ_PLAIN
#define NPC_READ_longdouble NPC_READ_PLAIN

#define NPC_PAIR(compute, ctype, scalar, stype)                                                              \
    static void load_##scalar##_##compute(void *target, const char *source, int64_t stride, int64_t count) { \
        ctype *out = target;                                                                                 \
        stype value;                                                                                         \
        if (stride == (int64_t)sizeof value) {                                                               \
            for (int64_t i = 0; i < count; i++) {                                                            \
                memcpy(&value, source + i * (int64_t)sizeof value, sizeof value);                            \
                out[i] = (ctype)NPC_READ_##scalar(value);                                                    \
            }                                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        /* Every other pixel of images in bytes or halves: compilers shuffle vectors. */                     \
        if (sizeof value <= 2 && sizeof *out == 4 && stride == 2 * (int64_t)sizeof value) {                  \
            for (int64_t i = 0; i < count; i++) {                                                            \
                memcpy(&value, source + i * 2 * (int64_t)sizeof value, sizeof value);                        \
                out[i] = (ctype)NPC_READ_##scalar(value);                                                    \
            }                                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (int64_t i = 0; i < count; i++) {                                                                \
            memcpy(&value, source + i * stride, sizeof value);                                               \
            out[i] = (ctype)NPC_READ_##scalar(value);                                                        \
        }                                                                                                    \
    }
/* Floats are never read into integer sums (the facade casts them first): those slots stay empty. */
#define NPC_INTEGERS(X, c, t)                                                                                \
    X(c, t, int8, int8_t)                                                                                    \
    X(c, t, uint8, uint8_t)                                                                                  \
    X(c, t, int16, int16_t)                                                                                  \
    X(c, t, uint16, uint16_t)                                                                                \
    X(c, t, int32, int32_t)                                                                                  \
    X(c, t, uint32, uint32_t)                                                                                \
    X(c, t, int64, int64_t)                                                                                  \
    X(c, t, uint64, uint64_t)
#define NPC_FLOATS(X, c, t)                                                                                  \
    X(c, t, float16, npc_half)                                                                               \
    X(c, t, float32, float)                                                                                  \
    X(c, t, float64, double)                                                                                 \
    X(c, t, longdouble, long double)
#define NPC_PAIRS(X)                                                                                         \
    NPC_INTEGERS(X, f32, float)                                                                              \
    NPC_FLOATS(X, f32, float)                                                                                \
    NPC_INTEGERS(X, f64, double)                                                                             \
    NPC_FLOATS(X, f64, double)                                                                               \
    NPC_INTEGERS(X, ld, long double)                                                                         \
    NPC_FLOATS(X, ld, long double)                                                                           \
    NPC_INTEGERS(X, u32, uint32_t)                                                                           \
    NPC_INTEGERS(X, u64, uint64_t)

NPC_PAIRS(NPC_PAIR)

npc_load *npc_loader(npc_scalar scalar, npc_compute compute) {
#define NPC_ENTRY(compute, ctype, scalar, stype)                                                             \
    [NPC_COMPUTE_##compute][NPC_SCALAR_##scalar] = load_##scalar##_##compute,
    static npc_load *const table[NPC_COMPUTE_COUNT][NPC_SCALAR_COUNT] = {NPC_PAIRS(NPC_ENTRY)};
#undef NPC_ENTRY
    return table[compute][scalar];
}

#define NPC_STORE(scalar, stype, ctype, convert)                                                             \
    static void store_##scalar(char *target, int64_t stride, const void *source, int64_t count) {            \
        const ctype *in = source;                                                                            \
        if (stride == (int64_t)sizeof(stype)) {                                                              \
            for (int64_t i = 0; i < count; i++) {                                                            \
                stype value = convert(in[i]);                                                                \
                memcpy(target + i * (int64_t)sizeof value, &value, sizeof value);                            \
            }                                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (int64_t i = 0; i < count; i++) {                                                                \
            stype value = convert(in[i]);                                                                    \
            memcpy(target + i * stride, &value, sizeof value);                                               \
        }                                                                                                    \
    }
NPC_STORE(int8, uint8_t, uint32_t, (uint8_t))
NPC_STORE(int16, uint16_t, uint32_t, (uint16_t))
NPC_STORE(int32, uint32_t, uint32_t, )
NPC_STORE(int64, uint64_t, uint64_t, )
NPC_STORE(float16, npc_half, float, float_to_half)
NPC_STORE(float32, float, float, )
NPC_STORE(float64, double, double, )
NPC_STORE(longdouble, long double, long double, )

npc_store *npc_storer(npc_scalar scalar) {
    static npc_store *const table[NPC_SCALAR_COUNT] = {
        [NPC_SCALAR_int8] = store_int8,       [NPC_SCALAR_uint8] = store_int8,
        [NPC_SCALAR_int16] = store_int16,     [NPC_SCALAR_uint16] = store_int16,
        [NPC_SCALAR_int32] = store_int32,     [NPC_SCALAR_uint32] = store_int32,
        [NPC_SCALAR_int64] = store_int64,     [NPC_SCALAR_uint64] = store_int64,
        [NPC_SCALAR_float16] = store_float16, [NPC_SCALAR_float32] = store_float32,
        [NPC_SCALAR_float64] = store_float64, [NPC_SCALAR_longdouble] = store_longdouble,
    };
    return table[scalar];
}

void npc_zeros(void *target, npc_compute compute, int64_t count) {
    memset(target, 0, (size_t)count * npc_compute_size(compute));
}

enum { SWAP_COUNT = 64, SWAP_BYTES = 16 };

/* Long double is 80 bits of value in padding that does not move: NumPy swaps the whole field, and so does this. */
static void load_swapped(void *target, npc_compute compute, npc_scalar scalar, const char *source,
                         int64_t stride, int64_t count) {
    char native[SWAP_COUNT * SWAP_BYTES];
    const size_t size = npc_scalar_size(scalar);
    npc_load *load = npc_loader(scalar, compute);
    char *out = target;
    for (int64_t done = 0; done < count; done += SWAP_COUNT) {
        int64_t step = npc_min(SWAP_COUNT, count - done);
        for (int64_t i = 0; i < step; i++)
            for (size_t b = 0; b < size; b++)
                native[(size_t)i * size + b] = source[(done + i) * stride + (int64_t)(size - 1 - b)];
        load(out + (size_t)done * npc_compute_size(compute), native, (int64_t)size, step);
    }
}

void npc_load_part(void *target, const npc_tensor *tensor, npc_compute compute, const char *source,
                   int64_t stride, int part, int64_t count) {
    const npc_scalar scalar = tensor->scalar;
    if (part >= tensor->parts) {
        npc_zeros(target, compute, count);
        return;
    }
    source += part * (int64_t)npc_scalar_size(scalar);
    if (tensor->swapped)
        load_swapped(target, compute, scalar, source, stride, count);
    else if (stride == (int64_t)npc_scalar_size(scalar) && npc_is_compute(scalar, compute))
        memcpy(target, source, (size_t)count * npc_scalar_size(scalar));
    else
        npc_loader(scalar, compute)(target, source, stride, count);
}
