"""Every backend x instruction set x algorithm that this machine and build has, each forced by npconv.options."""

import importlib
from dataclasses import dataclass, replace

import oracle

import npconv

# What they do depends on the precision, and they take both.
OF_EITHER_PRECISION = ("direct", "stencil")
ROUNDING_ACTIVATIONS = ("sigmoid", "tanh", "silu", "hardswish")


def compiled_core():
    """The extension module, or None where it was not built or cannot be imported."""
    try:
        return importlib.import_module("npconv._core")
    except ImportError:
        return None


@dataclass(frozen=True)
class Engine:
    """Names what is forced. `algorithm` None leaves the choice to npconv, which then must take every problem;
    `precision` None prefers plain sums."""

    backend: str
    isa: str | None = None
    algorithm: str | None = None
    precision: str | None = None

    def __str__(self):
        names = [self.backend, self.isa, self.algorithm or "automatic", self.precision]
        return "-".join(name for name in names if name)

    def options(self, **more):
        forced = {"backend": self.backend, "isa": self.isa, "algorithm": self.algorithm, "precision": self.precision}
        return npconv.options(**{**{name: value for name, value in forced.items() if value is not None}, **more})

    def refusal(self, arrays, arguments):
        """Why the forced algorithm refuses, or None. To be called inside `options`."""
        if self.algorithm is None:
            return None
        try:
            plan = npconv.explain(*arrays, **arguments)
        except ValueError as error:
            if self.algorithm not in str(error):
                raise
            return str(error)
        assert (plan.backend, plan.algorithm) == (self.backend, self.algorithm)
        assert self.isa in (None, plan.isa)
        return None

    def conv(self, arrays, arguments, *, num_threads=1, function=npconv.conv, **more):
        """(precision, result), or None where the algorithm refuses each."""
        for precision in [self.precision] if self.precision else ["strict", "fast"]:
            with self.options(precision=precision, num_threads=num_threads):
                if self.refusal(arrays, arguments) is None:
                    return precision, function(*arrays, **arguments, **more)
        return None

    def difference(self, case, data, *, exact=True, **more):
        """None where the result is right or the algorithm refuses, else in words what is wrong."""
        done = self.conv(data.arrays, case.arguments(), **more)
        return None if done is None else difference(case, data, *done, exact=exact)


def difference(case, data, precision, actual, exact=True):
    dtype = oracle.result_type(data.input, data.weight)
    if actual.dtype != dtype:
        return f"dtype {actual.dtype}, expected {dtype}"
    exact = exact and precision == "strict" and case.activation not in ROUNDING_ACTIVATIONS
    if exact or dtype.kind in "iu":
        return oracle.difference_exact(actual, data.expected)
    tolerance = (oracle.TOLERANCE if precision == "strict" else oracle.FAST_TOLERANCE)[dtype.char]
    wrong = oracle.difference_rounded(actual, data.expected, data.scale, tolerance)
    if wrong is None:
        return None
    # Where every sum cancels, the largest result says little: rounding grows with what was added up.
    bias = data.bias if case.has_bias else None
    scale = oracle.size_of_sums(data.input, data.weight, bias, **case.arguments())
    return wrong and oracle.difference_rounded(actual, data.expected, scale, tolerance / 10)


def has_kernels_of_its_own(isa, algorithm):
    """Others are the same code under another name: no test learns anything from them."""
    if algorithm == "implicit_gemm":
        return isa == "amx"
    if algorithm == "sliding" and isa == "scalar":
        return False  # it has none
    return isa == "scalar" if algorithm == "reference" else isa != "amx"


def all_engines():
    found = [Engine("numpy")]
    core = compiled_core()
    if core is not None:
        for isa in core.config()["isas"]:
            found += [
                Engine("compiled", isa, algorithm)
                for algorithm in (None, *core.ALGORITHMS)
                if algorithm is None or has_kernels_of_its_own(isa, algorithm)
            ]
            either = [engine for engine in found if engine.isa == isa and engine.algorithm in OF_EITHER_PRECISION]
            found += [replace(engine, precision="fast") for engine in either]
    return tuple(found)


ENGINES = all_engines()
BACKENDS = tuple(dict.fromkeys(engine.backend for engine in ENGINES))
