"""The one exception of the demonstration."""

from __future__ import annotations


class DemoError(Exception):
    """What the user has to know to go on, in one line."""


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, or its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
