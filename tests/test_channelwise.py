"""Depthwise convolution with vectors along channels: blocks, borders, layouts and types of every kind."""

import numpy
import pytest
import shapes
from engines import ENGINES, difference
from test_layouts import LAYOUTS

import npconv

CHANNELWISE = [engine for engine in ENGINES if engine.algorithm == "channelwise"]

# (input, weight, arguments): blocks have 2 to 16 channels, tiles 8 pixels.
PROBLEMS = [
    ((1, 1, 1), (1, 1, 1), {"groups": 1}),
    ((2, 3, 5), (3, 1, 2), {"groups": 3, "padding": 1}),
    ((1, 17, 4, 3), (17, 1, 3, 3), {"groups": 17, "padding": 1}),
    ((3, 16, 7, 7), (16, 1, 3, 3), {"groups": 16, "padding": 1, "stride": 2}),
    ((1, 33, 5, 6), (66, 1, 3, 2), {"groups": 33, "padding": (2, 0)}),  # several outputs a channel
    ((2, 5, 6, 4), (20, 1, 1, 3), {"groups": 5, "stride": (1, 3), "padding": 3, "dilation": (1, 2)}),
    ((1, 9, 13, 2), (9, 1, 4, 1), {"groups": 9, "stride": (4, 1)}),  # pixels between windows, and after the last
    ((1, 18, 3, 4, 5), (18, 1, 2, 3, 2), {"groups": 18, "padding": (1, 0, 1), "stride": (2, 1, 1)}),
    ((1, 6, 2, 3), (6, 1, 5, 7), {"groups": 6, "padding": (2, 3)}),  # kernels larger than the image
    ((1, 8, 4), (8, 1, 3), {"groups": 8, "stride": 5, "padding": ((3, 0),)}),  # all windows lie in the padding
    ((1, 8, 4, 3), (8, 1, 3, 2), {"groups": 8, "stride": 5, "padding": ((3, 0), (0, 1))}),
    ((1, 4, 9), (4, 1, 70), {"groups": 4, "padding": 35}),  # more taps than are packed at once
    ((2, 8, 6, 7), (8, 1, 3, 3), {"groups": 8, "padding": 2, "padding_mode": "reflect", "stride": 2}),
    ((2, 8, 4, 5), (16, 1, 3, 3), {"groups": 8, "padding": (3, 5), "padding_mode": "circular"}),
    ((1, 5, 6, 4), (5, 1, 3, 5), {"groups": 5, "padding": (1, 2), "padding_mode": "replicate", "activation": "silu"}),
    ((1, 20, 6, 4), (20, 1, 3, 3), {"groups": 20, "padding": 1, "activation": ("clip", -3, 5)}),
    # Small images of volumes that are not.
    ((2, 3, 1200, 8, 9), (3, 1, 1, 3, 3), {"groups": 3, "padding": (0, 1, 1), "stride": (9, 1, 1)}),
    ((1, 2, 60, 30, 6, 7), (4, 1, 1, 1, 2, 5), {"groups": 2, "padding": (0, 0, 0, 2), "stride": (5, 4, 2, 1)}),
    ((1, 17, 1900, 7, 5), (17, 1, 1, 3, 2), {"groups": 17, "padding": 0, "stride": (70, 1, 2), "activation": "relu"}),
    ((1, 3, 1900, 7, 5), (3, 1, 1, 3, 2), {"groups": 3, "padding": (0, 2, 1), "padding_mode": "reflect"}),
]  # fmt: skip
CASES = [shapes.Case(input, weight, **arguments) for input, weight, arguments in PROBLEMS]

pytestmark = pytest.mark.usefixtures("plain_sums")


@pytest.fixture(params=CHANNELWISE, ids=str)
def channelwise(request):
    return request.param


@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_and_borders(channelwise, case):
    for dtype, threads in (("f", 1), ("f", 2), ("f", 5), ("d", 1), ("d", 3)):
        assert not channelwise.difference(case, shapes.shared_data(case, dtype), num_threads=threads), (dtype, threads)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_of_any_layout(channelwise, layout):
    for index, case in enumerate(CASES):
        data = shapes.shared_data(case, "fd"[index % 2])
        done = channelwise.conv((layout(data.input), *data.arrays[1:]), case.arguments(), num_threads=2)
        assert not (done and difference(case, data, *done)), str(case)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_any_layout(channelwise, layout):
    for case in CASES:
        data = shapes.shared_data(case, "f")
        done = channelwise.conv((data.input, layout(data.weight), *data.arrays[2:]), case.arguments())
        assert not (done and difference(case, data, *done)), str(case)


def test_channels_that_are_neighbours(channelwise):
    """Need no turning around, neither of the input nor of the result."""
    for index, case in enumerate(CASES):
        data = shapes.shared_data(case, "fd"[index % 2])
        last = [numpy.ascontiguousarray(numpy.moveaxis(array, 1, -1)) for array in (data.input, data.expected)]
        out = numpy.empty_like(last[1], data.input.dtype)
        arrays = (numpy.moveaxis(last[0], -1, 1), *data.arrays[1:])
        done = channelwise.conv(arrays, case.arguments(), num_threads=2, out=numpy.moveaxis(out, -1, 1))
        assert not (done and difference(case, data, *done)), str(case)


def test_results_of_any_layout(channelwise):
    for index, case in enumerate(CASES):
        data = shapes.shared_data(case, "fd"[index % 2])
        wide = numpy.empty((*data.expected.shape[:-1], 2 * data.expected.shape[-1]), data.input.dtype)
        out = wide[..., : data.expected.shape[-1]] if index % 4 < 2 else wide[..., ::-2]
        done = channelwise.conv(data.arrays, case.arguments(), num_threads=2, out=out)
        assert not (done and difference(case, data, *done)), str(case)


@pytest.mark.parametrize("dtype", ["b", "H", "i", "e", ">f", "g"])
def test_images_of_any_type(channelwise, dtype):
    for case in CASES[:-2]:
        data = shapes.shared_data(case, "d")
        arrays = (abs(data.input).astype(dtype), *data.arrays[1:])
        arguments = {**case.arguments(), "dtype": "d"}
        with channelwise.options(), npconv.options(precision="fast"):
            assert npconv.explain(*arrays, **arguments).algorithm == "channelwise"
            result = npconv.conv(*arrays, **arguments)
            same = npconv.conv(arrays[0].astype("d"), *arrays[1:], **arguments)
        numpy.testing.assert_array_equal(result, same)


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
@pytest.mark.parametrize("place", ["input", "weight"])
def test_what_is_not_finite_stays_in_its_windows(channelwise, place, value):
    """And in its channel, though others share its vectors; infinite weights make NaN of padding."""
    for case in CASES[:-2]:
        data = shapes.shared_data(case, "f")
        arrays = {"input": data.input.copy(), "weight": data.weight.copy()}
        arrays[place].reshape(-1)[arrays[place].size // 2] = value
        with channelwise.options(), npconv.options(precision="fast", num_threads=1):
            result = npconv.conv(*arrays.values(), *data.arrays[2:], **case.arguments())
        with npconv.options(backend="numpy"):
            expected = npconv.conv(*arrays.values(), *data.arrays[2:], **case.arguments())
        for kind in (numpy.isnan, numpy.isposinf, numpy.isneginf):
            numpy.testing.assert_array_equal(kind(result), kind(expected), str(case))


@pytest.mark.skipif(not CHANNELWISE, reason="the build has no kernels for it")
def test_packed_weights_are_read_by_the_algorithm_that_packed_them():
    """Images that lie in one run are one axis; another algorithm might take others, as for a dilation of one tap."""
    weight = numpy.arange(80, dtype="f").reshape(80, 1, 1, 1)
    apart = numpy.ones((1, 40, 5, 9), "f")[..., :7]
    with npconv.options(backend="compiled", precision="fast"):
        layer = npconv.Conv2d.from_weights(weight, dilation=300000, groups=40)
        for x in (apart, apart.copy()):
            numpy.testing.assert_array_equal(layer(x), numpy.broadcast_to(weight[:, 0], (1, 80, 5, 7)))


@pytest.mark.skipif(not CHANNELWISE, reason="the build has no kernels for it")
def test_chosen_for_small_images():
    weight = numpy.ones((96, 1, 3, 3), "f")
    with npconv.options(backend="compiled", precision="fast"):
        small, large = (numpy.ones((1, 96, size, size), "f") for size in (3, 112))
        assert npconv.explain(small, weight, padding=1, groups=96).algorithm == "channelwise"
        assert npconv.explain(large, weight, padding=1, groups=96).algorithm != "channelwise"
