"""`unfold` and `fold`: images to the windows that a convolution sees, and back."""

from __future__ import annotations

import functools
from typing import Any

from numpy import empty, ndarray
from numpy.typing import ArrayLike

from npconv import backend
from npconv.arguments import Array, IntPerAxis, Padding, as_array, canonical_axes, canonical_padding
from npconv.docstrings import ending_with
from npconv.options import Options, in_force
from npconv.problem import Problem
from npconv.windows import WindowArguments, build_windows

_SHARED = """\
kernel_size, dilation, stride : int or sequence of int
    Of the windows: one for all spatial axes, or one an axis, from 1 up. A sequence tells how many axes there are.
padding : int, sequence or str
    Around the image, of zeros; as for `conv`: one integer, one an axis, one pair ``(before, after)`` an axis,
    ``"valid"``, ``"same"`` or ``"same_lower"``.

Returns
-------
numpy.ndarray
    {result}

Raises
------
ValueError
    For shapes that do not fit together, and for values out of range.
TypeError
    For arguments and dtypes of the wrong kind.

Notes
-----
The order of the columns' channels, and of the windows, is that of `torch.nn.Unfold
<https://docs.pytorch.org/docs/stable/generated/torch.nn.Unfold.html>`_: taps vary faster than channels, and the last
axis fastest. Neither function is needed for a convolution, which computes without columns and is much faster.
"""


@functools.lru_cache(maxsize=256)
def _planned(options: Options, *arguments: Any) -> tuple[Problem, backend.FoldingPlan]:
    problem = build_windows(WindowArguments(*arguments))
    return problem, backend.plan_folding(problem, options)


def _run(
    function: str, given: ArrayLike, image_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Array:
    input = given if type(given) is ndarray else as_array(function, "input", given)
    settings = image_size, kernel_size, stride, padding, dilation
    folds = function == "fold"
    if folds or not type(kernel_size) is type(stride) is type(padding) is type(dilation) is int:
        settings = (
            canonical_axes(function, "output_size", image_size) if folds else None,
            canonical_axes(function, "kernel_size", kernel_size),
            canonical_axes(function, "stride", stride),
            canonical_padding(function, padding),
            canonical_axes(function, "dilation", dilation),
        )
    problem, plan = _planned(in_force(), function, input.shape, input.dtype, *settings)
    if not folds and not input.dtype.isnative:
        input = input.astype(problem.dtype)  # small beside the columns
    result = empty(problem.output_shape, problem.dtype)
    plan.run(input, result)
    return result


@ending_with(
    _SHARED.format(
        result="Shape ``(N, C * taps, L)``, L being the number of windows, or ``(C * taps, L)``; the dtype is that of "
        "`input`."
    )
)
def unfold(
    input: ArrayLike,
    kernel_size: IntPerAxis,
    dilation: IntPerAxis = 1,
    padding: Padding = 0,
    stride: IntPerAxis = 1,
) -> Array:
    """Lay the windows that a convolution sees out as columns: im2col.

    >>> import numpy, npconv
    >>> image = numpy.arange(9).reshape(1, 1, 3, 3)
    >>> npconv.unfold(image, kernel_size=2)
    array([[[0, 1, 3, 4],
            [1, 2, 4, 5],
            [3, 4, 6, 7],
            [4, 5, 7, 8]]])

    A convolution is a matrix product with them:

    >>> weight = numpy.array([[[[1, 0], [2, -1]]]])
    >>> weight.reshape(1, 4) @ npconv.unfold(image, (2, 2))
    array([[[ 2,  4,  8, 10]]])
    >>> npconv.conv2d(image, weight).ravel()
    array([ 2,  4,  8, 10])

    Parameters
    ----------
    input : array_like
        Shape ``(N, C, *spatial)``, or ``(C, *spatial)`` without a batch. N may be 0; any numeric dtype, strides and
        byte order. Where all other arguments are integers, 3 axes are ``(C, H, W)`` and 4 are ``(N, C, H, W)``, as in
        torch; 2 are ``(C, L)``, and from 5 on the first is the batch. A batch of signals needs ``kernel_size=(k,)``.
    """
    return _run("unfold", input, None, kernel_size, dilation, padding, stride)


@ending_with(
    _SHARED.format(result="Shape ``(N, C, *output_size)``, or ``(C, *output_size)``; the dtype is that of `input`.")
)
def fold(
    input: ArrayLike,
    output_size: IntPerAxis,
    kernel_size: IntPerAxis,
    dilation: IntPerAxis = 1,
    padding: Padding = 0,
    stride: IntPerAxis = 1,
) -> Array:
    """Lay columns back as windows of an image and add where they overlap: col2im, the adjoint of `unfold`.

    >>> import numpy, npconv
    >>> windows = npconv.unfold(numpy.ones((1, 1, 4, 4), int), kernel_size=3)
    >>> npconv.fold(windows, output_size=(4, 4), kernel_size=3)
    array([[[[1, 2, 2, 1],
             [2, 4, 4, 2],
             [2, 4, 4, 2],
             [1, 2, 2, 1]]]])

    Parameters
    ----------
    input : array_like
        Shape ``(N, C * taps, L)``, L being the number of windows, or ``(C * taps, L)`` without a batch. N may be 0; any
        integer, float or complex dtype: integers add modulo 2**bits, float16 in float32. Any strides and byte order.
    output_size : int or sequence of int
        The spatial size of the image. Where all arguments are integers, there are two spatial axes, as in torch.
    """
    return _run("fold", input, output_size, kernel_size, dilation, padding, stride)
