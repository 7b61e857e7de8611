"""Rows drawn at random, the same for the same seed: shapes that no table holds, from tiny calls to 1.2 GFLOP."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace

from rows import Row, layer

CHANNELS = (
    1, 2, 3, 4, 5, 8, 10, 12, 16, 17, 20, 24, 30, 32, 40, 48, 60, 64, 72, 80, 96,
    100, 128, 160, 192, 256, 320, 384, 512,
)  # fmt: skip
TAPS = (1, 2, 3, 3, 4, 5, 7, 8, 9, 15, 31, 40, 64, 128)
PLANES = (
    (1, 1), (1, 1), (2, 2), (3, 3), (3, 3), (3, 3), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (9, 9), (11, 11),
    (1, 3), (3, 1), (1, 7), (7, 1), (3, 5), (5, 3),
)  # fmt: skip
CUBES = ((1, 1, 1), (2, 2, 2), (3, 3, 3), (3, 3, 3), (1, 3, 3), (3, 1, 1), (3, 5, 5), (5, 5, 5))
GROUPS = (2, 3, 4, 8, 16, 32)
FLOP = 3e4, 1.2e9
LARGEST = 2e7  # elements of an array


def rows(seed: int, count: int) -> list[Row]:
    fitting = itertools.islice(filter(_fits, _draws(random.Random(seed))), count)
    return [replace(row, name=f"{number}: {_words(row)}", set="drawn") for number, row in enumerate(fitting)]


def _words(row: Row) -> str:
    """Kernel, stride, dilation, groups, channels, pixels, batch and padding; what is 1 is left out, or 0 of padding."""
    marks = (("s", row.stride, 1), ("d", row.dilation, 1), ("g", (row.groups,), 1))
    settings = "".join(f"{mark}{_each(value)}" for mark, value, usual in marks if {*value} != {usual})
    text = f"{_each(row.weight[2:], always=True)}{settings} {row.input[1]}-{row.weight[0]}@{_each(row.input[2:])}"
    text += f" N{row.input[0]}" * (row.input[0] > 1)
    return text + f" p{_each(row.padding)}" * any(row.padding)


def _each(values: tuple[int, ...], always: bool = False) -> str:
    return "x".join(map(str, values if always or len({*values}) > 1 else values[:1]))


def _draws(source: random.Random) -> Iterator[Row]:
    while True:
        size, kernel = _size_and_kernel(source)
        channels = source.choice(CHANNELS)
        outputs, groups = _outputs_and_groups(source, channels)
        stride = (source.choice((1, 1, 1, 1, 2, 2, 3)),) * len(size)
        if source.random() < 0.1:
            stride = source.choice((kernel, (4,) * len(size)))
        dilation = source.choice((1, 1, 1, 1, 1, 2, 3)) if max(stride) == 1 else 1
        padding = source.choice((None, None, 0, tuple(int(k > 1) for k in kernel)))
        if padding is None:
            padding = tuple(dilation * (k // 2) for k in kernel)
        batch = source.choice((1, 1, 1, 1, 2, 4, 8))
        bias = source.random() < 0.7
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
        yield layer("", channels, size, kernel, outputs=outputs, batch=batch, **settings)


def _size_and_kernel(source: random.Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    axes = source.choices((1, 2, 3), (22, 70, 8))[0]
    if axes == 1:
        return (int(10 ** source.uniform(1, 4.3)),), (source.choice(TAPS),)
    if axes == 2:
        rows = int(2 ** source.uniform(1, 8.2))
        return (rows, max(1, int(rows * source.choice((0.5, 1, 1, 1, 1.5))))), source.choice(PLANES)
    rows = source.choice((5, 7, 8, 12, 16, 24))
    return (source.choice((3, 4, 8, 9, 16, 24)), rows, rows + source.choice((0, 0, 1, 3))), source.choice(CUBES)


def _outputs_and_groups(source: random.Random, channels: int) -> tuple[int, int]:
    """One in seven rows is depthwise, one in seven has other groups."""
    kind = source.random()
    if kind < 0.15:
        return channels * source.choice((1, 1, 1, 2)), channels
    possible = [groups for groups in GROUPS if channels % groups == 0 and channels > groups]
    if kind < 0.3 and possible:
        groups = source.choice(possible)
        return source.choice((channels, groups * source.choice((1, 2, 4, 8, 12, 16)))), groups
    return source.choice(CHANNELS), 1


def _fits(row: Row) -> bool:
    sizes = zip(row.input[2:], row.padding, row.spans, strict=True)
    if any(n + 2 * p < span for n, p, span in sizes):
        return False
    return FLOP[0] < row.flop < FLOP[1] and max(map(math.prod, (row.input, row.weight, row.output))) < LARGEST
