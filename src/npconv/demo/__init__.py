"""The demonstration behind `python -m npconv demo`.

Each part is a module of its own and can be used alone: `worked_example` (NumPy only), `filters` (the filter bank,
NumPy only), `photograph` and `contact_sheet` (Pillow and matplotlib), `timing`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from npconv.demo import timing, worked_example
from npconv.demo.errors import DemoError, one_line
from npconv.demo.filters import filter_bank, filter_weight

__all__ = ["DemoError", "run"]


def run(image: Path | None, output: Path, *, stride: int = 2, longest_side: int = 1024) -> None:
    """Print the worked example, write the contact sheet of `image` to `output`, and print who did it how fast.

    Raises DemoError, worded for the user, where the image or the output will not do.
    """
    print("1. The worked example, in integers\n")
    try:
        print(worked_example.text())
    except RuntimeError as error:  # a backend was asked for that is not here
        raise DemoError(one_line(error)) from error
    try:
        from npconv.demo import contact_sheet, photograph
    except ImportError as error:
        raise DemoError(
            f'pictures need Pillow and matplotlib: pip install "npconv[viz]" ({one_line(error)})'
        ) from error

    if image is not None and _same_file(image, output):
        raise DemoError(f"{output} is the photograph itself: name another file with --output")
    photo = photograph.load(image, longest_side)
    filters = filter_bank()
    weight = filter_weight(filters)
    pixels = photo.pixels[np.newaxis]
    print(f"2. A photograph through {len(filters)} filters, in one call\n")
    print(f"   {photo.description}")
    feature_maps = timing.apply(pixels, weight, stride)
    shapes = (
        f"input {pixels.shape}, weight {weight.shape}, stride {stride}, "
        f'padding "same" -> feature maps {feature_maps.shape}'
    )
    print(f"   {shapes}")
    sheet = contact_sheet.render(photo.pixels, feature_maps[0], filters, title=photo.name, subtitle=shapes)
    _write(sheet, output)
    print(f"   wrote {output}\n")
    print("3. " + timing.report(pixels, weight, stride))


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _write(content: bytes, output: Path) -> None:
    try:
        output.write_bytes(content)
    except OSError as error:
        raise DemoError(f"cannot write {output}: {error.strerror or error}") from error
