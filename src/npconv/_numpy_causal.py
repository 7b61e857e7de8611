"""Sums over taps in plain NumPy, one multiplication and one addition of arrays for each channel and tap.

A matrix product would be faster, but BLAS libraries add in an order that depends on the shape. These are elementwise
operations on real numbers, which round alike wherever an element lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

from npconv._numpy import compute_dtype

if TYPE_CHECKING:
    from npconv.arguments import Array
    from npconv.problem import Problem

BLOCK_BYTES = 1 << 18


def sum_taps(image: Array, weight: Array, bias: Array | None, problem: Problem) -> Array:
    """The sums ``(N, K, L)`` of a convolution of one axis without stride or padding, in the type of sums."""
    p, dtype = problem, compute_dtype(problem.dtype)
    batch, outputs = image.shape[0], p.output_channels
    length = image.shape[2] - (p.kernel_size[0] - 1) * p.dilation[0]
    step = max(16, BLOCK_BYTES // (batch * outputs * dtype.itemsize))
    images = image.astype(dtype, copy=False).reshape(batch, p.groups, -1, 1, image.shape[2])
    weights = weight.astype(dtype, copy=False).reshape(p.groups, outputs // p.groups, *weight.shape[1:], 1)
    sums = numpy.zeros((batch, p.groups, outputs // p.groups, length), dtype)
    if bias is not None:
        sums += bias.astype(dtype).reshape(p.groups, -1, 1)
    with numpy.errstate(all="ignore"):
        for start in range(0, length, step):
            stop = min(start + step, length)
            reach = stop + image.shape[2] - length
            _add_taps(sums[..., start:stop], images[..., start:reach], weights, p.dilation[0])
    return sums.reshape(batch, outputs, length)


def _add_taps(sums: Array, images: Array, weights: Array, dilation: int) -> None:
    """Complex numbers by parts: NumPy may fuse their multiplication and addition or not, as arrays lie."""
    if sums.dtype.kind != "c":
        _add_products(sums, images, weights, dilation, numpy.add)
        return
    _add_products(sums.real, images.real, weights.real, dilation, numpy.add)
    _add_products(sums.real, images.imag, weights.imag, dilation, numpy.subtract)
    _add_products(sums.imag, images.imag, weights.real, dilation, numpy.add)
    _add_products(sums.imag, images.real, weights.imag, dilation, numpy.add)


def _add_products(sums: Array, images: Array, weights: Array, dilation: int, add: numpy.ufunc) -> None:
    product = numpy.empty(sums.shape, sums.dtype)
    length = sums.shape[-1]
    for channel in range(weights.shape[2]):
        for tap in range(weights.shape[3]):
            window = images[:, :, channel, :, tap * dilation : tap * dilation + length]
            numpy.multiply(window, weights[:, :, channel, tap], out=product)
            add(sums, product, out=sums)
