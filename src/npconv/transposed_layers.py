"""Layers of transposed convolution."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy
from numpy.typing import ArrayLike, DTypeLike

from npconv.arguments import (
    Activation,
    Array,
    IntPerAxis,
    Padding,
    canonical_axes,
    canonical_settings,
)
from npconv.docstrings import ending_with
from npconv.functional import Call, Settings, prepare, run_call
from npconv.grad import conjugate, prepare_weight
from npconv.layers import PARAMETERS, PlannedLayer, Weights
from npconv.problem import Problem
from npconv.transposed import prepare_transposed

Layer = TypeVar("Layer", bound="_ConvTranspose")


class _ConvTranspose(PlannedLayer):
    _channels = "C, K/groups"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPerAxis,
        stride: IntPerAxis = 1,
        padding: Padding = 0,
        output_padding: IntPerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntPerAxis = 1,
        *,
        activation: Activation = None,
        data_format: str = "channels_first",
        dtype: DTypeLike = numpy.float32,
        rng: Any = None,
    ) -> None:
        inputs, outputs, *kernel = self._weight_shape(in_channels, out_channels, kernel_size, groups)
        settings = stride, padding, output_padding, groups, dilation, activation, data_format
        self._draw((inputs, outputs // int(groups), *kernel), outputs, bias, settings, dtype, rng)

    @classmethod
    def from_weights(  # type: ignore[override]
        cls: type[Layer],
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
    ) -> Layer:
        """A layer with copies of these: `weight` ``(C, K // groups, *kernel)``, and `bias` ``(K,)`` or None.

        `dtype` converts them.

        >>> import numpy, npconv
        >>> double = npconv.ConvTranspose2d.from_weights(numpy.ones((1, 1, 2, 2)), stride=2)
        >>> double(numpy.ones((1, 1, 5, 5))).shape
        (1, 1, 10, 10)
        """
        return cls._made(
            weight, bias, (stride, padding, output_padding, groups, dilation, activation, data_format), dtype
        )

    @classmethod
    def _canonical(cls, settings: Settings) -> Settings:
        stride, padding, output_padding, groups, dilation, activation, data_format = settings
        given = canonical_settings(
            cls.__name__, stride, padding, dilation, groups, "zeros", activation, data_format, None
        )
        extra = canonical_axes(cls.__name__, "output_padding", output_padding)
        return given[0], given[1], extra, given[3], given[2], given[5], given[6]

    def _check(self, weight: Array, bias: Array | None) -> None:
        stride, padding, output_padding, groups, dilation, activation, data_format = self._settings
        taken_off = 0 if isinstance(padding, str) else max(0, int(numpy.max(padding, initial=0)))
        size = (2 * taken_off + 1,) * self._axes
        image = (*size, weight.shape[0]) if data_format == "channels_last" else (weight.shape[0], *size)
        settings = stride, padding, dilation, groups, "zeros", activation, data_format, None
        self._build(image, weight, bias, (*settings, "transposed", output_padding))

    def _prepare(self, x: ArrayLike, weights: Weights, settings: Settings) -> Call:
        return prepare_transposed(self._function, x, weights.weight, weights.bias, settings, None, True)

    def _gradients(
        self, function: str, problem: Problem, x: Array, weight: Array, grad_output: Array
    ) -> tuple[Array, Array]:
        """Convolutions, of as much of `grad_output` as the elements of `x` were spread over."""
        stride, _, _, groups, dilation, _, data_format = self._settings
        first = grad_output.ndim - self._axes - problem.channels_last
        sizes = zip(problem.input_size, problem.kernel_size, problem.output_size, strict=True)
        steps = zip(problem.stride, problem.dilation, problem.padding, strict=True)
        part, padding = [slice(None)] * first, []
        for (inputs, kernel, outputs), (step, spread, (before, _)) in zip(sizes, steps, strict=True):
            reached = (inputs - 1) * step + (kernel - 1) * spread + 1 - before
            if reached < 1:  # nothing is left of what they were spread over
                return numpy.zeros(x.shape, problem.dtype), numpy.zeros(weight.shape, problem.dtype)
            part.append(slice(0, reached))
            padding.append((before, max(reached - outputs, 0)))
        grad_output = grad_output[tuple(part)]
        settings = stride, tuple(padding), dilation, groups, "zeros", None, data_format
        grad_x = run_call(prepare(function, grad_output, conjugate(weight), None, settings, problem.dtype))
        grad_weight = run_call(prepare_weight(function, grad_output, weight.shape, x, settings, problem.dtype))
        return grad_x, conjugate(grad_weight)

    def __repr__(self) -> str:
        stride, padding, output_padding, groups, dilation, activation, data_format = self._settings
        shape = self.weight.shape
        return self._text(
            shape[0], shape[1] * groups, kernel_size=shape[2:], stride=stride, padding=padding,
            output_padding=output_padding, groups=groups, bias=self.bias is not None, dilation=dilation,
            activation=activation, data_format=data_format,
        )  # fmt: skip


_SETTINGS = "stride, padding, output_padding, groups, dilation, activation, data_format"
_SHARED = f"""{PARAMETERS.format(settings=_SETTINGS, fan_in="K // groups * taps")}
Notes
-----
The weights are packed for the machine at the first call, once for all calls after it. A layer may be called from many
threads at once; it pickles and copies without what is packed. `from_weights` takes given weights.
"""


@ending_with(_SHARED)
class ConvTranspose1d(_ConvTranspose):
    """A layer over signals, `conv_transpose1d` with kernels of its own.

    >>> import numpy, npconv
    >>> layer = npconv.ConvTranspose1d(8, 1, kernel_size=4, stride=2, padding=1, rng=0)
    >>> layer(numpy.zeros((4, 8, 50), dtype=numpy.float32)).shape
    (4, 1, 100)
    """

    _function, _axes = "conv_transpose1d", 1


@ending_with(_SHARED)
class ConvTranspose2d(_ConvTranspose):
    """A layer over images, `conv_transpose2d` with kernels of its own.

    >>> import numpy, npconv
    >>> layer = npconv.ConvTranspose2d(16, 3, kernel_size=3, stride=2, padding=1, output_padding=1, rng=0)
    >>> layer
    ConvTranspose2d(16, 3, kernel_size=(3, 3), stride=2, padding=1, output_padding=1)
    >>> layer(numpy.zeros((1, 16, 32, 32), dtype=numpy.float32)).shape
    (1, 3, 64, 64)
    """

    _function, _axes = "conv_transpose2d", 2


@ending_with(_SHARED)
class ConvTranspose3d(_ConvTranspose):
    """A layer over volumes, `conv_transpose3d` with kernels of its own.

    >>> import numpy, npconv
    >>> layer = npconv.ConvTranspose3d(4, 1, kernel_size=(1, 2, 2), stride=(1, 2, 2), rng=0)
    >>> layer(numpy.zeros((1, 4, 4, 10, 10), dtype=numpy.float32)).shape
    (1, 1, 4, 20, 20)
    """

    _function, _axes = "conv_transpose3d", 3
