"""Memory: what one call may add, and that calls leave nothing behind."""

import contextlib
import gc
import sys
import tracemalloc

import numpy
import pytest
import shapes
from engines import compiled_core

import npconv

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
needs_core = pytest.mark.skipif(compiled_core() is None, reason="no compiled core")
MiB = 2**20

# Several times as large as what any call may take for itself, whatever its size.
LARGE = {
    "3x3": (shapes.Case((1, 24, 300, 320), (24, 24, 3, 3), padding=1), "f"),
    "3x3 in float64": (shapes.Case((1, 12, 300, 320), (12, 12, 3, 3), padding=1), "d"),
    "few to many": (shapes.Case((1, 3, 512, 512), (16, 3, 3, 3), padding=1), "f"),
    "many to few": (shapes.Case((1, 48, 320, 320), (2, 48, 3, 3), padding=1), "f"),
    "many to few, 5x5": (shapes.Case((1, 48, 320, 320), (1, 48, 5, 5)), "f"),
    "pointwise": (shapes.Case((1, 64, 256, 256), (48, 64, 1, 1)), "f"),
    "pointwise of a batch": (shapes.Case((16, 32, 80, 96), (32, 32, 1, 1)), "f"),
    "batch": (shapes.Case((48, 16, 48, 64), (16, 16, 3, 3), padding=1), "f"),
    "depthwise": (shapes.Case((1, 48, 256, 256), (48, 1, 3, 3), padding=1, groups=48), "f"),
    "grouped": (shapes.Case((1, 32, 256, 256), (32, 8, 3, 3), padding=1, groups=4), "f"),
    "stride 2": (shapes.Case((1, 24, 512, 400), (16, 24, 3, 3), stride=2, padding=1), "f"),
    "stride 4 by 11x11": (shapes.Case((1, 3, 1100, 1000), (24, 3, 11, 11), stride=4), "f"),
    "dilated": (shapes.Case((1, 24, 300, 320), (24, 24, 3, 3), dilation=3, padding=3, padding_mode="reflect"), "f"),
    "large kernel": (shapes.Case((1, 1, 1300, 1500), (1, 1, 15, 15), padding=7), "f"),
    "1-D, long": (shapes.Case((1, 8, 400000), (8, 8, 15), padding=7), "f"),
    "1-D, wide stride": (shapes.Case((1, 1, 4000000), (16, 1, 400), stride=160), "f"),
    "3-D": (shapes.Case((1, 8, 60, 64, 64), (8, 8, 3, 3, 3), padding=1), "f"),
    "integers": (shapes.Case((1, 8, 300, 320), (8, 8, 3, 3), padding=1), "l"),
    "bytes": (shapes.Case((1, 8, 900, 900), (8, 8, 3, 3), padding=1), "B"),
    "half": (shapes.Case((1, 8, 800, 800), (8, 8, 3, 3), padding=1), "e"),
    "complex": (shapes.Case((1, 8, 360, 360), (8, 8, 3, 3), padding=1), "F"),
    "long double": (shapes.Case((1, 3, 360, 360), (3, 3, 3, 3), padding=1), "g"),
    "activation": (shapes.Case((1, 24, 300, 320), (24, 24, 3, 3), padding=1, activation="silu"), "f"),
}


def peak_of(call):
    """(largest memory that `call` held beyond what was there, its result)."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        return tracemalloc.get_traced_memory()[1] - before, result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", LARGE)
def test_numpy_fallback_stays_within_three_times_input_and_output(name):
    case, dtype = LARGE[name]
    layout = ("plain", "channels_last", "byte_swapped")[list(LARGE).index(name) % 3]
    rng = numpy.random.default_rng(0)
    input, weight = (shapes.random_array(rng, shape, dtype) for shape in (case.input, case.weight))
    arguments = case.arguments()
    if layout == "channels_last":
        input, arguments["data_format"] = numpy.moveaxis(input, 1, -1).copy(), "channels_last"
    if layout == "byte_swapped":
        input = input.astype(input.dtype.newbyteorder())
    with npconv.options(backend="numpy"):
        added, result = peak_of(lambda: npconv.conv(input, weight, **arguments))
    together = input.nbytes + result.nbytes
    assert added + input.nbytes <= 3 * together, f"{(added + input.nbytes) / together:.2f} times"


PEAK = """
import sys
import numpy, npconv

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024

def peak_of(call):
    "The most memory held during call, beyond what was there before."
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before

rng = numpy.random.default_rng(0)
def image(*shape, dtype="f4"):
    return rng.integers(-3, 4, shape).astype(dtype)

small, kernel = image(1, 3, 40, 40), image(3, 3, 3, 3)
npconv.set_options(backend=sys.argv[1])
for threads in (1, 2, 4):
    with npconv.options(num_threads=threads):
        npconv.conv2d(small, kernel, padding=1)
"""

LARGE_IMAGES = (
    PEAK
    + """
def check(name, input, weight, shape, dtype="f4", **arguments):
    out = numpy.full(shape, 1, dtype)
    added = peak_of(lambda: npconv.conv2d(input, weight, **arguments, out=out))
    assert added < 40 * 2**20, (name, added / 2**20)
    print(name, added // 2**20)

plain = image(1, 3, 3000, 4000)
with npconv.options(num_threads=2):
    check("plain", plain, image(1, 3, 3, 3), (1, 1, 3000, 4000), padding=1)
    check("depthwise", plain, image(3, 1, 3, 3), (1, 3, 3000, 4000), padding=1, groups=3)
    check("reflected", plain, image(2, 3, 3, 3), (1, 2, 3000, 4000), padding=1, padding_mode="reflect")
    last = image(1, 3000, 4000, 3)
    check("channels last", last, image(1, 3, 3, 3), (1, 3000, 4000, 1), padding=1, data_format="channels_last")
    check("bytes to float", plain.astype("i1"), image(1, 3, 3, 3), (1, 1, 3000, 4000), padding=1)
    check("swapped", plain.astype(">f4"), image(1, 3, 3, 3), (1, 1, 3000, 4000), padding=1)
    check("strided", plain[:, :, ::-1, ::2], image(1, 3, 3, 3), (1, 1, 3000, 2000), padding=1)
    check("to double", plain, image(1, 3, 1, 1, dtype="f8"), (1, 1, 3000, 4000), "f8")
    check("stride 2", plain, image(4, 3, 5, 5), (1, 4, 1500, 2000), padding=2, stride=2)
    check("bytes", plain.astype("u1"), image(1, 3, 3, 3, dtype="u1"), (1, 1, 3000, 4000), "u1", padding=1)
    check("half", plain[..., :2000].astype("f2"), image(1, 3, 3, 3, dtype="f2"), (1, 1, 3000, 2000), "f2", padding=1)
"""
)


@needs_proc
@needs_core
def test_a_large_image_with_out_adds_little(run_python):
    printed = run_python(LARGE_IMAGES, "compiled")
    assert len(printed.splitlines()) == 11, printed


@needs_core
def test_workspace_does_not_grow_with_the_image(engine):
    """Broadcast arrays: explaining costs no memory."""
    if engine.backend != "compiled":
        return
    arrays = {
        "3x3": ((1, 64, 9000, 9001), (64, 64, 3, 3), {"padding": 1}),
        "pointwise": ((1, 256, 5000, 5000), (128, 256, 1, 1), {}),
        "depthwise": ((2, 128, 5000, 5000), (128, 1, 5, 5), {"groups": 128, "padding": 2}),
        "one channel": ((1, 1, 30000, 30000), (1, 1, 5, 5), {"padding": 2, "padding_mode": "reflect"}),
        "large kernel": ((1, 1, 20000, 20000), (1, 1, 41, 41), {"padding": 20}),
        "1-D": ((1, 16, 10**8), (16, 16, 65), {"padding": 32}),
        "3-D": ((1, 16, 300, 1000, 1000), (16, 16, 3, 3, 3), {"padding": 1}),
        "batch": ((5000, 64, 112, 112), (64, 64, 3, 3), {"padding": 1, "padding_mode": "circular"}),
        "channels last": ((1, 9000, 9000, 64), (32, 64, 3, 3), {"data_format": "channels_last", "dtype": "d"}),
    }
    for name, (input, weight, arguments) in arrays.items():
        image, kernel = numpy.broadcast_to(numpy.float32(0), input), numpy.ones(weight, "f")
        for precision in ("strict", "fast"):
            with engine.options(num_threads=2, precision=precision):
                if engine.refusal((image, kernel), arguments) is None:
                    plan = npconv.explain(image, kernel, **arguments)
                    packed = 8 * kernel.size * plan_itemsize(arguments)
                    assert 0 <= plan.workspace_bytes <= 2 * 8 * MiB + packed, (name, plan)


def plan_itemsize(arguments):
    return numpy.dtype(arguments.get("dtype", "f")).itemsize


def bad_calls(size):
    ones = numpy.ones
    image, weight = ones((1, 4, size, size), "f"), ones((4, 4, 3, 3), "f")
    return [
        lambda: npconv.conv2d(image, ones((4, 3, 3, 3), "f")),
        lambda: npconv.conv2d(image, weight, ones(5, "f")),
        lambda: npconv.conv2d(image, weight, groups=3),
        lambda: npconv.conv2d(image, weight, stride=0),
        lambda: npconv.conv2d(image, weight, stride="x"),
        lambda: npconv.conv2d(image, weight, padding=2**62),
        lambda: npconv.conv2d(image, weight, padding=((1, 2), (3,))),
        lambda: npconv.conv2d(image, weight, padding_mode="reflect", padding=size),
        lambda: npconv.conv2d(image, weight, activation="swish"),
        lambda: npconv.conv2d(image, weight, dtype="O"),
        lambda: npconv.conv2d(image, weight, out=ones((1, 4, size - 2, size - 3), "f")),
        lambda: npconv.conv2d(image, weight, out=ones((1, 4, size - 2, size - 2), "d")),
        lambda: npconv.conv2d(image, "weight"),
        lambda: npconv.conv2d(object(), weight),
        lambda: npconv.conv2d(image[0, 0], weight),
        lambda: npconv.conv2d(image, weight, bias=object()),
    ]


def good_calls(size):
    ones = numpy.ones
    image, weight, bias = ones((1, 4, size, size), "f"), ones((4, 4, 3, 3), "f"), ones(4, "f")
    out = ones((1, 4, size - 2, size - 2), "f")
    few_pixels, many_weights = ones((1, 32, 5, 5), "f"), ones((64, 32, 3, 3), "f")[..., ::-1]
    return [
        lambda: npconv.conv2d(image, weight),
        lambda: npconv.conv2d(few_pixels, many_weights),
        lambda: npconv.conv2d(image, weight, bias, out=out),
        lambda: npconv.conv2d(image, weight, bias, out=out[..., ::-1], activation="relu"),
        lambda: npconv.conv2d(image, weight * 0, bias, padding=1, out=image),
        lambda: npconv.conv2d(image.astype("i2"), weight, [1, 2, 3, 4], dtype="d", padding_mode="circular", padding=1),
        lambda: npconv.conv2d(image.tolist(), weight),
        lambda: npconv.conv2d(image.astype(">f8"), weight, groups=1),
        lambda: npconv.explain(image, weight, bias),
        lambda: npconv.get_options(),
    ]


def growth_of(calls, rounds):
    """Bytes of Python and NumPy memory that `rounds` more rounds leave behind.

    The least of several measurements: NumPy's own cache of small pieces of memory fills for a while, a leak never ends.
    """
    tracemalloc.start()
    try:
        measured = []
        while len(measured) < 10 and (len(measured) < 2 or min(measured) >= rounds):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(rounds):
                run_all(calls)
            gc.collect()
            measured.append(tracemalloc.get_traced_memory()[0] - before)
        return min(measured)
    finally:
        tracemalloc.stop()


def run_all(calls):
    for call in calls:
        with contextlib.suppress(TypeError, ValueError, OverflowError, MemoryError):
            call()


@pytest.mark.parametrize("make", [bad_calls, good_calls])
def test_repeated_calls_leave_nothing_in_python(backend, make):
    assert growth_of(make(8), 50) < 50 * 32  # less than an object a round


def test_bad_calls_are_bad(backend):
    for number, call in enumerate(bad_calls(16)):
        try:
            call()
        except (TypeError, ValueError):
            continue
        raise AssertionError(f"call {number} went through")


def test_references_are_given_back(backend):
    shape_of_each = (1, 4, 20, 20), (4, 4, 3, 3), (4,), (1, 4, 18, 18)
    arrays = image, weight, bias, out = [numpy.ones(shape, "f") for shape in shape_of_each]
    calls = (
        lambda: npconv.conv2d(image, weight, bias, out=out),
        lambda: npconv.conv2d(image, weight, bias, dtype="d"),
        lambda: npconv.conv2d(image, weight, bias, out=image),
        lambda: npconv.conv2d(image, weight, bias, groups=3, out=out),
        lambda: npconv.conv2d(image, weight, out=out[..., ::-1]),
        lambda: npconv.explain(image, weight, bias),
    )
    run_all(calls)
    before = [sys.getrefcount(array) for array in arrays]
    for _ in range(20):
        run_all(calls)
    assert [sys.getrefcount(array) for array in arrays] == before


RESIDENT = (
    PEAK
    + """
sys.path[:0] = {path!r}
import test_memory

npconv.set_options(num_threads=2)
calls = test_memory.bad_calls(64) + test_memory.good_calls(64)
for _ in range(60):
    test_memory.run_all(calls)
before = status("VmRSS")
for _ in range(400):
    test_memory.run_all(calls)
print(status("VmRSS") - before)
"""
)

MANY_SHAPES = (
    PEAK
    + """
npconv.set_options(num_threads=2)
def many(start, stop):
    for n in range(start, stop):
        npconv.conv1d(numpy.ones((1, 2, n), "f"), numpy.ones((3, 2, 2), "f"), padding=n % 7)
many(10, 5000)
before = status("VmRSS")
many(5000, 13000)
print(status("VmRSS") - before)
"""
)


@needs_proc
def test_repeated_calls_leave_nothing_in_the_process(run_python, backend):
    grown = int(run_python(RESIDENT.format(path=sys.path), backend))
    assert grown < 4 * MiB, f"{grown / MiB:.1f} MiB in 400 rounds"


@needs_proc
def test_plans_do_not_pile_up(run_python, backend):
    """Every call has another shape; whatever is remembered is bounded."""
    grown = int(run_python(MANY_SHAPES, backend))
    assert grown < 8 * MiB, f"{grown / MiB:.1f} MiB for 8000 shapes"


THREADS_COME_AND_GO = (
    PEAK
    + """
import threading
npconv.set_options(num_threads=2)
input, weight = image(1, 16, 64, 64), image(16, 16, 3, 3)
def rounds(number):
    for _ in range(number):
        thread = threading.Thread(target=npconv.conv2d, args=(input, weight))
        thread.start()
        thread.join()
rounds(50)
before = status("VmRSS")
rounds(200)
print(status("VmRSS") - before)
"""
)


@needs_proc
def test_threads_that_end_leave_nothing(run_python, backend):
    grown = int(run_python(THREADS_COME_AND_GO, backend))
    assert grown < 8 * MiB, f"{grown / MiB:.1f} MiB for 200 threads"


@needs_core
def test_large_results_lie_in_kept_memory():
    image, weight = numpy.ones((1, 1, 1500, 1500), "f"), numpy.ones((1, 1, 2, 2), "f")
    core = compiled_core()
    with npconv.options(backend="compiled"):
        for _ in range(2):  # the second is remembered
            for large in (
                npconv.conv2d(image, weight, padding=800),
                npconv.conv_transpose2d(image, weight, stride=2),
                npconv.grad.conv2d_input((1, 1, 3000, 3000), weight, image, stride=2),
                npconv.ConvTranspose2d.from_weights(weight, stride=2)(image),
            ):
                assert isinstance(large.base, core.Memory)
            assert npconv.conv2d(image, weight).base is None


@needs_core
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux's C library for the same memory")
def test_kept_memory_follows_what_is_needed(run_python):
    """A larger block takes the place of smaller ones that nobody asks for any more."""
    code = """
import ctypes, numpy
from npconv._core import kept_result
def block(size):
    return kept_result((size << 20,), numpy.dtype("u1"))
stale = [block(7) for _ in range(4)]
del stale
first = block(20)
place = first.ctypes.data
del first
other = ctypes.c_void_p()  # had it been given back, this would now stand there
ctypes.CDLL(None).posix_memalign(ctypes.byref(other), 2 << 20, (20 << 20) + 64)
assert block(20).ctypes.data == place
"""
    run_python(code, "compiled")
