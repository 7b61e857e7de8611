"""Checks results, then times calls: interleaved, in short slots, each when the thread pools of the others sleep."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy
from contestants import Prepared, Refused, Task, by_npconv

import npconv

ROUNDS = 7
SAMPLE = 50e-6  # seconds: shorter calls are timed several at once, so that the clock's own cost does not show
LONG = 0.1  # seconds: beside it waking threads costs nothing

# The largest error over the largest result; integers wrap around and have none.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

Call = Callable[[], Any]


def exact(task: Task) -> numpy.ndarray:
    """The result in float64, by torch where it is installed."""
    wide = replace(task, arrays=tuple(None if array is None else array.astype(numpy.float64) for array in task.arrays))
    try:
        import tensors

        prepared = tensors.nchw(wide)
        return prepared.array(prepared.call())
    except (ImportError, Refused):
        with npconv.options(backend="numpy"):
            return by_npconv(wide)()


def error(prepared: Prepared, expected: numpy.ndarray, dtype: str) -> float:
    """The largest error of one call over the largest result; infinite where shapes differ or a NaN appears."""
    result = prepared.array(prepared.call())
    if result.shape != expected.shape or result.dtype != dtype:
        return float("inf")
    if result.dtype.kind != "f":
        expected = expected.astype(numpy.int64).astype(dtype)
        return float(numpy.count_nonzero(result != expected))
    worst = float(numpy.abs(result - expected).max() / numpy.abs(expected).max())
    return worst if worst == worst else float("inf")


def settle(patience: float = 0.2) -> None:
    """Wait until no thread of this process spins for work any more: it would take a core from whoever comes next."""
    deadline = time.perf_counter() + patience
    while time.perf_counter() < deadline:
        used = time.process_time()
        time.sleep(0.002)
        if time.process_time() - used < 0.0004:
            return


def sample(call: Call, times: int) -> float:
    """Seconds a call, over that many."""
    start = time.perf_counter()
    for _ in repeat(None, times):
        call()
    return (time.perf_counter() - start) / times


def slot(call: Call, budget: float) -> float:
    """The median of the samples that fit the budget, at least one. The first calls wake threads and do not count."""
    settle()
    once = sample(call, 1)
    if once > max(budget, LONG):
        return once
    if once < SAMPLE:
        sample(call, 3)
        once = sample(call, 5)
    times = max(1, int(SAMPLE / once))
    deadline = time.perf_counter() + budget
    samples = [sample(call, times)]
    while time.perf_counter() < deadline:
        samples.append(sample(call, times))
    return statistics.median(samples)


def medians(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Each contestant's median of its rounds."""
    return {name: statistics.median(each) for name, each in interleaved(calls, seconds).items()}


def interleaved(calls: dict[str, Call], seconds: float) -> dict[str, list[float]]:
    """Each contestant's median of each round; a round begins with another one each time."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(ROUNDS):
            shift = number % max(1, len(names))
            for name in names[shift:] + names[:shift]:
                rounds[name].append(slot(calls[name], seconds / ROUNDS))
    finally:
        if collecting:
            gc.enable()
    return rounds
