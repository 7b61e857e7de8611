"""From medians to a Markdown table, means and the worst rows. All works on what the JSON file holds.

python benchmarks/report.py result.json    # a narrow table: torch and the best peer alone
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from typing import Any

from contestants import CONTESTANTS
from operations import MODES, MOVING

Entry = dict[str, Any]
BASELINE = "torch"


def load(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def median(entry: Entry, name: str) -> float | None:
    """Seconds, or None where that contestant was not timed."""
    return entry["times"].get(name, {}).get("median")


def best_peer(entry: Entry) -> str | None:
    timed = [name for name in entry["times"] if CONTESTANTS[name].peer]
    return min(timed, key=lambda name: median(entry, name), default=None)


def ratio(entry: Entry, peer: str | None) -> float | None:
    """How many times as fast as that peer npconv is."""
    ours, theirs = median(entry, "npconv"), median(entry, peer) if peer else None
    return theirs / ours if ours and theirs else None


def against_torch(entry: Entry) -> float | None:
    return ratio(entry, BASELINE)


def against_best(entry: Entry) -> float | None:
    return ratio(entry, best_peer(entry))


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3f}" if seconds < 0.1 else f"{seconds * 1e3:.1f}"


def markdown(header: list[str], lines: Iterable[list[str]]) -> str:
    """A table; all columns but the first and those that hold words are aligned to the right."""
    words = {"row", "best peer", "algorithm"}
    rule = ["---" if title in words else "---:" for title in header]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def table(result: dict[str, Any]) -> str:
    timed = [name for name in CONTESTANTS if any(name in entry["times"] for entry in result["rows"])]
    moving = result["mode"] in MOVING
    header = ["row", "MB" if moving else "MFLOP", *(CONTESTANTS[name].title for name in timed)]
    header += ["vs torch", "vs best", "best peer", "GB/s" if moving else "GFLOP/s", "of peak", "error", "algorithm"]
    return markdown(header, (_line(entry, timed, result["peak_gflops"]) for entry in result["rows"]))


def _line(entry: Entry, timed: list[str], peak: float | None) -> list[str]:
    ours, best = median(entry, "npconv"), best_peer(entry)
    work = entry.get("bytes", entry["flop"])
    speed = work / ours / 1e9 if ours else None
    error = entry["errors"].get("npconv")
    return [
        entry["name"],
        f"{work / 1e6:.1f}",
        *(milliseconds(median(entry, name)) for name in timed),
        number(against_torch(entry)),
        number(against_best(entry)),
        CONTESTANTS[best].title if best else "-",
        number(speed, 0 if speed and speed >= 10 else 1),
        f"{speed / peak:.0%}" if speed and peak else "-",
        "-" if error is None else f"{error:.1e}" if error else "0",
        entry.get("algorithm") or "-",
    ]


def narrow_table(result: dict[str, Any]) -> str:
    torch = CONTESTANTS[BASELINE].title
    header = ["row", "npconv", torch, "best peer's", "vs torch", "vs best", "best peer"]
    return markdown(header, (_narrow_line(entry) for entry in result["rows"]))


def _narrow_line(entry: Entry) -> list[str]:
    best = best_peer(entry)
    times = [median(entry, name) if name else None for name in ("npconv", BASELINE, best)]
    ratios = [against_torch(entry), against_best(entry)]
    title = CONTESTANTS[best].title if best else "-"
    return [entry["name"], *map(milliseconds, times), *map(number, ratios), title]


def summary(result: dict[str, Any], worst: int = 5) -> str:
    """Geometric means and the rows that need work, against torch and against the best peer of each row."""
    lines = []
    for title, of in (("torch NCHW", against_torch), ("the best peer", against_best)):
        ratios = sorted((r, entry["name"]) for entry in result["rows"] if (r := of(entry)) is not None)
        if not ratios:
            continue
        behind = sum(r < 1 for r, _ in ratios)
        far = sum(r < 0.9 for r, _ in ratios)
        lines += [
            f"Against {title}: geometric mean {_means(result['rows'], of)}; behind on {behind} of {len(ratios)} rows, "
            f"on {far} by more than a tenth. "
            "Worst: " + ", ".join(f"{name} {r:.2f}" for r, name in ratios[:worst]) + ".",
            "",
        ]
    return "\n".join(lines + _troubles(result))


def _means(rows: list[Entry], of) -> str:
    """Over all rows, then over each set where there are several."""
    sets: dict[str, list[float]] = {}
    for entry in rows:
        if r := of(entry):
            sets.setdefault(entry["set"], []).append(r)
    text = f"{statistics.geometric_mean([r for members in sets.values() for r in members]):.2f}"
    if len(sets) > 1:
        text += " (" + ", ".join(f"{name} {statistics.geometric_mean(sets[name]):.2f}" for name in sets) + ")"
    return text


def _troubles(result: dict[str, Any]) -> list[str]:
    """Wrong results, and who was left out of which rows and why."""
    lines = []
    left_out: dict[tuple[str, str], list[str]] = {}
    for entry in result["rows"]:
        for name, error in entry["wrong"].items():
            lines += [f"WRONG: {CONTESTANTS[name].title} on {entry['name']}, error {error:.1e}; not timed.", ""]
        for name, reason in entry["left_out"].items():
            left_out.setdefault((name, reason), []).append(entry["name"])
    for (name, reason), names in left_out.items():
        where = "all rows" if len(names) == len(result["rows"]) else ", ".join(names[:4]) + ", …" * (len(names) > 4)
        lines.append(f"- {CONTESTANTS[name].title} left out: {reason} ({len(names)}: {where})")
    return lines


def heading(result: dict[str, Any]) -> str:
    peak = f"; peak {result['peak_gflops']:.0f} GFLOP/s by {result['peak_by']}" if result["peak_gflops"] else ""
    share = result["others_share"]
    what = MODES[result["mode"]].capitalize()
    others = "" if share is None else f" Other processes took {share:.0%} of the machine meanwhile."
    libraries = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{what}, {result['dtype']}, threads: {result['threads']}; {result['machine']}{peak}. "
        f"Medians in ms; vs is how many times as fast npconv is.{others}\n\n{libraries}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A narrow table of what run.py wrote: torch and the best peer alone.")
    parser.add_argument("result")
    print(narrow_table(load(parser.parse_args().result)))


if __name__ == "__main__":
    main()
