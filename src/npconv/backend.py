"""Which of the two backends computes: the compiled extension where it can be imported, plain NumPy otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy

from npconv import _numpy, phases
from npconv._numpy_folding import NumpyFolding

if TYPE_CHECKING:
    from npconv._core import Config
    from npconv.arguments import Array
    from npconv.functional import Call
    from npconv.options import Options
    from npconv.problem import Problem


def built(name: str) -> str | None:
    """What the build wrote down, if there was a build."""
    try:
        value: str | None = getattr(importlib.import_module("npconv._build_info"), name)
    except ImportError:
        return None
    return value


unavailable: str | None = None
try:
    import npconv._core as _core
except Exception as error:  # whatever is wrong with an extension, the package works without it
    unavailable = built("REASON") or str(error)

BACKENDS = ("compiled", "numpy")


class _Described(Protocol):
    @property
    def algorithm(self) -> str: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...


class ExecutionPlan(_Described, Protocol):
    """A problem with everything decided; `run` may be called by many threads at once."""

    @property
    def backend(self) -> str: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def refused(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def packing(self) -> Hashable | None: ...  # what packed weights depend on besides the weight; None: never packed

    def pack(self, weight: Array) -> Any: ...
    def run(self, input: Array, weight: Array, bias: Array | None, out: Array, packed: Any = None) -> None: ...


class ConvolutionPlan(ExecutionPlan, Protocol):
    """Of a convolution."""

    @property
    def turns_taps(self) -> int: ...  # most of kernels that may lie side by side; not 0: output channels may, too


class WholePlan(_Described, Protocol):
    """All phases of a transposed convolution at once; `run` says whether the arrays lie so that it could."""

    def run(self, input: Array, weight: Array, bias: Array | None, out: Array) -> bool: ...


class FoldingPlan(Protocol):
    """An `unfold` or `fold` with everything decided; `run` may be called by many threads at once."""

    @property
    def backend(self) -> str: ...
    @property
    def threads(self) -> int: ...

    def run(self, input: Array, out: Array) -> None: ...


def algorithms() -> tuple[str, ...]:
    """Every algorithm that can be forced, best first."""
    compiled = _core.ALGORITHMS if unavailable is None else ()
    return (*compiled, *_numpy.ALGORITHMS)


def extension_config() -> Config | None:
    """What the extension says of itself, if there is one."""
    return _core.config() if unavailable is None else None


def isas() -> tuple[str, ...]:
    """The instruction sets the extension can use on this machine, best first."""
    extension = extension_config()
    return extension["isas"] if extension else ()


def choose(options: Options) -> str:
    """The name of the backend that these options lead to."""
    if options.backend == "compiled" and unavailable is not None:
        raise RuntimeError(f"backend 'compiled' is not available: {unavailable}")
    if options.backend is not None:
        return options.backend
    compiled = unavailable is None and (options.algorithm is None or options.algorithm in _core.ALGORITHMS)
    return "compiled" if compiled else "numpy"


def _take_kernels(options: Options, weight: Array, taps: Array) -> Array:
    """As `_numpy.take_kernels`."""
    groups, inputs, outputs, _ = weight.shape
    size = groups * inputs * outputs * taps.size * weight.itemsize
    memory: Any = _core.Memory(size)  # a buffer, which Python before 3.12 cannot say of a type
    taken: Array = numpy.frombuffer(memory, weight.dtype).reshape(groups, outputs, len(taps), inputs, -1)
    whole = weight.flags.c_contiguous and weight.flags.aligned
    _core.take_kernels(options, weight if whole else weight.copy(), taps, taken)
    return taken


class NoCalls:
    """Stands for `_core.Calls`: on NumPy, finding a call again would save nothing worth it."""

    def __init__(self, count: int) -> None: ...

    def again(self, *call: Any) -> None:
        return None

    def remember(self, *call: Any) -> None: ...


Calls: type[_core.Calls] = _core.Calls if unavailable is None else cast("Any", NoCalls)
calls = Calls(1024)  # of functions
again = calls.again


def allocator(problem: Problem, plan: ExecutionPlan) -> Callable[[tuple[int, ...], numpy.dtype[Any]], Array]:
    """What makes an empty result: the extension keeps the memory of large ones."""
    return _core.allocator(problem.output_shape, problem.dtype) if plan.backend == "compiled" else numpy.empty


def remember(call: Call, function: str, settings: tuple[Any, ...]) -> None:
    """Has `again` answer calls like this one."""
    prepared, input, weight, bias = call
    if prepared.plan.backend == "compiled" and not prepared.casts:
        calls.remember(prepared, function, input, weight, bias, settings)


def remember_layer(ready: _core.Calls, call: Call, packed: Any) -> None:
    """Has `ready.again` answer calls of this layer, without function, weight and settings."""
    prepared, input, weight, bias = call
    if prepared.plan.backend == "compiled" and not prepared.casts:
        ready.remember(prepared, None, input, None, None, (), (weight, bias, packed))


def plan(problem: Problem, options: Options, prepacked: bool = False) -> ExecutionPlan:
    """ValueError if a forced algorithm does not take the problem, RuntimeError if a forced backend is missing."""
    chosen = choose(options)
    compiled = chosen == "compiled"
    if problem.operation == "transposed":
        kernels = partial(_take_kernels, options) if compiled else _numpy.take_kernels
        convolution = partial(plan_convolution, options=options, prepacked=prepacked)
        whole = partial(_core.plan_spread, options=options) if compiled and options.algorithm is None else None
        return phases.plan(problem, chosen, convolution, kernels, whole)
    if problem.operation == "weight_gradient":
        return _core.plan_weight_gradient(problem, options) if compiled else _numpy.WeightGradientPlan(problem)
    return plan_convolution(problem, options, prepacked)


def plan_convolution(problem: Problem, options: Options, prepacked: bool, turned: bool = False) -> ConvolutionPlan:
    compiled = choose(options) == "compiled"
    return _core.plan(problem, options, prepacked, turned) if compiled else _numpy.plan(problem, options)


def plan_folding(problem: Problem, options: Options) -> FoldingPlan:
    """As `plan`, for `unfold` and `fold`, which know one algorithm a backend."""
    return _core.plan_folding(problem, options) if choose(options) == "compiled" else NumpyFolding(problem)
