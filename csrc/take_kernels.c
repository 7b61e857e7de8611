#include "take_kernels.h"

#include <string.h>

#include "parallel.h"

NPC_VECTORISE

enum { BLOCK = 16, WIDE_BLOCK = 64, THREAD_ELEMENTS = 64 * 1024 };

typedef struct {
    npc_kernel_order order;
    const npc_kernels *kernels; /* that transpose a single tap, or NULL */
    int64_t block;              /* output channels of an item */
} kernel_job;

typedef struct {
    uint64_t parts[2];
} npc_element16;

typedef struct {
    int64_t output, outputs, input, inputs;
} channel_block;

/* Whole cache lines are read and written: rows into a block, columns out of it. */
#define NPC_TAKE(name, T)                                                                                    \
    static void transpose_##name(const npc_kernel_order *o, const T *from, T *to, channel_block b) {         \
        T block[WIDE_BLOCK][BLOCK];                                                                          \
        for (int64_t c = 0; c < b.inputs; c++)                                                               \
            for (int64_t k = 0; k < b.outputs; k++)                                                          \
                block[k][c] = from[(b.input + c) * o->outputs + b.output + k];                               \
        for (int64_t k = 0; k < b.outputs; k++)                                                              \
            memcpy(to + (b.output + k) * o->inputs + b.input, block[k], (size_t)b.inputs * sizeof(T));       \
    }                                                                                                        \
    /* The usual kernel, flipped as a whole: nine elements without a loop. */                                \
    static void flip_nine_##name(const npc_kernel_order *o, const T *from, T *to, channel_block b) {         \
        for (int64_t k = b.output; k < b.output + b.outputs; k++)                                            \
            for (int64_t c = b.input; c < b.input + b.inputs; c++) {                                         \
                const T *kernel = from + (c * o->outputs + k) * 9;                                           \
                T *target = to + (k * o->inputs + c) * 9;                                                    \
                NPC_UNROLL                                                                                   \
                for (int t = 0; t < 9; t++) target[t] = kernel[8 - t];                                       \
            }                                                                                                \
    }                                                                                                        \
    static void take_##name(const npc_kernel_order *o, const void *weight, void *taken, channel_block b) {   \
        if (o->kernel == 1) {                                                                                \
            transpose_##name(o, weight, taken, b);                                                           \
            return;                                                                                          \
        }                                                                                                    \
        if (o->kernel == 9 && o->taken == 9 && o->taps[0] == 8) {                                            \
            flip_nine_##name(o, weight, taken, b);                                                           \
            return;                                                                                          \
        }                                                                                                    \
        for (int64_t k = b.output; k < b.output + b.outputs; k++)                                            \
            for (int64_t place = 0; place < o->places; place++) {                                            \
                const int64_t *taps = o->taps + place * o->taken;                                            \
                T *target = (T *)taken + ((k * o->places + place) * o->inputs + b.input) * o->taken;         \
                for (int64_t c = b.input; c < b.input + b.inputs; c++) {                                     \
                    const T *kernel = (const T *)weight + (c * o->outputs + k) * o->kernel;                  \
                    for (int64_t t = 0; t < o->taken; t++) *target++ = kernel[taps[t]];                      \
                }                                                                                            \
            }                                                                                                \
    }
NPC_TAKE(1, uint8_t)
NPC_TAKE(2, uint16_t)
NPC_TAKE(4, uint32_t)
NPC_TAKE(8, uint64_t)
NPC_TAKE(16, npc_element16)
#undef NPC_TAKE

static void take_any(const npc_kernel_order *o, const char *weight, char *taken, channel_block b) {
    for (int64_t k = b.output; k < b.output + b.outputs; k++)
        for (int64_t place = 0; place < o->places; place++)
            for (int64_t c = b.input; c < b.input + b.inputs; c++)
                for (int64_t t = 0; t < o->taken; t++)
                    memcpy(taken + (((k * o->places + place) * o->inputs + c) * o->taken + t) * o->element,
                           weight + ((c * o->outputs + k) * o->kernel + o->taps[place * o->taken + t]) *
                                        o->element,
                           (size_t)o->element);
}

/* As many input channels as fill whole vectors, in the vectors of any type as large; how many those are. */
static int64_t transpose_vectors(const kernel_job *job, const char *from, char *to, channel_block b) {
    static const int64_t places[WIDE_BLOCK] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const npc_kernel_order *o = &job->order;
    const int lanes = job->kernels->lanes;
    npc_block_rows rows = {.places = places,
                           .count = b.outputs,
                           .source_stride = o->outputs,
                           .target_stride = o->inputs,
                           .channels = lanes};
    int64_t c = 0;
    for (; c + lanes <= o->inputs; c += lanes) {
        rows.source = from + (c * o->outputs + b.output) * o->element;
        rows.target = to + (b.output * o->inputs + c) * o->element;
        job->kernels->block_weights(&rows);
    }
    return c;
}

/* Items are blocks of output channels. */
static void take_outputs(void *context, int64_t index, int thread) {
    const kernel_job *job = context;
    const npc_kernel_order *o = &job->order;
    const int64_t blocks = npc_ceil_div(o->outputs, job->block), group = index / blocks;
    const char *from = o->from + group * o->inputs * o->outputs * o->kernel * o->element;
    char *to = o->to + group * o->outputs * o->places * o->inputs * o->taken * o->element;
    channel_block b = {.output = index % blocks * job->block};
    b.outputs = npc_min(job->block, o->outputs - b.output);
    (void)thread;
    if (job->kernels) b.input = transpose_vectors(job, from, to, b);
    for (; b.input < o->inputs; b.input += BLOCK) {
        b.inputs = npc_min(BLOCK, o->inputs - b.input);
        switch (o->element) {
        case 1: take_1(o, from, to, b); break;
        case 2: take_2(o, from, to, b); break;
        case 4: take_4(o, from, to, b); break;
        case 8: take_8(o, from, to, b); break;
        case 16: take_16(o, from, to, b); break;
        default: take_any(o, from, to, b); break;
        }
    }
}

void npc_take_kernels(const npc_kernel_order *order, const npc_isa *isa, int threads) {
    kernel_job job = {*order, NULL, BLOCK};
    const int64_t elements = order->groups * order->outputs * order->inputs * order->places * order->taken;
    if (order->kernel == 1 && (order->element == 4 || order->element == 8)) {
        job.kernels = npc_kernels_of(isa, order->element == 4 ? NPC_COMPUTE_u32 : NPC_COMPUTE_u64);
        job.block = WIDE_BLOCK;
    }
    threads = (int)npc_clamp(elements / THREAD_ELEMENTS, 1, threads);
    npc_parallel_for(threads, order->groups * npc_ceil_div(order->outputs, job.block), take_outputs, &job);
}
