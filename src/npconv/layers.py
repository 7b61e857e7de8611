"""Convolutional layers: kernels kept with their settings, and packed for the machine once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, TypeVar, cast

import numpy
from numpy.typing import ArrayLike, DTypeLike

from npconv._numpy import compute_dtype, slope, sum_but
from npconv.arguments import (
    Activation,
    Arguments,
    Array,
    IntPerAxis,
    Padding,
    as_array,
    canonical_axes,
    canonical_dtype,
    canonical_integer,
    canonical_settings,
)
from npconv.backend import Calls, ExecutionPlan, remember_layer
from npconv.docstrings import ending_with
from npconv.functional import Call, Plan, Settings, explain_call, prepare, run_call
from npconv.grad import prepare_input, prepare_weight
from npconv.options import in_force
from npconv.problem import Problem, build, check_grad_output

MOST_READY = 128  # places for kinds of input that a layer keeps plans for
DEFAULTS = {"padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "bias": True, "padding_mode": "zeros",
            "activation": None, "data_format": "channels_first"}  # fmt: skip

Layer = TypeVar("Layer", bound="ConvolutionLayer")


class Weights:
    """Weights and what has been packed of them: replaced as one, so that a call in another thread keeps its own."""

    __slots__ = ("bias", "packed", "ready", "weight")

    def __init__(self, weight: Array, bias: Array | None) -> None:
        self.weight, self.bias = weight, bias
        self.packed: dict[Any, Any] = {}
        self.ready = Calls(MOST_READY)

    def packed_for(self, plan: ExecutionPlan, weight: Array, part: int = 0) -> Any:
        """What the plan packs of the weight, or of one of the parts it is cut into; None if that is nothing."""
        packing = plan.packing
        if packing is None:
            return None
        packed = self.packed.get((packing, part))
        if packed is None:
            packed = self.packed[packing, part] = plan.pack(weight)
        return packed


class ConvolutionLayer:
    _function: ClassVar[str]
    _axes: ClassVar[int]
    _channels: ClassVar[str] = "K, C/groups"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPerAxis,
        stride: IntPerAxis = 1,
        padding: Padding = 0,
        dilation: IntPerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        padding_mode: str = "zeros",
        activation: Activation = None,
        data_format: str = "channels_first",
        dtype: DTypeLike = numpy.float32,
        rng: Any = None,
    ) -> None:
        inputs, outputs, *kernel = self._weight_shape(in_channels, out_channels, kernel_size, groups)
        settings = stride, padding, dilation, groups, padding_mode, activation, data_format
        self._draw((outputs, inputs // int(groups), *kernel), outputs, bias, settings, dtype, rng)

    @classmethod
    def from_weights(
        cls: type[Layer],
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
    ) -> Layer:
        """A layer with copies of these: `weight` ``(K, C // groups, *kernel)``, and `bias` ``(K,)`` or None.

        `dtype` converts them.

        >>> import numpy, npconv
        >>> blur = npconv.Conv2d.from_weights(numpy.full((1, 1, 3, 3), 1 / 9), padding="same")
        >>> blur(numpy.ones((1, 1, 5, 5))).shape
        (1, 1, 5, 5)
        """
        return cls._made(
            weight, bias, (stride, padding, dilation, groups, padding_mode, activation, data_format), dtype
        )

    @classmethod
    def _made(
        cls: type[Layer], weight: ArrayLike, bias: ArrayLike | None, settings: Settings, dtype: DTypeLike | None
    ) -> Layer:
        layer = cls.__new__(cls)
        kind = canonical_dtype(cls.__name__, dtype)
        copied = numpy.array(as_array(cls.__name__, "weight", weight), dtype=kind, order="C")
        offset = None if bias is None else numpy.array(as_array(cls.__name__, "bias", bias), dtype=kind)
        if copied.ndim != cls._axes + 2 or 0 in copied.shape:
            raise ValueError(
                f"{cls.__name__}: weight must have {cls._axes + 2} axes ({cls._channels}, *kernel), none of size 0, "
                f"got weight shape {copied.shape}"
            )
        layer._set(copied, offset, settings)
        return layer

    def _draw(
        self, shape: tuple[int, ...], out_channels: int, bias: bool, settings: Settings, dtype: DTypeLike, rng: Any
    ) -> None:
        kind = canonical_dtype(type(self).__name__, dtype)
        if kind is None or kind.kind != "f":
            raise TypeError(f"{type(self).__name__}: dtype must be a float to draw weights of, got {kind}")
        # Kaiming uniform with a = sqrt(5), as torch: uniform in +-1 / sqrt(fan in), for the bias too.
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        generator = numpy.random.default_rng(rng)
        weight = generator.uniform(-bound, bound, shape).astype(kind)
        self._set(weight, generator.uniform(-bound, bound, out_channels).astype(kind) if bias else None, settings)

    def _weight_shape(
        self, in_channels: int, out_channels: int, kernel_size: IntPerAxis, groups: int
    ) -> tuple[int, ...]:
        """Input and output channels, and the sizes of the kernel."""
        name = type(self).__name__
        counts = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        for argument, value in counts.items():
            if canonical_integer(name, argument, value) < 1:
                raise ValueError(f"{name}: {argument} must be at least 1, got {value}")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        kernel = canonical_axes(name, "kernel_size", kernel_size)
        sizes = (kernel,) * self._axes if isinstance(kernel, int) else kernel
        if len(sizes) != self._axes or min(sizes) < 1:
            raise ValueError(
                f"{name}: kernel_size must be one integer from 1 up, or {self._axes} of them, got {kernel_size!r}"
            )
        return (int(in_channels), int(out_channels), *sizes)

    @classmethod
    def _canonical(cls, settings: Settings) -> Settings:
        canonical = canonical_settings(cls.__name__, *settings, None)
        return cast("Settings", canonical[:7])

    def _set(self, weight: Array, bias: Array | None, settings: Settings) -> None:
        self._settings = self._canonical(settings)
        self._check(weight, bias)
        self._weights = Weights(_frozen(weight), None if bias is None else _frozen(bias))

    def _check(self, weight: Array, bias: Array | None) -> None:
        """Raises what a call would, with the least input that the settings take."""
        _, padding, dilation, groups, _, _, data_format = self._settings
        reach = 0 if isinstance(padding, str) else int(numpy.max(padding, initial=0))
        steps = (dilation,) * self._axes if isinstance(dilation, int) else dilation
        size = [max(0, step) * (k - 1) + 1 + max(0, reach) for step, k in zip(steps, weight.shape[2:], strict=False)]
        channels = weight.shape[1] * groups
        image = (*size, channels) if data_format == "channels_last" else (channels, *size)
        self._build(image, weight, bias, (*self._settings, None))

    def _build(self, image: tuple[int, ...], weight: Array, bias: Array | None, settings: tuple[Any, ...]) -> None:
        """Poses the problem of one such image, with settings in the order of `Arguments`."""
        build(
            Arguments(
                type(self).__name__,
                (1, *image),
                numpy.dtype(numpy.float64),  # with which every weight and activation goes
                weight.shape,
                weight.dtype,
                None if bias is None else bias.shape,
                None if bias is None else bias.dtype,
                *settings,
            )
        )

    def _cast(self, name: str, value: ArrayLike, dtype: numpy.dtype[Any]) -> Array:
        array = as_array(type(self).__name__, name, value)
        if not numpy.can_cast(array.dtype, dtype, "same_kind"):
            whose = f"{type(self).__name__}: {name} of dtype {array.dtype}"
            raise TypeError(f"{whose} cannot be cast to the layer's {dtype}")
        return numpy.array(array, dtype=dtype, order="C")

    @property
    def weight(self) -> Array:
        """The kernels, ``(K, C // groups, *kernel)``, read-only. Assigning an array of that shape packs it anew."""
        return self._weights.weight

    @weight.setter
    def weight(self, value: ArrayLike) -> None:
        name, current = type(self).__name__, self._weights
        weight = self._cast("weight", value, current.weight.dtype)
        if weight.shape != current.weight.shape:
            raise ValueError(f"{name}: weight must have shape {current.weight.shape}, got {weight.shape}")
        self._weights = Weights(_frozen(weight), current.bias)

    @property
    def bias(self) -> Array | None:
        """One value an output channel, ``(K,)``, read-only, or None. Assigning None removes it."""
        return self._weights.bias

    @bias.setter
    def bias(self, value: ArrayLike | None) -> None:
        current = self._weights
        bias = None
        if value is not None:
            bias = self._cast("bias", value, (current.weight if current.bias is None else current.bias).dtype)
            self._check(current.weight, bias)
            bias = _frozen(bias)
        self._weights = Weights(current.weight, bias)

    def _prepare(self, x: ArrayLike, weights: Weights, settings: Settings) -> Call:
        return prepare(self._function, x, weights.weight, weights.bias, settings, None, True)

    def backward(self, x: ArrayLike, grad_output: ArrayLike) -> tuple[Array, Array, Array | None]:
        """The gradients of `x`, weight and bias, from that of the layer's result for `x`; None where there is no bias.

        All of them have the dtype of that result. Through an activation, and at its kinks, they are torch's; the sums
        before it are computed again. The gradient of complex numbers is torch's too.

        >>> import numpy, npconv
        >>> layer = npconv.Conv1d.from_weights([[[1.0, 2.0]]], [0.0])
        >>> layer.backward([[[1.0, 10.0, 100.0]]], [[[1.0, 1.0]]])
        (array([[[1., 3., 2.]]]), array([[[ 11., 110.]]]), array([2.]))
        """
        function = f"{type(self).__name__}.backward"
        weights, settings = self._weights, self._settings
        image, grad = as_array(function, "x", x), as_array(function, "grad_output", grad_output)
        activation, data_format = settings[-2:]
        call = self._prepare(image, weights, (*settings[:-2], None, data_format))
        problem = replace(call[0].problem, function=function)
        check_grad_output(problem, grad)
        if activation is not None:
            grad = slope(run_call(call), activation) * grad.astype(compute_dtype(problem.dtype), copy=False)
            grad = grad.astype(problem.dtype, copy=False)
        grad_bias = None
        if weights.bias is not None:
            axis = grad.ndim - 1 if data_format == "channels_last" else grad.ndim - 1 - self._axes
            grad_bias = sum_but(grad, axis, problem.dtype)
        return (*self._gradients(function, problem, image, weights.weight, grad), grad_bias)

    def _gradients(
        self, function: str, problem: Problem, x: Array, weight: Array, grad_output: Array
    ) -> tuple[Array, Array]:
        """Of `x` and of the weight."""
        stride, padding, dilation, groups, padding_mode, _, data_format = self._settings
        settings = stride, padding, dilation, groups, padding_mode, None, data_format
        return (
            run_call(prepare_input(function, x.shape, weight, grad_output, settings, problem.dtype)),
            run_call(prepare_weight(function, x, weight.shape, grad_output, settings, problem.dtype)),
        )

    def __getstate__(self) -> tuple[Array, Array | None, Settings]:
        return self._weights.weight, self._weights.bias, self._settings

    def __setstate__(self, state: tuple[Array, Array | None, Settings]) -> None:
        self._set(*state)

    def __repr__(self) -> str:
        stride, padding, dilation, groups, padding_mode, activation, data_format = self._settings
        shape = self.weight.shape
        return self._text(
            shape[1] * groups, shape[0], kernel_size=shape[2:], stride=stride, padding=padding, dilation=dilation,
            groups=groups, bias=self.bias is not None, padding_mode=padding_mode, activation=activation,
            data_format=data_format,
        )  # fmt: skip

    def _text(self, in_channels: int, out_channels: int, **settings: Any) -> str:
        """The call that makes such a layer, without defaults."""
        text = [str(in_channels), str(out_channels)]
        for name, value in settings.items():
            if name not in DEFAULTS or value not in (DEFAULTS[name], (DEFAULTS[name],) * self._axes):
                text.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(text)})"


class PlannedLayer(ConvolutionLayer):
    """One whose call is a single convolution."""

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        """The convolution of `x`, ``(N, C, *spatial)`` or ``(C, *spatial)``, written to `out` if that is given."""
        weights = self._weights
        result = weights.ready.again(in_force(), None, x, None, None, (), out)
        if result is not None:
            return result
        call = self._prepare(x, weights, self._settings)
        packed = weights.packed_for(call[0].plan, call[2])
        remember_layer(weights.ready, call, packed)
        return run_call(call, out, packed)

    def explain(self, x: ArrayLike, out: Array | None = None) -> Plan:
        """Tell how `x` would be computed under the options in force, without computing or packing anything.

        As `npconv.explain` does of a call on plain arrays, whose algorithm may be another one: it would have to pack
        its weights each time.

        >>> import numpy, npconv
        >>> layer = npconv.Conv2d(3, 16, kernel_size=3, rng=0)
        >>> with npconv.options(backend="numpy"):
        ...     layer.explain(numpy.zeros((1, 3, 32, 32), dtype=numpy.float32)).algorithm
        'matmul'
        """
        return explain_call(self._prepare(x, self._weights, self._settings), out)


def _frozen(array: Array) -> Array:
    """A view of it that NumPy refuses to unlock."""
    array.flags.writeable = False
    return array.view()


PARAMETERS = """
Parameters
----------
in_channels, out_channels : int
    C and K; `groups` divides both.
kernel_size : int or sequence of int
    One for all spatial axes, or one an axis.
{settings}
    As for the function.
bias : bool
    Whether there is a value to add to each output channel.
dtype : dtype
    Of the weights that are drawn: a float.
rng : seed or numpy.random.Generator, optional
    Given to `numpy.random.default_rng`. Weight and bias are drawn uniformly from ``+-1 / sqrt({fan_in})``,
    which is torch's default, Kaiming uniform with ``a = sqrt(5)``.
"""

_SETTINGS = "stride, padding, dilation, groups, padding_mode, activation, data_format"
_SHARED = f"""{PARAMETERS.format(settings=_SETTINGS, fan_in="C // groups * taps")}
Notes
-----
The weights are packed for the machine at the first call that gains from it, once for all calls after it. A layer may be
called from many threads at once; it pickles and copies without what is packed. `from_weights` takes given weights.
"""


@ending_with(_SHARED)
class Conv1d(PlannedLayer):
    """A layer over signals, `conv1d` with kernels of its own.

    >>> import numpy, npconv
    >>> layer = npconv.Conv1d(1, 8, kernel_size=5, stride=2, rng=0)
    >>> layer(numpy.zeros((4, 1, 100), dtype=numpy.float32)).shape
    (4, 8, 48)
    """

    _function, _axes = "conv1d", 1


@ending_with(_SHARED)
class Conv2d(PlannedLayer):
    """A layer over images, `conv2d` with kernels of its own.

    >>> import numpy, npconv
    >>> layer = npconv.Conv2d(3, 16, kernel_size=3, padding="same", activation="relu", rng=0)
    >>> layer
    Conv2d(3, 16, kernel_size=(3, 3), stride=1, padding='same', activation='relu')
    >>> layer(numpy.zeros((1, 3, 32, 32), dtype=numpy.float32)).shape
    (1, 16, 32, 32)
    """

    _function, _axes = "conv2d", 2


@ending_with(_SHARED)
class Conv3d(PlannedLayer):
    """A layer over volumes, `conv3d` with kernels of its own.

    >>> import numpy, npconv
    >>> layer = npconv.Conv3d(1, 4, kernel_size=(1, 3, 3), rng=0)
    >>> layer(numpy.zeros((1, 1, 4, 10, 10), dtype=numpy.float32)).shape
    (1, 4, 4, 8, 8)
    """

    _function, _axes = "conv3d", 3
