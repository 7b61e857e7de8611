/* What the processor can do, asked once. */
#ifndef NPC_CPU_H
#define NPC_CPU_H

int npc_cpu_has_scalar(void);
int npc_cpu_has_avx2(void);   /* with FMA and F16C */
int npc_cpu_has_avx512(void); /* F, BW, DQ and VL, with the above */
/* Tiles of bfloat16 and AVX-512's conversions to it, with the above; asks the system, once, to let the process use tiles. */
int npc_cpu_has_amx(void);

#endif
