"""The machine in words, the versions of all that takes part, and the arithmetic it can be seen to reach."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata

import numpy
from contestants import blas_threads
from timing import sample, settle

import npconv

SIZE = 2048
LIBRARIES = ("numpy", "torch", "onnx", "onnxruntime", "openvino", "ncnn", "opencv-python-headless", "scipy")

# What the kernel calls a feature, and what people do.
FEATURES = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE", "asimd": "NEON"}


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def words() -> str:
    """Its cores, and the widest instructions they have."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = {*file.read().split()}
    except OSError:
        flags = set()
    found = [name for flag, name in FEATURES.items() if flag in flags]
    return f"{cores()} cores, {platform.machine()}" + (f" with {' and '.join(found[:2])}" if found else "")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "npconv": npconv.__version__}
    installed = {each.name: each.version for each in metadata.distributions()}
    return found | {library: installed[library] for library in LIBRARIES if library in installed}


class Others:
    """The share of the machine that other processes took since this was made; timings beside it mean little."""

    def __init__(self) -> None:
        self.start = self._seconds()

    def share(self) -> float | None:
        """From 0 to 1, or None where /proc does not tell."""
        if self.start is None:
            return None
        busy, total, own = (now - then for now, then in zip(self._seconds(), self.start, strict=True))
        return max(0.0, busy - own) / total if total else 0.0

    @staticmethod
    def _seconds() -> tuple[float, float, float] | None:
        """Seconds of all cores at work and altogether, and those of this process."""
        try:
            with open("/proc/stat", encoding="ascii") as file:
                ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in file.readline().split()[1:9]]
        except OSError:
            return None
        idle = ticks[3] + ticks[4]
        return sum(ticks) - idle, sum(ticks), time.process_time()


def peak(dtype: str, threads: int) -> tuple[float, str] | None:
    """The most GFLOP/s of a large matrix product, and whose; None for integers, which no such library multiplies."""
    if numpy.dtype(dtype).kind != "f":
        return None
    measured = {}
    for name, call in _products(dtype, threads):
        settle()
        call()
        measured[name] = 2 * SIZE**3 / min(sample(call, 1) for _ in range(7)) / 1e9
    best = max(measured, key=measured.get)
    return measured[best], best


def _products(dtype: str, threads: int):
    """A product of square matrices by whoever is here; npconv's is a 1x1 layer."""
    left, right = numpy.random.default_rng(0).standard_normal((2, SIZE, SIZE)).astype(dtype)

    def by_numpy():
        with blas_threads(threads)():
            return left @ right

    yield "NumPy's matmul", by_numpy
    npconv.set_options(num_threads=threads)
    yield "npconv's 1x1", lambda: npconv.conv(right[None], left[:, :, None])
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)
    tensors = torch.from_numpy(left), torch.from_numpy(right)
    yield "torch's matmul", lambda: torch.mm(*tensors)
