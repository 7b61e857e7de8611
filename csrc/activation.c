#include "activation.h"

#include <math.h>

/* X(name, suffix of the C library's functions, C type) */
#define NPC_FLOAT_COMPUTES(X)                                                                                \
    X(f32, f, float)                                                                                         \
    X(f64, , double)                                                                                         \
    X(ld, l, long double)

/* 1 / (1 + e^-x) never overflows to NaN: e^-x = inf gives 0. silu is x * sigmoid(x), hardswish x * clip(x + 3, 0, 6) / 6. */
#define NPC_ACTIVATE(name, f, T)                                                                             \
    static void activate_##name(const npc_problem *p, T *row, int64_t n) {                                   \
        const T a = (T)p->activation_a, b = (T)p->activation_b;                                              \
        switch (p->activation) {                                                                             \
        case NPC_ACTIVATION_CLIP:                                                                            \
            for (int64_t i = 0; i < n; i++) row[i] = row[i] < a ? a : row[i] > b ? b : row[i];               \
            break;                                                                                           \
        case NPC_ACTIVATION_LEAKY_RELU:                                                                      \
            for (int64_t i = 0; i < n; i++) row[i] = row[i] < 0 ? row[i] * a : row[i];                       \
            break;                                                                                           \
        case NPC_ACTIVATION_SIGMOID:                                                                         \
            for (int64_t i = 0; i < n; i++) row[i] = 1 / (1 + exp##f(-row[i]));                              \
            break;                                                                                           \
        case NPC_ACTIVATION_TANH:                                                                            \
            for (int64_t i = 0; i < n; i++) row[i] = tanh##f(row[i]);                                        \
            break;                                                                                           \
        case NPC_ACTIVATION_SILU:                                                                            \
            for (int64_t i = 0; i < n; i++) row[i] = row[i] / (1 + exp##f(-row[i]));                         \
            break;                                                                                           \
        case NPC_ACTIVATION_HARDSWISH:                                                                       \
            for (int64_t i = 0; i < n; i++) {                                                                \
                T gate = row[i] + 3;                                                                         \
                gate = gate < 0 ? 0 : gate > 6 ? 6 : gate;                                                   \
                row[i] = row[i] * gate / 6;                                                                  \
            }                                                                                                \
            break;                                                                                           \
        default: break;                                                                                      \
        }                                                                                                    \
    }
NPC_FLOAT_COMPUTES(NPC_ACTIVATE)

void npc_activate(const npc_problem *problem, void *row, int64_t count) {
    if (problem->activation == NPC_ACTIVATION_NONE) return;
#define NPC_CASE(name, f, T)                                                                                 \
    case NPC_COMPUTE_##name: activate_##name(problem, row, count); break;
    switch (problem->compute) {
        NPC_FLOAT_COMPUTES(NPC_CASE)
    default: break;
    }
#undef NPC_CASE
}
