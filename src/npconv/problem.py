"""The convolution a call poses: validated and sized here, and worded here when it is none.

Whatever lies behind this module trusts a `Problem` in every field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy

from npconv.arguments import (
    ACCEPTED_ACTIVATIONS,
    ACTIVATIONS,
    DATA_FORMATS,
    PADDING_MODES,
    Arguments,
    Array,
    DType,
    brief,
    canonical_name,
)
from npconv.axes import (
    Pairs,
    PerAxis,
    check_addressable,
    output_padding,
    output_size,
    per_axis,
    resolve_padding,
    transposed_padding,
    transposed_size,
)

_SPATIAL_AXES = {
    name.format(axes): axes
    for axes in (1, 2, 3)
    for name in ("conv{}d", "conv_transpose{}d", "conv{}d_input", "conv{}d_weight")
}
_IMAGE_LETTERS = {1: "L", 2: "H, W", 3: "D, H, W"}
_KERNEL_LETTERS = {1: "S", 2: "R, S", 3: "Q, R, S"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A convolution without a fault. Tuples have one entry a spatial axis.

    A "transposed" one spreads each element of its input over the result, output = input * stride + tap * dilation -
    before, and its weight is ``(C, K // groups, *kernel)``. A "weight_gradient" has the sizes of its convolution; its
    arrays are the input and the gradient of the output, whose dtype is `weight_dtype`.
    """

    function: str
    operation: str  # "convolution", "transposed", "weight_gradient", "unfold" or "fold"
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
    return _BUILDERS[call.operation](call)


def _build_convolution(call: Arguments) -> Problem:
    dtype = _result_dtype(call)
    canonical_name(call.function, "data_format", call.data_format, DATA_FORMATS)
    canonical_name(call.function, "padding_mode", call.padding_mode, PADDING_MODES)
    axes = _spatial_axes(call)
    channels, size = _image(call, axes)
    _check_channels(call, channels)
    stride = per_axis(call, "stride", call.stride, axes, least=1)
    dilation = per_axis(call, "dilation", call.dilation, axes, least=1)
    padding = resolve_padding(call, size, stride, dilation)
    sizes = size, output_size(call, size, stride, dilation, padding)
    return _problem(call, dtype, (channels, call.weight_shape[0]), sizes, (stride, dilation, padding))


def _image(call: Arguments, axes: int) -> tuple[int, tuple[int, ...]]:
    """Channels and size of the input."""
    image = call.input_shape[-axes - 1 :]
    return (image[-1], image[:-1]) if call.data_format == "channels_last" else (image[0], image[1:])


def _problem(
    call: Arguments,
    dtype: DType,
    channels: tuple[int, int],
    sizes: tuple[PerAxis, PerAxis],
    steps: tuple[PerAxis, PerAxis, Pairs],
) -> Problem:
    """With channels and sizes of input and output, and with stride, dilation and padding."""
    axes, output_size = len(sizes[0]), sizes[1]
    channels_last = call.data_format == "channels_last"
    batched = len(call.input_shape) == axes + 2
    output_shape = (*output_size, channels[1]) if channels_last else (channels[1], *output_size)
    if batched:
        output_shape = (call.input_shape[0], *output_shape)
    check_addressable(call, output_shape, dtype)
    return Problem(
        function=call.function,
        operation="transposed" if call.operation == "transposed" else "convolution",
        spatial_axes=axes,
        batched=batched,
        channels_last=channels_last,
        batch=call.input_shape[0] if batched else 1,
        groups=call.groups,
        input_channels=channels[0],
        output_channels=channels[1],
        input_size=sizes[0],
        kernel_size=call.weight_shape[2:],
        output_size=output_size,
        stride=steps[0],
        dilation=steps[1],
        padding=steps[2],
        padding_mode=call.padding_mode,
        activation=_resolve_activation(call, dtype),
        dtype=dtype,
        input_dtype=call.input_dtype,
        weight_dtype=call.weight_dtype,
        bias_dtype=call.bias_dtype,
        output_shape=output_shape,
    )


def _build_transposed(call: Arguments) -> Problem:
    dtype = _result_dtype(call)
    canonical_name(call.function, "data_format", call.data_format, DATA_FORMATS)
    axes = _spatial_axes(call)
    channels, size = _image(call, axes)
    output_channels = _check_transposed_channels(call, channels)
    stride = per_axis(call, "stride", call.stride, axes, least=1)
    dilation = per_axis(call, "dilation", call.dilation, axes, least=1)
    extra = output_padding(call, stride, dilation)
    padding = transposed_padding(call, size, stride, dilation)
    sizes = size, transposed_size(call, size, stride, dilation, padding, extra)
    return _problem(call, dtype, (channels, output_channels), sizes, (stride, dilation, padding))


def _build_input_gradient(call: Arguments) -> Problem:
    """The transposed convolution that takes a gradient of the output to one of the input."""
    forward = _build_convolution(call)
    _check_grad_output(call, forward)
    check_addressable(call, call.input_shape, forward.dtype)
    return replace(
        forward,
        operation="transposed",
        input_channels=forward.output_channels,
        output_channels=forward.input_channels,
        input_size=forward.output_size,
        output_size=forward.input_size,
        output_shape=call.input_shape,
    )


def _build_weight_gradient(call: Arguments) -> Problem:
    forward = _build_convolution(call)
    _check_grad_output(call, forward)
    check_addressable(call, call.weight_shape, forward.dtype)
    return replace(forward, operation="weight_gradient", output_shape=call.weight_shape)


def _check_grad_output(call: Arguments, forward: Problem) -> None:
    if call.grad_shape != forward.output_shape:
        raise ValueError(
            f"{call.function}: grad_output must have shape {forward.output_shape}, that of the convolution's result "
            f"for {call.shapes}, got grad_output shape {call.grad_shape}"
        )


def check_grad_output(problem: Problem, grad_output: Array) -> None:
    """That this may be the gradient of the problem's result."""
    if grad_output.dtype.kind not in "biufc":
        raise TypeError(
            f"{problem.function}: grad_output has dtype {grad_output.dtype}, an integer, float or complex dtype is "
            "needed"
        )
    if grad_output.shape != problem.output_shape:
        raise ValueError(
            f"{problem.function}: grad_output must have shape {problem.output_shape}, that of the layer's result, got "
            f"grad_output shape {grad_output.shape}"
        )


_BUILDERS = {
    "convolution": _build_convolution,
    "transposed": _build_transposed,
    "input_gradient": _build_input_gradient,
    "weight_gradient": _build_weight_gradient,
}


def _result_dtype(call: Arguments) -> DType:
    first, second = call.operands
    given = {first: call.input_dtype, second: call.weight_dtype, "bias": call.bias_dtype}
    for name, dtype in given.items():
        if dtype is not None and dtype.kind not in "biufc":
            raise TypeError(f"{call.function}: {name} has dtype {dtype}, an integer, float or complex dtype is needed")
    result = call.dtype if call.dtype is not None else numpy.result_type(call.input_dtype, call.weight_dtype)
    if result.kind not in "iufc":
        cause = f"dtype={result}" if call.dtype is not None else f"{first} and {second} of dtype bool"
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
        channels = "C, K/groups" if call.operation == "transposed" else "K, C/groups"
        raise ValueError(
            f"{function}: weight must have {rank} axes ({channels}, {_KERNEL_LETTERS.get(axes, '*kernel')}), got "
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
    _check_bias(call, output_channels)


def _check_transposed_channels(call: Arguments, channels: int) -> int:
    """How many channels the result has."""
    weight_channels, group_outputs = call.weight_shape[:2]
    if call.groups < 1:
        raise ValueError(f"{call.function}: groups must be at least 1, got {brief(call.groups)}")
    if channels != weight_channels:
        raise ValueError(
            f"{call.function}: input has {channels} channels, but weight of shape {call.weight_shape}, (C, K/groups, "
            f"*kernel), takes {weight_channels}; input shape {call.input_shape} is {call.data_format}"
        )
    if channels % call.groups:
        raise ValueError(
            f"{call.function}: weight of shape {call.weight_shape} takes {channels} input channels, which "
            f"groups={brief(call.groups)} does not divide; input shape {call.input_shape}"
        )
    _check_bias(call, group_outputs * call.groups)
    return group_outputs * call.groups


def _check_bias(call: Arguments, output_channels: int) -> None:
    if call.bias_shape is not None and call.bias_shape != (output_channels,):
        raise ValueError(
            f"{call.function}: bias must have shape ({output_channels},), one value an output channel of weight shape "
            f"{call.weight_shape}, got bias shape {call.bias_shape}"
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


def check_piece(function: str, x: Array, state: Array | None, channels: int, reach: int) -> None:
    """That this may be the next piece of a signal, after that state."""
    if x.dtype.kind not in "biufc":
        raise TypeError(f"{function}: x has dtype {x.dtype}, an integer, float or complex dtype is needed")
    if x.ndim not in (2, 3) or x.shape[-2] != channels:
        raise ValueError(
            f"{function}: x must have shape (N, {channels}, L), or ({channels}, L) without a batch, got x shape "
            f"{x.shape}"
        )
    if state is None:
        return
    wanted = (*x.shape[:-1], reach)
    if state.shape != wanted:
        raise ValueError(
            f"{function}: state must have shape {wanted}, the last {reach} inputs of every channel, got state shape "
            f"{state.shape}; x shape {x.shape}"
        )
    if state.dtype != x.dtype.newbyteorder("="):
        raise TypeError(
            f"{function}: state must have the dtype of x, {x.dtype.newbyteorder('=')}, got {state.dtype.str} "
            f"({state.dtype})"
        )
