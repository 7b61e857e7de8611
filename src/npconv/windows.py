"""As `problem`, for the windows of an image: what `unfold` and `fold` pose, validated, sized and worded.

They are the windows of a convolution with as many output channels as there are channels * taps, so the result is a
`Problem` of that convolution.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from npconv.arguments import Arguments, DType, brief
from npconv.axes import check_addressable, output_size, per_axis, resolve_padding
from npconv.problem import Problem

_OneOrPerAxis = int | tuple[int, ...]


class WindowArguments(NamedTuple):
    """One call as caches key it: canonical and hashable, not yet checked."""

    function: str
    input_shape: tuple[int, ...]
    input_dtype: DType
    output_size: _OneOrPerAxis | None  # of `fold`
    kernel_size: _OneOrPerAxis
    stride: _OneOrPerAxis
    padding: int | str | tuple[int | tuple[int, ...], ...]
    dilation: _OneOrPerAxis


class _Convolution(Arguments):
    """A call's arguments as those of a convolution, which `problem` knows how to resolve."""

    __slots__ = ()

    @property
    def shapes(self) -> str:
        return f"input shape {self.input_shape}, kernel_size {self.weight_shape[2:]}"


def build_windows(call: WindowArguments) -> Problem:
    """The problem a call poses; ValueError or TypeError when it is none."""
    dtype = _result_dtype(call)
    axes = _spatial_axes(call)
    folds = call.function == "fold"
    batched = len(call.input_shape) == (3 if folds else axes + 2)
    image = call.input_shape[1:] if batched else call.input_shape
    size = image[1:] if call.output_size is None else _sizes(call, "output_size", call.output_size, axes)
    kernel = _sizes(call, "kernel_size", call.kernel_size, axes)
    taps = math.prod(kernel)
    channels = _folded_channels(call, image[0], kernel) if folds else image[0]
    convolution = _convolution(call, (taps * channels, 1, *kernel))
    stride = per_axis(convolution, "stride", call.stride, axes, least=1)
    dilation = per_axis(convolution, "dilation", call.dilation, axes, least=1)
    padding = resolve_padding(convolution, size, stride, dilation)
    windows = output_size(convolution, size, stride, dilation, padding)
    if folds:
        _check_windows(call, image[1], windows, size)
    output_shape = (channels, *size) if folds else (channels * taps, math.prod(windows))
    if batched:
        output_shape = (call.input_shape[0], *output_shape)
    check_addressable(convolution, output_shape, dtype)
    return Problem(
        function=call.function,
        operation=call.function,
        spatial_axes=axes,
        batched=batched,
        channels_last=False,
        batch=call.input_shape[0] if batched else 1,
        groups=1,
        input_channels=channels,
        output_channels=channels * taps,
        input_size=size,
        kernel_size=kernel,
        output_size=windows,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode="zeros",
        activation=None,
        dtype=dtype,
        input_dtype=call.input_dtype,
        weight_dtype=dtype,
        bias_dtype=None,
        output_shape=output_shape,
    )


def _convolution(call: WindowArguments, weight_shape: tuple[int, ...]) -> Arguments:
    return _Convolution(
        call.function,
        call.input_shape,
        call.input_dtype,
        weight_shape,
        call.input_dtype,
        None,
        None,
        call.stride,
        call.padding,
        call.dilation,
        1,
        "zeros",
        None,
        "channels_first",
        None,
    )


def _result_dtype(call: WindowArguments) -> DType:
    kinds = "iufc" if call.function == "fold" else "biufc"
    if call.input_dtype.kind not in kinds:
        accepted = "an integer, float or complex dtype" if "b" not in kinds else "a numeric dtype"
        raise TypeError(f"{call.function}: input has dtype {call.input_dtype}, {accepted} is needed")
    return call.input_dtype.newbyteorder("=")


def _spatial_axes(call: WindowArguments) -> int:
    """How many there are: as many as a sequence has entries, else as the input shows."""
    function, rank = call.function, len(call.input_shape)
    given = (call.output_size, call.kernel_size, call.stride, call.padding, call.dilation)
    axes = next((len(value) for value in given if isinstance(value, tuple)), None)
    if function == "fold":
        if rank not in (2, 3):
            raise ValueError(
                f"fold: input must have 3 axes (N, C * taps, L), or 2 axes (C * taps, L) without a batch, got input "
                f"shape {call.input_shape}"
            )
        axes = 2 if axes is None else axes
    elif axes is None:
        axes = 2 if rank == 3 else max(1, rank - 2)
    if axes < 1:
        raise ValueError(f"{function}: there must be at least 1 spatial axis; input shape {call.input_shape}")
    if function == "unfold" and rank not in (axes + 1, axes + 2):
        raise ValueError(
            f"unfold: input must have {axes + 2} axes (N, C, {axes} spatial axes), or {axes + 1} axes without a batch, "
            f"got input shape {call.input_shape}; kernel_size {brief(call.kernel_size)}"
        )
    if 0 in call.input_shape[rank - axes - 1 if function == "unfold" else rank - 2 :]:
        raise ValueError(f"{function}: only the batch axis of the input may have size 0; got {call.input_shape}")
    return axes


def _sizes(call: WindowArguments, name: str, value: _OneOrPerAxis, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else value
    if len(values) != axes or min(values) < 1:
        raise ValueError(
            f"{call.function}: {name} must be one integer from 1 up, or {axes} of them, got {brief(value)}; "
            f"input shape {call.input_shape}"
        )
    return values


def _folded_channels(call: WindowArguments, rows: int, kernel: tuple[int, ...]) -> int:
    taps = math.prod(kernel)
    if rows % taps:
        raise ValueError(
            f"fold: input of shape {call.input_shape} has {rows} rows of windows, which must be a multiple of the "
            f"{taps} taps of kernel_size {kernel}"
        )
    return rows // taps


def _check_windows(call: WindowArguments, columns: int, windows: tuple[int, ...], size: tuple[int, ...]) -> None:
    if columns != math.prod(windows):
        raise ValueError(
            f"fold: input of shape {call.input_shape} has {columns} windows, but output_size {size} with kernel_size "
            f"{brief(call.kernel_size)}, stride {brief(call.stride)}, padding {brief(call.padding)} and dilation "
            f"{brief(call.dilation)} has {math.prod(windows)}, {' x '.join(map(str, windows))}"
        )
