"""Docstrings that end alike."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import TypeVar

Documented = TypeVar("Documented")


def ending_with(text: str) -> Callable[[Documented], Documented]:
    """Completes the docstring of a function or class, which has its example alone, by what it shares with others."""

    def complete(documented: Documented) -> Documented:
        if documented.__doc__ is not None:  # python -OO
            documented.__doc__ = f"{cleandoc(documented.__doc__)}\n{text}"
        return documented

    return complete
