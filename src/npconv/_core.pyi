from typing import TypedDict, final, type_check_only

from npconv.arguments import Array
from npconv.options import Options
from npconv.problem import Problem

ALGORITHMS: tuple[str, ...]

@type_check_only
class Config(TypedDict):
    openmp: str | None
    isas: tuple[str, ...]
    built_isas: tuple[str, ...]
    compiler: str

def config() -> Config: ...
def plan(problem: Problem, options: Options, prepacked: bool = False) -> CompiledPlan: ...

@final
class PackedWeights: ...

@final
class CompiledPlan:
    @property
    def backend(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def refused(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def packing(self) -> tuple[str, str, int, int, int, int, int] | None: ...
    def pack(self, weight: Array) -> PackedWeights: ...
    def run(
        self, input: Array, weight: Array, bias: Array | None, out: Array, packed: PackedWeights | None = None
    ) -> None: ...
