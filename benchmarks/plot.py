"""A file that run.py wrote, as a picture: how many times as fast npconv is on each row.

python benchmarks/plot.py result.json picture.png [--against torch]
"""

from __future__ import annotations

import argparse

import matplotlib
import report
from contestants import CONTESTANTS
from operations import MODES

matplotlib.use("agg")
import matplotlib.pyplot as pyplot  # after the choice of backend

AHEAD, BEHIND = "#2f6f9f", "#c4553b"


def bars(result: dict, against: str | None) -> list[tuple[str, float, str]]:
    """Name, ratio and the peer it is to, in the order of the table."""
    found = []
    for entry in result["rows"]:
        peer = against or report.best_peer(entry)
        if (ratio := report.ratio(entry, peer)) is not None:
            found.append((entry["name"], ratio, CONTESTANTS[peer].title))
    return found


def draw(result: dict, against: str | None, path: str) -> None:
    found = bars(result, against)
    if not found:
        raise SystemExit("no row has both npconv and that peer")
    names, ratios, peers = zip(*found, strict=True)
    figure, axes = pyplot.subplots(figsize=(9, 1.4 + 0.23 * len(found)), layout="constrained")
    # From 1 outwards, since a ratio has no other natural origin.
    widths = [ratio - 1 for ratio in ratios]
    axes.barh(range(len(found)), widths, left=1, height=0.72, color=[AHEAD if w >= 0 else BEHIND for w in widths])
    label(axes, ratios, peers, named=against is None)
    axes.set_yticks(range(len(found)), names, fontsize=8)
    axes.set_ylim(len(found) - 0.4, -0.6)
    frame(axes, ratios)
    axes.set_title(title(result, against), fontsize=10, loc="left")
    figure.savefig(path, dpi=130)


def label(axes, ratios: tuple[float, ...], peers: tuple[str, ...], named: bool) -> None:
    """The ratio beyond the end of its bar, and whom it is to."""
    for place, (ratio, peer) in enumerate(zip(ratios, peers, strict=True)):
        text = f"{ratio:.2f}" + (f"  {peer}" if named else "")
        ahead = ratio >= 1
        position = {"xytext": (4 if ahead else -4, 0), "textcoords": "offset points"}
        side = {"ha": "left" if ahead else "right", "va": "center"}
        axes.annotate(text, (ratio, place), **position, **side, fontsize=7, color="#444444")


def frame(axes, ratios: tuple[float, ...]) -> None:
    axes.set_xscale("log", base=2)
    low, high = min(0.8, *ratios), max(1.25, *ratios)
    room = (high / low) ** 0.25  # for the labels
    axes.set_xlim(low / (room if min(ratios) < 1 else 1), high * room)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.axvline(1, color="#222222", linewidth=1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=8)


def title(result: dict, against: str | None) -> str:
    peer = CONTESTANTS[against].title if against else "the fastest peer of each row"
    what = MODES[result["mode"]].capitalize()
    where = f"{what}, {result['dtype']}, threads: {result['threads']}, {result['machine']}"
    return f"npconv against {peer}: times as fast\n{where}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result")
    parser.add_argument("picture")
    parser.add_argument("--against", choices=[name for name in CONTESTANTS if name != "npconv"], help="one peer alone")
    options = parser.parse_args()
    draw(report.load(options.result), options.against, options.picture)


if __name__ == "__main__":
    main()
