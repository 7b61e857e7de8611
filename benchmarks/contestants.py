"""Who takes part: npconv, its NumPy fallback and its peers, each as a function from a task to something to call.

All receive the same arrays and prepare what they may prepare before the clock starts. A contestant that cannot express
a row raises `Refused` with the reason; a library that is not installed raises ImportError by itself.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import operations
from rows import Row

import npconv

DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


class Refused(Exception):
    """This contestant cannot express this row; the message says why."""


@dataclass(frozen=True)
class Task:
    """What a contestant is given."""

    row: Row
    arrays: operations.Arrays
    threads: int
    mode: str = "call"

    @property
    def dtype(self) -> str:
        return self.arrays[0].dtype.name

    @property
    def is_operation(self) -> bool:
        """Something else than a convolution."""
        return self.mode in operations.OPERATIONS

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments as people write them: one integer where all axes agree, defaults not at all."""
        settings = {}
        for name, value in self.row.settings.items():
            if isinstance(value, tuple) and len({*value}) == 1:
                value = value[0]
            if value != DEFAULTS[name]:
                settings[name] = value
        return settings

    def require(self, **conditions: bool) -> None:
        """Refuse unless all hold; a name is the reason, underscores for spaces."""
        for reason, holds in conditions.items():
            if not holds:
                raise Refused(reason.replace("_", " "))


@dataclass(frozen=True)
class Prepared:
    """`call()` is what is timed; `array` turns its result into an array of the row's output shape, untimed."""

    call: Callable[[], Any]
    array: Callable[[Any], numpy.ndarray] = numpy.asarray
    algorithm: str = ""
    close: Callable[[], None] = lambda: None  # what must be undone after the row


def npconv_compiled(task: Task) -> Prepared:
    """A call on plain arrays, or a layer that packed its weights before."""
    npconv.set_options(num_threads=task.threads)
    if task.mode == "layer":
        layer = getattr(npconv, f"Conv{task.row.axes}d").from_weights(*task.arrays[1:], **task.settings)
        return Prepared(partial(layer, task.arrays[0]), algorithm=layer.explain(task.arrays[0]).algorithm)
    call = by_npconv(task)
    if task.is_operation:
        return Prepared(call)
    return Prepared(call, algorithm=npconv.explain(*task.arrays, **task.settings).algorithm)


def by_npconv(task: Task) -> Callable[[], numpy.ndarray]:
    return operations.by_npconv(task.row, task.mode, task.arrays, task.settings)


def npconv_numpy(task: Task) -> Prepared:
    """The fallback that serves where npconv was not compiled."""
    limit = blas_threads(task.threads)
    inner = by_npconv(task)

    def call() -> numpy.ndarray:
        with npconv.options(backend="numpy", num_threads=task.threads), limit():
            return inner()

    return Prepared(call, algorithm="" if task.is_operation else "matmul")


def blas_threads(threads: int) -> Callable[[], Any]:
    """A context that limits NumPy's matrix products; without threadpoolctl they use what their library is set to."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return contextlib.nullcontext
    return partial(ThreadpoolController().limit, limits=threads, user_api="blas")


def lazily(module: str, function: str) -> Callable[[Task], Prepared]:
    """Peers are imported when first used."""
    return lambda task: getattr(importlib.import_module(module), function)(task)


@dataclass(frozen=True)
class Contestant:
    """An entry of the table. Slow ones run only when they are named; `packed` ones take part in layer mode alone, those
    with `operations` in every mode.
    """

    prepare: Callable[[Task], Prepared]
    title: str
    dtypes: tuple[str, ...]
    peer: bool = True
    slow: bool = False
    packed: bool = False
    operations: bool = False

    def takes_part(self, mode: str) -> bool:
        able = self.operations or mode not in operations.OPERATIONS
        return able and not self.slow and (mode == "layer" or not self.packed)


SINGLE = ("float32",)
FLOATS = ("float32", "float64")
ALL = ("float32", "float64", "int64", "int32", "uint8")

CONTESTANTS = {
    "npconv": Contestant(npconv_compiled, "npconv", ALL, peer=False, operations=True),
    "npconv-numpy": Contestant(npconv_numpy, "npconv on NumPy", ALL, peer=False, slow=True, operations=True),
    "torch": Contestant(lazily("tensors", "nchw"), "torch NCHW", ALL, operations=True),
    "torch-channels-last": Contestant(
        lazily("tensors", "channels_last"), "torch channels_last", FLOATS, operations=True
    ),
    "torch-packed": Contestant(lazily("tensors", "packed"), "torch packed", SINGLE, packed=True),
    "onnxruntime": Contestant(lazily("sessions", "onnxruntime"), "ONNX Runtime", SINGLE),
    "openvino": Contestant(lazily("sessions", "openvino"), "OpenVINO", SINGLE),
    "ncnn": Contestant(lazily("sessions", "ncnn"), "ncnn", SINGLE),
    "opencv": Contestant(lazily("images", "filter2d"), "OpenCV", FLOATS),
    "scipy": Contestant(lazily("images", "oaconvolve"), "SciPy", FLOATS),
}


def prepare(name: str, task: Task) -> Prepared | str:
    """The contestant ready for the task, or why it does not take part."""
    contestant = CONTESTANTS[name]
    if task.dtype not in contestant.dtypes:
        return f"does not compute in {task.dtype}"
    if task.is_operation and not contestant.operations:
        return "is timed on convolutions alone"
    try:
        return contestant.prepare(task)
    except Refused as reason:
        return str(reason)
    except ImportError as error:
        if name.startswith("npconv"):
            raise
        return f"not installed ({error.name or error})"
    except Exception as error:  # a peer's own refusal, in its own words
        if name.startswith("npconv"):
            raise
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
