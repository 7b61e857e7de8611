"""Feature maps as one labelled picture."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from npconv.demo.filters import Filter

DIVERGING = "RdBu_r"
_DPI = 100
_MINIMUM_WIDTH = 960  # of the footer
_PANEL, _GAP, _MARGIN, _LABEL, _HEADER, _FOOTER = 300, 12, 24, 26, 86, 78  # pixels
_INK, _FAINT, _RULE = "#1b1f24", "#57606a", "#d0d7de"


def render(
    photograph: NDArray[np.float32],
    feature_maps: NDArray[np.floating],
    filters: Sequence[Filter],
    *,
    title: str = "",
    subtitle: str = "",
) -> bytes:
    """A PNG of the photograph (3, H, W) and its feature maps (K, h, w), each beside the filter that made it.

    All signed maps share one colour scale with zero in the middle; those that are pictures show as pictures.
    """
    with matplotlib.style.context("default"), warnings.catch_warnings():
        # A file may be named in a script that the font has no letters for: that shows as boxes, and is no matter.
        warnings.filterwarnings("ignore", message=".*Glyph")
        return _Sheet(photograph, len(filters) + 1).draw(feature_maps, filters, title, subtitle)


class _Sheet:
    """A grid of equal panels under a header, laid out in pixels."""

    def __init__(self, photograph: NDArray[np.float32], panels: int) -> None:
        self.photograph = photograph
        height, width = photograph.shape[1:]
        # A strip of a picture keeps its shape, in a panel wide enough for the label and high enough for the filter.
        aspect = min(max(width / height, 2 / 3), 3.0)
        self.panel_width = round(_PANEL * min(aspect, 1))
        self.panel_height = round(_PANEL / max(aspect, 1))
        self.columns = _columns(panels, aspect)
        self.rows = math.ceil(panels / self.columns)
        self.width = max(2 * _MARGIN + self.columns * (self.panel_width + _GAP) - _GAP, _MINIMUM_WIDTH)
        self.height = _HEADER + self.rows * (self.panel_height + _LABEL + _GAP) + _FOOTER
        self.figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, facecolor="white")

    def draw(self, feature_maps: NDArray[np.floating], filters: Sequence[Filter], title: str, subtitle: str) -> bytes:
        self._text(_MARGIN, 22, title, size=17, weight="bold", color=_INK)
        self._text(_MARGIN, 54, subtitle, size=10.5, color=_FAINT)
        self._panel(0, "original").imshow(np.moveaxis(self.photograph, 0, -1).clip(0, 1))
        limit = _scale(feature_maps, filters)
        for index, (each, values) in enumerate(zip(filters, feature_maps, strict=True), start=1):
            axes = self._panel(index, each.name)
            if each.signed:
                axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit)
            else:
                axes.imshow(values, cmap="gray", vmin=0, vmax=1)
            _inset(axes, each)
        self._colour_bar(limit)
        content = io.BytesIO()
        self.figure.savefig(content, format="png", dpi=_DPI)
        return content.getvalue()

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def _text(self, left: float, top: float, text: str, *, size: float, color: str, weight: str = "normal") -> None:
        placed = self.figure.text(left / self.width, 1 - top / self.height, text, va="top", parse_math=False)
        placed.set(size=size, color=color, weight=weight)

    def _panel(self, index: int, label: str) -> Axes:
        row, column = divmod(index, self.columns)
        left = _MARGIN + column * (self.panel_width + _GAP)
        top = _HEADER + row * (self.panel_height + _LABEL + _GAP)
        self._text(left, top + 6, label, size=10.5, color=_INK)
        axes = self._axes(left, top + _LABEL, self.panel_width, self.panel_height)
        axes.set_anchor("NW")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(_RULE)
        return axes

    def _colour_bar(self, limit: float) -> None:
        length = 300
        top = self.height - _FOOTER + 14
        axes = self._axes(_MARGIN, top, length, 12)
        mappable = ScalarMappable(Normalize(-limit, limit), DIVERGING)
        bar = self.figure.colorbar(mappable, cax=axes, orientation="horizontal", ticks=[-limit, 0, limit])
        labels = bar.ax.set_xticklabels([f"{-limit:.2g} and below", "0", f"{limit:.2g} and above"])
        for label, alignment in zip(labels, ("left", "center", "right"), strict=True):
            label.set(size=9, color=_FAINT, horizontalalignment=alignment)
        bar.outline.set_visible(False)
        note = "one colour scale for all filters that sum to zero; each map shows its filter in the corner"
        self._text(_MARGIN + length + 20, top, note, size=9, color=_FAINT)


def _columns(panels: int, aspect: float) -> int:
    """The number of columns that makes the sheet nearest to 4:3, with few panels left empty."""

    def cost(columns: int) -> float:
        rows = math.ceil(panels / columns)
        return abs(math.log(columns * aspect / rows / (4 / 3))) + 0.1 * (rows * columns - panels)

    return min(range(1, panels + 1), key=cost)


def _scale(feature_maps: NDArray[np.floating], filters: Sequence[Filter]) -> float:
    """The answer that gets the full colour: all but the strongest two percent stay below it."""
    signed = np.abs(feature_maps[[each.signed for each in filters]])
    return float(np.percentile(signed, 98)) or 1.0 if signed.size else 1.0


def _inset(axes: Axes, each: Filter) -> None:
    """The filter itself, in the lower right corner of its map."""
    side = 0.2
    inset = axes.inset_axes((1 - side - 0.02, 0.02, side, side), anchor="SE")
    limit = float(np.abs(each.kernel).max())
    inset.imshow(each.kernel, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    inset.set_xticks([])
    inset.set_yticks([])
    for spine in inset.spines.values():
        spine.set_color(_INK)
