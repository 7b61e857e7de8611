"""Check built wheels: size, tags, metadata, contents, and what a repair bundled. Standard library only."""

import argparse
import re
import zipfile
from email.parser import Parser
from pathlib import Path

SIZE_LIMIT = 1_000_000
# The OpenMP runtime that a repaired wheel of the platform carries; macOS has none, so that a process has one at most.
RUNTIMES = {"manylinux": r"npconv\.libs/libgomp-.*\.so", "musllinux": r"npconv\.libs/libgomp-.*\.so", "win": r".*vcomp"}


def only(names, pattern):
    found = [name for name in names if re.fullmatch(pattern, name)]
    assert len(found) == 1, f"{pattern}: {found or 'not in the wheel'}"
    return found[0]


def check_metadata(read, names):
    metadata = Parser().parsestr(read(only(names, r"npconv-[^/]+\.dist-info/METADATA")))
    assert metadata["License-Expression"] == "BSD-3-Clause", metadata["License-Expression"]
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert needed == ["numpy>=1.26"], needed
    only(names, r"npconv-[^/]+\.dist-info/licenses/LICENSE")


def check_contents(names):
    for name in ("__init__.py", "py.typed", "_core.pyi", "_build_info.py"):
        only(names, rf"npconv/{re.escape(name)}")
    tops = {name.split("/")[0] for name in names}
    strange = [top for top in tops if not re.fullmatch(r"npconv(-[^/]+\.dist-info|\.libs|\.dylibs)?", top)]
    assert not strange, f"beside the package: {strange}"
    sources = [name for name in names if name.endswith((".c", ".pyx", ".pxi", ".inc", ".o", ".a"))]
    assert not sources, f"sources and objects: {sources}"


def check_extension(read, names, tag):
    extensions = [name for name in names if re.match(r"npconv/_core\..*(so|pyd)$", name)]
    compiled = "REASON = None" in read("npconv/_build_info.py")
    if tag == "py3-none-any":
        assert not extensions, f"a wheel for every platform has no extension, but {extensions}"
        assert not compiled, "a wheel without the extension says why"
        return
    assert compiled, "a wheel for one platform holds the extension"
    abi = tag.split("-")[1].removeprefix("cp")
    only(extensions, rf"npconv/_core\.(cpython-{abi}-.*\.so|cp{abi}-.*\.pyd)")


def check_bundle(names, platform):
    bundled = [name for name in names if re.search(r"\.libs/|\.dylibs/|vcomp", name)]
    family = re.match(r"[a-z]+", platform)[0]
    if family in RUNTIMES:
        assert any(re.match(RUNTIMES[family], name) for name in bundled), f"no OpenMP runtime in {bundled}"
    else:
        assert not bundled, f"bundled: {bundled}"


def check(path, repaired):
    tag = "-".join(path.stem.split("-")[-3:])
    size = path.stat().st_size
    assert size < SIZE_LIMIT, f"{size} bytes"
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()

        def read(name):
            return wheel.read(name).decode()

        check_metadata(read, names)
        check_contents(names)
        check_extension(read, names, tag)
        if repaired:
            check_bundle(names, tag.split("-")[-1])
    print(f"{path.name}: {size} bytes, {len(names)} files, as it should be")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--repaired", action="store_true", help="by auditwheel, delocate or delvewheel")
    arguments = parser.parse_args()
    for path in arguments.wheels:
        check(path, arguments.repaired)


main()
