"""What npconv promises besides speed: little memory, no price for denormal numbers, the same bits for all threads.

python benchmarks/limits.py [memory] [denormals] [threads]      all three if none is named
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
import rows
import timing
from report import markdown

import npconv

IMAGE = (3000, 4000)
MOST_MEMORY = 40e6  # bytes that a call with out= may add to the process, whatever the size of its input
MOST_DENORMAL = 2.0  # times the normal time
THREADS = (1, 2, 3)

# Input and output channels, kernel, dtype, and what conv2d is told besides.
MEMORY: dict[str, tuple[int, int, int, str, dict[str, Any]]] = {
    "gray 3x3": (1, 1, 3, "float32", {"padding": 1}),
    "gray 5x5 reflect": (1, 1, 5, "float32", {"padding": 2, "padding_mode": "reflect"}),
    "gray 31x31": (1, 1, 31, "float32", {"padding": 15}),
    "gray 3x3 dilation 7": (1, 1, 3, "float32", {"padding": 7, "dilation": 7}),
    "gray 3x3 float64": (1, 1, 3, "float64", {"padding": 1}),
    "gray 3x3 uint8": (1, 1, 3, "uint8", {"padding": 1}),
    "gray 3x3 uint8 to float32": (1, 1, 3, "uint8", {"padding": 1, "dtype": "float32"}),
    "rgb 3x3": (3, 3, 3, "float32", {"padding": 1}),
    "rgb 3x3 stride 2 to 16": (3, 16, 3, "float32", {"padding": 1, "stride": 2}),
    "rgb 7x7 depthwise": (3, 3, 7, "float32", {"padding": 3, "groups": 3}),
    "1x1 4-4": (4, 4, 1, "float32", {}),
}


def memory() -> bool:
    """Each case in a process of its own, so that none finds memory that another left."""
    lines, good = [], True
    for name in MEMORY:
        child = subprocess.run(
            [sys.executable, __file__, "--child", name], check=True, capture_output=True, text=True
        )  # fmt: skip
        added, algorithm = json.loads(child.stdout)
        good &= added < MOST_MEMORY
        lines.append([name, f"{added / 1e6:.1f}", algorithm])
    print(f"Memory added by an image of {IMAGE[0]}x{IMAGE[1]} with out=, at most {MOST_MEMORY / 1e6:.0f} MB\n")
    print(markdown(["row", "MB", "algorithm"], lines))
    return good


def memory_child(name: str) -> None:
    """The highest mark of resident memory after a call, less that before it."""
    channels, outputs, kernel, dtype, settings = MEMORY[name]
    input = numpy.ones((1, channels, *IMAGE), dtype)
    weight = numpy.ones((outputs, channels // settings.get("groups", 1), kernel, kernel), dtype)
    # Written once, since pages that were never touched would be counted as the call's own.
    out = numpy.ones((1, outputs, *(n // settings.get("stride", 1) for n in IMAGE)), settings.get("dtype", dtype))
    algorithm = npconv.explain(input, weight, **settings).algorithm
    before = highest_memory(reset=True)
    npconv.conv2d(input, weight, out=out, **settings)
    print(json.dumps([highest_memory() - before, algorithm]))


def highest_memory(reset: bool = False) -> int:
    """Bytes, by Linux; `reset` lowers the mark to what is resident now."""
    if reset:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def denormals() -> bool:
    """One row for every algorithm that is chosen for any: its input denormal, then its products."""
    lines, good = [], True
    for algorithm, row in one_row_each().items():
        input, weight, bias = row.arrays("float32")
        tiny = numpy.finfo("float32").tiny
        few = numpy.float32(tiny**0.5 / 8)  # of two such factors every product is denormal
        cases = {
            "normal": (input, weight),
            "input": (input * (tiny / 8), weight),
            "products": (input * few, weight * few),
        }
        calls = {name: _call(row, (*pair, bias * tiny if bias is not None else None)) for name, pair in cases.items()}
        times = timing.medians(calls, 0.3)
        ratios = [times[name] / times["normal"] for name in ("input", "products")]
        good &= max(ratios) <= MOST_DENORMAL
        lines.append([row.name, *(f"{ratio:.2f}" for ratio in ratios), algorithm])
    print(f"Time with denormal numbers over time without, at most {MOST_DENORMAL:.0f}\n")
    print(markdown(["row", "denormal input", "denormal products", "algorithm"], lines))
    return good


def one_row_each() -> dict[str, rows.Row]:
    """For each algorithm the longest of its rows that is not long."""
    found: dict[str, rows.Row] = {}
    for row in sorted(rows.choose(), key=lambda row: row.flop):
        if row.flop < 3e8:
            found[npconv.explain(*row.arrays("float32"), **row.settings).algorithm] = row
    return found


def _call(row: rows.Row, arrays: tuple[numpy.ndarray | None, ...]) -> Callable[[], numpy.ndarray]:
    return partial(npconv.conv, *arrays, **row.settings)


def threads() -> bool:
    """Every row with every number of threads, twice, as a call and as a layer."""
    different = []
    for row in rows.choose():
        arrays = row.arrays("float32")
        layer = getattr(npconv, f"Conv{row.axes}d").from_weights(*arrays[1:], **row.settings)
        calls = {"call": _call(row, arrays), "layer": partial(layer, arrays[0])}
        for kind, call in calls.items():
            if len(set(_bits(call))) > 1:
                different.append(f"{row.name} ({kind}; {', '.join(_algorithms(row, arrays))})")
    print(f"Same bits for {', '.join(map(str, THREADS))} threads and run to run: ", end="")
    print("yes, on every row" if not different else "NO\n- " + "\n- ".join(different))
    return not different


def _algorithms(row: rows.Row, arrays: tuple[numpy.ndarray | None, ...]) -> list[str]:
    """What a call takes for each number of threads: the first suspect."""
    found = []
    for number in THREADS:
        with npconv.options(num_threads=number):
            found.append(f"{number}: {npconv.explain(*arrays, **row.settings).algorithm}")
    return found


def _bits(call: Callable[[], numpy.ndarray]) -> list[int]:
    found = []
    for number in THREADS * 2:
        with npconv.options(num_threads=number):
            found.append(hash(call().tobytes()))
    return found


CHECKS = {"memory": memory, "denormals": denormals, "threads": threads}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checks", nargs="*", help=f"of {', '.join(CHECKS)}; all if none is named")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        memory_child(options.child)
        return 0
    good = True
    for name in options.checks or CHECKS:
        good &= CHECKS[name]()
        print()
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
