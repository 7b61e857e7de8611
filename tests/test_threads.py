"""Threads: ours, Python's, and other processes'."""

import itertools
import os
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import shapes
from engines import ENGINES, compiled_core, difference

import npconv

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

LARGER = (
    shapes.Case((3, 20, 19, 17), (24, 20, 3, 3), padding=1),
    shapes.Case((1, 24, 40, 33), (24, 1, 3, 3), padding=1, groups=24),
    shapes.Case((1, 70, 19, 23), (50, 70, 1, 1)),
    shapes.Case((1, 8, 900), (24, 8, 25), stride=2),
    shapes.Case((1, 1, 120, 131), (1, 1, 5, 5), padding=2),
    shapes.Case((7, 5, 9, 9), (11, 5, 3, 3), padding=1),
    shapes.Case((1, 6, 8, 12, 13), (9, 6, 3, 3, 3), padding=1),
    shapes.Case((1, 3, 61, 60), (16, 3, 7, 7), stride=2, padding=3, padding_mode="reflect", activation="silu"),
    shapes.Case((2, 1, 50, 44), (2, 1, 17, 15), padding=8),
    shapes.Case((1, 2100, 3, 60), (2, 2100, 3, 3)),
    shapes.Case((1, 2, 4, 2050), (3, 2, 3, 5), padding=2, stride=2),
    shapes.Case((1, 1, 48, 200), (1, 1, 5, 5), dilation=3),
    shapes.Case((1, 2, 44, 205), (2, 1, 5, 5), groups=2, stride=2, padding=2),
    shapes.Case((1, 12, 48, 150), (12, 1, 5, 5), groups=12, dilation=3, padding=6),
)


def has_openmp():
    core = compiled_core()
    return core is not None and core.config()["openmp"] is not None


@pytest.mark.parametrize("dtype", "fdl")
def test_same_bits_for_any_number_of_threads(engine, dtype):
    for index, case in enumerate((*shapes.VARIED, *LARGER)):
        if dtype == "l" and case.activation:
            continue
        data = shapes.shared_data(case, dtype, exact=False)
        first = engine.conv(data.arrays, case.arguments(), num_threads=1)
        if first is None:
            continue
        for threads in (1, 2, (3, 4, 5, 8, 64)[index % 5]):
            again = engine.conv(data.arrays, case.arguments(), num_threads=threads)
            assert again[1].tobytes() == first[1].tobytes(), (str(case), threads)


@pytest.mark.skipif(not has_openmp(), reason="without OpenMP there is one thread")
def test_more_threads_than_shares_of_the_work():
    """parallel.c cuts it into 64 at most, which several threads then have in common."""
    rng = numpy.random.default_rng(0)
    x, w = rng.random((1, 257, 100, 100), "f"), rng.random((257, 1, 3, 3), "f")
    one, many = ({"backend": "compiled", "num_threads": threads} for threads in (1, 100))
    with npconv.options(**many):
        assert npconv.explain(x, w, padding=1, groups=257).threads > 64
        made = npconv.conv2d(x, w, padding=1, groups=257)
    with npconv.options(**one):
        assert made.tobytes() == npconv.conv2d(x, w, padding=1, groups=257).tobytes()


@pytest.mark.skipif(not has_openmp(), reason="without OpenMP there is one thread")
@pytest.mark.parametrize("algorithm", ["direct", "blocked"])
@pytest.mark.parametrize(("pixels", "threads"), [(120, 2), (4, 1)])
def test_packing_pixels_is_work_for_threads_too(algorithm, pixels, threads):
    """With one output there is a multiplication for each pixel that is packed, which takes longer."""
    x, w = numpy.ones((1, 72, pixels, pixels), "f"), numpy.ones((1, 72, 1, 1), "f")
    with npconv.options(backend="compiled", algorithm=algorithm, num_threads=2):
        assert npconv.explain(x, w, stride=2).threads == threads


@pytest.mark.skipif(not has_openmp(), reason="without OpenMP there is one thread")
@pytest.mark.parametrize("channels", [1, 3])
def test_stencil_wakes_no_thread_without_an_item(channels):
    """A channel of so small an image is one, and takes long enough to pay for two threads."""
    x, w = numpy.ones((1, channels, 60, 60), "f"), numpy.ones((channels, 1, 21, 21), "f")
    with npconv.options(backend="compiled", algorithm="stencil", num_threads=8):
        assert npconv.explain(x, w, groups=channels).threads == channels


@pytest.mark.parametrize("precision", ["fast", "strict"])
def test_same_bits_when_npconv_chooses(backend, precision):
    for name in ("resnet50 3x3 128@28", "resnet50 3x3 512@7", "mobilenetv1 dw3x3 32@112", "wav 1-64 k400 s160",
                 "c3d 3x3x3 16@8x28", "lenet 5x5 6-16@14 N32", "resnext 3x3 g32 256@28"):  # fmt: skip
        case = shapes.NETWORKS[name]
        data = shapes.shared_data(case, "f", exact=False)
        results = set()
        for threads in (1, 2, 3, 1):
            with npconv.options(num_threads=threads, precision=precision):
                results.add(npconv.conv(*data.arrays, **case.arguments()).tobytes())
        assert len(results) == 1, name


def test_many_python_threads_at_once(engine):
    cases = [*shapes.VARIED, *LARGER[:6]]
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait(60)
        for index in range(8):
            case = cases[(number + index) % len(cases)]
            data = shapes.shared_data(case, "fd"[index % 2])
            wrong = engine.difference(case, data, num_threads=number % 3 + 1)
            if wrong:
                return f"{case}: {wrong}"
        return None

    for case, dtype in itertools.product(cases, "fd"):
        shapes.shared_data(case, dtype)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [None] * 8


def test_many_python_threads_on_one_input_and_many_new_shapes(backend):
    """Shapes never seen before, so that plans are made while other plans run."""
    input, weight = numpy.ones((1, 2, 400), "f"), numpy.ones((3, 2, 5), "f")

    def work(number):
        with npconv.options(backend=backend, num_threads=2):
            for length in range(5, 400, 3):
                result = npconv.conv1d(input[..., : length + number % 2], weight, padding=number)
                if result[0, 0, number] != 10 or result.shape[2] != length + number % 2 + 2 * number - 4:
                    return length, result
        return None

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, [0, 0, 0, 0, 0, 0, 0, 0])) == [None] * 8


def test_two_threads_may_write_halves_of_one_array(engine):
    case = LARGER[0]
    data = shapes.shared_data(case, "f")
    out = numpy.empty((2, *data.expected.shape), "f")
    with ThreadPoolExecutor(2) as pool:
        done = list(
            pool.map(lambda half: engine.conv(data.arrays, case.arguments(), num_threads=2, out=out[half]), (0, 1))
        )
    for half in (0, 1):
        if done[half]:
            assert not difference(case, data, done[half][0], out[half])


def test_python_runs_while_the_compiled_core_computes():
    """The GIL is free meanwhile: the main thread wakes up many times during one long call."""
    if compiled_core() is None:
        pytest.skip("no compiled core")
    input, weight = numpy.ones((1, 64, 128, 128)), numpy.ones((64, 64, 5, 5))
    started, finished = threading.Event(), threading.Event()

    def work():
        with npconv.options(backend="compiled", isa="scalar", num_threads=1):
            started.set()
            npconv.conv2d(input, weight)
            finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(60)
    wakes = 0
    while not finished.is_set():
        time.sleep(0.001)
        wakes += 1
    thread.join()
    assert wakes > 5


COUNT_THREADS = """
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy, npconv
input, weight = numpy.ones((4, 32, 64, 64), "f"), numpy.ones((32, 32, 3, 3), "f")

def threads_after(number):
    with npconv.options(backend="compiled", num_threads=number):
        npconv.conv2d(input, weight)
    return len(os.listdir("/proc/self/task"))

before = len(os.listdir("/proc/self/task"))
print(before, threads_after(1), threads_after(2), threads_after(4))
"""


@linux
@pytest.mark.skipif(compiled_core() is None, reason="no compiled core")
def test_as_many_threads_run_as_were_asked_for(run_python):
    before, one, two, four = map(int, run_python(COUNT_THREADS, OMP_NUM_THREADS="8").split())
    assert one == before
    if has_openmp():
        assert two == before + 1
        assert before + 1 < four <= before + 3
    else:
        assert two == four == before


LIMITED = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy, npconv, threadpoolctl
input, weight = numpy.ones((4, 32, 64, 64), "f"), numpy.ones((32, 32, 3, 3), "f")
before = len(os.listdir("/proc/self/task"))
with npconv.options(backend="compiled", num_threads=4):
    expected = npconv.explain(input, weight).threads
    with threadpoolctl.threadpool_limits(1):
        limited = npconv.explain(input, weight).threads
        npconv.conv2d(input, weight)
        print(len(os.listdir("/proc/self/task")) - before, limited)
    npconv.conv2d(input, weight)
    print(len(os.listdir("/proc/self/task")) - before, expected)
"""


@linux
@pytest.mark.skipif(not has_openmp(), reason="built without OpenMP")
def test_threadpoolctl_limits_us(run_python):
    pytest.importorskip("threadpoolctl")
    limited, more = (tuple(map(int, line.split())) for line in run_python(LIMITED).splitlines())
    assert limited == (0, 1)
    assert more[0] == more[1] - 1 > 0


ON_ONE_CORE = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy, npconv
npconv.set_options(backend="compiled", num_threads=2)
input, weight = numpy.ones((4, 32, 64, 64), "f"), numpy.ones((32, 32, 3, 3), "f")
expected = npconv.conv2d(input, weight)
cores = os.sched_getaffinity(0)

def place(allowed):
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), allowed)

def allowed():
    return [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]

for turn in range(20):
    for crowd in ({min(cores)}, cores):
        place(crowd)
        assert all((npconv.conv2d(input, weight) == expected).all() for call in range(3))
        assert allowed() == [crowd, crowd], (allowed(), crowd)
print("as before")
"""


@linux
@pytest.mark.skipif(not has_openmp(), reason="built without OpenMP")
@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="one core")
def test_a_worker_that_leaves_its_callers_core_may_run_where_it_might_before(run_python):
    assert run_python(ON_ONE_CORE).strip() == "as before"


FORK = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")  # about forking a process with threads, which is the point
import numpy, npconv
backend, busy = sys.argv[1], sys.argv[2] == "busy"
npconv.set_options(backend=backend, num_threads=3)
input, weight = numpy.ones((2, 16, 40, 40), "f"), numpy.ones((16, 16, 3, 3), "f")
expected = npconv.conv2d(input, weight)
stop = threading.Event()

def keep_busy():
    while not stop.is_set():
        npconv.conv2d(input, weight)

def child():
    signal.alarm(30)
    for _ in range(3):
        if not numpy.array_equal(npconv.conv2d(input, weight), expected):
            return 2
    if npconv.conv2d(input[..., 1:], weight).shape != (2, 16, 38, 37):
        return 3
    if backend == "compiled" and sys.platform == "linux" and len(os.listdir("/proc/self/task")) != 1:
        return 4
    return 0

workers = [threading.Thread(target=keep_busy) for _ in range(2 if busy else 0)]
for worker in workers:
    worker.start()
codes = []
for _ in range(6 if busy else 2):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = child()
        finally:
            os._exit(code)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for worker in workers:
    worker.join()
assert numpy.array_equal(npconv.conv2d(input, weight), expected)
print(codes)
"""


@forks
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_forked_child_computes(run_python, backend, state):
    if (backend, state) == ("numpy", "busy"):
        pytest.skip("up to the BLAS behind NumPy")
    codes = run_python(FORK, backend, state, timeout=100)
    assert set(eval(codes)) == {0}, codes


FORK_OF_FORK = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import numpy, npconv
npconv.set_options(backend=sys.argv[1], num_threads=2)
input, weight = numpy.ones((2, 16, 40, 40), "f"), numpy.ones((16, 16, 3, 3), "f")
expected = npconv.conv2d(input, weight)

def descend(generations):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        same = numpy.array_equal(npconv.conv2d(input, weight), expected)
        deeper = descend(generations - 1) if generations > 1 else 0
        os._exit(deeper if same else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

sys.exit(descend(3))
"""


@forks
def test_grandchildren_compute_too(run_python, backend):
    run_python(FORK_OF_FORK, backend, timeout=100)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="not a free-threaded build")
def test_the_gil_stays_off(run_python):
    program = "import sys, npconv; print(npconv.conv1d([[[1, 2]]], [[[1, 1]]]).item(), sys._is_gil_enabled())"
    assert run_python(program).split() == ["3", "False"]


def test_every_engine_is_named_once():
    assert len(set(map(str, ENGINES))) == len(ENGINES)


@pytest.mark.parametrize("engine", [e for e in ENGINES if e.algorithm == "winograd"], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        shapes.Case((2, 66, 73, 57), (80, 33, 3, 3), dilation=2, padding=2, groups=2),
        shapes.Case((3, 130, 90, 31), (48, 130, 3, 3), dilation=(3, 2), padding=3),
        shapes.Case((1, 64, 121, 40), (70, 64, 2, 2), dilation=5, padding=1),
    ],
    ids=str,
)
def test_bands_of_dilated_images_are_all_computed_once(engine, case):
    """Several bands for each phase of the dilation, which alternate."""
    data = shapes.shared_data(case, "f")
    results = [engine.conv(data.arrays, case.arguments(), num_threads=threads) for threads in (1, 2, 3)]
    assert not difference(case, data, *results[0])
    assert len({done[1].tobytes() for done in results}) == 1
