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
from typing import TYPE_CHECKING, Any, Protocol

import numpy
from numpy.lib.stride_tricks import as_strided

from npconv import _numpy, _numpy_padding

if TYPE_CHECKING:
    from npconv.arguments import Array
    from npconv.backend import ConvolutionPlan, WholePlan
    from npconv.problem import Problem

    Index = tuple[Any, ...]
    TakeKernels = Callable[[Array, Array], Array]
    PlanWhole = Callable[[Problem], WholePlan | None] | None


class PlanConvolution(Protocol):
    """Plans one; `turned`: its weights may lie as those of the transpose."""

    def __call__(self, problem: Problem, /, *, turned: bool) -> ConvolutionPlan: ...


JOINED = 8  # phases, from which on one convolution makes them all
SMALL = 256  # elements of a weight that is read where it lies: less than the cost of asking for memory


@dataclass(frozen=True, slots=True)
class _AxisPhase:
    """What the outputs that share a place between two steps are along one axis, or those of neighbouring places."""

    first: int  # tap of the first place
    step: int  # from tap to tap
    count: int  # of taps
    dilation: int
    place: int
    places: int  # neighbours, whose taps are neighbours too
    size: int  # outputs of each place
    inputs: slice
    padding: tuple[int, int]

    @property
    def input_size(self) -> int:
        size: int = self.inputs.stop - self.inputs.start
        return size

    @property
    def taps(self) -> Array:
        """Of every place a row, in the order of the convolution that makes it."""
        backwards = numpy.arange(self.count - 1, -1, -1, dtype=numpy.int64) * self.step
        return self.first + numpy.arange(self.places, dtype=numpy.int64)[:, numpy.newaxis] + backwards

    def follows(self, other: _AxisPhase) -> bool:
        """Whether a convolution that makes the other's outputs, with other weights makes these."""
        after = replace(other, first=other.first + other.places, place=other.place + other.places, places=1)
        return self == after

    def apart(self) -> Iterator[_AxisPhase]:
        for i in range(self.places):
            yield replace(self, first=self.first + i, place=self.place + i, places=1)


def _axis_phases(
    inputs: int, kernel: int, outputs: int, stride: int, dilation: int, padding: tuple[int, int]
) -> Iterator[_AxisPhase]:
    """Every place whose outputs read an input; the outputs of others are sums of nothing."""
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
            yield _AxisPhase(
                first=first,
                step=step,
                count=taps,
                dilation=spread if taps > 1 else 1,
                place=place,
                places=1,
                size=size,
                inputs=slice(max(-before, 0), inputs - max(-after, 0)),
                padding=(max(before, 0), max(after, 0)),
            )


def _merged(phases: Iterator[_AxisPhase]) -> list[_AxisPhase]:
    """Neighbours that differ in their weights alone as one."""
    merged: list[_AxisPhase] = []
    for phase in phases:
        if merged and phase.follows(merged[-1]):
            merged[-1] = replace(merged[-1], places=merged[-1].places + 1)
        else:
            merged.append(phase)
    return merged


def _contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[number + 1 :]) for number in range(len(shape)))


class _Phase:
    """The convolution that makes every `stride`-th output, or as more output channels those of several places."""

    def __init__(self, problem: Problem, axes: tuple[_AxisPhase, ...], plan: PlanConvolution) -> None:
        p = problem
        self._axes = axes
        self.places = tuple(axis.places for axis in axes)
        self.joined = math.prod(self.places)
        self._steps = p.stride
        # Channels (K, places) of more than one stride: the result is made elsewhere, and copied.
        self._lies_apart = sum(n > 1 for n in (p.output_channels, *self.places)) > 1
        size, channels = tuple(axis.size for axis in axes), p.output_channels * self.joined
        shape = (*size, channels) if p.channels_last else (channels, *size)
        self.problem = replace(
            p,
            operation="convolution",
            padding_mode="zeros",
            output_channels=channels,
            input_size=tuple(axis.input_size for axis in axes),
            kernel_size=tuple(axis.count for axis in axes),
            output_size=size,
            stride=(1,) * len(axes),
            dilation=tuple(axis.dilation for axis in axes),
            padding=tuple(axis.padding for axis in axes),
            output_shape=(p.batch, *shape) if p.batched else shape,
        )
        # Weights of one group, of which all taps are taken or one, are read where they lie if the algorithm turns them.
        whole = self.problem.kernel_size in (p.kernel_size, (1,) * len(axes))
        self._turned = self.joined == 1 and p.groups == 1 and p.input_channels > 1 and whole
        self.plan = plan(self.problem, turned=self._turned)
        self.work = channels * math.prod(size) * math.prod(self.problem.kernel_size)
        self.taps = self._flat_taps(p.kernel_size)
        self._lying = self._lying_weight(p)
        self._beside = self._places_beside(p)
        last = (slice(None),) * p.channels_last
        outputs = (slice(axis.place, None, step) for axis, step in zip(axes, p.stride, strict=True))
        self._contiguous = self._places_in(p.output_shape, _contiguous_strides(p.output_shape, p.dtype.itemsize))
        self._read: Index = (..., *(axis.inputs for axis in axes), *last)
        self._write: Index = (..., *outputs, *last)

    def _flat_taps(self, kernel: tuple[int, ...]) -> Array:
        """Where the weight has the taps, (places, taps), all axes as one."""
        count, flat = len(kernel), numpy.zeros((1,) * 2 * len(kernel), numpy.int64)
        for number, axis in enumerate(self._axes):
            shape = [1] * 2 * count
            shape[number], shape[count + number] = axis.places, axis.count
            flat = flat + axis.taps.reshape(shape) * math.prod(kernel[number + 1 :])
        return numpy.ascontiguousarray(flat.reshape(self.joined, -1))

    def _lying_weight(self, problem: Problem) -> Index | None:
        """The taps of the weight, if the convolution had better read them where they lie."""
        inputs = problem.input_channels // problem.groups
        small = math.prod(problem.kernel_size) * problem.output_channels * inputs <= SMALL and problem.groups == 1
        turned = self._turned and self.plan.turns_taps >= math.prod(self.problem.kernel_size)
        if self.joined > 1 or not (small or turned or inputs == 1):
            return None
        return (..., *(slice(axis.first + axis.step * (axis.count - 1), None, -axis.step) for axis in self._axes))

    def _places_beside(self, problem: Problem) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
        """Where and how far apart a contiguous weight has places and taps, if a view has them in order."""
        if problem.output_channels > 1 or self.plan.turns_taps == 0 or sum(n > 1 for n in self.places) != 1:
            return None
        after = [math.prod(problem.kernel_size[number + 1 :]) for number in range(problem.spatial_axes)]
        first = sum((axis.first + axis.step * (axis.count - 1)) * n for axis, n in zip(self._axes, after, strict=True))
        place = sum(n for axis, n in zip(self._axes, after, strict=True) if axis.places > 1)
        steps = (-axis.step * n for axis, n in zip(self._axes, after, strict=True))
        shape = self.joined, problem.input_channels, *self.problem.kernel_size
        return first, shape, (place, math.prod(problem.kernel_size), *steps)

    def weight(self, weight: Array) -> Array | None:
        """That of the convolution, if it had better be read where it lies."""
        if self._beside is not None and weight.flags.c_contiguous:
            first, shape, steps = self._beside
            size = weight.itemsize
            return numpy.ndarray(shape, weight.dtype, weight, first * size, tuple(step * size for step in steps))
        if self._lying is None:
            return None
        taps = weight[self._lying]
        return taps.reshape(-1, 1, *taps.shape[2:]) if len(weight) == self.problem.groups else taps.swapaxes(0, 1)

    def run(self, input: Array, kernels: Array, bias: Array | None, out: Array, packed: Any) -> None:
        """`out` is the whole result."""
        p = self.problem
        if self.joined == 1:
            self.plan.run(input[self._read], kernels, bias, out[self._write], packed)
            return
        offset, shape, strides = self._contiguous
        if out.flags.c_contiguous:
            target = numpy.ndarray(shape, out.dtype, out, offset, strides)  # a tenth of the time of as_strided
        else:
            target = as_strided(out[self._write], *self._places_in(out.shape, out.strides)[1:])
        made = numpy.empty(p.output_shape, p.dtype) if self._lies_apart else target.reshape(p.output_shape)
        repeated = None if bias is None else numpy.repeat(bias, self.joined)
        self.plan.run(input[self._read], kernels, repeated, made, packed)
        if self._lies_apart:
            numpy.copyto(target, made.reshape(target.shape))

    def _places_in(
        self, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        """Of a whole result with these the view whose channels (K, places) and pixels are those of the convolution.

        Where it begins, in bytes, its shape and its strides.
        """
        p, axes = self.problem, len(self._axes)
        first = len(shape) - axes - p.channels_last
        channel = len(shape) - 1 if p.channels_last else first - 1
        pixels = strides[first : first + axes]
        offset = sum(axis.place * stride for axis, stride in zip(self._axes, pixels, strict=True))
        view, apart = list(shape), list(strides)
        view[first : first + axes] = p.output_size
        apart[first : first + axes] = [stride * step for stride, step in zip(pixels, self._steps, strict=True)]
        view[channel : channel + 1] = [shape[channel], *self.places]
        apart[channel : channel + 1] = [strides[channel], *pixels]
        return offset, tuple(view), tuple(apart)


class TransposedPlan:
    """The convolutions of all phases. What it packs of a weight are the weights of each, in that one's own order."""

    def __init__(
        self, problem: Problem, backend: str, plan: PlanConvolution, kernels: TakeKernels, whole: PlanWhole
    ) -> None:
        self._problem = p = problem
        given = zip(p.input_size, p.kernel_size, p.output_size, p.stride, p.dilation, p.padding, strict=True)
        merged = [_merged(_axis_phases(*axis)) for axis in given]
        self._phases: list[_Phase] = []
        for chosen in itertools.product(*merged):
            joined = math.prod(axis.places for axis in chosen) >= JOINED
            each = [chosen] if joined else itertools.product(*(axis.apart() for axis in chosen))
            self._phases += [_Phase(problem, axes, plan) for axes in each]
        made = math.prod(sum(axis.places * axis.size for axis in axes) for axes in merged)
        self._leaves_out = made < math.prod(p.output_size)
        self._take_kernels = kernels
        self.backend = backend
        plans = [phase.plan for phase in sorted(self._phases, key=lambda phase: -phase.work)]
        self.algorithm = ", ".join(dict.fromkeys(plan.algorithm for plan in plans)) or "none"
        self.isa = plans[0].isa if plans else "none"
        self.threads = max((plan.threads for plan in plans), default=1)
        self.workspace_bytes = max((plan.workspace_bytes for plan in plans), default=0)
        self.refused = plans[0].refused if plans else ()
        self.packing: Any = tuple((phase.taps.tobytes(), phase.plan.packing) for phase in self._phases)
        self._whole = whole(problem) if whole else None
        if self._whole is not None:
            self.algorithm, self.isa, self.threads = self._whole.algorithm, self._whole.isa, self._whole.threads
            self.workspace_bytes, self.refused, self.packing = 0, (), None

    def pack(self, weight: Array) -> list[tuple[Array, Any]]:
        """For every phase the weights of its convolution, and what its plan packs of them."""
        packed = []
        for phase in self._phases:
            kernels = self._kernels(weight, phase)
            packed.append((kernels, None if phase.plan.packing is None else phase.plan.pack(kernels)))
        return packed

    def _kernels(self, weight: Array, phase: _Phase) -> Array:
        """The weights of a phase as ``(K * places, C // groups, *kernel)``."""
        p = self._problem
        inputs, outputs = p.input_channels // p.groups, p.output_channels // p.groups
        given = weight.reshape(p.groups, inputs, outputs, -1)
        taken = self._take_kernels(given, phase.taps)
        return taken.reshape(phase.problem.output_channels, inputs, *phase.problem.kernel_size)

    def run(self, input: Array, weight: Array, bias: Array | None, out: Array, packed: Any = None) -> None:
        if out.size == 0 or (self._whole is not None and self._whole.run(input, weight, bias, out)):
            return
        if self._leaves_out:
            self._fill(bias, out)
        for i, phase in enumerate(self._phases):
            if packed is not None:
                kernels, own = packed[i]
            else:
                kernels, own = phase.weight(weight), None
                if kernels is None:
                    kernels = self._kernels(weight, phase)
            phase.run(input, kernels, bias, out, own)

    def _fill(self, bias: Array | None, out: Array) -> None:
        """Gives outputs without a tap what a sum of nothing gives."""
        p = self._problem
        sums = numpy.zeros(1, out.dtype) if bias is None else bias
        value = _numpy.finish(sums, p.activation, p.dtype)
        numpy.copyto(out, value if p.channels_last else value.reshape(-1, *(1,) * p.spatial_axes))


class FoldedPlan:
    """The gradient of the input under a padding mode: that of the border goes to the pixels it was read from."""

    def __init__(
        self, problem: Problem, backend: str, plan: PlanConvolution, kernels: TakeKernels, whole: PlanWhole
    ) -> None:
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
        self._plan = inner = TransposedPlan(self._padded, backend, plan, kernels, whole)
        self.backend, self.algorithm, self.isa = backend, inner.algorithm, inner.isa
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
            padded = _numpy_padding.fold_border(padded, axis, size, pair, p.padding_mode)
        numpy.copyto(out, padded, casting="unsafe")


def plan(
    problem: Problem, backend: str, plan: PlanConvolution, kernels: TakeKernels, whole: PlanWhole
) -> TransposedPlan | FoldedPlan:
    """`plan` plans the convolutions; `kernels` takes (groups, C, K, taps) to (groups, K, places, C, taps); `whole`
    plans all phases at once, or does not."""
    folds = problem.padding_mode != "zeros" and any(map(any, problem.padding))
    return (FoldedPlan if folds else TransposedPlan)(problem, backend, plan, kernels, whole)
