#include "isa.h"

#include <string.h>

#include "cpu.h"

#define NPC_ISA(name) &npc_isa_##name,
static const npc_isa *const built[] = {
#include "kernels/isa_list.inc"
    NULL};
#undef NPC_ISA

#define NPC_ISA(name) npc_cpu_has_##name,
static int (*const runs_here[])(void) = {
#include "kernels/isa_list.inc"
};
#undef NPC_ISA

const npc_isa *npc_built_isa(int i) { return built[i]; }

const npc_isa *npc_usable_isa(int i) {
    for (int b = 0; built[b]; b++)
        if (runs_here[b]() && i-- == 0) return built[b];
    return NULL;
}

const npc_isa *npc_find_isa(const char *name) {
    for (int b = 0; built[b]; b++)
        if ((!name || strcmp(built[b]->name, name) == 0) && runs_here[b]() &&
            (!built[b]->pieces || npc_cpu_may_use_tiles()))
            return built[b];
    return NULL;
}

const npc_kernels *npc_kernels_of(const npc_isa *isa, npc_compute compute) {
    for (; isa; isa = isa->extends)
        if (isa->compute[compute]) return isa->compute[compute];
    return npc_isa_scalar.compute[compute];
}
