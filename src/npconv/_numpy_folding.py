"""`unfold` and `fold` in plain NumPy: one strided copy, or addition, for each tap of the kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from npconv.arguments import Array
    from npconv.problem import Problem

_Slices = tuple[slice, ...]


class NumpyFolding:
    """The function that a problem names, for any arrays of its shapes."""

    backend = "numpy"
    threads = 1

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def run(self, input: Array, out: Array) -> None:
        p = self._problem
        if p.batch == 0:
            return
        if p.operation == "fold":
            self._fold(input.reshape(p.batch, p.input_channels, math.prod(p.kernel_size), -1), self._image(out))
        else:
            self._unfold(self._image(input), out.reshape(p.batch, p.input_channels, math.prod(p.kernel_size), -1))

    def _image(self, array: Array) -> Array:
        return array if self._problem.batched else array[numpy.newaxis]

    def _unfold(self, image: Array, columns: Array) -> None:
        padded = any(map(any, self._problem.padding))
        for number, windows, pixels in self._taps():
            target = self._windows(columns, number)
            if padded:
                target[...] = 0
            target[windows] = image[pixels]

    def _fold(self, columns: Array, image: Array) -> None:
        half = image.dtype == numpy.float16
        sums = numpy.zeros(image.shape, numpy.float32) if half else image
        if not half:
            sums[...] = 0
        with numpy.errstate(all="ignore"):
            for number, windows, pixels in self._taps():
                sums[pixels] += self._windows(columns, number)[windows]
            if half:
                numpy.copyto(image, sums, casting="same_kind")

    def _windows(self, columns: Array, number: int) -> Array:
        """A view of one tap's windows as (batch, channels, *spatial)."""
        p = self._problem
        return columns[:, :, number].reshape(p.batch, p.input_channels, *p.output_size)

    def _taps(self) -> Iterator[tuple[int, _Slices, _Slices]]:
        """Each tap's number, its windows over the image, and the pixels under them, both with batch and channels."""
        p = self._problem
        everything = (slice(None), slice(None))
        axes = zip(p.kernel_size, p.output_size, p.input_size, p.stride, p.dilation, p.padding, strict=True)
        for number, taps in enumerate(itertools.product(*(_axis_taps(*axis) for axis in axes))):
            if None not in taps:
                windows, pixels = zip(*[tap for tap in taps if tap is not None], strict=True)
                yield number, everything + windows, everything + pixels
            else:
                yield number, everything + (slice(0, 0),) * len(taps), everything + (slice(0, 0),) * len(taps)


def _axis_taps(
    kernel: int, windows: int, size: int, stride: int, dilation: int, padding: tuple[int, int]
) -> list[tuple[slice, slice] | None]:
    """For each tap of an axis its windows over the image and the pixels under them, None where there are none."""
    taps: list[tuple[slice, slice] | None] = []
    for tap in range(kernel):
        offset = tap * dilation - padding[0]
        first = max(0, -(offset // stride))
        last = min(windows, (size - 1 - offset) // stride + 1)
        pixels = slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)
        taps.append((slice(first, last), pixels) if first < last else None)
    return taps
