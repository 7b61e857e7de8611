"""The 5x5 example that textbooks work by hand, computed by npconv in integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import npconv

INPUT = np.array(
    [
        [1, 2, 0, 3, 1],
        [0, 1, 2, 3, 1],
        [1, 2, 1, 0, 0],
        [5, 2, 3, 1, 1],
        [2, 1, 0, 1, 1],
    ],
    dtype=np.int64,
)
KERNEL = np.array([[1, 2, 1], [0, 1, 0], [2, 1, 0]], dtype=np.int64)

_INDENT = "   "


def convolve(stride: int = 1, padding: int = 0) -> NDArray[np.int64]:
    """The example's result with this stride and padding.

    >>> convolve().tolist()
    [[10, 12, 12], [18, 16, 16], [13, 9, 3]]
    >>> convolve(stride=2).tolist()
    [[10, 12], [13, 3]]
    """
    # One image of one channel, one filter over one channel: four axes each.
    result = npconv.conv2d(INPUT.reshape(1, 1, 5, 5), KERNEL.reshape(1, 1, 3, 3), stride=stride, padding=padding)
    return np.asarray(result[0, 0], dtype=np.int64)


def text() -> str:
    """The whole example as lines for a terminal."""
    window = INPUT[:3, :3]
    products = window * KERNEL
    parts = [
        _side_by_side([("input", INPUT), ("kernel", KERNEL)]),
        "The kernel lies on the first 3x3 window of the input; each pair is multiplied, the products are added up:",
        _side_by_side(
            [("window", window), ("kernel", KERNEL), ("products", products)],
            between=[" x ", " = "],
            ending=f"  sum {products.sum()}",
        ),
        "Then it slides on. Every position gives one number; reshaped to four axes, one call gives them all:",
        _side_by_side(
            [
                ("stride 1", convolve()),
                ("stride 2", convolve(stride=2)),
                ("stride 1, padding 1", convolve(padding=1)),
            ]
        ),
    ]
    return "\n\n".join(_indented(part) for part in parts) + "\n"


def _side_by_side(
    tables: Sequence[tuple[str, NDArray[np.int64]]], between: Sequence[str] = (), ending: str = ""
) -> str:
    """Labelled matrices next to each other; signs `between` them and the `ending` stand beside the middle row."""
    columns = [[label, *_rows(matrix)] for label, matrix in tables]
    widths = [max(map(len, column)) for column in columns]
    height = max(map(len, columns))
    middle = 1 + (height - 1) // 2
    lines = []
    for row in range(height):
        cells = [
            (column[row] if row < len(column) else "").ljust(width)
            for column, width in zip(columns, widths, strict=True)
        ]
        signs = between if between and row == middle else ["   "] * (len(cells) - 1)
        joined = "".join(cell + sign for cell, sign in zip(cells, [*signs, ""], strict=True))
        lines.append((joined + (ending if row == middle else "")).rstrip())
    return "\n".join(lines)


def _rows(matrix: NDArray[np.int64]) -> list[str]:
    width = len(str(matrix.max()))
    return [" ".join(f"{number:{width}d}" for number in row) for row in matrix.tolist()]


def _indented(block: str) -> str:
    return "\n".join(_INDENT + line if line else line for line in block.split("\n"))
