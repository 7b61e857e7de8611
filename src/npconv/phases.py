"""Transposed convolution as convolutions: one for every place that an output can have between two steps of a stride.

Along one axis, tap t of input i adds to output i * stride + t * dilation - before. Outputs p, p + stride and so on see
the same taps, those whose t * dilation leaves the rest p + before modulo the stride: with g the greatest common divisor
of stride and dilation these are stride / g apart, and in reverse they are the kernel of a convolution with stride 1 and
dilation / g, whose results lie `stride` apart. So nothing is scattered, no input is spread out with zeros in between,
and every algorithm does its part. Padding may come out negative: then a part of the input is not read at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy

from npconv import _numpy

if TYPE_CHECKING:
    from npconv.arguments import Array
    from npconv.backend import ExecutionPlan
    from npconv.problem import Problem

    Index = tuple[Any, ...]
    PlanConvolution = Callable[[Problem], ExecutionPlan]


@dataclass(frozen=True, slots=True)
class _AxisPhase:
    """What the outputs that share a place between two steps are along one axis."""

    taps: slice  # of the kernel, in its own order
    count: int  # of them
    dilation: int
    outputs: slice
    size: int  # of them
    inputs: slice
    input_size: int
    padding: tuple[int, int]


def _axis_phases(
    inputs: int, kernel: int, outputs: int, stride: int, dilation: int, padding: tuple[int, int]
) -> Iterator[_AxisPhase]:
    """Every phase that reads an input; the outputs of others are sums of nothing."""
    divisor = math.gcd(stride, dilation)
    step, spread = stride // divisor, dilation // divisor
    for first in range(min(step, kernel)):
        place = (first * dilation - padding[0]) % stride
        if place >= outputs:
            continue
        taps, size = len(range(first, kernel, step)), -((place - outputs) // stride)
        newest = (place + padding[0] - first * dilation) // stride  # input under the first tap of the first output
        before, after = (taps - 1) * spread - newest, size + newest - inputs
        if -before < inputs and size - 1 + newest >= 0:
            read = slice(max(-before, 0), inputs - max(-after, 0))
            yield _AxisPhase(
                taps=slice(first, kernel, step),
                count=taps,
                dilation=spread if taps > 1 else 1,
                outputs=slice(place, outputs, stride),
                size=size,
                inputs=read,
                input_size=read.stop - read.start,
                padding=(max(before, 0), max(after, 0)),
            )


class _Phase:
    """The convolution that makes every `stride`-th output."""

    __slots__ = ("plan", "read", "size", "taps", "write")

    def __init__(self, problem: Problem, axes: tuple[_AxisPhase, ...], plan: PlanConvolution) -> None:
        size = tuple(axis.size for axis in axes)
        shape = (*size, problem.output_channels) if problem.channels_last else (problem.output_channels, *size)
        phase = replace(
            problem,
            operation="convolution",
            padding_mode="zeros",
            input_size=tuple(axis.input_size for axis in axes),
            kernel_size=tuple(axis.count for axis in axes),
            output_size=size,
            stride=(1,) * len(axes),
            dilation=tuple(axis.dilation for axis in axes),
            padding=tuple(axis.padding for axis in axes),
            output_shape=(problem.batch, *shape) if problem.batched else shape,
        )
        channels = (slice(None),) * problem.channels_last
        self.plan = plan(phase)
        self.size = math.prod(size) * math.prod(phase.kernel_size)
        self.taps: Index = (..., *(axis.taps for axis in axes))
        self.read: Index = (..., *(axis.inputs for axis in axes), *channels)
        self.write: Index = (..., *(axis.outputs for axis in axes), *channels)


class TransposedPlan:
    """The convolutions of all phases. What it packs of a weight are the weights of each, in that one's own order."""

    def __init__(self, problem: Problem, backend: str, plan: PlanConvolution) -> None:
        self._problem = p = problem
        given = zip(p.input_size, p.kernel_size, p.output_size, p.stride, p.dilation, p.padding, strict=True)
        axes = [tuple(_axis_phases(*axis)) for axis in given]
        self._phases = tuple(_Phase(problem, chosen, plan) for chosen in itertools.product(*axes))
        made = math.prod(sum(phase.size for phase in phases) for phases in axes)
        self._leaves_out = made < math.prod(p.output_size)
        plans = [phase.plan for phase in sorted(self._phases, key=lambda phase: -phase.size)]
        self.backend = backend
        self.algorithm = ", ".join(dict.fromkeys(plan.algorithm for plan in plans)) or "none"
        self.isa = plans[0].isa if plans else "none"
        self.threads = max((plan.threads for plan in plans), default=1)
        self.workspace_bytes = max((plan.workspace_bytes for plan in plans), default=0)
        self.refused = plans[0].refused if plans else ()
        self.packing = tuple((repr(phase.taps), phase.plan.packing) for phase in self._phases)

    def pack(self, weight: Array) -> list[tuple[Array, Any]]:
        """For every phase the weights of its convolution, and what its plan packs of them."""
        packed = []
        for phase in self._phases:
            kernels = self._kernels(weight, phase)
            packed.append((kernels, None if phase.plan.packing is None else phase.plan.pack(kernels)))
        return packed

    def _kernels(self, weight: Array, phase: _Phase) -> Array:
        """The taps of a phase as ``(K, C // groups, *kernel)``."""
        p = self._problem
        inputs, outputs = p.input_channels // p.groups, p.output_channels // p.groups
        taps = weight.reshape(p.groups, inputs, outputs, *p.kernel_size)[phase.taps]
        flipped = numpy.flip(taps.swapaxes(1, 2), tuple(range(3, taps.ndim)))
        return numpy.ascontiguousarray(flipped).reshape(p.output_channels, inputs, *taps.shape[3:])

    def run(self, input: Array, weight: Array, bias: Array | None, out: Array, packed: Any = None) -> None:
        if out.size == 0:
            return
        if self._leaves_out:
            self._fill(bias, out)
        for i, phase in enumerate(self._phases):
            kernels, own = (self._kernels(weight, phase), None) if packed is None else packed[i]
            phase.plan.run(input[phase.read], kernels, bias, out[phase.write], own)

    def _fill(self, bias: Array | None, out: Array) -> None:
        """Gives outputs without a tap what a sum of nothing gives."""
        p = self._problem
        sums = numpy.zeros(1, out.dtype) if bias is None else bias
        value = _numpy.finish(sums, p.activation, p.dtype)
        numpy.copyto(out, value if p.channels_last else value.reshape(-1, *(1,) * p.spatial_axes))


class FoldedPlan:
    """The gradient of the input under a padding mode: that of the border goes to the pixels it was read from."""

    def __init__(self, problem: Problem, backend: str, plan: PlanConvolution) -> None:
        self._problem = p = problem
        size = tuple(extent + sum(pair) for extent, pair in zip(p.output_size, p.padding, strict=True))
        shape = (*size, p.output_channels) if p.channels_last else (p.output_channels, *size)
        self._padded = replace(
            p,
            output_size=size,
            padding=((0, 0),) * p.spatial_axes,
            padding_mode="zeros",
            dtype=_numpy.compute_dtype(p.dtype),
            output_shape=(p.batch, *shape) if p.batched else shape,
        )
        self._plan = inner = TransposedPlan(self._padded, backend, plan)
        self.backend, self.algorithm, self.isa = inner.backend, inner.algorithm, inner.isa
        self.threads, self.refused, self.packing = inner.threads, inner.refused, inner.packing
        self.workspace_bytes = (
            inner.workspace_bytes + math.prod(self._padded.output_shape) * self._padded.dtype.itemsize
        )

    def pack(self, weight: Array) -> list[tuple[Array, Any]]:
        return self._plan.pack(weight)

    def run(self, input: Array, weight: Array, bias: Array | None, out: Array, packed: Any = None) -> None:
        if out.size == 0:
            return
        p = self._problem
        padded = numpy.empty(self._padded.output_shape, self._padded.dtype)
        self._plan.run(input, weight, bias, padded, packed)
        first = padded.ndim - p.spatial_axes - p.channels_last
        for axis, (size, pair) in enumerate(zip(p.output_size, p.padding, strict=True), first):
            padded = _numpy.fold_border(padded, axis, size, pair, p.padding_mode)
        numpy.copyto(out, padded, casting="unsafe")


def plan(problem: Problem, backend: str, plan: PlanConvolution) -> TransposedPlan | FoldedPlan:
    """`plan` is what plans the convolutions."""
    if problem.padding_mode != "zeros" and any(map(any, problem.padding)):
        return FoldedPlan(problem, backend, plan)
    return TransposedPlan(problem, backend, plan)
