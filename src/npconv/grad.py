"""Gradients of a convolution with respect to its input and its weight, with the arguments of torch.nn.grad.

The gradient of the input is a transposed convolution; that of the weight sums, for every tap, products of the output's
gradient with the input that the tap read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy
from numpy.typing import ArrayLike, DTypeLike

from npconv.arguments import Array, IntPerAxis, Padding, as_array, canonical_settings, canonical_shape
from npconv.backend import again
from npconv.docstrings import ending_with
from npconv.functional import Call, Settings, planned, run_call, run_first
from npconv.options import in_force

__all__ = [
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
    "conv_input",
    "conv_weight",
]


def prepare_input(
    function: str, input_size: Any, weight: Any, grad_output: Any, settings: Settings, dtype: Any = None
) -> Call:
    weight = conjugate(as_array(function, "weight", weight))
    grad_output = as_array(function, "grad_output", grad_output)
    prepared = planned(
        in_force(),
        False,
        function,
        canonical_shape(function, "input_size", input_size),
        grad_output.dtype,
        weight.shape,
        weight.dtype,
        None,
        None,
        *canonical_settings(function, *settings, dtype),
        "input_gradient",
        0,
        grad_output.shape,
    )
    return prepared.call(grad_output, weight, None)


def prepare_weight(
    function: str, input: Any, weight_size: Any, grad_output: Any, settings: Settings, dtype: Any = None
) -> Call:
    input, grad_output = as_array(function, "input", input), as_array(function, "grad_output", grad_output)
    prepared = planned(
        in_force(),
        False,
        function,
        input.shape,
        input.dtype,
        canonical_shape(function, "weight_size", weight_size),
        grad_output.dtype,
        None,
        None,
        *canonical_settings(function, *settings, dtype),
        "weight_gradient",
        0,
        grad_output.shape,
    )
    return prepared.call(input, grad_output, None)


def _input(
    function: str, input_size: Any, weight: Any, grad_output: Any, settings: Settings, dtype: Any, out: Array | None
) -> Array:
    if dtype is not None:
        return run_call(prepare_input(function, input_size, weight, grad_output, settings, dtype), out)
    key = *settings, input_size
    result = again(in_force(), function, grad_output, weight, None, key, out)
    if result is not None:
        return result
    call = prepare_input(function, input_size, weight, grad_output, settings)
    # The weight of a call that is remembered is not conjugated.
    return run_call(call, out) if call[2].dtype.kind == "c" else run_first(call, function, key, out)


def conjugate(array: Array) -> Array:
    return numpy.conjugate(array) if array.dtype.kind == "c" else array


_SHARED = """
Parameters
----------
{parameters}
grad_output : array_like
    The gradient of the convolution's result, of that one's shape.
stride, padding, dilation, groups, padding_mode, data_format
    Of the convolution, as `conv` takes them.
dtype : dtype, optional
    Of the gradient. By default ``numpy.result_type({first}, grad_output)``.
out : numpy.ndarray, optional
    Where to write the gradient: any writeable view of its shape and dtype, which may overlap the other arguments.

Returns
-------
numpy.ndarray
    The gradient, {returns}. It is `out` if that is given.

Raises
------
ValueError
    For shapes that do not fit together, and for values out of range.
TypeError
    For arguments and dtypes of the wrong kind.

Notes
-----
The gradient of complex numbers is torch's, by which a step against it descends: {conjugated} is conjugated.
{note}
The first arguments and their meaning are those of `torch.nn.grad.conv2d_{which}
<https://docs.pytorch.org/docs/stable/nn.functional.html>`_.
"""

_INPUT_TEXT = _SHARED.format(
    parameters="""input_size : sequence of int
    The shape of the convolution's input.
weight : array_like
    Its kernels, ``(K, C // groups, *kernel)``.""",
    first="weight",
    returns="of shape `input_size`",
    conjugated="`weight`",
    note="""With a `padding_mode` the gradient of every element of the padding is added to that of the pixel which it
repeats; this needs memory for the padded gradient.
""",
    which="input",
)
_WEIGHT_TEXT = _SHARED.format(
    parameters="""input : array_like
    The convolution's input, ``(N, C, *spatial)`` or ``(C, *spatial)``.
weight_size : sequence of int
    The shape of its weight, ``(K, C // groups, *kernel)``.""",
    first="input",
    returns="of shape `weight_size`; zeros where the batch is empty",
    conjugated="`input`",
    note="""There is one algorithm for it on each backend, whatever ``npconv.options(algorithm=...)`` names.
""",
    which="weight",
)


@ending_with(_INPUT_TEXT)
def conv1d_input(
    input_size: Sequence[SupportsIndex],
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv1d` with respect to its input.

    >>> import numpy, npconv
    >>> npconv.grad.conv1d_input((1, 1, 5), numpy.array([[[1, 2, 3]]]), numpy.array([[[1, 0, 10]]]))
    array([[[ 1,  2, 13, 20, 30]]])
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return _input("conv1d_input", input_size, weight, grad_output, settings, dtype, out)


@ending_with(_INPUT_TEXT)
def conv2d_input(
    input_size: Sequence[SupportsIndex],
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv2d` with respect to its input.

    >>> import numpy, npconv
    >>> weight, grad_output = numpy.ones((8, 3, 3, 3)), numpy.ones((1, 8, 16, 16))
    >>> npconv.grad.conv2d_input((1, 3, 32, 32), weight, grad_output, stride=2, padding=1).shape
    (1, 3, 32, 32)
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return _input("conv2d_input", input_size, weight, grad_output, settings, dtype, out)


@ending_with(_INPUT_TEXT)
def conv3d_input(
    input_size: Sequence[SupportsIndex],
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv3d` with respect to its input.

    >>> import numpy, npconv
    >>> npconv.grad.conv3d_input((1, 1, 2, 2, 2), numpy.ones((1, 1, 1, 1, 2)), numpy.ones((1, 1, 2, 2, 1))).ravel()
    array([1., 1., 1., 1., 1., 1., 1., 1.])
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return _input("conv3d_input", input_size, weight, grad_output, settings, dtype, out)


@ending_with(_INPUT_TEXT)
def conv_input(
    input_size: Sequence[SupportsIndex],
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv` with respect to its input, for any number of spatial axes.

    >>> import numpy, npconv
    >>> weight, grad_output = numpy.ones((2, 1, 2, 2, 2, 2)), numpy.ones((1, 2, 2, 2, 2, 2))
    >>> npconv.grad.conv_input((1, 1, 3, 3, 3, 3), weight, grad_output)[0, 0, 1, 1, 1]
    array([16., 32., 16.])
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return _input("conv_input", input_size, weight, grad_output, settings, dtype, out)


@ending_with(_WEIGHT_TEXT)
def conv1d_weight(
    input: ArrayLike,
    weight_size: Sequence[SupportsIndex],
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv1d` with respect to its weight.

    >>> import numpy, npconv
    >>> npconv.grad.conv1d_weight(numpy.array([[[1, 2, 4, 8]]]), (1, 1, 3), numpy.array([[[1, 10]]]))
    array([[[21, 42, 84]]])
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return run_call(prepare_weight("conv1d_weight", input, weight_size, grad_output, settings, dtype), out)


@ending_with(_WEIGHT_TEXT)
def conv2d_weight(
    input: ArrayLike,
    weight_size: Sequence[SupportsIndex],
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv2d` with respect to its weight.

    >>> import numpy, npconv
    >>> images, grad_output = numpy.ones((4, 3, 32, 32)), numpy.ones((4, 8, 16, 16))
    >>> npconv.grad.conv2d_weight(images, (8, 3, 3, 3), grad_output, stride=2, padding=1)[0, 0]
    array([[ 900.,  960.,  960.],
           [ 960., 1024., 1024.],
           [ 960., 1024., 1024.]])
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return run_call(prepare_weight("conv2d_weight", input, weight_size, grad_output, settings, dtype), out)


@ending_with(_WEIGHT_TEXT)
def conv3d_weight(
    input: ArrayLike,
    weight_size: Sequence[SupportsIndex],
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv3d` with respect to its weight.

    >>> import numpy, npconv
    >>> npconv.grad.conv3d_weight(numpy.ones((1, 1, 4, 4, 4)), (1, 1, 1, 2, 2), numpy.ones((1, 1, 4, 3, 3))).ravel()
    array([36., 36., 36., 36.])
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return run_call(prepare_weight("conv3d_weight", input, weight_size, grad_output, settings, dtype), out)


@ending_with(_WEIGHT_TEXT)
def conv_weight(
    input: ArrayLike,
    weight_size: Sequence[SupportsIndex],
    grad_output: ArrayLike,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """The gradient of `conv` with respect to its weight, for any number of spatial axes.

    >>> import numpy, npconv
    >>> image, grad_output = numpy.ones((1, 1, 2, 2, 2, 2)), numpy.ones((1, 1, 2, 2, 2, 1))
    >>> npconv.grad.conv_weight(image, (1, 1, 1, 1, 1, 2), grad_output)
    array([[[[[[8., 8.]]]]]])
    """
    settings = stride, padding, dilation, groups, padding_mode, None, data_format
    return run_call(prepare_weight("conv_weight", input, weight_size, grad_output, settings, dtype), out)
