"""What a small call costs, in microseconds: arguments, allocation and dispatch outweigh the arithmetic there.

python benchmarks/small.py [--threads N] [--dtype float32] [--seconds S]
"""

from __future__ import annotations

import argparse
from functools import partial

import machine
import rows
import timing
from contestants import ALL, Prepared, Refused, Task, lazily, npconv_compiled
from report import markdown

import npconv

# Each with its goal: the most time npconv.conv2d should take, as a share of that peer's.
CASES = [
    (rows.choose("peers", "^seed")[0], "torch.nn.functional.conv2d", 1 / 3),
    (rows.layer("3x3 3-8@32", 3, (32, 32), 3, outputs=8), "ONNX Runtime", 1 / 2),
]


def by_function(task: Task) -> Prepared:
    return Prepared(partial(npconv.conv2d, *task.arrays, **task.settings))


def by_layer(task: Task) -> Prepared:
    return npconv_compiled(Task(task.row, task.arrays, task.threads, "layer"))


CALLS = {
    "npconv.conv2d": by_function,
    "npconv.Conv2d": by_layer,
    "torch.nn.functional.conv2d": lazily("tensors", "nchw"),
    "ONNX Runtime": lazily("sessions", "onnxruntime"),
    "ONNX Runtime, input bound and result left inside": lazily("sessions", "onnxruntime_bound"),
}


def ready(task: Task) -> dict[str, Prepared]:
    """Those that can, and whose result is right."""
    expected, found = timing.exact(task), {}
    for name, prepare in CALLS.items():
        if name.startswith("ONNX") and task.dtype != "float32":
            continue
        try:
            prepared = prepare(task)
        except (ImportError, Refused) as reason:
            print(f"{name} left out: {reason}")
            continue
        if timing.error(prepared, expected, task.dtype) <= timing.TOLERANCE.get(task.dtype, 0):
            found[name] = prepared
        else:
            print(f"{name} is WRONG and not timed")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--dtype", choices=ALL, default="float32")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each call, over all rounds")
    options = parser.parse_args()
    npconv.set_options(num_threads=options.threads)
    for row, peer, goal in CASES:
        calls = {name: each.call for name, each in ready(Task(row, row.arrays(options.dtype), options.threads)).items()}
        medians = timing.medians(calls, options.seconds)
        ours = medians["npconv.conv2d"]
        lines = ([name, f"{t * 1e6:.2f}", f"{ours / t:.2f}"] for name, t in medians.items())
        print(f"\n{row.name}, {options.dtype}, threads: {options.threads}\n")
        print(markdown(["row", "µs", "npconv.conv2d's share of it"], lines))
        if peer in medians:
            print(f"\nGoal: at most {goal:.2f} of {peer}; found {ours / medians[peer]:.2f}")


if __name__ == "__main__":
    main()
