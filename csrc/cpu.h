/* What the processor can do, asked once. */
#ifndef NPC_CPU_H
#define NPC_CPU_H

int npc_cpu_has_scalar(void);
int npc_cpu_has_avx2(void);   /* with FMA and F16C */
int npc_cpu_has_avx512(void); /* F, BW, DQ and VL, with the above */
int npc_cpu_has_amx(void); /* tiles of bfloat16 and AVX-512's conversions to it, with the above */

/* Whether units of 256 bits take vectors of 512 in two steps, as those of AMD's Zen 4 do. */
int npc_cpu_halves_vectors(void);
/* AMD's processors after that: two products of 512 bits a cycle, but for some models for laptops. */
int npc_cpu_is_zen_5(void);
/* Whether cores begin two products of 512 bits a cycle, as those of Intel's Sapphire Rapids and later Xeons do. Older ones do in some
 * models, which cannot be told. */
int npc_cpu_pairs_products(void);

/* Asks the system to let the process use tiles. It is for good, for all threads, and refused where one has too small a signal stack. */
int npc_cpu_may_use_tiles(void);

#endif
