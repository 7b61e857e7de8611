"""Every example in README.md, in docs/ and in the docstrings of the package gives what it says."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import npconv

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.is_file()]
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
# What a block of examples needs besides npconv, and the words in it that show it.
NEEDS = {"torch": ["torch"], "matplotlib": ["contact_sheet", "photograph"]}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _needed(block: str) -> set[str]:
    return {package for package, words in NEEDS.items() if any(word in block for word in words)}


def _blocks(page: Path) -> list[tuple[int, str]]:
    """The line number and text of every fenced Python block, its indentation taken off."""
    blocks: list[tuple[int, str]] = []
    inside: list[str] | None = None
    start = indent = 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines()):
        fence = line.strip()
        if inside is None and fence == "```python":
            inside, start, indent = [], number + 1, line.index("`")
        elif inside is not None and fence == "```":
            blocks.append((start, "\n".join(inside) + "\n"))
            inside = None
        elif inside is not None:
            inside.append(line[indent:])
    assert inside is None, f"{page.name}: a block of code is not closed"
    return blocks


def _run(page: Path, wanted: set[str]) -> doctest.TestResults:
    """Run the page as one session, leaving out the blocks that need packages other than those wanted."""
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=FLAGS)
    names: dict[str, Any] = {}
    for line, block in _blocks(page):
        if _needed(block) <= wanted:
            test = parser.get_doctest(block, names, page.name, str(page), line)
            runner.run(test, clear_globs=False)
            names = test.globs
    return runner.summarize(verbose=False)


def _cases() -> list[object]:
    """Each page without extra packages, and once more with each package that it shows."""
    cases: list[object] = []
    for page in PAGES:
        needs = sorted(set().union(*(_needed(block) for _, block in _blocks(page))))
        cases += [pytest.param(page, need, id=f"{page.name}-{need or 'numpy'}") for need in ["", *needs]]
    return cases


@pytest.mark.parametrize(("page", "need"), _cases())
def test_examples_of_page(page: Path, need: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if need and not _installed(need):
        pytest.skip(f"{need} is not installed")
    if need == "matplotlib":
        pytest.importorskip("PIL", reason="Pillow is not installed")
    monkeypatch.chdir(tmp_path)
    result = _run(page, {need} - {""})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_holds_examples(page: Path) -> None:
    untested = [line for line, block in _blocks(page) if ">>>" not in block]
    assert not untested, f"{page.name}: blocks without examples at lines {untested}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    if not (ROOT / "CONTRIBUTING.md").is_file():
        pytest.skip("not a full checkout")
    targets = re.findall(r"\]\((?!\w+:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def _modules() -> list[str]:
    return ["npconv", *sorted(module.name for module in pkgutil.walk_packages(npconv.__path__, "npconv."))]


@pytest.mark.parametrize("name", _modules())
def test_examples_of_docstrings(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("PIL", "matplotlib"):
            raise
        pytest.skip(f"{name} needs {error.name}, which is not installed")
    result = doctest.testmod(module, optionflags=FLAGS)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(npconv.__all__) - {"__version__"}))
def test_public_objects_are_described(name: str) -> None:
    assert (getattr(npconv, name).__doc__ or "").strip()
