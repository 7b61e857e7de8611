"""`python -m npconv`: the demonstration and the configuration, from the command line."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import npconv
from npconv.demo import DemoError, run
from npconv.demo.errors import one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 not possible (one line on stderr says why)."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be valid in the terminal's encoding
    try:
        if chosen.command == "demo":
            run(chosen.image, chosen.output, stride=chosen.stride, longest_side=chosen.size)
        elif chosen.command == "config":
            npconv.show_config()
        else:
            parser.print_help()
        sys.stdout.flush()
    except (DemoError, MemoryError) as error:
        sys.stdout.flush()
        reason = one_line(error) if isinstance(error, DemoError) else "not enough memory: try a smaller --size"
        print(f"npconv demo: {reason}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; keep the interpreter from flushing into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m npconv", description="Convolution for NumPy.")
    parser.add_argument("--version", action="version", version=f"npconv {npconv.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="a worked example, then a photograph through a bank of filters",
        description="Show a convolution step by step in integers, then send a photograph through a bank of edge, "
        "corner and texture filters and write the feature maps as a labelled contact sheet. "
        'Pictures need Pillow and matplotlib: pip install "npconv[viz]".',
    )
    demo.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="default: matplotlib's sample photograph")
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("contact_sheet.png"),
        metavar="FILE",
        help="PNG to write (default: %(default)s)",
    )
    demo.add_argument("--stride", type=_positive, default=2, metavar="N", help="default: %(default)s")
    demo.add_argument(
        "--size",
        type=_positive,
        default=1024,
        metavar="PIXELS",
        help="shrink the photograph to this longest side (default: %(default)s)",
    )
    commands.add_parser("config", help="what this build of npconv is made of, and what it runs on")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= sys.maxsize:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


if __name__ == "__main__":
    sys.exit(main())
