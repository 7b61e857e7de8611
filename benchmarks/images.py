"""OpenCV and SciPy as contestants: filters over one image or signal."""

from __future__ import annotations

from functools import partial

import numpy
from contestants import Prepared, Task


def _require_filter(task: Task) -> None:
    row = task.row
    task.require(
        one_channel_to_one_channel_only=row.input[:2] == (1, 1) == row.weight[:2],
        no_stride={*row.stride} == {1},
        no_dilation={*row.dilation} == {1},
    )


def _bias(task: Task) -> float:
    return 0.0 if task.arrays[2] is None else float(task.arrays[2][0])


def filter2d(task: Task) -> Prepared:
    """cv2.filter2D, which correlates. Its result has the input's size: unpadded rows are cut out of it."""
    import cv2

    _require_filter(task)
    row = task.row
    same = tuple((k - 1) // 2 for k in row.weight[2:])
    task.require(two_axes_only=row.axes == 2, padding_beyond_the_same_size=row.padding in (same, (0, 0)))
    cv2.setNumThreads(task.threads)
    image, kernel = task.arrays[0][0, 0], task.arrays[1][0, 0]
    # filter2D takes its anchor in the middle, rounded up for even kernels.
    call = partial(
        cv2.filter2D, image, -1, kernel, anchor=same[::-1], delta=_bias(task), borderType=cv2.BORDER_CONSTANT
    )
    start = [s - p for s, p in zip(same, row.padding, strict=True)]
    window = tuple(slice(first, first + n) for first, n in zip(start, row.output[2:], strict=True))
    return Prepared(call, lambda result: result[window].reshape(row.output))


def oaconvolve(task: Task) -> Prepared:
    """scipy.signal.oaconvolve, overlap-add by FFT; it flips its kernel, so it is given one flipped beforehand."""
    from scipy import fft, signal

    _require_filter(task)
    row, bias = task.row, _bias(task)
    image, kernel = task.arrays[0][0, 0], numpy.flip(task.arrays[1][0, 0]).copy()
    mode = "full" if any(row.padding) else "valid"
    if all(2 * p == k - 1 for p, k in zip(row.padding, row.weight[2:], strict=True)):
        mode = "same"
    start = [k - 1 - p if mode == "full" else 0 for k, p in zip(row.weight[2:], row.padding, strict=True)]
    window = tuple(slice(first, first + n) for first, n in zip(start, row.output[2:], strict=True))

    def call() -> numpy.ndarray:
        with fft.set_workers(task.threads):
            result = signal.oaconvolve(image, kernel, mode)
        return result + result.dtype.type(bias) if bias else result

    return Prepared(call, lambda result: result[window].reshape(row.output))
