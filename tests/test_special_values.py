"""NaN, infinity, numbers near overflow and denormal numbers."""

import itertools
import math
import platform

import numpy
import oracle
import pytest
import shapes
from engines import BACKENDS, difference

import npconv

CASES = (
    *shapes.VARIED,
    shapes.Case((1, 16, 13, 18), (16, 16, 3, 3), padding=1),
    shapes.Case((1, 17, 12, 12), (33, 17, 3, 3), padding=1),
    shapes.Case((2, 8, 30), (8, 8, 3), padding=1),
    shapes.Case((1, 1, 40, 41), (1, 1, 17, 15), padding=(8, 7)),
    shapes.Case((1, 1, 900), (4, 1, 300), stride=50),
)


def spoilt(array, seed, values):
    """A copy with some of `values` at random places."""
    array = array.copy()
    rng = numpy.random.default_rng(seed)
    for value in values:
        array.reshape(-1)[rng.integers(array.size)] = value
    return array


def same_where_finite(actual, expected, exact):
    """NaN and each infinity at exactly the expected places, and the other values right."""
    with numpy.errstate(all="ignore"):
        expected = expected.astype(actual.dtype)
    for test in (numpy.isnan, numpy.isposinf, numpy.isneginf):
        if not numpy.array_equal(test(actual), test(expected)):
            return f"{test.__name__}: {int(test(actual).sum())} places, expected {int(test(expected).sum())}"
    finite = numpy.isfinite(expected)
    if exact:
        return oracle.difference_exact(actual[finite], expected[finite])
    tolerance = oracle.FAST_TOLERANCE[actual.dtype.char]
    return oracle.difference_rounded(actual[finite], expected[finite], None, tolerance)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", "fde")
@pytest.mark.parametrize("values", [(math.nan,), (math.inf,), (-math.inf,), (math.inf, -math.inf, math.nan)], ids=str)
def test_reach_exactly_the_outputs_whose_windows_contain_them(engine, dtype, values):
    for seed, case in enumerate(CASES):
        data = shapes.shared_data(case, dtype)
        arrays = (spoilt(data.input, seed, values), *data.arrays[1:])
        done = engine.conv(arrays, case.arguments(), num_threads=seed % 3 + 1)
        if done:
            expected = oracle.convolve(*arrays, **case.arguments())
            assert not same_where_finite(done[1], expected, done[0] == "strict"), str(case)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_at_every_position_of_a_small_image(engine, value):
    case = shapes.Case((1, 2, 5, 6), (3, 2, 3, 3), padding=1)
    data = shapes.shared_data(case, "f")
    for position in itertools.product(range(2), range(5), range(6)):
        arrays = data.input.copy(), *data.arrays[1:]
        arrays[0][(0, *position)] = value
        done = engine.conv(arrays, case.arguments())
        if done:
            expected = oracle.convolve(*arrays, **case.arguments())
            assert not same_where_finite(done[1], expected, done[0] == "strict"), position


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_in_weight_and_bias(engine, value):
    for seed, case in enumerate(CASES):
        if case.padding_mode == "zeros":  # whether a padded zero times infinity counts is nobody's business
            case = shapes.Case(case.input, case.weight, case.stride, 0, case.dilation, case.groups)
        data = shapes.shared_data(case, "f")
        bias = data.bias if case.has_bias else numpy.zeros(case.weight[0], "f")
        for arrays in ((data.input, spoilt(data.weight, seed, [value]), bias),
                       (data.input, data.weight, spoilt(bias, seed, [value]))):  # fmt: skip
            done = engine.conv(arrays, case.arguments())
            if done:
                expected = oracle.convolve(*arrays, **case.arguments())
                assert not same_where_finite(done[1], expected, done[0] == "strict"), str(case)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("activation", ["relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", ("leaky_relu", 0.25),
                                        ("clip", -1, 1)], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", "fdeg")
def test_activations_of_special_values(engine, activation, dtype):
    values = numpy.array([math.nan, math.inf, 0, 1, -1, 300, -300, -math.inf], dtype)
    if activation in ("silu", "hardswish"):
        values = values[:-1]  # -infinity times 0: no two libraries agree
    done = engine.conv((values.reshape(1, 1, -1), numpy.ones((1, 1, 1), dtype)), {"activation": activation})
    if done:
        result = done[1].reshape(-1)
        with numpy.errstate(all="ignore"):
            expected = oracle.activate(values.astype(oracle.wide_type(dtype)), activation)
        assert not same_where_finite(result, expected, False)
        assert numpy.isnan(result[0])
        assert not numpy.isnan(result[1:]).any()


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "silu", "hardswish"])
@pytest.mark.parametrize("dtype", "fd")
def test_activations_are_accurate_everywhere(engine, activation, dtype):
    """Relative to each value, not to the largest."""
    values = numpy.concatenate(
        [numpy.linspace(-60, 60, 1501), 10.0 ** numpy.arange(-25, 2), -(10.0 ** numpy.arange(-25, 1))]
    )
    values = values.astype(dtype)
    done = engine.conv((values.reshape(1, 1, -1), numpy.ones((1, 1, 1), dtype)), {"activation": activation})
    if done:
        expected = oracle.activate(values.astype(oracle.wide_type(dtype)), activation)
        error = numpy.abs(done[1].reshape(-1) - expected) / numpy.maximum(numpy.abs(expected), 1e-30)
        assert error.max() < 16 * numpy.finfo(dtype).eps, (values[error.argmax()], float(error.max()))


@pytest.mark.parametrize("dtype", "fd")
def test_no_overflow_where_plain_sums_have_none(engine, dtype):
    """The sum of all absolute products just fits; transforms that add first would overflow."""
    for case in CASES:
        data = shapes.shared_data(case, dtype, exact=False)
        taps = math.prod(case.weight[1:])
        signs = numpy.sign(data.weight)
        large = (numpy.finfo(dtype).max / (taps * 1.01) * numpy.sign(data.input)).astype(dtype)
        done = engine.conv((large, signs), case.arguments())
        if done:
            assert numpy.isfinite(done[1]).all(), str(case)
            expected = oracle.convolve(large, signs, **case.arguments())
            scale = numpy.finfo(dtype).max
            assert not oracle.difference_rounded(done[1], expected, scale, oracle.FAST_TOLERANCE[dtype])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", "fd")
def test_overflow_is_infinity(engine, dtype):
    large = numpy.finfo(dtype).max
    for case in (CASES[0], CASES[1], CASES[10]):
        input, weight = numpy.full(case.input, large, dtype), numpy.full(case.weight, 2, dtype)
        weight[1::2] = -2
        done = engine.conv((input, weight), case.arguments())
        if done:
            assert (done[1][:, ::2] == math.inf).all()
            assert (done[1][:, 1::2] == -math.inf).all()


@pytest.mark.parametrize("dtype", "fd")
def test_denormal_numbers(engine, dtype):
    """They count as they are or as zero, nothing else: either is far below the smallest normal number's noise."""
    tiny = numpy.finfo(dtype).tiny
    for case in CASES:
        data = shapes.shared_data(case, dtype)
        small = (data.input * (tiny / 1024)).astype(dtype)
        done = engine.conv((small, data.weight), case.arguments(), num_threads=2)
        if done:
            expected = oracle.convolve(small, data.weight, **case.arguments())
            limit = 16 * math.prod(case.weight[1:]) * float(tiny)
            assert numpy.abs(done[1] - expected).max() <= limit, str(case)


@pytest.mark.skipif("compiled" not in BACKENDS, reason="NumPy takes them as they are")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 alone takes long for them")
@pytest.mark.parametrize("dtype", "fd")
def test_denormal_numbers_are_zeros_to_every_thread(dtype):
    """On Intel's processors a product with one takes a hundred times as long."""
    tiny = numpy.finfo(dtype).tiny
    x = numpy.full((4, 32, 40, 40), tiny / 4, dtype)
    with npconv.options(backend="compiled"):
        for threads, weight in itertools.product((1, 2, 3), ((32, 32, 3, 3), (32, 1, 3, 3), (32, 32, 1, 1))):
            with npconv.options(num_threads=threads):
                assert not npconv.conv2d(x, numpy.ones(weight, dtype), groups=32 // weight[1]).any()


def test_callers_denormals_survive(engine):
    """A kernel may flush denormal numbers, but not in its caller's arithmetic afterwards."""
    case = CASES[0]
    data = shapes.shared_data(case, "f")
    with engine.options(num_threads=2):
        if engine.refusal(data.arrays, case.arguments()) is None:
            npconv.conv(*data.arrays, **case.arguments())
    assert numpy.float32(1e-39) * numpy.float32(0.5) > 0
    assert numpy.float64(1e-310) * 0.5 > 0
    assert (numpy.full(100, 1e-39, "f") * numpy.float32(0.5) > 0).all()


def test_values_from_everywhere_in_the_exponent_range(engine):
    """Scaling the input by a power of two scales the result, and changes no other bit."""
    for case in CASES[:6]:
        data = shapes.shared_data(case, "f", exact=False)
        plain = engine.conv((data.input, data.weight), case.arguments())
        if plain is None:
            continue
        for exponent in (-60, -20, 20, 60):
            factor = numpy.float32(2.0**exponent)
            scaled = engine.conv((data.input * factor, data.weight), case.arguments())
            assert numpy.array_equal(scaled[1], plain[1] * factor), (str(case), exponent)


def test_difference_notices_nan():
    data = shapes.shared_data(CASES[0], "f")
    result = data.expected.astype("f")
    result[0, 0, 0, 0] = math.nan
    assert difference(CASES[0], data, "strict", result)
    assert difference(CASES[0], data, "fast", result)


@pytest.mark.parametrize("value", [numpy.inf, numpy.nan])
def test_weights_times_padding(engine, value):
    """Zero times infinity is NaN, wherever the padding is read."""
    input = numpy.ones((1, 16, 7, 7), "f")
    weight = numpy.ones((16, 16, 3, 3), "f")
    weight[1, 2, 0, 1] = weight[3, 4, 1, 2] = value
    arguments = {"stride": 1, "padding": 1}
    with engine.options(precision="strict"):
        if engine.refusal((input, weight), arguments) is not None:
            return
        result = npconv.conv(input, weight, **arguments)
        layer = npconv.Conv2d.from_weights(weight, **arguments)
        assert numpy.array_equal(layer(input), result, equal_nan=True)
    above, beside = numpy.isnan(result[0, 1]), numpy.isnan(result[0, 3])
    if numpy.isnan(value):
        assert above.all()
        assert beside.all()
    else:
        assert above[0].all()
        assert not above[1:].any()
        assert beside[:, -1].all()
        assert not beside[:, :-1].any()


@pytest.mark.parametrize("value", [numpy.inf, numpy.nan])
def test_weights_times_wide_padding(engine, value):
    """The same where whole tiles would leave a tap out."""
    input = numpy.ones((1, 16, 20), "f")
    weight = numpy.ones((16, 16, 40), "f")
    weight[1, 2, 0] = weight[3, 4, 39] = value
    arguments = {"stride": 1, "padding": 20}
    with engine.options(precision="strict"):
        if engine.refusal((input, weight), arguments) is not None:
            return
        result = npconv.conv(input, weight, **arguments)
        layer = npconv.Conv1d.from_weights(weight, **arguments)
        assert numpy.array_equal(layer(input), result, equal_nan=True)
    first, last = numpy.isnan(result[0, 1]), numpy.isnan(result[0, 3])
    assert first[:20].all()
    assert last[1:].all()
    assert first[20] == last[0] == numpy.isnan(value)
    assert numpy.isfinite(result[0, 0]).all()


UNREAD = (
    shapes.Case((1, 16, 18, 18), (16, 16, 5, 5), stride=2),
    shapes.Case((1, 16, 58, 60), (16, 16, 3, 3), stride=(1, 2)),
    shapes.Case((1, 1, 60, 63), (2, 1, 31, 32), stride=2),
    shapes.Case((1, 3, 900), (8, 3, 256), stride=32, padding=3),
    shapes.Case((2, 8, 5), (8, 8, 2), stride=4),
    shapes.Case((1, 2, 3, 40), (2, 1, 1, 9), stride=(2, 3), groups=2),
)


def test_pixels_that_no_window_reads(engine):
    """However large they are, no result changes."""
    for case in UNREAD:
        input, weight, bias = shapes.shared_data(case, "f").arrays
        loud = input.copy()
        for axis in range(2, input.ndim):
            size, kernel, stride = input.shape[axis], weight.shape[axis], case.arguments()["stride"]
            stride = stride[axis - 2] if isinstance(stride, tuple) else stride
            before = case.padding
            read = (size + 2 * before - kernel) // stride * stride + kernel - before
            if read < size:
                numpy.moveaxis(loud, axis, 0)[max(read, 0) :] = 1e30
        assert (loud == 1e30).any(), str(case)
        with engine.options():
            if engine.refusal((input, weight, bias), case.arguments()) is None:
                quiet = npconv.conv(input, weight, bias, **case.arguments())
                assert numpy.array_equal(npconv.conv(loud, weight, bias, **case.arguments()), quiet), str(case)
