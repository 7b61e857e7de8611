"""Transposed convolution: each element of the input spread over the result by the kernel, as `phases` computes it."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from npconv.arguments import (
    Activation,
    Array,
    IntPerAxis,
    Padding,
    as_array,
    canonical_axes,
    canonical_settings,
)
from npconv.backend import again
from npconv.docstrings import ending_with
from npconv.functional import Call, Plan, Settings, explain_call, plan_call, run_call, run_first
from npconv.options import in_force


def prepare_transposed(
    function: str, input: Any, weight: Any, bias: Any, settings: Settings, dtype: Any = None, prepacked: bool = False
) -> Call:
    """As `functional.prepare`."""
    stride, padding, output_padding, groups, dilation, activation, data_format = settings
    input, weight = as_array(function, "input", input), as_array(function, "weight", weight)
    bias = None if bias is None else as_array(function, "bias", bias)
    canonical = canonical_settings(
        function, stride, padding, dilation, groups, "zeros", activation, data_format, dtype
    )  # fmt: skip
    extra = canonical_axes(function, "output_padding", output_padding)
    return plan_call(in_force(), prepacked, function, (input, weight, bias), (*canonical, "transposed", extra))


def _transposed(
    function: str, input: Any, weight: Any, bias: Any, settings: Settings, dtype: Any, out: Array | None
) -> Array:
    if dtype is not None:
        return run_call(prepare_transposed(function, input, weight, bias, settings, dtype), out)
    result = again(in_force(), function, input, weight, bias, settings, out)
    if result is not None:
        return result
    return run_first(prepare_transposed(function, input, weight, bias, settings), function, settings, out)


_SHARED = """
Parameters
----------
input : array_like
    Shape ``(N, C, *spatial)``, or ``(C, *spatial)`` without a batch. N may be 0. Any strides and byte order; CPU
    tensors of other libraries are read through DLPack without a copy. Nothing but `out` is ever written to.
weight : array_like
    Shape ``(C, K // groups, *kernel)``, in both data formats: that of the convolution whose transpose this is.
bias : array_like, optional
    Shape ``(K,)``, added to the sums of each output channel.
stride, dilation : int or sequence of int
    Of that convolution; one for all spatial axes, or one an axis, from 1 up.
padding : int, sequence or str
    Of that convolution, hence taken off the result: one integer; one an axis; one pair ``(before, after)`` an axis;
    ``"valid"`` for none; ``"same"`` for a result of ``size * stride``, of which an odd element is taken off the end;
    ``"same_lower"``: off the start.
output_padding : int or sequence of int
    More elements at the end of the result, fewer than its axis' stride or dilation. A convolution with a stride makes
    outputs of one size from inputs of several: this chooses among them.
groups : int
    How many parts the channels are cut into, each on its own.
activation : str or tuple, optional
    Applied to a float result before it is stored: ``"relu"``, ``"relu6"``, ``"sigmoid"``, ``"tanh"``, ``"silu"``,
    ``"hardswish"``, ``("leaky_relu", slope)`` or ``("clip", low, high)``.
data_format : {"channels_first", "channels_last"}
    With ``"channels_last"``, input and result have their channels on the last axis.
dtype : dtype, optional
    Of the result, `input` and `weight` being converted on the way in. By default ``numpy.result_type(input, weight)``.
    Integers are exact modulo 2**bits, float16 is summed in float32; bool alone has no sums.
out : numpy.ndarray, optional
    Where to write the result: any writeable view of its shape and dtype, which may overlap the other arguments.

Returns
-------
numpy.ndarray
    Shape ``(N, K, *output)``, where a spatial axis of ``size`` elements gives
    ``(size - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``. It is `out` if that is
    given.

Raises
------
ValueError
    For shapes that do not fit together, and for values out of range.
TypeError
    For arguments and dtypes of the wrong kind.

Notes
-----
The name is that of deep learning: the linear map is the transpose of `conv`'s, for integers and floats the gradient of
`conv` with respect to its input. For complex numbers nothing is conjugated.

The arguments and their meaning are those of `torch.nn.functional.conv_transpose2d
<https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html>`_. ``"same"``, which that
does not have, follows ``SAME_UPPER`` and ``SAME_LOWER`` of the `ConvTranspose operator of ONNX
<https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>`_.
"""


@ending_with(_SHARED)
def conv_transpose1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Spread signals of one spatial axis by a bank of kernels, as the transpose of `conv1d`.

    >>> import numpy, npconv
    >>> signal = numpy.array([[[1, 2, 4]]])
    >>> npconv.conv_transpose1d(signal, numpy.array([[[1, 10, 100]]]))
    array([[[  1,  12, 124, 240, 400]]])
    >>> npconv.conv_transpose1d(signal, numpy.array([[[1, 1]]]), stride=2)
    array([[[1, 1, 2, 2, 4, 4]]])
    """
    settings = stride, padding, output_padding, groups, dilation, activation, data_format
    return _transposed("conv_transpose1d", input, weight, bias, settings, dtype, out)


@ending_with(_SHARED)
def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Spread images, two spatial axes, by a bank of kernels, as the transpose of `conv2d`.

    >>> import numpy, npconv
    >>> image = numpy.arange(4.0).reshape(1, 1, 2, 2)
    >>> npconv.conv_transpose2d(image, numpy.ones((1, 1, 2, 2)), stride=2)
    array([[[[0., 0., 1., 1.],
             [0., 0., 1., 1.],
             [2., 2., 3., 3.],
             [2., 2., 3., 3.]]]])

    Twice as many pixels along each axis, 16 channels in and 8 out:

    >>> features, kernels = numpy.ones((1, 16, 7, 7)), numpy.ones((16, 8, 3, 3))
    >>> npconv.conv_transpose2d(features, kernels, stride=2, padding=1, output_padding=1).shape
    (1, 8, 14, 14)
    """
    settings = stride, padding, output_padding, groups, dilation, activation, data_format
    return _transposed("conv_transpose2d", input, weight, bias, settings, dtype, out)


@ending_with(_SHARED)
def conv_transpose3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Spread volumes or videos, three spatial axes, by a bank of kernels, as the transpose of `conv3d`.

    >>> import numpy, npconv
    >>> video = numpy.ones((1, 4, 8, 10, 15), dtype=numpy.float32)
    >>> npconv.conv_transpose3d(video, numpy.ones((4, 3, 3, 4, 4)), stride=(1, 2, 2), padding=(1, 1, 1)).shape
    (1, 3, 8, 20, 30)
    """
    settings = stride, padding, output_padding, groups, dilation, activation, data_format
    return _transposed("conv_transpose3d", input, weight, bias, settings, dtype, out)


@ending_with(_SHARED)
def conv_transpose(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Spread arrays of any number of spatial axes, ``weight.ndim - 2``, by a bank of kernels: the transpose of `conv`.

    >>> import numpy, npconv
    >>> npconv.conv_transpose(numpy.ones((1, 1, 1, 1, 1, 1), int), numpy.ones((1, 3, 2, 2, 2, 2), int)).shape
    (1, 3, 2, 2, 2, 2)
    """
    settings = stride, padding, output_padding, groups, dilation, activation, data_format
    return _transposed("conv_transpose", input, weight, bias, settings, dtype, out)


def explain_transpose(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    output_padding: IntPerAxis = 0,
    groups: int = 1,
    dilation: IntPerAxis = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Plan:
    """Tell how `conv_transpose` would compute a call with these arguments, without computing it.

    It is computed as ordinary convolutions, one for every place that an output can have between two steps of a stride.
    `algorithm` names theirs, the largest one's first; the rest of the plan is that of the largest. Depthwise ones of
    stride 2 make all places at once, by the algorithm ``"spread"``.

    >>> import numpy, npconv
    >>> with npconv.options(backend="numpy"):
    ...     plan = npconv.explain_transpose(numpy.ones((1, 3, 8, 8)), numpy.ones((3, 4, 3, 3)), stride=2)
    >>> plan.backend, plan.algorithm
    ('numpy', 'matmul')
    """
    settings = stride, padding, output_padding, groups, dilation, activation, data_format
    return explain_call(prepare_transposed("explain_transpose", input, weight, bias, settings, dtype), out)
