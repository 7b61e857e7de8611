"""Who computed the feature maps, and how long it took beside the NumPy fallback."""

from __future__ import annotations

import statistics
import time

import numpy as np
from numpy.typing import NDArray

import npconv
from npconv import backend

_CALLS = 7
_ENOUGH_SECONDS = 2.0


def apply(pixels: NDArray[np.float32], weight: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """The feature maps: as many as pixels (1, 3, H, W) have filters (K, 3, h, w), the edge pixels repeated outward."""
    maps = npconv.conv2d(pixels, weight, stride=stride, padding="same", padding_mode="replicate")
    return np.asarray(maps, dtype=np.float32)


def report(pixels: NDArray[np.float32], weight: NDArray[np.float32], stride: int) -> str:
    """One line: backend, algorithm, instruction set and threads, the time of a call, and NumPy's time for it."""
    plan = npconv.explain(pixels, weight, stride=stride, padding="same", padding_mode="replicate")
    threads = f"{plan.threads} thread" + ("s" if plan.threads != 1 else "")
    seconds, calls = _median_seconds(pixels, weight, stride)
    taken = f"{_milliseconds(seconds)} a call"
    if plan.backend == "numpy":
        return f"NumPy backend ({_why_numpy()}), algorithm {plan.algorithm}, {threads}: {taken} (median of {calls})"
    with npconv.options(backend="numpy"):
        fallback, fallback_calls = _median_seconds(pixels, weight, stride)
    return (
        f"{plan.backend} backend, algorithm {plan.algorithm}, {plan.isa}, {threads}: {taken}; "
        f"NumPy fallback {_milliseconds(fallback)}, {fallback / seconds:.1f} times as long "
        f"(medians of {calls} and {fallback_calls})"
    )


def _why_numpy() -> str:
    if backend.unavailable is None:
        return "as asked for, instead of the compiled one"
    return "no compiled one: " + " ".join(backend.unavailable.split())


def _median_seconds(pixels: NDArray[np.float32], weight: NDArray[np.float32], stride: int) -> tuple[float, int]:
    """The median time of a few calls after one to warm up, and how many there were; slow calls are repeated less."""
    apply(pixels, weight, stride)
    taken: list[float] = []
    while len(taken) < _CALLS and sum(taken) < _ENOUGH_SECONDS:
        start = time.perf_counter()
        apply(pixels, weight, stride)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), len(taken)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"
