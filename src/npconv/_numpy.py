"""The convolution in plain NumPy: windows gathered block by block through strided views, then matrix products.

A block is as much of the result as about `BLOCK_BYTES` of scratch memory allow: samples, groups, and a box of pixels
that takes whole rows as long as they fit. With R = input channels of a group * taps, a block is

    columns (samples, groups, R, pixels)  =  the windows of the input, one strided copy
    product (samples, groups, K, pixels)  =  weights (groups, K, R) @ columns

which is im2col in bounded memory. Summing one product a tap in place needs no columns, but reads and writes the product
once a tap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy
from numpy.lib.stride_tricks import as_strided

from npconv._numpy_padding import Axis, covered

if TYPE_CHECKING:
    from npconv.arguments import Array, DType
    from npconv.options import Options
    from npconv.problem import Problem

ALGORITHMS = ("matmul",)
BLOCK_BYTES = 1 << 21
_Block = tuple[range, ...]  # of samples, of groups, and of outputs along each spatial axis


def plan(problem: Problem, options: Options) -> NumpyPlan:
    if options.algorithm not in (None, *ALGORITHMS):
        raise ValueError(
            f"{problem.function}: the numpy backend has no algorithm {options.algorithm!r}, only {ALGORITHMS[0]!r}"
        )
    return NumpyPlan(problem)


class NumpyPlan:
    """How a problem is cut into blocks."""

    backend = "numpy"
    algorithm = "matmul"
    isa = "numpy"
    threads = 1  # of our own; the BLAS library of NumPy may use more
    packing = None
    turns_taps = 0
    refused: tuple[tuple[str, str], ...] = ()

    def __init__(self, problem: Problem) -> None:
        p = self._problem = problem
        self._group_inputs = p.input_channels // p.groups
        self._group_outputs = p.output_channels // p.groups
        self._reduction = self._group_inputs * math.prod(p.kernel_size)
        computed = _compute_dtypes(p.dtype)[-1]
        # An activation needs room beside the product, and so does the way back from float64 to integers.
        pixel_bytes = (self._reduction + 3 * self._group_outputs) * computed.itemsize
        pixels = math.prod(p.output_size)
        room = max(1, BLOCK_BYTES // pixel_bytes)
        samples = min(max(1, room // (pixels * p.groups)), max(1, p.batch))
        groups = min(max(1, room // pixels), p.groups)
        box = _box(p.output_size, max(1, room // groups))
        self._steps = (samples, groups, *box)
        padded = self._group_inputs * math.prod(map(_padded_length, box, p.kernel_size, p.stride, p.dilation))
        self.workspace_bytes = samples * groups * (pixel_bytes * math.prod(box) + padded * computed.itemsize)
        if p.weight_dtype != computed:
            row = groups * self._reduction * computed.itemsize
            self.workspace_bytes += row * _rows_at_once(row, self._group_outputs)

    def pack(self, weight: Array) -> None:
        """Nothing: weights are used as they are."""

    def run(self, input: Array, weight: Array, bias: Array | None, out: Array, packed: None = None) -> None:
        if out.size == 0:
            return
        p = self._problem
        image, result = self._channels_first(input), self._channels_first(out)
        weights = weight.reshape(p.groups, self._group_outputs, self._reduction)
        dtype = self._compute_dtype(self._reduction, image, weight)
        with numpy.errstate(all="ignore"):
            offsets = None if bias is None else bias.astype(_compute_dtypes(p.dtype)[0]).reshape(p.groups, -1, 1)
            for block in _blocks((p.batch, p.groups, *p.output_size), self._steps):
                product = self._product(image, weights, offsets, block, dtype)
                self._store(product, result, block)
                del product  # before the next block asks for as much again

    def _product(self, image: Array, weights: Array, offsets: Array | None, block: _Block, dtype: DType) -> Array:
        """The result of a block, as (samples, groups, group outputs, pixels)."""
        p, groups = self._problem, _slice(block[1])
        product = _multiply(weights[groups], self._columns(image, block, dtype), dtype)
        if p.dtype.kind in "iu" and dtype.kind == "f":
            product = product.astype(numpy.int64).astype(p.dtype, copy=False)
        if offsets is not None:
            product += offsets[groups]
        return product if p.activation is None else _activate(product, *p.activation)

    def _channels_first(self, array: Array) -> Array:
        if not self._problem.batched:
            array = array[numpy.newaxis]
        return numpy.moveaxis(array, -1, 1) if self._problem.channels_last else array

    def _compute_dtype(self, products: int, first: Array, second: Array) -> DType:
        """The type of sums of so many. Integers go through BLAS as float64 where every partial sum is exact in it."""
        own, *exact = _compute_dtypes(self._problem.dtype)
        if exact and products * _largest(first) * _largest(second) <= 2**53:
            return exact[0]
        return own

    def _columns(self, image: Array, block: _Block, dtype: DType) -> Array:
        """The windows of a block as (samples, groups, reduction, pixels)."""
        p = self._problem
        samples, groups, *outputs = block
        given = zip(outputs, p.input_size, p.kernel_size, p.stride, p.dilation, p.padding, strict=True)
        axes = [Axis(*axis) for axis in given]
        source = covered(image[_slice(samples), _slice(groups, self._group_inputs)], axes, p.padding_mode, dtype)
        # Axes of one window or one tap are left out: NumPy's limit on axes holds for the view as well.
        spatial = list(zip(axes, source.strides[2:], strict=True))
        taps = [(axis.kernel, step * axis.tap_step) for axis, step in spatial if axis.kernel > 1]
        windows = [(len(axis.outputs), step * axis.output_step) for axis, step in spatial if len(axis.outputs) > 1]
        sample, channel = source.strides[:2]
        view = [
            (source.shape[0], sample),
            (source.shape[1] // self._group_inputs, channel * self._group_inputs),
            (self._group_inputs, channel),
            *taps,
            *windows,
        ]
        shape, strides = zip(*view, strict=True)
        columns = as_strided(source, shape, strides, writeable=False).astype(dtype, order="C", copy=False)
        return columns.reshape(*shape[:2], self._reduction, -1)

    def _store(self, product: Array, result: Array, block: _Block) -> None:
        samples, groups, *outputs = block
        into = result[(_slice(samples), _slice(groups, self._group_outputs), *map(_slice, outputs))]
        numpy.copyto(into, product.reshape(into.shape), casting="unsafe")


class WeightGradientPlan(NumpyPlan):
    """The gradient of a convolution's weight, over the same blocks: the product of the gradient with the windows."""

    def run(self, input: Array, weight: Array, bias: Array | None, out: Array, packed: None = None) -> None:
        """`weight` is the gradient of the output, `out` becomes that of the weight."""
        p = self._problem
        image, gradient = self._channels_first(input), self._channels_first(weight)
        sums = numpy.zeros((p.groups, self._group_outputs, self._reduction), compute_dtype(p.dtype))
        samples, _, *box = self._steps
        dtype = self._compute_dtype(samples * math.prod(box), image, gradient) if p.batch else sums.dtype
        with numpy.errstate(all="ignore"):
            for block in _blocks((p.batch, p.groups, *p.output_size), self._steps):
                self._add(sums, image, gradient, block, dtype)
            numpy.copyto(out, sums.reshape(out.shape), casting="unsafe")

    def _add(self, sums: Array, image: Array, gradient: Array, block: _Block, dtype: DType) -> None:
        samples, groups, *outputs = block
        columns = self._columns(image, block, dtype)
        part = gradient[(_slice(samples), _slice(groups, self._group_outputs), *map(_slice, outputs))]
        part = part.astype(dtype, copy=False).reshape(len(samples), len(groups), self._group_outputs, -1)
        into = sums[_slice(groups)]
        for sample in range(len(samples)):
            windows = columns[sample].swapaxes(-1, -2)
            if dtype.kind == "c":
                windows = windows.conj()
            product = numpy.empty((len(groups), self._group_outputs, self._reduction), dtype)
            if dtype.char in "fdFD":
                numpy.matmul(part[sample], windows, out=product)
            else:
                numpy.einsum("gkp,gpr->gkr", part[sample], windows, out=product)
            into += product if product.dtype == into.dtype else product.astype(numpy.int64).astype(into.dtype)


def _multiply(weights: Array, columns: Array, dtype: DType) -> Array:
    """weights (groups, K, R) @ columns (samples, groups, R, pixels), the weights converted a block at a time."""
    samples, groups, reduction, pixels = columns.shape
    outputs = weights.shape[1]
    product = numpy.empty((samples, groups, outputs, pixels), dtype)
    step = outputs if weights.dtype == dtype else _rows_at_once(groups * reduction * dtype.itemsize, outputs)
    for start in range(0, outputs, step):
        rows = slice(start, start + step)
        _sum_products(weights[:, rows].astype(dtype, copy=False), columns, product[:, :, rows])
    return product


def _sum_products(weights: Array, columns: Array, out: Array) -> None:
    if out.dtype.char in "fdFD":
        numpy.matmul(weights, columns, out=out)
    else:  # no BLAS, and einsum is faster than matmul's own loops
        numpy.einsum("gkr,ngrp->ngkp", weights, columns, out=out)


def _activate(x: Array, name: str, a: float, b: float) -> Array:
    """What becomes of x, which may be overwritten."""
    if name == "clip":
        numpy.clip(x, x.dtype.type(a), x.dtype.type(b), out=x)
    elif name == "leaky_relu":
        numpy.multiply(x, x.dtype.type(a), out=x, where=x < 0)
    elif name == "tanh":
        numpy.tanh(x, out=x)
    elif name == "hardswish":
        numpy.divide(x * numpy.clip(x + 3, 0, 6), 6, out=x)
    else:
        gate = 1 / (1 + numpy.exp(-x))  # e^-x overflows to infinity, which makes the 0 it should
        numpy.copyto(x, x * gate if name == "silu" else gate)
    return x


def slope(x: Array, activation: str | tuple[Any, ...]) -> Array:
    """The derivative of an activation at these sums, as a caller names it; at kinks what torch makes of it."""
    name, *numbers = (activation,) if isinstance(activation, str) else activation
    x = x.astype(compute_dtype(x.dtype), copy=False)
    derivative: Array
    with numpy.errstate(all="ignore"):
        if name == "clip":
            derivative = (x >= numbers[0]) & (x <= numbers[1])
        elif name in ("relu", "relu6"):
            derivative = (x > 0) & ((x < 6) | (name == "relu"))
        elif name == "leaky_relu":
            derivative = numpy.where(x > 0, x.dtype.type(1), x.dtype.type(numbers[0]))
        elif name == "hardswish":
            derivative = numpy.where(x > -3, numpy.where(x < 3, x / 3 + x.dtype.type(0.5), 1), 0)
        elif name == "tanh":
            derivative = 1 - numpy.square(numpy.tanh(x))
        else:
            gate = 1 / (1 + numpy.exp(-x))
            derivative = gate * (1 - gate) * (x if name == "silu" else 1) + (gate if name == "silu" else 0)
        return derivative.astype(x.dtype, copy=False)


def sum_but(array: Array, axis: int, dtype: DType) -> Array:
    """The sums over all axes but one, floats through double precision."""
    wide = numpy.dtype(numpy.float64) if dtype.kind == "f" and dtype.itemsize < 8 else dtype
    if dtype == numpy.complex64:
        wide = numpy.dtype(numpy.complex128)
    others = tuple(number for number in range(array.ndim) if number != axis)
    with numpy.errstate(all="ignore"):
        total: Array = array.sum(others, dtype=wide)
        return total.astype(dtype, copy=False)


def take_kernels(weight: Array, taps: Array) -> Array:
    """(groups, inputs, outputs, taps) as (groups, outputs, places, inputs, taps): rows of `taps` are the places."""
    return numpy.ascontiguousarray(weight[..., taps].transpose(0, 2, 3, 1, 4))


def finish(sums: Array, activation: tuple[str, float, float] | None, dtype: DType) -> Array:
    """Sums as results of this type."""
    with numpy.errstate(all="ignore"):
        sums = sums.astype(compute_dtype(dtype))
        return (sums if activation is None else _activate(sums, *activation)).astype(dtype, copy=False)


def compute_dtype(dtype: DType) -> DType:
    """The type of sums for a result of this type."""
    return _compute_dtypes(dtype)[0]


def _compute_dtypes(dtype: DType) -> tuple[DType, ...]:
    """The type of sums for a result of this type; for wide integers then a faster one, exact for small sums only."""
    if dtype == numpy.float16:
        return (numpy.dtype(numpy.float32),)
    wide = dtype.kind in "iu" and dtype.itemsize >= 4  # for narrow ones einsum keeps up with BLAS
    return (dtype, numpy.dtype(numpy.float64)) if wide else (dtype,)


def _largest(array: Array) -> int:
    return max(int(array.max()), -int(array.min()))


def _padded_length(outputs: int, kernel: int, stride: int, dilation: int) -> int:
    return min((outputs - 1) * stride + (kernel - 1) * dilation + 1, kernel * outputs)


def _box(sizes: tuple[int, ...], room: int) -> tuple[int, ...]:
    """As many pixels as there is room for: whole trailing axes, then a band of the axis before them."""
    box: list[int] = []
    for size in reversed(sizes):
        extent = min(size, max(1, room))
        box.insert(0, extent)
        room //= extent
    return tuple(box)


def _blocks(sizes: tuple[int, ...], steps: tuple[int, ...]) -> Iterator[_Block]:
    """Ranges along every axis, together covering it; nested generators, since there may be very many."""
    if not sizes:
        yield ()
        return
    for start in range(0, sizes[0], steps[0]):
        first = range(start, min(start + steps[0], sizes[0]))
        for others in _blocks(sizes[1:], steps[1:]):
            yield (first, *others)


def _slice(indices: range, each: int = 1) -> slice:
    """The elements of an axis that has a number of them for each index."""
    return slice(indices.start * each, indices.stop * each)


def _rows_at_once(row_bytes: int, rows: int) -> int:
    """How many rows of weights are converted at a time."""
    return min(max(1, BLOCK_BYTES // row_bytes), rows)
