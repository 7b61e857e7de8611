"""What this installation is and does: the first thing a bug report needs."""

from __future__ import annotations

import platform
import sys
from typing import Any, Literal, overload

import numpy

import npconv
from npconv import backend
from npconv.options import in_force


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print how this npconv was built and what a call made now would use, or return it with ``mode="dicts"``.

    >>> import npconv
    >>> npconv.show_config("dicts")["npconv"] == npconv.__version__
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode must be one of 'stdout', 'dicts', got {mode!r}")
    configuration = _configuration()
    if mode == "dicts":
        return configuration
    for name, value in configuration.items():
        print(f"{name.replace('_', ' '):<12}  {_text(value)}")
    return None


def _configuration() -> dict[str, Any]:
    options = in_force()
    extension = backend.extension_config()
    isas = extension["isas"] if extension else ()
    chosen = options.backend or ("compiled" if extension else "numpy")
    return {
        "npconv": npconv.__version__,
        "compiled": extension is not None,
        "not_compiled": backend.unavailable,
        "backend": chosen,
        "isa": (options.isa or isas[0]) if chosen == "compiled" and isas else "numpy",
        "usable_isas": isas,
        "built_isas": extension["built_isas"] if extension else (),
        "openmp": (extension["openmp"] or backend.built("OPENMP")) if extension else None,
        "threads": options.threads,
        "compiler": extension["compiler"] if extension else None,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "-"
    return "-" if value is None else str(value)
