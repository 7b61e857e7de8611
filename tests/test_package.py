"""The installed package: its metadata, its files, and what importing it costs."""

import ast
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

import pytest

import npconv

PACKAGE = Path(npconv.__file__).parent


@pytest.fixture(scope="module")
def distribution():
    return importlib.metadata.distribution("npconv")


def test_version_is_that_of_the_metadata(distribution):
    assert npconv.__version__ == distribution.version
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", npconv.__version__)


def test_licence_is_named_and_included(distribution):
    assert distribution.metadata["License-Expression"] == "BSD-3-Clause"
    assert distribution.metadata.get_all("License-File") == ["LICENSE"]
    assert "the npconv developers" in distribution.read_text("licenses/LICENSE")


def test_numpy_is_all_it_needs(distribution):
    assert [line for line in distribution.requires if "extra ==" not in line] == ["numpy>=1.26"]


def test_extras_are_those_that_the_readme_names(distribution):
    assert set(distribution.metadata.get_all("Provides-Extra")) == {"test", "viz", "examples"}


def test_type_checkers_find_the_types():
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()


def test_stub_names_what_the_extension_has():
    core = pytest.importorskip("npconv._core", reason="built without the extension")
    stub = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8")).body
    for statement in stub:
        if isinstance(statement, ast.FunctionDef):
            assert callable(getattr(core, statement.name))
        elif isinstance(statement, ast.ClassDef) and not any(
            isinstance(mark, ast.Name) and mark.id == "type_check_only" for mark in statement.decorator_list
        ):
            members = {member.name for member in statement.body if isinstance(member, ast.FunctionDef)}
            assert members <= set(dir(getattr(core, statement.name)))


def test_build_left_its_reason():
    build_info = pytest.importorskip("npconv._build_info", reason="not built: imported from its sources")
    found = importlib.util.find_spec("npconv._core") is not None
    assert (build_info.REASON is None) == found
    if not found:
        assert build_info.REASON in npconv.show_config("dicts")["not_compiled"]


NEW_MODULES = """
import sys, numpy
before = set(sys.modules)
import npconv
print(*sorted(set(sys.modules) - before))
"""


def test_import_brings_the_standard_library_alone(run_python):
    modules = run_python(NEW_MODULES).split()
    foreign = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"npconv", "numpy"}
    # Cython registers modules that exist in no file.
    assert {name for name in foreign if not re.match(r"_cython_|cython_runtime$", name)} == set()
    assert not any(name.startswith(("npconv.demo", "npconv.__main__")) for name in modules)


def test_import_is_light(run_python):
    modules = run_python(NEW_MODULES).split()
    assert len([name for name in modules if not name.startswith("npconv")]) <= 12, modules
