"""Times npconv beside every peer that is installed. README.md beside this file says how to read what it prints."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from typing import Any

import drawn
import machine
import operations
import report
import rows
import timing
from contestants import ALL, CONTESTANTS, Prepared, Task, prepare


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    modes = "; ".join(f"{name}: {words}" for name, words in operations.MODES.items())
    parser.add_argument("--mode", choices=operations.MODES, default="call", help=modes)
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--dtype", choices=ALL, default="float32")
    parser.add_argument("--rows", type=re.compile, default="", metavar="REGEX", help="rows whose name it matches")
    parser.add_argument("--set", choices=(*rows.SETS, "all", "drawn"), default="all")
    parser.add_argument("--seed", type=int, default=0, help="of the rows that --set drawn makes up")
    parser.add_argument("--count", type=int, default=100, help="how many of them")
    parser.add_argument("--contestants", type=names, default=None, metavar="A,B", help="who takes part")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each contestant and row, over all rounds")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def names(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in CONTESTANTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: none of {', '.join(CONTESTANTS)}")
    return chosen


def chosen_rows(options: argparse.Namespace) -> list[rows.Row]:
    if options.set == "drawn":
        return [row for row in drawn.rows(options.seed, options.count) if re.search(options.rows, row.name)]
    return rows.choose(options.set, options.rows)


def checked(row: rows.Row, chosen: list[str], options: argparse.Namespace) -> tuple[dict[str, Prepared], report.Entry]:
    """Those whose result is right, and the row's entry so far."""
    task = Task(row, operations.arrays(row, options.dtype, options.mode), options.threads, options.mode)
    expected = timing.exact(task)
    entry = {"name": row.name, "set": row.set, "flop": row.flop, "errors": {}, "wrong": {}, "left_out": {}}
    if options.mode in operations.MOVING:
        entry["bytes"] = operations.column_bytes(row, options.dtype)
    ready: dict[str, Prepared] = {}
    for name in chosen:
        prepared = prepare(name, task)
        if isinstance(prepared, str):
            entry["left_out"][name] = prepared
            continue
        try:
            error = timing.error(prepared, expected, options.dtype)
        except Exception as failure:  # some peers find out only when they compute
            entry["left_out"][name] = f"{type(failure).__name__}: {failure}"[:160]
            continue
        right = error <= timing.TOLERANCE.get(options.dtype, 0)
        entry["errors" if right else "wrong"][name] = error
        if right:
            ready[name] = prepared
    return ready, entry


def measured(row: rows.Row, chosen: list[str], options: argparse.Namespace) -> report.Entry:
    ready, entry = checked(row, chosen, options)
    rounds = timing.interleaved({name: prepared.call for name, prepared in ready.items()}, options.seconds)
    entry["times"] = {name: {"median": statistics.median(each), "rounds": each} for name, each in rounds.items()}
    entry["algorithm"] = ready["npconv"].algorithm if "npconv" in ready else ""
    for prepared in ready.values():
        prepared.close()
    return entry


def everything(options: argparse.Namespace) -> dict[str, Any]:
    chosen = options.contestants or [name for name, each in CONTESTANTS.items() if each.takes_part(options.mode)]
    moving = options.mode in operations.MOVING
    peak = None if moving else machine.peak(options.dtype, options.threads)
    result = {"machine": machine.words(), "versions": machine.versions()}
    result |= {name: getattr(options, name) for name in ("mode", "threads", "dtype", "seconds")}
    result |= {"peak_gflops": peak and peak[0], "peak_by": peak and peak[1], "rows": []}
    others = machine.Others()
    for row in chosen_rows(options):
        progress(row.name)
        if moving and operations.column_bytes(row, options.dtype) > operations.LARGEST:
            continue
        result["rows"].append(measured(row, chosen, options))
    progress("")
    result["others_share"] = others.share()
    return result


def progress(text: str) -> None:
    """On one line of a terminal, over what was there."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> int:
    options = arguments()
    result = everything(options)
    if not result["rows"]:
        print("no row has such a name", file=sys.stderr)
        return 2
    print(report.heading(result), report.table(result), "", report.summary(result), sep="\n")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    return int(any("npconv" in entry["wrong"] for entry in result["rows"]))


if __name__ == "__main__":
    sys.exit(main())
