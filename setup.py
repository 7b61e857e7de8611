"""Build the optional compiled core: one static library an instruction set, one extension linking them.

Whatever is missing (compiler, OpenMP, Python's headers) is reported and left out; the package then runs
on NumPy and ``npconv.show_config()`` repeats the reason. Environment:

NPCONV_BUILD_EXTENSION=0    build no extension
NPCONV_REQUIRE_EXTENSION=1  stop where the extension, or an OpenMP asked for by name, cannot be had
NPCONV_BUILD_OPENMP=0 | 1   leave OpenMP out | ask for it (default: 0 on macOS, where a second runtime
                            in one process aborts it; 1 elsewhere)
"""

import importlib.util
import os
import re
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel as _bdist_wheel
from setuptools.command.build import build as _build
from setuptools.command.build_clib import build_clib as _build_clib
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.errors import BaseError, CCompilerError, CompileError

# One line an instruction set of csrc/kernels/isa_list.inc: flags for gcc and clang, flags for MSVC, and the
# condition by which the compiler shows that it targets a processor that can have it.
ISA_FLAGS = {
    "amx": (
        "-mamx-tile -mamx-bf16 -mavx512bf16 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mf16c",
        "/arch:AVX512",
        "defined(__AMX_BF16__) && defined(__linux__)",  # elsewhere none asks the system for leave
    ),
    "avx512": (
        "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mf16c",
        "/arch:AVX512",
        "defined(__AVX512F__)",
    ),
    "avx2": ("-mavx2 -mfma -mf16c", "/arch:AVX2", "defined(__AVX2__)"),
}

# A function that is not declared would be taken to return an int.
WARNINGS = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
# Nothing here throws, and tables for unwinding would be a twentieth of the wheel.
UNIX_FLAGS = [
    "-std=c11", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables", *WARNINGS,
]  # fmt: skip
MSVC_FLAGS = ["/std:c11", "/O2", "/W3"]

# (compile flags, link flags) by which compilers spell OpenMP, tried in this order.
OPENMP_SPELLINGS = {
    "unix": [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])],
    "msvc": [(["/openmp"], [])],
}
OPENMP_PROGRAM = """
#include <omp.h>
#ifndef _OPENMP
#error the compiler ignores OpenMP
#endif
int main(void) {
    int threads = 0;
    #pragma omp parallel reduction(+ : threads)
    threads += 1;
    return threads >= 1 && omp_get_max_threads() >= 1 ? 0 : 1;
}
"""


def switch(name, default):
    value = os.environ.get(name) or default
    if value not in ("0", "1"):
        raise SystemExit(f"{name} is {value!r}; it takes 0 or 1")
    return value == "1"


WITH_EXTENSION = switch("NPCONV_BUILD_EXTENSION", "1")
WITH_OPENMP = switch("NPCONV_BUILD_OPENMP", "0" if sys.platform == "darwin" else "1")
REQUIRED = switch("NPCONV_REQUIRE_EXTENSION", "0")
if REQUIRED and not WITH_EXTENSION:
    raise SystemExit("NPCONV_REQUIRE_EXTENSION=1 and NPCONV_BUILD_EXTENSION=0 contradict each other")


class Outcome:
    """What this build came to: why there is no extension, and which OpenMP it has."""

    reason = None if WITH_EXTENSION else "built with NPCONV_BUILD_EXTENSION=0"
    openmp = "off"


def announce(*lines):
    print("npconv:", "\nnpconv: ".join(lines), file=sys.stderr, flush=True)


def brief(error):
    """One line for show_config(): a failed command comes as the whole command."""
    text = str(error) or type(error).__name__
    failed = re.search(r"Command '\['([^']+)'.*\]' (returned non-zero exit status \d+)", text, re.DOTALL)
    if not failed:
        return re.sub(r"\[\w+ \d+\] ", "", text)
    source = re.search(r"'((?:csrc|src|build)[^']+\.c)'", text)
    what = f" on {source[1]}" if source else ""
    return f"{text[: failed.start()]}{failed[1]} {failed[2]}{what} (pip install -v shows its messages)"


@contextmanager
def optional():
    """Turn whatever stops the compile into a reason to go on without the extension."""
    try:
        yield
    except Exception as error:
        if REQUIRED:
            raise
        Outcome.reason = brief(error)
        Outcome.openmp = "off"
        rule = "=" * 72
        announce(rule, "building WITHOUT the compiled core; the package will run on NumPy", Outcome.reason, rule)


def probe(compiler, source, compile_flags=(), link_flags=None, run=False):
    """Why the compiler does not do this with that source, or None where it does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.c")
        path.write_text(source, encoding="utf-8")
        try:
            objects = compiler.compile([str(path)], output_dir=folder, extra_postargs=list(compile_flags))
            if link_flags is not None:
                # Unlike extensions, programs are linked without LDFLAGS unless these are passed on.
                flags = [*os.environ.get("LDFLAGS", "").split(), *link_flags]
                compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=flags)
            if run:
                compiler.spawn([str(Path(folder, compiler.executable_filename("probe")))])
        except (BaseError, CCompilerError) as error:
            return str(error)
    return None


def find_openmp(compiler, cross_compiling):
    """(compile flags, link flags) of a working OpenMP; recorded, and empty without one."""
    if not WITH_OPENMP:
        asked = "NPCONV_BUILD_OPENMP" in os.environ
        Outcome.openmp = "off: built with NPCONV_BUILD_OPENMP=0" if asked else "off: the default on macOS"
        return [], []
    for flags, link_flags in OPENMP_SPELLINGS["msvc" if compiler.compiler_type == "msvc" else "unix"]:
        if probe(compiler, OPENMP_PROGRAM, flags, link_flags, run=not cross_compiling) is None:
            Outcome.openmp = flags[-1]
            return flags, link_flags
    if REQUIRED and os.environ.get("NPCONV_BUILD_OPENMP"):
        raise CompileError("NPCONV_BUILD_OPENMP=1, but no OpenMP program compiles, links and runs")
    Outcome.openmp = "off: no OpenMP program compiled, linked and ran"
    announce("building WITHOUT OpenMP, on one thread: no OpenMP program compiled, linked and ran")
    return [], []


def common_flags(compiler):
    if compiler.compiler_type == "msvc":
        return list(MSVC_FLAGS)
    # The optimisation and debug flags of whoever sets CFLAGS stand; Python's own -g would triple the wheel.
    chosen = any(flag.startswith(("-O", "-g")) for flag in os.environ.get("CFLAGS", "").split())
    return UNIX_FLAGS + ([] if chosen else ["-O3", "-g0"])


def small(flags):
    """Where kernels do the work -O3 makes nothing faster and the wheel larger; files with loops ask for it."""
    return ["-O2" if flag == "-O3" else flag for flag in flags]


def listed_isas():
    text = Path("csrc/kernels/isa_list.inc").read_text(encoding="utf-8")
    return re.findall(r"^\s*NPC_ISA\((\w+)\)", text, re.MULTILINE)


def files(*patterns):
    return sorted(path.as_posix() for pattern in patterns for path in Path().glob(pattern))


def libraries():
    """The baseline and the listed instruction sets, best first; a linker wants what refers to others first."""
    isas = [isa for isa in listed_isas() if isa != "scalar"]
    unknown = [isa for isa in isas if isa not in ISA_FLAGS]
    if unknown:
        raise SystemExit(f"isa_list.inc names {unknown}, without a line in setup.py's ISA_FLAGS")
    baseline = files("csrc/*.c", "csrc/algo/*.c", "csrc/kernels/scalar.c")
    sources = {"baseline": baseline, **{isa: [f"csrc/kernels/{isa}.c"] for isa in isas}}
    return [(f"npconv_{name}", {"sources": sources[name], "include_dirs": ["csrc"]}) for name in sources]


class build_clib(_build_clib):
    """Adds to each library what a probe of the compiler allows it, and drops those it does not."""

    openmp_flags = link_flags = ()

    def run(self):
        with optional():
            super().run()

    def build_libraries(self, libraries):
        refusal = probe(self.compiler, "int main(void) { return 0; }\n", link_flags=())
        if refusal:
            raise CompileError(f"no working C compiler: {refusal}")
        host = self.get_finalized_command("build").plat_name
        cross_compiling = "_PYTHON_HOST_PLATFORM" in os.environ or host != sysconfig.get_platform()
        self.openmp_flags, self.link_flags = find_openmp(self.compiler, cross_compiling)
        self.libraries = libraries = [entry for entry in libraries if self.equip(*entry)]
        built = [name.removeprefix("npconv_") for name, _ in libraries[1:]]
        announce(f"instruction sets: {' '.join([*built, 'scalar'])}; OpenMP: {Outcome.openmp}")
        self.macros = [(f"NPC_HAVE_{isa}", "1") for isa in built]
        dependencies = [*files("csrc/**/*.h", "csrc/**/*.inc"), self.stamp(libraries)]
        for name, info in libraries:
            info["macros"] = self.macros
            info["obj_deps"] = {"": dependencies}
            # An archiver only adds to what is there: the object of a source now gone would stay.
            Path(self.build_clib, self.compiler.library_filename(name)).unlink(missing_ok=True)
        # An instruction set's kernels are one file, which takes half a minute.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(super().build_libraries, [[library] for library in libraries]))

    def equip(self, name, info):
        """Give the library its flags; whether this compiler and processor family take them."""
        info["cflags"] = common_flags(self.compiler) + self.openmp_flags
        isa = name.removeprefix("npconv_")
        if isa == "baseline":
            info["cflags"] = small(info["cflags"])
            return True
        unix_flags, msvc_flags, condition = ISA_FLAGS[isa]
        isa_flags = (msvc_flags if self.compiler.compiler_type == "msvc" else unix_flags).split()
        info["cflags"] += isa_flags
        return probe(self.compiler, f"#if !({condition})\n#error {isa}\n#endif\nint npc;\n", isa_flags) is None

    def stamp(self, libraries):
        """A file that is newer than the objects wherever a flag or the list of sources has changed."""
        path = Path(self.build_temp, "npconv_flags.txt")
        content = repr((getattr(self.compiler, "compiler_so", None), Outcome.openmp, [
            (name, info["sources"], info["cflags"]) for name, info in libraries
        ]))  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
        return str(path)


class build_ext(_build_ext):
    """The extension, or without it a reason."""

    def finalize_options(self):
        super().finalize_options()
        self.cython_c_in_temp = True

    def run(self):
        self.run_command("build_clib")
        inplace = self.inplace
        self.beside_sources = inplace or self.editable_mode  # setuptools forgets the former meanwhile
        if Outcome.reason is None:
            with optional():
                super().run()
        if Outcome.reason is not None:
            self.extensions = []
        self.get_finalized_command("build_info").inplace = inplace
        self.run_command("build_info")

    def build_extension(self, ext):
        for name in ("Cython", "numpy"):
            if importlib.util.find_spec(name) is None:
                raise CompileError(f"{name} is not installed, and the build runs without isolation")
        headers = [Path(folder, "Python.h") for folder in self.include_dirs]
        if not any(header.exists() for header in headers):
            raise CompileError("Python's C headers are not installed (Debian and Ubuntu: python3-dev)")
        clib = self.get_finalized_command("build_clib")
        ext.define_macros += [*clib.macros, ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
        ext.include_dirs.append(importlib.import_module("numpy").get_include())
        ext.extra_compile_args += clib.openmp_flags
        ext.extra_link_args += clib.link_flags
        ext.depends += [
            *files("csrc/**/*.[ch]", "csrc/**/*.inc", "src/npconv/*.px[di]"),
            str(Path(clib.build_temp, "npconv_flags.txt")),
        ]
        if self.compiler.compiler_type != "msvc":
            flags = [flag for flag in common_flags(self.compiler) if flag not in ("-std=c11", *WARNINGS)]
            ext.extra_compile_args += small(flags)
            # After the static libraries, which need it: linkers that drop unused libraries read in order.
            ext.extra_link_args.append("-lm")
            if sys.platform == "linux" and "-g0" in flags and not self.beside_sources:
                ext.extra_link_args.append("-Wl,-s")  # a wheel's names of static functions are a fortieth of it
        super().build_extension(ext)


class build_info(Command):
    """Write npconv/_build_info.py, where show_config() reads what this build came to."""

    description = "record what the build came to"
    user_options: ClassVar[list] = []
    editable_mode = False
    inplace = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self):
        package = Path("src/npconv") if self.inplace or self.editable_mode else Path(self.build_lib, "npconv")
        package.mkdir(parents=True, exist_ok=True)
        if Outcome.reason is not None:
            # What an earlier build left would be imported, or packed into this wheel.
            (package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}").unlink(missing_ok=True)
        text = f'"""Generated by the build."""\n\nREASON = {Outcome.reason!r}\nOPENMP = {Outcome.openmp!r}\n'
        (package / "_build_info.py").write_text(text, encoding="utf-8")

    def get_source_files(self):
        return []

    def get_outputs(self):
        return [str(Path(self.build_lib, "npconv", "_build_info.py"))]

    def get_output_mapping(self):
        return dict.fromkeys(self.get_outputs(), "src/npconv/_build_info.py") if self.editable_mode else {}


class build(_build):
    sub_commands: ClassVar[list] = [*_build.sub_commands, ("build_info", None)]


class bdist_wheel(_bdist_wheel):
    """A wheel without the extension is for every Python and platform."""

    def run(self):
        self.run_command("build")
        if Outcome.reason is not None:
            self.root_is_pure = True
            self.distribution.ext_modules = self.distribution.libraries = []
        super().run()


setup(
    libraries=libraries() if WITH_EXTENSION else [],
    ext_modules=[Extension("npconv._core", ["src/npconv/_core.pyx"], include_dirs=["csrc"])] if WITH_EXTENSION else [],
    cmdclass={
        "bdist_wheel": bdist_wheel,
        "build": build,
        "build_clib": build_clib,
        "build_ext": build_ext,
        "build_info": build_info,
    },
)
