"""Depthwise convolution by vectors that slide down images: rows of every length, bands, borders, layouts, types."""

import itertools

import numpy
import pytest
import shapes
from engines import ENGINES, difference
from test_layouts import LAYOUTS

import npconv

SLIDING = [engine for engine in ENGINES if engine.algorithm == "sliding"]

# Vectors have 4 to 16 pixels: one, several, and a rest that goes back over those before it.
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 11, 15, 16, 17, 23, 31, 32, 33, 40, 65)
KERNELS = ((3, 1), (3, 2), (5, 1), (5, 2))
ROWS = [
    shapes.Case((1, 3, 1 + width % 5, width), (3, 1, size, size), groups=3, stride=stride, padding=size // 2)
    for width, (size, stride) in itertools.product(WIDTHS, KERNELS)
]

# (input, weight, arguments)
PROBLEMS = [
    ((2, 70, 6, 17), (70, 1, 3, 3), {"groups": 70, "padding": 1}),  # more channels than one item takes
    ((1, 2, 130, 70), (2, 1, 5, 5), {"groups": 2, "padding": 2}),  # more rows than one item takes
    ((1, 1, 190, 120), (1, 1, 3, 3), {"groups": 1, "padding": 1, "activation": ("clip", -3, 5)}),
    ((1, 1, 250, 140), (1, 1, 5, 5), {"groups": 1, "padding": 2, "stride": 2, "activation": "silu"}),
    ((2, 3, 9, 34), (9, 1, 3, 3), {"groups": 3, "padding": 1}),  # several outputs a channel
    ((1, 1, 20, 20), (16, 1, 5, 5), {"groups": 1, "padding": 2}),
    ((1, 4, 5, 18), (4, 1, 3, 3), {"groups": 4}),
    ((1, 4, 3, 18), (4, 1, 3, 3), {"groups": 4, "padding": ((0, 4), (5, 0))}),
    ((1, 4, 7, 40), (4, 1, 5, 5), {"groups": 4, "stride": 2, "padding": ((9, 0), (0, 30))}),
    ((1, 4, 2, 3), (4, 1, 5, 5), {"groups": 4, "padding": 11}),  # windows that lie in the padding
    ((2, 5, 6, 37), (5, 1, 3, 3), {"groups": 5, "padding": 2, "stride": 2, "activation": "relu"}),
    ((1, 5, 6, 21), (5, 1, 3, 3), {"groups": 5, "padding": 1, "activation": "hardswish"}),
    # Outer axes, whose every output is an image.
    ((2, 70, 3, 6, 17), (70, 1, 1, 3, 3), {"groups": 70, "padding": (0, 1, 1)}),
    ((1, 4, 7, 9, 33), (8, 1, 1, 5, 5), {"groups": 4, "padding": (0, 2, 2), "stride": (3, 1, 1)}),
    ((2, 3, 5, 8, 20), (3, 1, 1, 3, 3), {"groups": 3, "padding": (0, 1, 1), "stride": 2, "dilation": (4, 1, 1)}),
    ((1, 2, 3, 4, 5, 18), (2, 1, 1, 1, 3, 3), {"groups": 2, "padding": (0, 0, 2, 0), "activation": "silu"}),
    ((1, 1, 3, 180, 120), (1, 1, 1, 3, 3), {"groups": 1}),
]  # fmt: skip
# Enough for two threads: many channels, several outputs a channel, and tall images in bands.
LONG = [
    shapes.Case((3, 130, 33, 40), (130, 1, 3, 3), groups=130, padding=1),
    shapes.Case((2, 150, 20, 20), (300, 1, 5, 5), groups=150, padding=2, stride=2),
    shapes.Case((1, 2, 900, 70), (2, 1, 3, 3), groups=2, padding=1),
    shapes.Case((1, 1, 1500, 64), (1, 1, 5, 5), groups=1, padding=2),
    shapes.Case((2, 5, 40, 30, 33), (5, 1, 1, 3, 3), groups=5, padding=(0, 1, 1)),
]
CASES = [*(shapes.Case(input, weight, **arguments) for input, weight, arguments in PROBLEMS), *ROWS]

pytestmark = pytest.mark.usefixtures("plain_sums")


@pytest.fixture(params=SLIDING, ids=str)
def sliding(request):
    return request.param


def test_rows_bands_and_borders(sliding):
    taken = 0
    for case in CASES:
        for dtype, threads in (("f", 1), ("f", 3), ("d", 2)):
            data = shapes.shared_data(case, dtype)
            assert not sliding.difference(case, data, num_threads=threads), (str(case), dtype, threads)
            taken += sliding.conv(data.arrays, case.arguments()) is not None
    assert taken > len(CASES)  # those of AVX2 leave out short rows and 5x5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_of_any_layout(sliding, layout):
    for index, case in enumerate(CASES[::2]):
        data = shapes.shared_data(case, "fd"[index % 2])
        done = sliding.conv((layout(data.input), *data.arrays[1:]), case.arguments(), num_threads=2)
        assert not (done and difference(case, data, *done)), str(case)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_any_layout(sliding, layout):
    for case in CASES[::3]:
        data = shapes.shared_data(case, "f")
        done = sliding.conv((data.input, layout(data.weight), *data.arrays[2:]), case.arguments())
        assert not (done and difference(case, data, *done)), str(case)


def test_results_of_any_layout(sliding):
    for index, case in enumerate(CASES):
        data = shapes.shared_data(case, "fd"[index % 2])
        wide = numpy.full((*data.expected.shape[:-1], 2 * data.expected.shape[-1]), 99, data.input.dtype)
        part = slice(data.expected.shape[-1]) if index % 4 < 2 else slice(None, None, -2)
        done = sliding.conv(data.arrays, case.arguments(), num_threads=2, out=wide[..., part])
        assert not (done and difference(case, data, *done)), str(case)
        wide[..., part] = 99
        assert (wide == 99).all(), str(case)


@pytest.mark.parametrize("dtype", ["b", "H", "i", "e", ">f", "g"])
def test_images_of_any_type(sliding, dtype):
    for case in CASES[:7]:
        data = shapes.shared_data(case, "d")
        image = abs(data.input).astype(dtype)
        arguments = {**case.arguments(), "dtype": "d"}
        done = sliding.conv((image, *data.arrays[1:]), arguments, num_threads=2)
        same = sliding.conv((image.astype("d"), *data.arrays[1:]), arguments)
        assert (done is None) == (same is None)
        if done:
            numpy.testing.assert_array_equal(done[1], same[1], str(case))


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
@pytest.mark.parametrize("place", ["input", "weight"])
def test_what_is_not_finite_stays_in_its_windows(sliding, place, value):
    """Infinite weights make NaN of padding."""
    for case in CASES:
        if case.activation:
            continue
        data = shapes.shared_data(case, "f")
        arrays = {"input": data.input.copy(), "weight": data.weight.copy()}
        arrays[place].reshape(-1)[arrays[place].size // 2] = value
        done = sliding.conv((*arrays.values(), *data.arrays[2:]), case.arguments())
        with npconv.options(backend="numpy"):
            expected = npconv.conv(*arrays.values(), *data.arrays[2:], **case.arguments())
        for kind in (numpy.isnan, numpy.isposinf, numpy.isneginf):
            assert done is None or numpy.array_equal(kind(done[1]), kind(expected)), str(case)


def test_the_same_bits_on_any_number_of_threads(sliding):
    shared = 0
    for case in LONG:
        data = shapes.shared_data(case, "f")
        results = [sliding.conv(data.arrays, case.arguments(), num_threads=threads) for threads in (1, 2, 5)]
        if results[0] is None:  # 5x5 with AVX2
            continue
        assert not difference(case, data, *results[0]), str(case)
        assert len({done[1].tobytes() for done in results}) == 1, str(case)
        with sliding.options(precision="fast", num_threads=2):
            shared += npconv.explain(*data.arrays, **case.arguments()).threads == 2
    assert shared > 1


@pytest.mark.parametrize("outer", [(), (15,)], ids=["images", "volumes"])
@pytest.mark.parametrize(("size", "stride"), KERNELS)
def test_the_same_bits_beyond_the_caches(sliding, size, stride, outer):
    """Kernels that ask for memory, as input and result are 21 to 34 MiB, give what others do for thirds of them."""
    rng = numpy.random.default_rng(size + stride)
    channels, flat = 90 if not outer else 6, (1,) * len(outer)
    image = rng.standard_normal((2, channels, *outer, 160, 155), "f")
    weight, bias = rng.standard_normal((channels, 1, *flat, size, size), "f"), rng.standard_normal(channels, "f")
    arguments = {"stride": (*flat, stride, stride), "padding": (*[0 for _ in outer], size // 2, size // 2)}
    with sliding.options(precision="fast", num_threads=2):
        if sliding.refusal((image, weight, bias), {**arguments, "groups": channels}):
            pytest.skip("registers are too few")
        whole = npconv.conv(image, weight, bias, groups=channels, **arguments)
        third = channels // 3
        for first in range(0, channels, third):
            part = slice(first, first + third)
            expected = npconv.conv(image[:, part], weight[part], bias[part], groups=third, **arguments)
            assert whole[:, part].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("taps", "padding"), [(2, ((0, 0), (1, 1), (1, 1))), (1, ((1, 1), (1, 1), (1, 1))), (1, ((0, 2), (1, 1), (1, 1)))]
)
def test_outer_axes_with_taps_or_padding_are_for_others(sliding, taps, padding):
    arrays = numpy.ones((1, 2, 4, 20, 20), "f"), numpy.ones((2, 1, taps, 3, 3), "f")
    with sliding.options(precision="fast"):
        assert "no padding along other axes" in sliding.refusal(arrays, {"groups": 2, "padding": padding})


def test_no_overflow_where_plain_sums_have_none(sliding):
    """Rows of the kernel whose products overflow together, but not after what was summed before."""
    image, weight = numpy.zeros((1, 2, 20, 20), "f"), numpy.ones((2, 1, 3, 3), "f")
    image[:, :, 4, 5], image[:, :, 5, 5:7] = -3e38, 2.7e38
    with sliding.options(precision="fast"):
        result = npconv.conv(image, weight, padding=1, groups=2)
    with npconv.options(backend="compiled", algorithm="reference", precision="strict"):
        expected = npconv.conv(image, weight, padding=1, groups=2)
    numpy.testing.assert_array_equal(numpy.isinf(result), numpy.isinf(expected))


def test_chosen_for_images_whose_rows_fill_vectors(sliding):
    """Larger ones are for the stencil, those of 200x200 where it has kernels of 3x3 that go along rows."""
    weight = numpy.ones((24, 1, 3, 3), "f")
    along = "stencil" if sliding.isa == "avx512" else "sliding"
    expected = {3: "channelwise", 14: "sliding", 28: "sliding", 56: "sliding", 200: along, 400: "stencil"}
    with npconv.options(backend="compiled", isa=sliding.isa, precision="fast"):
        for size, algorithm in expected.items():
            image = numpy.ones((1, 24, size, size), "f")
            assert npconv.explain(image, weight, padding=1, groups=24).algorithm == algorithm, size
