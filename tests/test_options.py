"""What steers a call: contexts, process-wide defaults, the environment, and what show_config says of it all."""

import asyncio
import contextvars
import math
import os
import sys
import threading

import numpy
import pytest

import npconv
from npconv.options import _control_group_cores, in_force

IMAGE, WEIGHT = numpy.ones((1, 1, 4, 4), "f4"), numpy.ones((1, 1, 2, 2), "f4")


@pytest.fixture(autouse=True)
def untouched_defaults():
    """Every test starts from what is automatic, whatever the environment says, and leaves it behind."""
    automatic = dict.fromkeys(("backend", "isa", "algorithm", "precision"))
    before = npconv.get_options()
    npconv.set_options(**automatic, num_threads=None)
    yield
    npconv.set_options(**before)


def threads():
    return npconv.get_options()["num_threads"]


def test_only_named_keys_change():
    before = npconv.get_options()
    with npconv.options(num_threads=3):
        assert npconv.get_options() == {**before, "num_threads": 3}
        with npconv.options(backend="numpy", precision="strict"):
            inner = {"num_threads": 3, "backend": "numpy", "precision": "strict"}
            assert npconv.get_options() == {**before, **inner}
        assert npconv.get_options() == {**before, "num_threads": 3}
    assert npconv.get_options() == before


def test_automatic_values():
    automatic = {"backend": None, "isa": None, "algorithm": None, "precision": "fast", "num_threads": threads()}
    assert npconv.get_options() == automatic
    assert threads() >= 1


def test_none_is_automatic_again():
    automatic = threads()
    with npconv.options(num_threads=automatic + 1, backend="numpy", precision="strict"):
        with npconv.options(num_threads=None, backend=None, precision=None):
            assert npconv.get_options()["backend"] is None
            assert npconv.get_options()["precision"] == "fast"
            assert threads() == automatic
        assert threads() == automatic + 1


def test_an_error_ends_the_context():
    before = npconv.get_options()
    with pytest.raises(KeyError), npconv.options(num_threads=7):
        raise KeyError
    assert npconv.get_options() == before


def test_one_object_serves_again_nested_and_as_decorator():
    seven = npconv.options(num_threads=7)
    before = threads()
    with seven, npconv.options(num_threads=5), seven:
        assert threads() == 7
    assert threads() == before
    assert seven(threads)() == 7
    assert threads() == before


def test_contexts_override_defaults_key_by_key():
    npconv.set_options(num_threads=4, precision="strict")
    with npconv.options(num_threads=2):
        assert (threads(), npconv.get_options()["precision"]) == (2, "strict")
        npconv.set_options(num_threads=6, precision="fast")
        assert (threads(), npconv.get_options()["precision"]) == (2, "fast")
    assert threads() == 6


def test_defaults_are_seen_by_other_threads_and_contexts_are_not():
    seen = []
    npconv.set_options(num_threads=4)
    with npconv.options(num_threads=2):
        thread = threading.Thread(target=lambda: seen.append(threads()), **in_new_context())
        thread.start()
        thread.join()
    assert seen == [4]


def in_new_context():
    """From Python 3.14 on a thread may inherit the context it was started in; it does in free-threaded builds."""
    return {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}


def test_many_threads_each_with_its_own():
    def work(number):
        for _ in range(200):
            with npconv.options(num_threads=number):
                barrier.wait()
                wrong.extend([threads()] if threads() != number else [])

    wrong, barrier = [], threading.Barrier(4)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_tasks_each_have_their_own():
    async def task(number):
        with npconv.options(num_threads=number):
            for _ in range(3):
                await asyncio.sleep(0)
                assert threads() == number
        return threads()

    async def main():
        with npconv.options(num_threads=9):
            return await asyncio.gather(*map(task, range(1, 6)))

    assert asyncio.run(main()) == [9] * 5


def test_equal_options_are_one_object():
    """So that plans made for one `with` serve the next one."""
    found = []
    for _ in range(2):
        with npconv.options(num_threads=3, precision="strict"):
            found.append(in_force())
    assert found[0] is found[1]


@pytest.mark.parametrize("steer", [npconv.options, npconv.set_options])
@pytest.mark.parametrize(
    ("error", "pattern", "named"),
    [
        (ValueError, r"num_threads must be from 1 to \d+, got 0", {"num_threads": 0}),
        (ValueError, r"num_threads must be from 1 to \d+, got -2", {"num_threads": -2}),
        (ValueError, r"num_threads must be from 1 to \d+, got \d{20}", {"num_threads": 2**64}),
        (TypeError, r"num_threads must be an integer or None, got '2'", {"num_threads": "2"}),
        (TypeError, r"num_threads must be an integer or None, got 2\.0", {"num_threads": 2.0}),
        (TypeError, r"num_threads must be an integer or None, got True", {"num_threads": True}),
        (ValueError, r"backend must be one of 'compiled', 'numpy'; .* got 'torch'", {"backend": "torch"}),
        (ValueError, r"backend must be one of 'compiled', 'numpy'; .* got \['numpy'\]", {"backend": ["numpy"]}),
        (ValueError, r"isa must be .*; or None for automatic; got 'mmx'", {"isa": "mmx"}),
        (ValueError, r"algorithm must be one of .*'matmul'; .* got 'magic'", {"algorithm": "magic"}),
        (ValueError, r"precision must be one of 'fast', 'strict'; .* got 'exact'", {"precision": "exact"}),
        (TypeError, r"unexpected keyword argument 'threads'", {"threads": 1}),
    ],
)
def test_bad_values_change_nothing(steer, error, pattern, named):
    before = npconv.get_options()
    with pytest.raises(error, match=pattern) as caught:
        steer(**{"precision": "strict", **named})
    assert steer.__name__ in str(caught.value)
    assert npconv.get_options() == before


def test_no_positional_arguments():
    for steer in (npconv.options, npconv.set_options):
        with pytest.raises(TypeError, match="positional"):
            steer(1)


def test_an_algorithm_of_one_backend_brings_that_backend():
    with npconv.options(algorithm="matmul"):
        assert npconv.explain(IMAGE, WEIGHT).backend == "numpy"


def test_forced_numpy_is_what_runs():
    with npconv.options(backend="numpy"):
        plan = npconv.explain(IMAGE, WEIGHT)
        assert (plan.backend, plan.algorithm, plan.isa) == ("numpy", "matmul", "numpy")
        assert npconv.show_config("dicts")["backend"] == "numpy"


def test_a_plan_prints_as_a_table():
    plan = npconv.Plan("compiled", "direct", "avx2", 2, 4096, (("winograd", "the kernel is 2x2"),))
    assert str(plan).splitlines() == [
        "backend       compiled",
        "algorithm     direct",
        "isa           avx2",
        "threads       2",
        "workspace     4,096 bytes",
        "not winograd  the kernel is 2x2",
    ]


THREADS = "import npconv; print(npconv.get_options()['num_threads'])"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NPCONV_NUM_THREADS": "3"}, 3),
        ({"NPCONV_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"NPCONV_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
        ({"NPCONV_NUM_THREADS": "", "OMP_NUM_THREADS": "6,2,1"}, 6),
    ],
)
def test_threads_from_the_environment(run_python, environment, expected):
    assert int(run_python(THREADS, **environment)) == expected


NO_THREADS_NAMED = {"NPCONV_NUM_THREADS": "", "OMP_NUM_THREADS": ""}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_threads_from_affinity(run_python):
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n" + THREADS
    assert int(run_python(program, **NO_THREADS_NAMED)) == 1


def test_threads_are_no_more_than_the_cores(run_python):
    assert 1 <= int(run_python(THREADS, **NO_THREADS_NAMED)) <= os.cpu_count()


BAD_ENVIRONMENT = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import npconv
for warning in caught:
    print(warning.category.__name__, warning.message)
print(npconv.get_options())
"""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NPCONV_NUM_THREADS", "many"),
        ("NPCONV_NUM_THREADS", "0"),
        ("NPCONV_NUM_THREADS", "-1"),
        ("NPCONV_NUM_THREADS", "1.5"),
        ("NPCONV_NUM_THREADS", "999999999999"),
        ("OMP_NUM_THREADS", "all"),
        ("NPCONV_BACKEND", "fortran"),
        ("NPCONV_ISA", "mmx"),
    ],
)
def test_nonsense_in_the_environment_is_ignored_with_one_warning(run_python, variable, value):
    clean = {"NPCONV_BACKEND": "", "NPCONV_ISA": "", **NO_THREADS_NAMED}
    warning, options = run_python(BAD_ENVIRONMENT, **{**clean, variable: value}).splitlines()
    assert warning.startswith("RuntimeWarning ignoring the environment's ")
    assert variable in warning
    assert repr(value) in warning
    assert options == run_python(BAD_ENVIRONMENT, **clean).strip()


def test_backend_from_the_environment(run_python):
    program = "import npconv; print(npconv.get_options()['backend'], npconv.show_config('dicts')['backend'])"
    assert run_python(program, NPCONV_BACKEND="numpy").split() == ["numpy", "numpy"]


WITHOUT_EXTENSION = """
import sys
sys.modules["npconv._core"] = None
import numpy, npconv
image, weight = numpy.ones((1, 1, 3, 3)), numpy.ones((1, 1, 2, 2))
assert npconv.conv2d(image, weight).tolist() == [[[[4, 4], [4, 4]]]]
assert npconv.explain(image, weight).backend == "numpy"
configuration = npconv.show_config("dicts")
assert (configuration["compiled"], configuration["backend"]) == (False, "numpy")
for forced in ({"backend": "compiled"}, {"isa": "scalar"}):
    try:
        with npconv.options(**forced):
            npconv.conv2d(image, weight)
    except (RuntimeError, ValueError) as error:
        print(type(error).__name__, error)
npconv.show_config()
"""


def test_without_the_extension(run_python):
    backend, isa, *table = run_python(WITHOUT_EXTENSION, NPCONV_BACKEND="", NPCONV_ISA="").splitlines()
    assert backend.startswith("RuntimeError backend 'compiled' is not available: ")
    assert isa.startswith("ValueError options: isa must be one of none without the compiled backend")
    assert any(line.startswith("not compiled") and not line.endswith(" -") for line in table)


def test_show_config_prints_what_it_returns(capsys):
    configuration = npconv.show_config("dicts")
    assert npconv.show_config() is None
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == len(configuration)
    for name, value in configuration.items():
        assert f"{name.replace('_', ' ')} " in printed
        assert not isinstance(value, str) or value in printed
    assert configuration["npconv"] == npconv.__version__
    assert configuration["numpy"] == numpy.__version__
    assert configuration["threads"] == threads()
    assert configuration["compiled"] == (configuration["not_compiled"] is None)
    assert configuration["python"] == sys.version.split()[0].rstrip("+")


def test_show_config_refuses_other_modes():
    for mode in ("json", None, 1):
        with pytest.raises(ValueError, match=f"show_config: mode must be one of 'stdout', 'dicts', got {mode!r}"):
            npconv.show_config(mode)


def control_groups(tmp_path, memberships, files):
    for name, text in files.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "memberships").write_text(memberships)
    return _control_group_cores(str(tmp_path / "memberships"), str(tmp_path / "mount"))


@pytest.mark.parametrize(
    ("memberships", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {}, math.inf),
        ("", {"cpu.max": "150000 100000\n"}, math.inf),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/../../elsewhere\n", {"cpu.max": "400000 100000"}, 4),
        (
            "3:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "1000"},
            math.inf,
        ),
        (
            "5:memory:/a\n3:cpu,cpuacct:/a\n0::/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "2500", "cpu,cpuacct/a/cpu.cfs_period_us": "1000"},
            2.5,
        ),
        ("5:cpuset:/a\n", {"cpuset/a/cpu.cfs_quota_us": "1000", "cpuset/a/cpu.cfs_period_us": "1000"}, math.inf),
        ("0::/\n", {"cpu.max": "nonsense"}, math.inf),
        ("0::/\n", {"cpu.max": "100000 0"}, math.inf),
    ],
)
def test_quota_of_control_groups(tmp_path, memberships, files, cores):
    assert control_groups(tmp_path, memberships, files) == cores


def test_no_control_groups(tmp_path):
    assert _control_group_cores(str(tmp_path / "none"), str(tmp_path / "none")) == math.inf


def test_blocks_that_end_in_another_order():
    first, second = npconv.options(num_threads=1), npconv.options(precision="strict")
    before = npconv.get_options()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert npconv.get_options() == {**before, "precision": "strict"}
    second.__exit__(None, None, None)
    assert npconv.get_options() == before
