"""Two files that run.py wrote, as a Markdown table of before and after to paste into a commit.

python benchmarks/compare.py before.json after.json [--all]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator

import report
from operations import MODES
from report import Entry

SAME = 0.03  # a smaller change is not told from noise

Pair = tuple[Entry, Entry]


def pairs(before: dict, after: dict) -> list[Pair]:
    """The rows that both have and npconv was timed on."""
    earlier = {entry["name"]: entry for entry in before["rows"]}
    both = ((earlier[entry["name"]], entry) for entry in after["rows"] if entry["name"] in earlier)
    return [pair for pair in both if all(report.median(entry, "npconv") for entry in pair)]


def gain(pair: Pair, name: str = "npconv") -> float:
    """How many times as fast as before."""
    return report.median(pair[0], name) / report.median(pair[1], name)


def drift(found: list[Pair]) -> float | None:
    """The same of all peers together: what the machine, not npconv, did between the runs."""
    gains = [
        gain(pair, name) for pair in found for name in pair[0]["times"].keys() & pair[1]["times"] if name != "npconv"
    ]
    return statistics.geometric_mean(gains) if gains else None


def lines(found: list[Pair], everything: bool) -> Iterator[list[str]]:
    for before, after in found:
        change = gain((before, after))
        if not everything and abs(change - 1) < SAME:
            continue
        algorithms = dict.fromkeys(entry["algorithm"] for entry in (before, after))
        yield [
            after["name"],
            *(report.milliseconds(report.median(entry, "npconv")) for entry in (before, after)),
            f"{change:.2f}",
            *(report.number(report.against_best(entry)) for entry in (before, after)),
            " → ".join(algorithms),
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--all", action="store_true", help=f"also rows that changed by less than {SAME:.0%}")
    options = parser.parse_args()
    before, after = report.load(options.before), report.load(options.after)
    for name in ("mode", "dtype", "threads", "machine"):
        if before[name] != after[name]:
            print(f"the runs differ in {name}: {before[name]} and {after[name]}", file=sys.stderr)
            return 2
    found = pairs(before, after)
    if not found:
        print("the runs share no row that npconv was timed on", file=sys.stderr)
        return 2
    told = list(lines(found, options.all))
    header = ["row", "before, ms", "after, ms", "gain", "vs best before", "vs best after", "algorithm"]
    print(f"{MODES[after['mode']]}, {after['dtype']}, threads: {after['threads']}, {after['machine']}\n")
    if told:
        print(report.markdown(header, told) + "\n")
    if len(told) < len(found):
        print(f"{len(found) - len(told)} of {len(found)} rows are left out, changed by less than {SAME:.0%}.")
    mean, others = statistics.geometric_mean(map(gain, found)), drift(found)
    print(f"Gain over all rows, geometric mean: {mean:.3f}", end="")
    print("." if others is None else f"; of the peers between the two runs: {others:.3f}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
