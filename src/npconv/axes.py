"""As `problem`, for spatial axes: strides, dilations, paddings and the size of the result, resolved and worded.

Those of convolutions, of their transposes and of windows; all of it from the arguments alone.
"""

from __future__ import annotations

import math
import sys
from typing import cast

from npconv.arguments import Arguments, DType, brief

PerAxis = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]  # (before, after) an axis


def per_axis(call: Arguments, name: str, value: int | tuple[int, ...], axes: int, least: int) -> PerAxis:
    values = (value,) * axes if isinstance(value, int) else value
    if len(values) != axes:
        raise ValueError(
            f"{call.function}: {name}={brief(value)} has {len(values)} values, give one integer, or one for each of "
            f"the {axes} spatial axes of {call.shapes}"
        )
    if min(values) < least:
        raise ValueError(f"{call.function}: {name} must be at least {least}, got {brief(value)}")
    return values


def resolve_padding(call: Arguments, size: PerAxis, stride: PerAxis, dilation: PerAxis) -> Pairs:
    padding = call.padding
    if isinstance(padding, str):
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


def _symmetric_padding(call: Arguments, padding: int | tuple[int, ...], axes: int) -> Pairs:
    if axes == 1 and isinstance(padding, tuple) and len(padding) == 2:
        raise ValueError(
            f"{call.function}: padding={padding} has 2 values for 1 spatial axis; write the pair (before, after) as "
            f"padding=({padding},)"
        )
    return tuple((value, value) for value in per_axis(call, "padding", padding, axes, least=0))


def _padding_pairs(call: Arguments, padding: tuple[int | tuple[int, ...], ...], axes: int) -> Pairs:
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


def output_size(call: Arguments, size: PerAxis, stride: PerAxis, dilation: PerAxis, padding: Pairs) -> PerAxis:
    axes = zip(size, call.weight_shape[2:], padding, stride, dilation, strict=True)
    return tuple(_output_extent(call, *axis) for axis in axes)


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


def output_padding(call: Arguments, stride: PerAxis, dilation: PerAxis) -> PerAxis:
    extra = per_axis(call, "output_padding", call.output_padding, len(stride), least=0)
    for value, step, spread in zip(extra, stride, dilation, strict=True):
        if value >= max(step, spread):
            raise ValueError(
                f"{call.function}: output_padding must be less than the stride or the dilation of its axis, got "
                f"output_padding={brief(call.output_padding)} with stride={brief(call.stride)} and "
                f"dilation={brief(call.dilation)}"
            )
    if any(extra) and call.padding in ("same", "same_lower"):
        raise ValueError(
            f"{call.function}: padding={call.padding!r} makes the result size * stride, which leaves nothing to "
            f"output_padding, got output_padding={brief(call.output_padding)}"
        )
    return extra


def transposed_padding(call: Arguments, size: PerAxis, stride: PerAxis, dilation: PerAxis) -> Pairs:
    """ "same" is that of the convolution which takes a result of size * stride back to this input."""
    if isinstance(call.padding, str) and call.padding != "valid":
        size = tuple(extent * step for extent, step in zip(size, stride, strict=True))
    return resolve_padding(call, size, stride, dilation)


def transposed_size(
    call: Arguments, size: PerAxis, stride: PerAxis, dilation: PerAxis, padding: Pairs, extra: PerAxis
) -> PerAxis:
    axes = zip(size, call.weight_shape[2:], padding, stride, dilation, extra, strict=True)
    return tuple(_transposed_extent(call, *axis) for axis in axes)


def _transposed_extent(
    call: Arguments, extent: int, kernel: int, pair: tuple[int, int], stride: int, dilation: int, extra: int
) -> int:
    whole = (extent - 1) * stride + (kernel - 1) * dilation + 1
    output = extent * stride if call.padding in ("same", "same_lower") else whole + extra - sum(pair)
    if max(whole + extra, stride, dilation, *pair) > sys.maxsize:
        raise ValueError(
            f"{call.function}: size {extent} with stride {brief(stride)}, and a kernel of {kernel} with dilation "
            f"{brief(dilation)}, padding {brief(pair)}, does not fit in memory addressing, whose limit is "
            f"{sys.maxsize}; {call.shapes}"
        )
    if output < 1:
        raise ValueError(
            f"{call.function}: padding {pair} leaves nothing of the {whole + extra} elements that size {extent} with "
            f"stride {stride}, a kernel of {kernel} with dilation {dilation} and output_padding {extra} spread over; "
            f"{call.shapes}"
        )
    return output


def check_addressable(call: Arguments, shape: tuple[int, ...], dtype: DType) -> None:
    size = math.prod(max(extent, 1) for extent in shape) * dtype.itemsize  # NumPy counts an empty axis as 1 too
    if size > sys.maxsize:
        raise ValueError(
            f"{call.function}: a result of shape {shape} and dtype {dtype} takes {size} bytes, which does not fit in "
            f"memory addressing, whose limit is {sys.maxsize}; {call.shapes}"
        )
