"""What a caller may pass, made canonical: plain arrays, and settings that are safe to look up in a cache.

This runs before every look-up, since 1, 1.0 and True hash alike. Whether arguments fit together is for `problem`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy
from numpy.typing import DTypeLike, NDArray

DType = numpy.dtype[Any]
Array = NDArray[Any]
IntPerAxis = SupportsIndex | Sequence[SupportsIndex]
Padding = str | SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]
Activation = str | Sequence[Any] | None

PADDINGS = ("valid", "same", "same_lower")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
DATA_FORMATS = ("channels_first", "channels_last")
ACTIVATIONS = {
    "relu": ("clip", 0.0, math.inf),
    "relu6": ("clip", 0.0, 6.0),
    "sigmoid": ("sigmoid", 0.0, 0.0),
    "tanh": ("tanh", 0.0, 0.0),
    "silu": ("silu", 0.0, 0.0),
    "hardswish": ("hardswish", 0.0, 0.0),
}
ACCEPTED_ACTIVATIONS = f"None, {', '.join(map(repr, ACTIVATIONS))}, ('leaky_relu', slope) or ('clip', low, high)"
_OPERANDS = {"input_gradient": ("grad_output", "weight"), "weight_gradient": ("input", "grad_output")}


class Arguments(NamedTuple):
    """One call as caches key it: canonical and hashable, not yet checked."""

    function: str
    input_shape: tuple[int, ...]
    input_dtype: DType
    weight_shape: tuple[int, ...]
    weight_dtype: DType
    bias_shape: tuple[int, ...] | None
    bias_dtype: DType | None
    stride: int | tuple[int, ...]
    padding: int | str | tuple[int | tuple[int, ...], ...]
    dilation: int | tuple[int, ...]
    groups: int
    padding_mode: str
    activation: str | tuple[Any, ...] | None
    data_format: str
    dtype: DType | None
    operation: str = "convolution"
    output_padding: int | tuple[int, ...] = 0  # of a transposed convolution
    grad_shape: tuple[int, ...] | None = None  # of `grad_output`, whose dtype then stands in one of the fields above

    @property
    def shapes(self) -> str:
        return f"input shape {self.input_shape}, weight shape {self.weight_shape}"

    @property
    def operands(self) -> tuple[str, str]:
        """What the caller knows the arrays of `input_dtype` and `weight_dtype` as."""
        return _OPERANDS.get(self.operation, ("input", "weight"))


def as_array(function: str, name: str, value: Any) -> Array:
    """The value as a plain `numpy.ndarray`, without a copy where its type allows that."""
    if isinstance(value, numpy.ndarray):
        return numpy.asarray(value)
    if hasattr(value, "__dlpack__"):
        try:
            return numpy.from_dlpack(value)
        except (BufferError, TypeError, RuntimeError, ValueError) as error:
            remedy = "; pass its .detach()" if getattr(value, "requires_grad", False) else ""
            raise TypeError(
                f"{function}: {name} of type {type(value).__name__} cannot be read through DLPack: {error}{remedy}"
            ) from error
    try:
        return numpy.asarray(value)
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{function}: {name} cannot be made an array of numbers: {error}") from error


def brief(value: object) -> str:
    """The value for a message, which a huge one must not swamp."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}...{text[-30:]}"


def _is_sequence(value: object) -> bool:
    if isinstance(value, numpy.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def canonical_integer(function: str, name: str, value: Any) -> int:
    if type(value) is int:
        return value
    if not isinstance(value, (bool, numpy.bool_)):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{function}: {name} must be integers, got {brief(value)} of type {type(value).__name__}")


def canonical_axes(function: str, name: str, value: Any) -> int | tuple[int, ...]:
    """One integer, or one an axis."""
    if type(value) is tuple or (type(value) is not int and _is_sequence(value)):
        return tuple([canonical_integer(function, name, item) for item in value])
    return canonical_integer(function, name, value)


def canonical_padding(function: str, value: Any) -> int | str | tuple[int | tuple[int, ...], ...]:
    """A name, one integer, one integer an axis, or one (before, after) pair an axis."""
    if isinstance(value, str):
        return canonical_name(function, "padding", value, PADDINGS)
    if type(value) is tuple or (type(value) is not int and _is_sequence(value)):
        return tuple([canonical_axes(function, "padding", item) for item in value])
    return canonical_integer(function, "padding", value)


def canonical_shape(function: str, name: str, value: Any) -> tuple[int, ...]:
    if not _is_sequence(value):
        raise TypeError(f"{function}: {name} must be a sequence of integers, got {brief(value)}")
    shape = tuple([canonical_integer(function, name, item) for item in value])
    if min(shape, default=0) < 0:
        raise ValueError(f"{function}: {name} must be at least 0 along every axis, got {brief(shape)}")
    return shape


def canonical_name(function: str, name: str, value: object, accepted: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in accepted:
        return value
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"{function}: {name} must be one of {', '.join(map(repr, accepted))}, got {brief(value)}")


def canonical_activation(function: str, value: Any) -> str | tuple[Any, ...] | None:
    """None, a name, or a name and its numbers."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not value or not isinstance(value[0], str):
        raise TypeError(f"{function}: activation must be {ACCEPTED_ACTIVATIONS}, got {brief(value)}")
    return (value[0], *(_real_number(function, value, item) for item in value[1:]))


def _real_number(function: str, activation: object, value: Any) -> float:
    if not isinstance(value, (str, bool)):
        try:
            return float(value) + 0.0  # -0.0 and 0.0 hash alike, so both become 0.0
        except (TypeError, ValueError, OverflowError):
            pass
    raise TypeError(f"{function}: activation {brief(activation)} takes real numbers, got {brief(value)}")


def canonical_dtype(function: str, value: DTypeLike | None) -> DType | None:
    if value is None:
        return None
    try:
        return numpy.dtype(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{function}: dtype={brief(value)} is not a dtype: {error}") from error


def canonical_settings(
    function: str,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    activation: Any,
    data_format: Any,
    dtype: Any,
) -> tuple[Any, ...]:
    """The arguments from `stride` on, in the order of `Arguments`."""
    return (
        canonical_axes(function, "stride", stride),
        canonical_padding(function, padding),
        canonical_axes(function, "dilation", dilation),
        canonical_integer(function, "groups", groups),
        canonical_name(function, "padding_mode", padding_mode, PADDING_MODES),
        canonical_activation(function, activation),
        canonical_name(function, "data_format", data_format, DATA_FORMATS),
        canonical_dtype(function, dtype),
    )
