"""Causal convolution of signals that come in pieces."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar, cast

import numpy
from numpy.typing import ArrayLike, DTypeLike

from npconv import backend
from npconv._numpy import compute_dtype, finish
from npconv._numpy_causal import sum_taps
from npconv.arguments import Activation, Arguments, Array, DType, IntPerAxis, as_array
from npconv.functional import Settings, plan_call, prepare, run_call
from npconv.layers import ConvolutionLayer, Weights
from npconv.options import Options, in_force
from npconv.problem import Problem, build, check_piece

Layer = TypeVar("Layer", bound="CausalConv1d")

PRODUCTS = 512  # of numbers, summed in one go
PLANE_BYTES = 384 << 10  # that a part of the reduction may reach over for a few outputs


class _Part(NamedTuple):
    """Some input channels of every group, and some taps."""

    channels: slice
    taps: slice
    weight: Array


class CausalConv1d(ConvolutionLayer):
    """A layer over signals that come in pieces: no output depends on later inputs, and what was heard last is carried.

    >>> import numpy, npconv
    >>> smooth = npconv.CausalConv1d.from_weights([[[0.25, 0.25, 0.5]]])
    >>> signal = numpy.array([[4.0, 8.0, 0.0, 4.0, 4.0]])
    >>> whole, _ = smooth(signal)
    >>> whole
    array([[2., 5., 3., 4., 3.]])
    >>> first, state = smooth(signal[:, :2])
    >>> rest, state = smooth(signal[:, 2:], state)
    >>> numpy.array_equal(numpy.concatenate([first, rest], axis=1), whole)
    True
    >>> state
    array([[4., 4.]])

    A call takes `x`, ``(N, C, L)`` or ``(C, L)`` with any L from 0 up, and the state after the piece before it, or None
    for silence. It returns as many outputs, ``(N, K, L)`` or ``(K, L)``, and the new state: the last
    ``(kernel_size - 1) * dilation`` inputs, ``(N, C, that many)``. The layer itself remembers nothing, so any number of
    signals and threads may share it.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K; `groups` divides both.
    kernel_size, dilation : int
        The last tap lies on the newest input.
    groups, activation
        As for `conv1d`; ``groups=in_channels`` is depthwise.
    bias : bool
        Whether there is a value to add to each output channel.
    dtype : dtype
        Of the weights that are drawn: a float.
    rng : seed or numpy.random.Generator, optional
        As for `Conv1d`.

    Notes
    -----
    However a signal is cut, its outputs have the same bits, with any number of threads: products are added in an order
    that the weight's shape and the dtype alone decide, whatever ``options(algorithm=...)`` says. It is the order of one
    backend and instruction set. Where the groups are as many as the channels, this is `CausalConvWithState
    <https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html>`_ of ONNX. There is no stride: a piece would have to
    be a multiple of it.

    `backward` is that of a whole signal after silence.
    """

    _function, _axes = "CausalConv1d", 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPerAxis,
        dilation: IntPerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        activation: Activation = None,
        dtype: DTypeLike = numpy.float32,
        rng: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, 1, 0, dilation, groups, bias,
            activation=activation, dtype=dtype, rng=rng,
        )  # fmt: skip

    @classmethod
    def from_weights(  # type: ignore[override]
        cls: type[Layer],
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        dilation: IntPerAxis = 1,
        groups: int = 1,
        *,
        activation: Activation = None,
        dtype: DTypeLike | None = None,
    ) -> Layer:
        """A layer with copies of these: `weight` ``(K, C // groups, kernel_size)``, and `bias` ``(K,)`` or None.

        `dtype` converts them.

        >>> import numpy, npconv
        >>> difference = npconv.CausalConv1d.from_weights([[[-1, 1]]])
        >>> difference(numpy.array([[1, 4, 9]]))
        (array([[1, 3, 5]]), array([[9]]))
        """
        return cls._made(weight, bias, (1, 0, dilation, groups, "zeros", activation, "channels_first"), dtype)

    def _set(self, weight: Array, bias: Array | None, settings: Settings) -> None:
        """Settings of the convolution of a whole signal, which is padded at its start."""
        super()._set(weight, bias, (settings[0], 0, *settings[2:]))
        self._settings = (self._settings[0], ((self._reach, 0),), *self._settings[2:])

    @property
    def _dilation(self) -> int:
        dilation = self._settings[2]
        return dilation if isinstance(dilation, int) else int(dilation[0])

    @property
    def _reach(self) -> int:
        """How many inputs before the newest one are heard."""
        return int(self.weight.shape[2] - 1) * self._dilation

    def __call__(self, x: ArrayLike, state: ArrayLike | None = None) -> tuple[Array, Array]:
        """The outputs for `x`, and the state for the piece after it."""
        weights, settings = self._weights, self._settings
        name, groups = type(self).__name__, settings[3]
        piece = as_array(name, "x", x)
        before = None if state is None else as_array(name, "state", state)
        channels = weights.weight.shape[1] * groups
        reach = self._reach
        check_piece(name, piece, before, channels, reach)
        heard = _after(before, piece, reach)
        outputs = self._outputs(heard if heard.ndim == 3 else heard[numpy.newaxis], weights, settings)
        return outputs.reshape(*piece.shape[:-2], *outputs.shape[1:]), heard[..., piece.shape[-1] :].copy()

    def _outputs(self, heard: Array, weights: Weights, settings: Settings) -> Array:
        """``(N, K, L)`` for ``(N, C, reach + L)``."""
        weight, bias = weights.weight, weights.bias
        reach = self._reach
        length = heard.shape[2] - reach
        problem = _posed(
            type(self).__name__,
            (*heard.shape[:2], max(heard.shape[2], reach + 1)),
            heard.dtype,
            weight.shape,
            weight.dtype,
            None if bias is None else bias.shape,
            None if bias is None else bias.dtype,
            settings[2:],
        )
        if 0 in (heard.shape[0], length):
            return numpy.empty((heard.shape[0], weight.shape[0], length), problem.dtype)
        options = in_force()
        if backend.choose(options) == "compiled":
            sums = _sum_parts(_ordered(options), heard, weights, problem)
        elif problem.dtype.kind in "iu":  # exact in any order
            sums = run_call(prepare(problem.function, heard, weight, bias, (1, 0, *settings[2:])))
        else:
            sums = sum_taps(heard, weight, bias, problem)
        if problem.activation is None and sums.dtype == problem.dtype:
            return sums
        return finish(sums, problem.activation, problem.dtype)

    def __repr__(self) -> str:
        _, _, _, groups, _, activation, _ = self._settings
        shape = self.weight.shape
        return self._text(
            shape[1] * groups, shape[0], kernel_size=shape[2], dilation=self._dilation, groups=groups,
            bias=self.bias is not None, activation=activation,
        )  # fmt: skip


def _after(state: Array | None, piece: Array, reach: int) -> Array:
    """The piece behind what was heard before it."""
    kind = piece.dtype.newbyteorder("=")
    heard = numpy.empty((*piece.shape[:-1], reach + piece.shape[-1]), kind)
    heard[..., :reach] = 0 if state is None else state
    heard[..., reach:] = piece
    return heard


@functools.lru_cache(maxsize=256)
def _posed(function: str, *arguments: Any) -> Problem:
    """The convolution of what was heard, checked."""
    *arrays, settings = arguments
    given: tuple[Any, ...] = (function, *arrays, 1, 0, *settings, None)
    return build(Arguments(*given))


@functools.lru_cache(maxsize=256)
def _ordered(options: Options) -> Options:
    """The same with the one algorithm that adds a few products in their order, wherever an output lies."""
    return options.changed({"algorithm": "direct", "precision": "strict"})


def _sum_parts(options: Options, heard: Array, weights: Weights, problem: Problem) -> Array:
    """The reduction in parts so small that nothing about the length of a piece can make the algorithm split them."""
    dtype = compute_dtype(problem.dtype)
    key = "parts", dtype
    parts = weights.packed.get(key)
    if parts is None:
        parts = weights.packed[key] = tuple(_parts(weights.weight, problem, dtype))
    (dilation,), groups = problem.dilation, problem.groups
    grouped = heard.reshape(heard.shape[0], groups, -1, heard.shape[2])
    outputs = heard.shape[2] - (problem.kernel_size[0] - 1) * dilation
    sums: Array | None = None
    for number, (channels, taps, weight) in enumerate(parts):
        window = slice(taps.start * dilation, (taps.stop - 1) * dilation + outputs)
        image = grouped[:, :, channels, window].reshape(heard.shape[0], -1, window.stop - window.start)
        bias = weights.bias if number == 0 else None
        settings = 1, 0, dilation, groups, "zeros", None, "channels_first", dtype
        call = plan_call(options, True, problem.function, (image, weight, bias), settings)
        term = run_call(call, None, weights.packed_for(call[0].plan, call[2], number))
        with numpy.errstate(all="ignore"):
            sums = term if sums is None else numpy.add(sums, term, out=sums)
    return cast("Array", sums)


def _parts(weight: Array, problem: Problem, dtype: DType) -> Iterator[_Part]:
    """How the reduction is cut: by the shape of the weight, the dilation and the size of an element alone."""
    _, group_channels, kernel = weight.shape
    products, near = PRODUCTS // (2 if dtype.kind == "c" else 1), 128
    taps = min(kernel, products)
    while taps > 1:
        channels = min(group_channels, products // taps)
        if channels * ((taps - 1) * problem.dilation[0] + near) * dtype.itemsize <= PLANE_BYTES:
            break
        taps = (taps + 1) // 2
    channels = min(group_channels, products // taps, max(1, PLANE_BYTES // (near * dtype.itemsize)))
    for first_tap in range(0, kernel, taps):
        for first in range(0, group_channels, channels):
            part = slice(first, min(first + channels, group_channels))
            window = slice(first_tap, min(first_tap + taps, kernel))
            yield _Part(part, window, numpy.ascontiguousarray(weight[:, part, window]))
