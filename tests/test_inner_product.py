"""Inner products: runs and bands of every kind, windows of every layout and type, more channels than an item takes."""

import numpy
import pytest
import shapes
from engines import ENGINES, difference
from test_layouts import LAYOUTS

import npconv

INNER = [engine for engine in ENGINES if engine.algorithm == "inner_product"]

# (input, weight, arguments): tiles have 4 x 4, 4 x 2, 8 x 2 or 8 x 1 sums, bands 64 pixels, runs 4096 bytes of a row of
# weights.
PROBLEMS = [
    ((1, 7, 1), (1, 7, 1), {}),
    ((1, 67, 1), (9, 67, 1), {}),
    ((2, 33, 1, 1), (17, 33, 1, 1), {}),
    ((3, 5, 2), (6, 5, 2), {"padding": 1}),
    ((7, 19, 3, 3), (13, 19, 3, 3), {"padding": 1}),  # images that share a band, the last of which has fewer
    ((1, 3, 9, 8), (5, 3, 3, 3), {"padding": (1, 2), "stride": (1, 2)}),  # bands of rows
    ((2, 3, 1, 131), (5, 3, 1, 4), {}),  # and of columns
    ((1, 6, 70, 1), (5, 6, 3, 1), {}),  # rows of one pixel, which are stored along channels
    ((1, 1100, 2, 3), (6, 1100, 1, 1), {}),  # runs of channels,
    ((1, 3, 40, 41), (5, 3, 37, 39), {}),  # of rows of taps,
    ((2, 2, 1300), (3, 2, 1250), {"stride": 7}),  # of a row's taps
    ((1, 2, 5, 30, 31), (3, 2, 4, 29, 28), {}),  # and of outer ones
    ((2, 8, 4, 3, 3), (6, 4, 2, 3, 2), {"groups": 2, "stride": (2, 1, 1), "dilation": (1, 1, 2)}),
    ((1, 8, 4), (8, 8, 3), {"stride": 5, "padding": ((3, 0),)}),  # all windows lie in the padding
    ((1, 5, 4, 3), (6, 5, 9, 9), {"padding": 4}),  # taps that mostly fall on zeros
    ((1, 4, 5, 6), (3, 4, 3, 3), {"padding": 2, "padding_mode": "reflect"}),
    ((1, 4, 5, 6), (3, 4, 3, 3), {"padding": 5, "padding_mode": "circular"}),
]


CASES = [shapes.Case(input, weight, **arguments) for input, weight, arguments in PROBLEMS]

pytestmark = pytest.mark.usefixtures("plain_sums")


@pytest.fixture(params=INNER, ids=str)
def inner(request):
    return request.param


@pytest.mark.parametrize("case", CASES, ids=str)
def test_runs_and_bands(inner, case):
    for dtype, threads in (("f", 1), ("f", 2), ("f", 5), ("d", 1), ("d", 3)):
        assert not inner.difference(case, shapes.shared_data(case, dtype), num_threads=threads), (dtype, threads)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_of_any_layout(inner, layout):
    for index, case in enumerate(CASES):
        data = shapes.shared_data(case, "fd"[index % 2])
        done = inner.conv((layout(data.input), *data.arrays[1:]), case.arguments(), num_threads=2)
        assert not (done and difference(case, data, *done)), str(case)


@pytest.mark.parametrize("dtype", ["?", "b", "H", "i", "Q", "e", "f", "g", ">f", ">h"])
def test_windows_of_any_type(inner, dtype):
    """Elements are gathered as they lie, and converted a window at a time."""
    for case in CASES:
        data = shapes.shared_data(case, "d")
        arrays = ((data.input != 0) if dtype == "?" else abs(data.input).astype(dtype), *data.arrays[1:])
        arguments = {**case.arguments(), "dtype": "d"}
        with inner.options(), npconv.options(precision="fast"):
            assert npconv.explain(*arrays, **arguments).algorithm == "inner_product"
            result = npconv.conv(*arrays, **arguments)
            same = npconv.conv(arrays[0].astype("d"), *arrays[1:], **arguments)
        numpy.testing.assert_array_equal(result, same)


def test_more_channels_than_an_item(inner):
    for outputs, pixels in ((4099, 1), (8200, 3)):
        case = shapes.Case((1, 3, pixels), (outputs, 3, 1))
        assert not inner.difference(case, shapes.make_data(case, "f"), num_threads=2)


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
@pytest.mark.parametrize("place", ["input", "weight"])
def test_what_is_not_finite_stays_in_its_windows(inner, place, value):
    for case in CASES:
        data = shapes.shared_data(case, "f")
        arrays = {"input": data.input.copy(), "weight": data.weight.copy()}
        arrays[place].reshape(-1)[arrays[place].size // 2] = value
        with inner.options(), npconv.options(precision="fast"):
            result = npconv.conv(*arrays.values(), *data.arrays[2:], **case.arguments())
        with npconv.options(backend="numpy"):
            expected = npconv.conv(*arrays.values(), *data.arrays[2:], **case.arguments())
        for kind in (numpy.isnan, numpy.isposinf, numpy.isneginf):
            numpy.testing.assert_array_equal(kind(result), kind(expected), str(case))


def test_lanes_overflow_no_sooner_than_plain_sums(inner):
    x = numpy.full((1, 64, 1), 3e38, "f")
    x[:, 1::2] *= -1
    with inner.options(), npconv.options(precision="fast"):
        assert not npconv.conv1d(x, numpy.ones((4, 64, 1), "f")).any()


@pytest.mark.skipif(not INNER, reason="the build has no kernels for it")
def test_chosen_for_few_pixels_and_weights_never_seen():
    arrays = numpy.ones((1, 256, 2, 2), "f"), numpy.ones((256, 256, 3, 3), "f")
    with npconv.options(backend="compiled", precision="fast"):
        assert npconv.explain(*arrays, stride=2, padding=1).algorithm == "inner_product"
        assert npconv.explain(*arrays, padding=60).algorithm != "inner_product"
