"""What is timed besides convolution: its transpose, its two gradients, `unfold` and `fold`, on the shapes of the rows.

A row's transposed convolution is the one that takes a result of its size back to an input of its size, so all but
`unfold` and `fold` have the row's own count of products.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
from rows import Row

import npconv

MODES = {
    "call": "calls on plain arrays",
    "layer": "layers with packed weights",
    "transposed": "transposed convolutions of plain arrays",
    "grad-input": "gradients of the input",
    "grad-weight": "gradients of the weight",
    "unfold": "windows laid out as columns",
    "fold": "columns added up to images",
}
OPERATIONS = tuple(MODES)[2:]
MOVING = ("unfold", "fold")  # bytes are counted, not products
LARGEST = 512 << 20  # bytes of columns: rows of more are left out

Arrays = tuple[numpy.ndarray, numpy.ndarray | None, numpy.ndarray | None]


def columns_shape(row: Row) -> tuple[int, ...]:
    """Of the result of `unfold`."""
    return row.input[0], row.input[1] * math.prod(row.weight[2:]), math.prod(row.output[2:])


def column_bytes(row: Row, dtype: str) -> int:
    return math.prod(columns_shape(row)) * numpy.dtype(dtype).itemsize


def output_padding(row: Row) -> tuple[int, ...]:
    """What the stride left over of the row's input."""
    axes = zip(row.input[2:], row.padding, row.spans, row.stride, strict=True)
    return tuple((n + 2 * p - span) % s for n, p, span, s in axes)


def arrays(row: Row, dtype: str, mode: str) -> Arrays:
    """The operands of a mode in the order in which npconv takes them, the same in every run."""
    if mode not in OPERATIONS:
        return row.arrays(dtype)
    input, weight, _ = row.arrays(dtype)
    if mode == "unfold":
        return input, None, None
    if mode == "fold":
        return _drawn(row, columns_shape(row), dtype), None, None
    result = _drawn(row, row.output, dtype)
    if mode == "transposed":
        return result, weight, _drawn(row, row.input[1:2], dtype) if row.bias else None
    return (weight, result, None) if mode == "grad-input" else (input, result, None)


def _drawn(row: Row, shape: tuple[int, ...], dtype: str) -> numpy.ndarray:
    random = numpy.random.default_rng(zlib.crc32(row.name.encode()) + 1)
    if numpy.dtype(dtype).kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 16, shape).astype(dtype)


def result_shape(row: Row, mode: str) -> tuple[int, ...]:
    if mode == "unfold":
        return columns_shape(row)
    return row.weight if mode == "grad-weight" else row.input


def by_npconv(row: Row, mode: str, operands: Arrays, settings: dict[str, Any]) -> Callable[[], numpy.ndarray]:
    """The call that is timed; `settings` are those of the row's convolution. A layer's mode gives the convolution."""
    if mode not in OPERATIONS:
        return partial(npconv.conv, *operands, **settings)
    first, second, third = operands
    if mode == "transposed":
        return partial(npconv.conv_transpose, first, second, third, output_padding=output_padding(row), **settings)
    if mode == "grad-input":
        return partial(npconv.grad.conv_input, row.input, first, second, **settings)
    if mode == "grad-weight":
        return partial(npconv.grad.conv_weight, first, row.weight, second, **settings)
    windows = {name: getattr(row, name) for name in ("dilation", "padding", "stride")}
    if mode == "unfold":
        return partial(npconv.unfold, first, row.weight[2:], **windows)
    return partial(npconv.fold, first, row.input[2:], row.weight[2:], **windows)
