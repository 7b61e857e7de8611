"""The functions a user calls: arrays coerced, the plan looked up, the result allocated or `out` served."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy
from numpy import ndarray
from numpy.typing import ArrayLike, DTypeLike

from npconv import backend
from npconv.arguments import (
    Activation,
    Arguments,
    Array,
    IntPerAxis,
    Padding,
    as_array,
    canonical_settings,
)
from npconv.backend import again
from npconv.docstrings import ending_with
from npconv.options import Options, in_force
from npconv.problem import Problem, build, check_out


@dataclass(frozen=True)
class Plan:
    """How a call would be computed. Printed, it is a table.

    `refused` holds the algorithms tried before this one, each with its reason, best first.
    """

    backend: str
    algorithm: str
    isa: str
    threads: int
    workspace_bytes: int
    refused: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        rows = [
            ("backend", self.backend),
            ("algorithm", self.algorithm),
            ("isa", self.isa),
            ("threads", str(self.threads)),
            ("workspace", f"{self.workspace_bytes:,} bytes"),
            *((f"not {name}", reason) for name, reason in self.refused),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


class Prepared:
    """All that is known of a call before its arrays are: what the cache holds."""

    __slots__ = ("allocate", "casts", "dtype", "options", "plan", "problem", "run", "shape")

    def __init__(self, options: Options, problem: Problem, plan: backend.ExecutionPlan) -> None:
        self.options, self.problem, self.plan = options, problem, plan
        self.run, self.shape, self.dtype = plan.run, problem.output_shape, problem.dtype
        self.allocate = backend.allocator(problem, plan)
        given = problem.input_dtype, problem.weight_dtype, problem.bias_dtype
        self.casts = any(dtype is not None and problem.must_cast(dtype) for dtype in given)

    def call(self, input: Array, weight: Array, bias: Array | None) -> Call:
        """With its arrays as the plan takes them."""
        if self.casts:
            input, weight = self._cast(input), self._cast(weight)
            bias = None if bias is None else self._cast(bias)
        return self, input, weight, bias

    def _cast(self, array: Array) -> Array:
        return array.astype(self.dtype) if self.problem.must_cast(array.dtype) else array


# stride, padding, dilation, groups, padding_mode, activation, data_format; of a transposed convolution stride, padding,
# output_padding, groups, dilation, activation, data_format
Settings = tuple[Any, Any, Any, Any, Any, Any, Any]
Call = tuple[Prepared, Array, Array, Array | None]


@functools.lru_cache(maxsize=1024)
def planned(options: Options, prepacked: bool, *arguments: Any) -> Prepared:
    problem = build(Arguments(*arguments))
    return Prepared(options, problem, backend.plan(problem, options, prepacked))


def prepare(
    function: str,
    input: Any,
    weight: Any,
    bias: Any,
    settings: Settings,
    dtype: Any = None,
    prepacked: bool = False,
) -> Call:
    """What is cached of a call, and its arrays as the plan takes them. Every call pays for this: it is kept lean."""
    if type(input) is not ndarray:
        input = as_array(function, "input", input)
    if type(weight) is not ndarray:
        weight = as_array(function, "weight", weight)
    if bias is not None and type(bias) is not ndarray:
        bias = as_array(function, "bias", bias)
    stride, padding, dilation, groups, padding_mode, activation, data_format = settings
    plain = type(stride) is type(padding) is type(dilation) is type(groups) is int and activation is None
    canonical: tuple[Any, ...] = (*settings, dtype)
    if not (plain and dtype is None and type(padding_mode) is type(data_format) is str):
        canonical = canonical_settings(function, *canonical)
    return plan_call(in_force(), prepacked, function, (input, weight, bias), canonical)


def plan_call(
    options: Options,
    prepacked: bool,
    function: str,
    arrays: tuple[Array, Array, Array | None],
    settings: tuple[Any, ...],
) -> Call:
    """`settings` are canonical, from `stride` on."""
    input, weight, bias = arrays
    prepared = planned(
        options,
        prepacked,
        function,
        input.shape,
        input.dtype,
        weight.shape,
        weight.dtype,
        None if bias is None else bias.shape,
        None if bias is None else bias.dtype,
        *settings,
    )
    return prepared.call(input, weight, bias)


def run_call(call: Call, out: Array | None = None, packed: Any = None) -> Array:
    """The result, in `out` if that is given. `packed` is what the plan made of the weight beforehand, if anything."""
    prepared, input, weight, bias = call
    if out is not None:
        return _write(call, check_out(prepared.problem, out), packed)
    result = prepared.allocate(prepared.shape, prepared.dtype)
    prepared.run(input, weight, bias, result, packed)
    return result


def run_first(call: Call, function: str, settings: tuple[Any, ...], out: Array | None) -> Array:
    """As `run_call`; `again` answers calls like this one from now on."""
    backend.remember(call, function, settings)
    return run_call(call, out)


def explain_call(call: Call, out: Array | None) -> Plan:
    prepared = call[0]
    if out is not None:
        check_out(prepared.problem, out)
    plan = prepared.plan
    return Plan(plan.backend, plan.algorithm, plan.isa, plan.threads, plan.workspace_bytes, tuple(plan.refused))


def _convolve(
    function: str, input: Any, weight: Any, bias: Any, settings: Settings, dtype: Any, out: Array | None
) -> Array:
    if dtype is not None:
        return run_call(prepare(function, input, weight, bias, settings, dtype), out)
    result = again(in_force(), function, input, weight, bias, settings, out)
    if result is not None:
        return result
    return run_first(prepare(function, input, weight, bias, settings), function, settings, out)


def _write(call: Call, out: Array, packed: Any) -> Array:
    prepared, input, weight, bias = call
    target = numpy.asarray(out)
    given = (input, weight) if bias is None else (input, weight, bias)
    shared = any(numpy.may_share_memory(target, array) for array in given)
    if target.flags.aligned and not shared and not _overlaps_itself(target):
        prepared.run(input, weight, bias, target, packed)
    else:
        result = prepared.allocate(prepared.shape, prepared.dtype)
        prepared.run(input, weight, bias, result, packed)
        numpy.copyto(target, result)
    return out


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may share memory: True also for the rare layout that interleaves axes."""
    if array.flags.c_contiguous:
        return False
    reach = array.itemsize
    for stride, size in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if size > 1 and stride < reach:
            return True
        reach += stride * (size - 1)
    return False


_SHARED = """
Parameters
----------
input : array_like
    Shape ``(N, C, *spatial)``, or ``(C, *spatial)`` without a batch. N may be 0. Any strides and byte order; CPU
    tensors of other libraries are read through DLPack without a copy. Nothing but `out` is ever written to.
weight : array_like
    Shape ``(K, C // groups, *kernel)``, in both data formats.
bias : array_like, optional
    Shape ``(K,)``, added to the sums of each output channel.
stride, dilation : int or sequence of int
    One for all spatial axes, or one an axis, from 1 up.
padding : int, sequence or str
    One integer; one an axis; one pair ``(before, after)`` an axis; ``"valid"`` for none; ``"same"`` for as much as
    makes the output size ``ceil(size / stride)``, an odd element going to the end; ``"same_lower"``: to the start.
groups : int
    How many parts the channels are cut into, each convolved on its own. ``groups=C`` is depthwise convolution.
padding_mode : {"zeros", "reflect", "replicate", "circular", "symmetric"}
    What the padding holds. ``"reflect"`` mirrors without repeating the border, ``"symmetric"`` repeats it.
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
    ``(size + before + after - dilation * (kernel - 1) - 1) // stride + 1``. It is `out` if that is given.

Raises
------
ValueError
    For shapes that do not fit together, and for values out of range.
TypeError
    For arguments and dtypes of the wrong kind.

Notes
-----
This is what deep learning calls convolution: cross-correlation, the kernel is not flipped. For the convolution of
signal processing, pass ``weight[..., ::-1, ::-1]``, with one ``::-1`` a spatial axis.

The arguments and their meaning are those of `torch.nn.functional.conv2d
<https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html>`_. With a stride, where that refuses
``"same"``, the rule is that of ``SAME_UPPER`` and ``SAME_LOWER`` in the `Conv operator of ONNX
<https://onnx.ai/onnx/operators/onnx__Conv.html>`_.
"""


@ending_with(_SHARED)
def conv1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Convolve signals of one spatial axis with a bank of kernels.

    >>> import numpy, npconv
    >>> signal = numpy.array([[[1, 2, 4, 8, 16]]])
    >>> npconv.conv1d(signal, numpy.array([[[-1, 1]]]))
    array([[[1, 2, 4, 8]]])
    >>> npconv.conv1d(signal, numpy.array([[[1, 1, 1]]]), stride=2, padding="same")
    array([[[ 3, 14, 24]]])
    """
    settings = stride, padding, dilation, groups, padding_mode, activation, data_format
    return _convolve("conv1d", input, weight, bias, settings, dtype, out)


@ending_with(_SHARED)
def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Convolve images, two spatial axes, with a bank of kernels.

    >>> import numpy, npconv
    >>> image = numpy.arange(16.0).reshape(1, 1, 4, 4)
    >>> edges = numpy.array([[[[-1.0, 0.0, 1.0]]]])
    >>> npconv.conv2d(image, edges, stride=(2, 1), padding=((0, 0), (1, 1)), padding_mode="replicate")
    array([[[[1., 2., 2., 1.],
             [1., 2., 2., 1.]]]])

    Sixteen kernels over eight RGB images, a bias each, and what is negative set to zero:

    >>> rng = numpy.random.default_rng(0)
    >>> images, kernels, bias = rng.random((8, 3, 32, 32)), rng.random((16, 3, 3, 3)), rng.random(16)
    >>> npconv.conv2d(images, kernels, bias, stride=2, padding="same", activation="relu").shape
    (8, 16, 16, 16)
    """
    settings = stride, padding, dilation, groups, padding_mode, activation, data_format
    return _convolve("conv2d", input, weight, bias, settings, dtype, out)


@ending_with(_SHARED)
def conv3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Convolve volumes or videos, three spatial axes, with a bank of kernels.

    >>> import numpy, npconv
    >>> video = numpy.ones((1, 3, 8, 20, 30), dtype=numpy.float32)  # batch, colours, frames, height, width
    >>> npconv.conv3d(video, numpy.ones((4, 3, 3, 5, 5)), stride=(1, 2, 2), padding=(1, 2, 2)).shape
    (1, 4, 8, 10, 15)
    """
    settings = stride, padding, dilation, groups, padding_mode, activation, data_format
    return _convolve("conv3d", input, weight, bias, settings, dtype, out)


@ending_with(_SHARED)
def conv(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Convolve with a bank of kernels over any number of spatial axes, ``weight.ndim - 2``.

    >>> import numpy, npconv
    >>> npconv.conv(numpy.ones((1, 1, 4, 4, 4, 4), int), numpy.ones((1, 1, 3, 3, 3, 3), int)).ravel()
    array([81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81])
    """
    settings = stride, padding, dilation, groups, padding_mode, activation, data_format
    return _convolve("conv", input, weight, bias, settings, dtype, out)


def explain(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntPerAxis = 1,
    padding: Padding = 0,
    dilation: IntPerAxis = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Activation = None,
    data_format: str = "channels_first",
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Plan:
    """Tell how `conv` would compute a call with these arguments under the options in force, without computing it.

    >>> import numpy, npconv
    >>> with npconv.options(backend="numpy"):
    ...     plan = npconv.explain(numpy.ones((1, 3, 8, 8)), numpy.ones((4, 3, 3, 3)))
    >>> plan.backend, plan.algorithm
    ('numpy', 'matmul')
    """
    settings = stride, padding, dilation, groups, padding_mode, activation, data_format
    return explain_call(prepare("explain", input, weight, bias, settings, dtype), out)
