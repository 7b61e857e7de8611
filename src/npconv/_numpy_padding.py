"""What windows read of an image, padding included, in plain NumPy; and the way back of what was added there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from npconv.arguments import Array, DType


class Axis:
    """What the windows of some neighbouring outputs read along one axis, and where that is found in `covered`."""

    __slots__ = ("first", "inside", "kernel", "output_step", "outputs", "positions", "size", "stop", "tap_step")

    def __init__(
        self, outputs: range, size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]
    ) -> None:
        self.outputs, self.size, self.kernel = outputs, size, kernel
        self.first = outputs.start * stride - padding[0]
        self.stop = (outputs.stop - 1) * stride - padding[0] + (kernel - 1) * dilation + 1
        self.inside = self.first >= 0 and self.stop <= size
        self.tap_step, self.output_step = dilation, stride
        self.positions: Array | None = None

    def compact(self) -> None:
        """Where windows are far apart, an entry for each tap of each of them takes less than the whole stretch."""
        count = len(self.outputs)
        if self.stop - self.first > self.kernel * count:
            taps = numpy.arange(self.kernel, dtype=numpy.int64) * self.tap_step
            windows = numpy.arange(count, dtype=numpy.int64) * self.output_step
            self.positions = (self.first + taps[:, numpy.newaxis] + windows).ravel()
            self.tap_step, self.output_step = count, 1

    @property
    def sliceable(self) -> bool:
        return self.inside and self.positions is None

    @property
    def growth(self) -> float:
        """The length of this axis in `covered` relative to the source; 0 where it costs no copy."""
        if self.sliceable:
            return 0
        return (self.stop - self.first if self.positions is None else len(self.positions)) / self.size


def covered(source: Array, axes: list[Axis], mode: str, dtype: DType) -> Array:
    """What the windows cover of (samples, channels, *spatial), padding included; a view where no padding is met."""
    if all(axis.inside for axis in axes):
        return _at(source, 2, *(slice(axis.first, axis.stop) for axis in axes))
    for axis in axes:
        axis.compact()
    if mode == "zeros" and all(axis.positions is None for axis in axes):
        return _zero_padded(source, axes, dtype)
    # What narrows the source most comes first, so that copies in between stay small.
    for number in sorted(range(len(axes)), key=lambda number: axes[number].growth):
        source = _gathered(source, number + 2, axes[number], mode)
    return source


def _zero_padded(source: Array, axes: list[Axis], dtype: DType) -> Array:
    padded = numpy.zeros((*source.shape[:2], *(axis.stop - axis.first for axis in axes)), dtype)
    read, write = [], []
    for axis in axes:
        start, stop = max(axis.first, 0), min(axis.stop, axis.size)
        if start >= stop:
            return padded
        read.append(slice(start, stop))
        write.append(slice(start - axis.first, stop - axis.first))
    numpy.copyto(_at(padded, 2, *write), _at(source, 2, *read), casting="unsafe")
    return padded


def _at(array: Array, axis: int, *index: slice | Array) -> Array:
    """The array indexed from an axis on."""
    everything: tuple[slice | Array, ...] = (slice(None),) * axis
    part: Array = array[everything + index]
    return part


def _gathered(source: Array, number: int, axis: Axis, mode: str) -> Array:
    """The source with one axis as `covered` wants it."""
    if axis.sliceable:
        return _at(source, number, slice(axis.first, axis.stop))
    positions = numpy.arange(axis.first, axis.stop, dtype=numpy.int64) if axis.positions is None else axis.positions
    gathered = _at(source, number, _border(positions, axis.size, mode))
    if mode == "zeros":
        gathered.swapaxes(0, number)[(positions < 0) | (positions >= axis.size)] = 0
    return gathered


def _border(positions: Array, size: int, mode: str) -> Array:
    """The elements of an axis that stand at positions in and around it."""
    if mode == "circular":
        elements = positions % size
    elif mode == "reflect":
        elements = size - 1 - numpy.abs(size - 1 - numpy.abs(positions))
    elif mode == "symmetric":
        elements = positions % (2 * size)
        elements = numpy.minimum(elements, 2 * size - 1 - elements)
    else:
        elements = positions.clip(0, size - 1)
    return elements


def fold_border(padded: Array, number: int, size: int, pair: tuple[int, int], mode: str) -> Array:
    """What is left of an axis of `size` and its padding when each element of that is added to the one it repeats."""
    folded = _at(padded, number, slice(pair[0], pair[0] + size)).copy()
    sides = (-pair[0], 0, slice(0, pair[0])), (size, size + pair[1], slice(pair[0] + size, None))
    for first, stop, side in sides:
        border, target = _at(padded, number, side).swapaxes(0, number), folded.swapaxes(0, number)
        elements = _border(numpy.arange(first, stop, dtype=numpy.int64), size, mode)
        if mode == "replicate":
            target[elements[:1]] += border.sum(0, dtype=border.dtype)
        else:
            target[elements] += border  # no element twice on one side
    return folded
