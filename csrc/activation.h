/* Activations on a row of sums, before it is stored. */
#ifndef NPC_ACTIVATION_H
#define NPC_ACTIVATION_H

#include "problem.h"

/* In place; NaN stays NaN. Only float compute types have activations. */
void npc_activate(const npc_problem *problem, void *row, int64_t count);

#endif
