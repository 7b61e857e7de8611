"""What steers a call: process-wide defaults, and overrides for one block of code in one thread or task."""

from __future__ import annotations

import functools
import math
import operator
import os
import warnings
from collections.abc import Mapping
from contextlib import ContextDecorator
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from npconv import backend as backends

PRECISIONS = ("fast", "strict")
MOST_THREADS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """The options in force; None is automatic. Those with the same values are one object, a cheap key for caches."""

    num_threads: int | None = None
    backend: str | None = None
    isa: str | None = None
    algorithm: str | None = None
    precision: str | None = None

    @property
    def threads(self) -> int:
        """The most threads a call may use."""
        return _automatic_threads if self.num_threads is None else self.num_threads

    def changed(self, changes: Mapping[str, Any]) -> Options:
        return _intern(**{**asdict(self), **changes})


_intern = functools.lru_cache(maxsize=1024)(Options)


class _Frame:
    """One `with options(...)`: every key named by it and by those around it."""

    __slots__ = ("changes", "merged", "named", "outer", "owner")

    def __init__(self, owner: options, named: Mapping[str, Any], outer: _Frame | None) -> None:
        self.owner, self.named, self.outer = owner, named, outer
        self.changes: Mapping[str, Any] = named if outer is None else {**outer.changes, **named}
        self.merged: tuple[Options, Options] | None = None

    def over(self, default: Options) -> Options:
        merged = self.merged
        if merged is None or merged[0] is not default:
            self.merged = merged = default, default.changed(self.changes)
        return merged[1]

    def without(self, owner: options) -> _Frame | None:
        """The frames but for the owner's innermost: blocks of interleaved generators end in any order."""
        if self.owner is owner:
            return self.outer
        return _Frame(self.owner, self.named, self.outer.without(owner)) if self.outer is not None else self


_frame: ContextVar[_Frame | None] = ContextVar("npconv_options", default=None)


def in_force() -> Options:
    """The options that a call made here and now obeys."""
    frame = _frame.get()
    return _default if frame is None else frame.over(_default)


class _Keep(Enum):
    KEEP = "unchanged"


_KEEP = _Keep.KEEP  # for keys that are not named, since None means automatic


class options(ContextDecorator):
    """Steer the calls made inside a `with` block, in this thread or task only; keys not named keep their value.

    >>> import npconv
    >>> with npconv.options(num_threads=1, backend="numpy"):
    ...     npconv.get_options()["backend"]
    'numpy'

    Parameters
    ----------
    num_threads : int, optional
        The most threads a call may use. Calls that are too small to gain from them use fewer, and the matrix products
        of the NumPy backend use as many as the BLAS library of NumPy is set to.
    backend : {"compiled", "numpy"}, optional
    isa : str, optional
        The instruction set of the compiled backend, such as "amx", "avx512", "avx2" or "scalar".
    algorithm : str, optional
        An algorithm as `explain` names it. A call that it does not apply to raises ValueError.
    precision : {"fast", "strict"}, optional
        "strict" allows plain sums of products only. "fast" also allows algorithms that need fewer multiplications and
        round a little more.

    None means automatic. An unknown value raises ValueError and says what is accepted on this machine.
    """

    def __init__(
        self,
        *,
        num_threads: int | _Keep | None = _KEEP,
        backend: str | _Keep | None = _KEEP,
        isa: str | _Keep | None = _KEEP,
        algorithm: str | _Keep | None = _KEEP,
        precision: str | _Keep | None = _KEEP,
    ) -> None:
        self._changes = _named(
            "options", num_threads=num_threads, backend=backend, isa=isa, algorithm=algorithm, precision=precision
        )

    def __enter__(self) -> None:
        _frame.set(_Frame(self, self._changes, _frame.get()))

    def __exit__(self, *exception: object) -> None:
        frame = _frame.get()
        _frame.set(frame.without(self) if frame is not None else None)


def set_options(
    *,
    num_threads: int | _Keep | None = _KEEP,
    backend: str | _Keep | None = _KEEP,
    isa: str | _Keep | None = _KEEP,
    algorithm: str | _Keep | None = _KEEP,
    precision: str | _Keep | None = _KEEP,
) -> None:
    """Change the defaults of the whole process; the keys are those of `options`, which overrides them."""
    global _default
    changes = _named(
        "set_options", num_threads=num_threads, backend=backend, isa=isa, algorithm=algorithm, precision=precision
    )
    _default = _default.changed(changes)


def get_options() -> dict[str, Any]:
    """The values in force here; None is automatic, `num_threads` is always a number.

    >>> sorted(get_options())
    ['algorithm', 'backend', 'isa', 'num_threads', 'precision']
    """
    current = in_force()
    return {**asdict(current), "num_threads": current.threads, "precision": current.precision or "fast"}


def _named(function: str, **values: Any) -> dict[str, Any]:
    """Those that are named, checked."""
    return {
        name: None if value is None else _checked(function, name, value)
        for name, value in values.items()
        if value is not _KEEP
    }


def _checked(function: str, name: str, value: Any) -> int | str:
    if name == "num_threads":
        return _checked_threads(function, value)
    accepted = _accepted(name)
    if isinstance(value, str) and value in accepted:
        return value
    choices = ", ".join(map(repr, accepted)) or "none without the compiled backend"
    raise ValueError(f"{function}: {name} must be one of {choices}; or None for automatic; got {value!r}")


def _accepted(name: str) -> tuple[str, ...]:
    if name == "isa":
        return backends.isas()
    if name == "algorithm":
        return backends.algorithms()
    return backends.BACKENDS if name == "backend" else PRECISIONS


def _checked_threads(function: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{function}: num_threads must be an integer or None, got {value!r}")
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"{function}: num_threads must be from 1 to {MOST_THREADS}, got {value!r}")
    return number


def _from_environment(variable: str, name: str) -> Any:
    """The variable's value for an option; None, after a warning, if it makes no sense."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return _checked(variable, name, int(text.split(",")[0]) if name == "num_threads" else text)
    except ValueError as error:
        warnings.warn(f"ignoring the environment's {variable}={text!r}: {error}", RuntimeWarning, stacklevel=2)
        return None


def _usable_cores() -> int:
    """The cores this process may use, by affinity and by the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _control_group_cores())))


def _control_group_cores(memberships: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> float:
    """The least quota among this process's control group and those above it; infinite if there is none."""
    least = math.inf
    for line in _read(memberships).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            least = min(least, _quota(os.path.join(mount, controllers, *parts[:depth])))
    return least


def _quota(folder: str) -> float:
    """Cores' worth of time that a control group grants, as version 2 or version 1 writes it."""
    text = _read(os.path.join(folder, "cpu.max")) or " ".join(
        _read(os.path.join(folder, name)) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    try:
        quota, period = map(int, text.split())
    except ValueError:
        return math.inf  # "max", or no such file
    return quota / period if quota > 0 and period > 0 else math.inf


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


_automatic_threads: int = (
    _from_environment("NPCONV_NUM_THREADS", "num_threads")
    or _from_environment("OMP_NUM_THREADS", "num_threads")
    or min(_usable_cores(), MOST_THREADS)
)
_default: Options = _intern().changed(
    {"backend": _from_environment("NPCONV_BACKEND", "backend"), "isa": _from_environment("NPCONV_ISA", "isa")}
)
