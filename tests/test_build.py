"""The lists of instruction sets and algorithms agree with the files, with the build and with what was built."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"

sources = pytest.mark.skipif(
    not (CSRC.is_dir() and (ROOT / "setup.py").is_file()), reason="the source tree is not beside the tests"
)


def listed(path, macro):
    names = re.findall(rf"^\s*{macro}\((\w+)\)", (CSRC / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert names
    assert len(names) == len(set(names)), f"{path} names something twice"
    return names


def defined(folder, pattern):
    """Which names the files of a folder define, by file: {file's stem: [names]}."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (CSRC / folder).glob("*.c")}
    return {stem: names for stem, text in texts.items() if (names := re.findall(pattern, text))}


def table_of_flags():
    for statement in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "ISA_FLAGS":
            return ast.literal_eval(statement.value)
    raise AssertionError("setup.py has no ISA_FLAGS")


@sources
def test_every_instruction_set_has_its_file():
    assert {path.stem for path in (CSRC / "kernels").glob("*.c")} == set(listed("kernels/isa_list.inc", "NPC_ISA"))


@sources
def test_every_instruction_set_but_the_baseline_has_its_flags():
    assert set(table_of_flags()) == set(listed("kernels/isa_list.inc", "NPC_ISA")) - {"scalar"}


@sources
def test_baseline_comes_last():
    assert listed("kernels/isa_list.inc", "NPC_ISA")[-1] == "scalar"


@sources
def test_every_algorithm_is_listed_and_alone_in_its_file():
    names = listed("algo/algo_list.inc", "NPC_ALGORITHM")
    assert defined("algo", r"(?m)^const npc_algorithm npc_algorithm_(\w+) =") == {name: [name] for name in names}


@sources
def test_extension_has_what_is_listed():
    core = pytest.importorskip("npconv._core", reason="built without the extension")
    assert list(core.ALGORITHMS) == listed("algo/algo_list.inc", "NPC_ALGORITHM")
    isas = listed("kernels/isa_list.inc", "NPC_ISA")
    built = list(core.config()["built_isas"])
    assert built == [isa for isa in isas if isa in built]
    assert built[-1] == "scalar"


@sources
def test_supported_pythons_agree():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    classifiers = re.findall(r"Python :: (3\.\d+)$", "\n".join(settings["project"]["classifiers"]), re.MULTILINE)
    assert settings["project"]["requires-python"] == f">={classifiers[0]}"
    assert settings["tool"]["ruff"]["target-version"] == "py" + classifiers[0].replace(".", "")
    wheels = re.findall(r"cp3(\d+)-", settings["tool"]["cibuildwheel"]["build"])
    assert [f"3.{minor}" for minor in wheels] == classifiers
    workflow = ROOT / ".github/workflows/tests.yml"
    if workflow.is_file():  # no sdist carries it
        tested = re.search(r"python: \[(.*)\]", workflow.read_text(encoding="utf-8"))[1]
        assert set(classifiers) <= set(re.findall(r'"(.*?)"', tested))
