"""Any memory layout of any argument, and nothing beyond the arguments is read or written."""

import array
import itertools
import sys

import numpy
import oracle
import pytest
import shapes
from engines import ENGINES, difference
from sweeps import SWEEPS

import npconv

pytestmark = pytest.mark.usefixtures("plain_sums")


class Subclass(numpy.ndarray):
    """Carries nothing; results are plain arrays all the same."""


class Producer:
    """Speaks DLPack and nothing else."""

    def __init__(self, values):
        self.values = values
        self.asked = 0

    def __dlpack__(self, *, copy=None, **arguments):
        assert not copy
        self.asked += 1
        return self.values.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    def __array__(self, *arguments, **more):
        raise AssertionError("taken through __array__, not through DLPack")


def every_other(values):
    base = junk([2 * n + 1 for n in values.shape], values.dtype)
    view = base[tuple(slice(1, 2 * n + 1, 2) for n in values.shape)]
    view[...] = values
    return view


def inside_junk(values):
    base = junk([n + 5 for n in values.shape], values.dtype)
    view = base[tuple(slice(2, n + 2) for n in values.shape)]
    view[...] = values
    return view


def junk(shape, dtype):
    """NaN where there is one: a value that is read although it should not be shows in the result."""
    return numpy.full(shape, numpy.nan if numpy.dtype(dtype).kind in "fc" else 99, dtype)


def backwards(values):
    everything = (slice(None, None, -1),) * values.ndim
    return values[everything].copy()[everything]


def last_axis_backwards(values):
    return values[..., ::-1].copy()[..., ::-1]


def fortran(values):
    return numpy.asfortranarray(values)


def first_axis_innermost(values):
    return numpy.moveaxis(numpy.moveaxis(values, 0, -1).copy(), -1, 0)


def second_axis_innermost(values):
    return values if values.ndim < 2 else numpy.moveaxis(numpy.moveaxis(values, 1, -1).copy(), -1, 1)


def first_axes_swapped(values):
    """A weight as its transpose keeps it."""
    return values if values.ndim < 2 else values.swapaxes(0, 1).copy().swapaxes(0, 1)


def first_axes_swapped_others_backwards(values):
    backwards = (..., *(slice(None, None, -1),) * (values.ndim - 2))
    return values if values.ndim < 2 else first_axes_swapped(values[backwards])[backwards]


def unaligned(values):
    memory = bytearray(values.nbytes + 1)
    view = numpy.frombuffer(memory, numpy.uint8, offset=1).view(values.dtype).reshape(values.shape)
    view[...] = values
    assert values.itemsize == 1 or values.size == 0 or not view.flags.aligned
    return view


def byte_swapped(values):
    return values.astype(values.dtype.newbyteorder())


def byte_swapped_unaligned_backwards(values):
    return backwards_in_place(unaligned(byte_swapped(backwards(values))))


def backwards_in_place(values):
    """The same memory as `values` holds, with every axis counted from its end, and the values put right again."""
    view = values[(slice(None, None, -1),) * values.ndim]
    view[...] = view[(slice(None, None, -1),) * values.ndim].copy()
    return view


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def subclass(values):
    return values.copy().view(Subclass)


def record_field(values):
    """Strides that are no multiple of the item's size."""
    records = numpy.zeros(values.shape, [("tag", "u1"), ("value", values.dtype), ("more", "u2")])
    records["value"] = values
    return records["value"]


LAYOUTS = (
    every_other, inside_junk, backwards, last_axis_backwards, fortran, first_axis_innermost, second_axis_innermost,
    first_axes_swapped, first_axes_swapped_others_backwards, unaligned, byte_swapped, byte_swapped_unaligned_backwards,
    read_only, subclass, record_field,
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_values(layout):
    for shape in ((3,), (2, 3, 4)):
        values = numpy.arange(numpy.prod(shape), dtype="f").reshape(shape)
        assert numpy.array_equal(layout(values), values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(engine, layout):
    """Input, weight and bias each in this layout while the others take other layouts in turn."""
    place = LAYOUTS.index(layout)
    for index, case in enumerate(shapes.VARIED):
        data = shapes.make_data(case, "fdlfehFg"[(index + place) % 8])
        others = [LAYOUTS[(place + step * (index + 1)) % len(LAYOUTS)] for step in (1, 2)]
        for turn in range(3):
            layouts = [layout, *others]
            layouts = layouts[turn:] + layouts[:turn]
            arrays = [
                values if values is None else lay(values) for lay, values in zip(layouts, data.arrays, strict=True)
            ]
            before = [values if values is None else values.copy() for values in arrays]
            done = engine.conv(arrays, case.arguments(), num_threads=turn + 1)
            if done is None:
                continue
            assert type(done[1]) is numpy.ndarray
            assert not difference(case, data, *done), (str(case), [lay.__name__ for lay in layouts])
            for now, then in zip(arrays, before, strict=True):
                assert then is None or now.tobytes() == then.tobytes()


@pytest.mark.parametrize("layout", [every_other, fortran, unaligned, byte_swapped_unaligned_backwards])
def test_layouts_in_channels_last(engine, layout):
    for index, case in enumerate(shapes.VARIED):
        data = shapes.make_data(case, "fd"[index % 2])
        image = layout(numpy.moveaxis(data.input, 1, -1).copy())
        arguments = {**case.arguments(), "data_format": "channels_last"}
        done = engine.conv((image, *data.arrays[1:]), arguments)
        if done:
            assert not difference(case, data, done[0], numpy.moveaxis(done[1], -1, 1)), str(case)


def test_broadcast_arguments(engine):
    """Stride 0 along each axis of each argument in turn, then along all."""
    for case in shapes.VARIED:
        data = shapes.make_data(case, "f")
        bias = data.bias if case.has_bias else numpy.arange(case.weight[0], dtype="f")
        arrays = [data.input, data.weight, bias]
        for which in range(3):
            for axes in (*((axis,) for axis in range(arrays[which].ndim)), tuple(range(arrays[which].ndim))):
                one = arrays[which][tuple(slice(0, 1) if a in axes else slice(None) for a in range(arrays[which].ndim))]
                changed = list(arrays)
                changed[which] = numpy.broadcast_to(one, arrays[which].shape)
                done = engine.conv(changed, case.arguments())
                if done and done[0] == "strict":
                    expected = oracle.convolve(*changed, **case.arguments())
                    assert not oracle.difference_exact(done[1], expected), (str(case), which, axes)


def test_overlapping_windows_as_input(engine):
    """An input whose own items share memory: sliding windows over a signal."""
    signal = numpy.arange(40, dtype="f")
    windows = numpy.lib.stride_tricks.sliding_window_view(signal, 9)[numpy.newaxis]
    weight = numpy.ones((3, 32, 4), "f")
    done = engine.conv((windows, weight), {"padding": 2})
    if done and done[0] == "strict":
        assert not oracle.difference_exact(done[1], oracle.convolve(windows, weight, padding=2))


def test_one_array_for_several_arguments(backend):
    values = numpy.arange(3 * 3 * 3 * 3, dtype="f").reshape(3, 3, 3, 3) % 7
    result = npconv.conv2d(values, values, values[0, 0, 0], padding=1)
    assert not oracle.difference_exact(result, oracle.convolve(values, values, values[0, 0, 0], padding=1))


def test_lists_buffers_and_scalars_in_lists(backend):
    image, kernel, bias = [[[1, 2, 0, 3, 1]]], [[[1, 0, 2]], [[0, -1, 0]]], [10, 20]
    expected = oracle.convolve(numpy.array(image), numpy.array(kernel), numpy.array(bias))
    assert numpy.array_equal(npconv.conv1d(image, kernel, bias), expected)
    memory = memoryview(bytes([1, 2, 0, 3, 1])).cast("B", (1, 1, 5))
    result = npconv.conv1d(memory, numpy.array(kernel, "i1"), array.array("b", bias))
    assert result.dtype == numpy.int16
    assert numpy.array_equal(result, expected)
    masked = numpy.ma.masked_array(image, [[[0, 1, 0, 0, 0]]])
    assert numpy.array_equal(npconv.conv1d(masked, kernel, tuple(bias)), expected)


@pytest.mark.parametrize("dtype", "bBhHiIlLefdFD")
def test_dlpack_producers_without_a_copy(backend, dtype):
    case = shapes.VARIED[0]
    data = shapes.make_data(case, dtype)
    arrays = [Producer(values.copy()) for values in (data.input, data.weight, data.expected[0, :, 0, 0].astype(dtype))]
    expected = oracle.convolve(data.input, data.weight, arrays[2].values, **case.arguments())
    result = npconv.conv2d(*arrays, **case.arguments())
    assert not oracle.difference_exact(result, expected)
    assert [producer.asked for producer in arrays] == [1, 1, 1]


def test_dlpack_producers_with_strides(backend):
    case = shapes.VARIED[0]
    data = shapes.make_data(case, "f")
    input, weight = Producer(every_other(data.input)), Producer(fortran(data.weight))
    result = npconv.conv2d(input, weight, data.bias, **case.arguments())
    assert not difference(case, data, "strict", result)


GUARDED = """
import ctypes, itertools, mmap, sys
sys.path[:0] = {path!r}
import numpy, shapes
from sweeps import SWEEPS
from engines import ENGINES, difference

engine = next(engine for engine in ENGINES if str(engine) == {engine!r})
page = mmap.PAGESIZE
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
keep = []

def guarded(values, at_end):
    "A copy of values that ends (or begins) at a page nobody may touch."
    room = -(-values.nbytes // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    keep.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (address, address + page + room):
        assert protect(guard, page, 0) == 0
    offset = page + (room - values.nbytes if at_end else 0)
    view = numpy.ndarray(values.shape, values.dtype, memory, offset)
    view[...] = values
    return view

def check(case, dtype, at_end, threads, last):
    data = shapes.shared_data(case, dtype)
    print(case, dtype, at_end, threads, last, flush=True)
    image = numpy.moveaxis(data.input, 1, -1) if last else data.input
    image = guarded(numpy.ascontiguousarray(image), at_end)
    arrays = [image, *(values if values is None else guarded(values, at_end) for values in data.arrays[1:])]
    shape = data.expected.shape
    out = guarded(numpy.zeros((shape[0], *shape[2:], shape[1]) if last else shape, dtype), at_end)
    arguments = dict(case.arguments(), data_format="channels_last" if last else "channels_first")
    done = engine.conv(arrays, arguments, num_threads=threads, out=out)
    assert done is None or done[1] is out
    result = done and (numpy.moveaxis(out, -1, 1) if last else out)
    assert done is None or not difference(case, data, done[0], result)

cases = [*itertools.chain(*SWEEPS.values())][{start}::13] + [*shapes.VARIED]
for index, case in enumerate(cases):
    if 0 in case.input:
        continue
    for dtype in "fd" + "bhlF"[index % 4]:
        if case.activation and dtype not in "fd":
            continue
        check(case, dtype, index % 3 != 0, index % 2 + 1, index % 5 == 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page protection through libc")
@pytest.mark.parametrize("engine_name", [str(engine) for engine in ENGINES if engine.backend == "compiled"])
def test_not_a_byte_beyond_the_arrays_is_touched(run_python, engine_name):
    start = [str(engine) for engine in ENGINES].index(engine_name)
    run_python(GUARDED.format(path=sys.path, engine=engine_name, start=start % 13))


def test_nothing_around_the_arguments_is_used(engine):
    """NaN all around every argument stays out of the result."""

    def cases():
        yield from itertools.islice(itertools.chain(*SWEEPS.values()), 2, None, 11)

    for index, case in enumerate(cases()):
        data = shapes.shared_data(case, "fd"[index % 2])
        arrays = [values if values is None else inside_junk(values) for values in data.arrays]
        done = engine.conv(arrays, case.arguments(), num_threads=index % 3 + 1)
        assert done is None or not difference(case, data, *done), str(case)
