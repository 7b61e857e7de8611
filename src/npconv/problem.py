"""The convolution a call poses: validated and sized here, and worded here when it is none.

Whatever lies behind this module trusts a `Problem` in every field.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import cast

import numpy

from npconv.arguments import (
    ACCEPTED_ACTIVATIONS,
    ACTIVATIONS,
    DATA_FORMATS,
    PADDING_MODES,
    PADDINGS,
    Arguments,
    Array,
    DType,
    brief,
    canonical_name,
)

_SPATIAL_AXES = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
_IMAGE_LETTERS = {1: "L", 2: "H, W", 3: "D, H, W"}
_KERNEL_LETTERS = {1: "S", 2: "R, S", 3: "Q, R, S"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A convolution without a fault. Tuples have one entry a spatial axis."""

    function: str
    spatial_axes: int
    batched: bool
    channels_last: bool
    batch: int
    groups: int
    input_channels: int
    output_channels: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    output_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # (before, after)
    padding_mode: str
    activation: tuple[str, float, float] | None
    dtype: DType  # of the result, in native byte order
    input_dtype: DType
    weight_dtype: DType
    bias_dtype: DType | None
    output_shape: tuple[int, ...]  # as the caller sees it

    def must_cast(self, dtype: DType) -> bool:
        """Whether arrays of this dtype are converted before a plan sees them."""
        if self.dtype.kind in "iu":
            return dtype.kind in "fc"
        if self.dtype == numpy.float16:
            return (dtype.kind, dtype.itemsize) != ("f", 2)
        return self.dtype.kind == "f" and dtype.kind == "c"


def build(call: Arguments) -> Problem:
    """The problem a call poses; ValueError or TypeError when it is none."""
    dtype = _result_dtype(call)
    canonical_name(call.function, "data_format", call.data_format, DATA_FORMATS)
    canonical_name(call.function, "padding_mode", call.padding_mode, PADDING_MODES)
    axes = _spatial_axes(call)
    channels_last = call.data_format == "channels_last"
    batched = len(call.input_shape) == axes + 2
    image = call.input_shape[1:] if batched else call.input_shape
    channels, size = (image[-1], image[:-1]) if channels_last else (image[0], image[1:])
    _check_channels(call, channels)
    stride = _per_axis(call, "stride", call.stride, axes, least=1)
    dilation = _per_axis(call, "dilation", call.dilation, axes, least=1)
    padding = _resolve_padding(call, size, stride, dilation)
    output_size = tuple(
        _output_extent(call, *axis) for axis in zip(size, call.weight_shape[2:], padding, stride, dilation, strict=True)
    )
    output_channels = call.weight_shape[0]
    output_shape = (*output_size, output_channels) if channels_last else (output_channels, *output_size)
    if batched:
        output_shape = (call.input_shape[0], *output_shape)
    _check_addressable(call, output_shape, dtype)
    return Problem(
        function=call.function,
        spatial_axes=axes,
        batched=batched,
        channels_last=channels_last,
        batch=call.input_shape[0] if batched else 1,
        groups=call.groups,
        input_channels=channels,
        output_channels=output_channels,
        input_size=size,
        kernel_size=call.weight_shape[2:],
        output_size=output_size,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=call.padding_mode,
        activation=_resolve_activation(call, dtype),
        dtype=dtype,
        input_dtype=call.input_dtype,
        weight_dtype=call.weight_dtype,
        bias_dtype=call.bias_dtype,
        output_shape=output_shape,
    )


def _result_dtype(call: Arguments) -> DType:
    given = {"input": call.input_dtype, "weight": call.weight_dtype, "bias": call.bias_dtype}
    for name, dtype in given.items():
        if dtype is not None and dtype.kind not in "biufc":
            raise TypeError(f"{call.function}: {name} has dtype {dtype}, an integer, float or complex dtype is needed")
    result = call.dtype if call.dtype is not None else numpy.result_type(call.input_dtype, call.weight_dtype)
    if result.kind not in "iufc":
        cause = f"dtype={result}" if call.dtype is not None else "input and weight of dtype bool"
        raise TypeError(
            f"{call.function}: {cause} cannot hold sums of products; pass an integer, float or complex dtype="
        )
    if call.bias_dtype is not None and not _bias_fits(call.bias_dtype, result):
        raise TypeError(
            f"{call.function}: bias of dtype {call.bias_dtype} cannot be cast to the result's dtype {result}; "
            "convert it, or pass dtype="
        )
    return result.newbyteorder("=")


def _bias_fits(bias: DType, result: DType) -> bool:
    """Integers wrap around as in every other place, whatever their sign."""
    return numpy.can_cast(bias, result, "same_kind") or (bias.kind in "iu" and result.kind in "iu")


def _spatial_axes(call: Arguments) -> int:
    """How many there are, once the ranks of input and weight agree on that."""
    function = call.function
    axes = _SPATIAL_AXES.get(function, len(call.weight_shape) - 2)
    if axes < 1 or len(call.weight_shape) != axes + 2:
        rank = str(axes + 2) if function in _SPATIAL_AXES else "at least 3"
        raise ValueError(
            f"{function}: weight must have {rank} axes (K, C/groups, {_KERNEL_LETTERS.get(axes, '*kernel')}), got "
            f"weight shape {call.weight_shape}; input shape {call.input_shape}"
        )
    if len(call.input_shape) not in (axes + 1, axes + 2):
        size = _IMAGE_LETTERS.get(axes, f"{axes} spatial axes")
        image = f"{size}, C" if call.data_format == "channels_last" else f"C, {size}"
        raise ValueError(
            f"{function}: input must have {axes + 2} axes (N, {image}), or {axes + 1} axes ({image}) without a batch, "
            f"got input shape {call.input_shape}; weight shape {call.weight_shape}"
        )
    if 0 in call.input_shape[-axes - 1 :] or 0 in call.weight_shape:
        raise ValueError(f"{function}: only the batch axis of the input may have size 0; got {call.shapes}")
    return axes


def _check_channels(call: Arguments, channels: int) -> None:
    output_channels, group_channels = call.weight_shape[:2]
    if call.groups < 1:
        raise ValueError(f"{call.function}: groups must be at least 1, got {brief(call.groups)}")
    if channels != group_channels * call.groups:
        raise ValueError(
            f"{call.function}: input has {channels} channels, but weight of shape {call.weight_shape} with "
            f"groups={brief(call.groups)} takes {brief(group_channels * call.groups)}; "
            f"input shape {call.input_shape} is {call.data_format}"
        )
    if output_channels % call.groups:
        raise ValueError(
            f"{call.function}: weight of shape {call.weight_shape} makes {output_channels} output channels, which "
            f"groups={call.groups} does not divide; input shape {call.input_shape}"
        )
    if call.bias_shape is not None and call.bias_shape != (output_channels,):
        raise ValueError(
            f"{call.function}: bias must have shape ({output_channels},), one value an output channel of weight shape "
            f"{call.weight_shape}, got bias shape {call.bias_shape}"
        )


def _per_axis(call: Arguments, name: str, value: int | tuple[int, ...], axes: int, least: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else value
    if len(values) != axes:
        raise ValueError(
            f"{call.function}: {name}={brief(value)} has {len(values)} values, give one integer, or one for each of "
            f"the {axes} spatial axes of {call.shapes}"
        )
    if min(values) < least:
        raise ValueError(f"{call.function}: {name} must be at least {least}, got {brief(value)}")
    return values


def _resolve_padding(
    call: Arguments, size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    padding = call.padding
    if isinstance(padding, str):
        canonical_name(call.function, "padding", padding, PADDINGS)
        axes = zip(size, call.weight_shape[2:], stride, dilation, strict=True)
        pairs = tuple(_named_padding(padding, *axis) for axis in axes)
    elif isinstance(padding, int) or all(isinstance(item, int) for item in padding):
        pairs = _symmetric_padding(call, cast("int | tuple[int, ...]", padding), len(size))
    else:
        pairs = _padding_pairs(call, padding, len(size))
    for extent, pair in zip(size, pairs, strict=True):
        _check_padding_mode(call, extent, pair)
    return pairs


def _named_padding(name: str, extent: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    if name == "valid":
        return 0, 0
    outputs = -(-extent // stride)
    total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - extent, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if name == "same" else (more, less)


def _symmetric_padding(call: Arguments, padding: int | tuple[int, ...], axes: int) -> tuple[tuple[int, int], ...]:
    if axes == 1 and isinstance(padding, tuple) and len(padding) == 2:
        raise ValueError(
            f"{call.function}: padding={padding} has 2 values for 1 spatial axis; write the pair (before, after) as "
            f"padding=({padding},)"
        )
    return tuple((value, value) for value in _per_axis(call, "padding", padding, axes, least=0))


def _padding_pairs(
    call: Arguments, padding: tuple[int | tuple[int, ...], ...], axes: int
) -> tuple[tuple[int, int], ...]:
    pairs = tuple((item[0], item[1]) for item in padding if isinstance(item, tuple) and len(item) == 2)
    if not len(pairs) == len(padding) == axes:
        raise ValueError(
            f"{call.function}: padding={brief(padding)} must be one integer, one integer an axis, or one (before, "
            f"after) pair for each of the {axes} spatial axes of {call.shapes}"
        )
    if min(map(min, pairs)) < 0:
        raise ValueError(f"{call.function}: padding must be at least 0, got {brief(padding)}")
    return pairs


def _check_padding_mode(call: Arguments, extent: int, pair: tuple[int, int]) -> None:
    if call.padding_mode in ("zeros", "replicate"):
        return
    largest = extent - 1 if call.padding_mode == "reflect" else extent
    if max(pair) > largest:
        raise ValueError(
            f"{call.function}: padding_mode={call.padding_mode!r} pads an axis of size {extent} by at most {largest}, "
            f"got padding {brief(pair)}; input shape {call.input_shape}"
        )


def _output_extent(call: Arguments, extent: int, kernel: int, pair: tuple[int, int], stride: int, dilation: int) -> int:
    padded, reach = extent + sum(pair), (kernel - 1) * dilation + 1
    if max(padded, reach, stride, dilation) > sys.maxsize:
        raise ValueError(
            f"{call.function}: size {extent} with padding {brief(pair)}, stride {brief(stride)}, and a kernel of "
            f"{kernel} with dilation {brief(dilation)}, does not fit in memory addressing, whose limit is "
            f"{sys.maxsize}; {call.shapes}"
        )
    if reach > padded:
        raise ValueError(
            f"{call.function}: a kernel of {kernel} with dilation {dilation} spans {reach} elements, but the padded "
            f"input has {padded} (size {extent}, padding {pair}); {call.shapes}"
        )
    return (padded - reach) // stride + 1


def _check_addressable(call: Arguments, shape: tuple[int, ...], dtype: DType) -> None:
    size = math.prod(max(extent, 1) for extent in shape) * dtype.itemsize  # NumPy counts an empty axis as 1 too
    if size > sys.maxsize:
        raise ValueError(
            f"{call.function}: a result of shape {shape} and dtype {dtype} takes {size} bytes, which does not fit in "
            f"memory addressing, whose limit is {sys.maxsize}; {call.shapes}"
        )


def _resolve_activation(call: Arguments, dtype: DType) -> tuple[str, float, float] | None:
    if call.activation is None:
        return None
    name, *numbers = (call.activation,) if isinstance(call.activation, str) else call.activation
    if name in ACTIVATIONS and not numbers:
        resolved = ACTIVATIONS[name]
    elif name == "leaky_relu" and len(numbers) == 1 and not math.isnan(numbers[0]):
        resolved = (name, numbers[0], 0.0)
    elif name == "clip" and len(numbers) == 2 and numbers[0] <= numbers[1]:
        resolved = (name, numbers[0], numbers[1])
    else:
        limits = " with low <= high" if name == "clip" else ""
        raise ValueError(
            f"{call.function}: activation must be {ACCEPTED_ACTIVATIONS}{limits}, got {brief(call.activation)}"
        )
    if dtype.kind != "f":
        raise TypeError(f"{call.function}: activation {name!r} needs a float result, but the result has dtype {dtype}")
    return resolved


def check_out(problem: Problem, out: object) -> Array:
    """`out`, if the result may be written into it."""
    if not isinstance(out, numpy.ndarray):
        raise TypeError(f"{problem.function}: out must be a numpy.ndarray, got {type(out).__name__}")
    if out.dtype != problem.dtype:
        raise TypeError(f"{problem.function}: out must have dtype {problem.dtype}, got {out.dtype.str} ({out.dtype})")
    if out.shape != problem.output_shape:
        raise ValueError(f"{problem.function}: out must have shape {problem.output_shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{problem.function}: out is read-only, a writeable array is needed")
    return out
