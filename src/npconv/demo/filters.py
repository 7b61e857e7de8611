"""A bank of edge, corner and texture filters, all of one size so that one convolution applies them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FILTER_SIZE = 9
LUMA = np.array([0.299, 0.587, 0.114])
"""How much red, green and blue count for brightness (ITU-R BT.601)."""


@dataclass(frozen=True, eq=False)
class Filter:
    """A named kernel of `FILTER_SIZE` by `FILTER_SIZE` weights.

    A `signed` filter sums to zero, so it answers zero on even ground; its positive weights sum to one, so its answer
    to pixels between 0 and 1 lies between -1 and 1. The weights of any other filter sum to one: it gives a picture.
    """

    name: str
    kernel: NDArray[np.float64]
    signed: bool


def filter_bank() -> list[Filter]:
    """The filters of the demonstration, in the order in which the contact sheet shows them.

    >>> [each.name for each in filter_bank()][:3]
    ['Sobel x', 'Sobel y', 'Prewitt diagonal']
    """
    return [
        _signed("Sobel x", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        _signed("Sobel y", [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        _signed("Prewitt diagonal", [[-1, -1, 0], [-1, 0, 1], [0, 1, 1]]),
        _signed("Prewitt antidiagonal", [[0, -1, -1], [1, 0, -1], [1, 1, 0]]),
        _signed("Laplacian", [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
        _signed("Laplacian of Gaussian", _laplacian_of_gaussian(1.4)),
        _signed("horizontal line", _level_line()),
        _signed("vertical line", _level_line().T),
        _signed("corner, top left", _corner(1, 1)),
        _signed("corner, top right", _corner(1, -1)),
        _signed("corner, cross derivative", _cross_derivative(1.4)),
        _signed("Gabor texture, 0°", _gabor(0)),
        _signed("Gabor texture, 45°", _gabor(45)),
        _signed("Gabor texture, 90°", _gabor(90)),
        _signed("Gabor texture, 135°", _gabor(135)),
        _picture("emboss", [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
        _picture("sharpen", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        _picture("Gaussian blur", _gaussian(2.0)),
        _picture("motion blur", np.eye(FILTER_SIZE)),
    ]


def filter_weight(filters: Sequence[Filter]) -> NDArray[np.float32]:
    """The filters as one convolution weight over red, green and blue: shape (filters, 3, size, size).

    >>> filter_weight(filter_bank()).shape
    (19, 3, 9, 9)
    """
    kernels = np.stack([each.kernel for each in filters])
    weight: NDArray[np.float64] = kernels[:, np.newaxis] * LUMA[:, np.newaxis, np.newaxis]
    return weight.astype(np.float32)


def _signed(name: str, values: ArrayLike) -> Filter:
    kernel = np.asarray(values, dtype=np.float64)
    kernel = kernel - kernel.mean()
    return Filter(name, _centred(kernel / kernel[kernel > 0].sum()), signed=True)


def _picture(name: str, values: ArrayLike) -> Filter:
    kernel = np.asarray(values, dtype=np.float64)
    return Filter(name, _centred(kernel / kernel.sum()), signed=False)


def _centred(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(kernel, (FILTER_SIZE - len(kernel)) // 2)


def _offsets() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far down and how far right of the middle each weight lies."""
    steps = np.arange(FILTER_SIZE, dtype=np.float64) - FILTER_SIZE // 2
    return steps[:, np.newaxis], steps[np.newaxis, :]


def _gaussian(sigma: float) -> NDArray[np.float64]:
    down, right = _offsets()
    return np.exp(-(down**2 + right**2) / (2 * sigma**2))


def _laplacian_of_gaussian(sigma: float) -> NDArray[np.float64]:
    down, right = _offsets()
    return (2 * sigma**2 - down**2 - right**2) * _gaussian(sigma)


def _level_line(across: float = 1.2, along: float = 2.5) -> NDArray[np.float64]:
    """The second derivative downward, turned over and drawn out to the sides: answers bright level lines."""
    down, right = _offsets()
    return (across**2 - down**2) * np.exp(-((down / across) ** 2 + (right / along) ** 2) / 2)


def _cross_derivative(sigma: float) -> NDArray[np.float64]:
    """The second derivative once along each axis: silent on straight upright and level edges, loud where they meet."""
    down, right = _offsets()
    return down * right * _gaussian(sigma)


def _corner(down: int, right: int) -> NDArray[np.float64]:
    """5x5: positive over the quarter that lies this way from the middle, negative over the other three."""
    steps = np.arange(-2, 3)
    inside = (steps * down >= 0)[:, np.newaxis] & (steps * right >= 0)[np.newaxis, :]
    return np.where(inside, 16.0, -9.0)


def _gabor(degrees: float, wavelength: float = 5.0, sigma: float = 2.2) -> NDArray[np.float64]:
    """Waves that run in the given direction under a Gaussian: answers stripes that stand across it."""
    down, right = _offsets()
    along = right * math.cos(math.radians(degrees)) + down * math.sin(math.radians(degrees))
    return np.cos(2 * math.pi * along / wavelength) * _gaussian(sigma)
