"""Every dtype, mixed ones, and the conversion to `dtype=` on the way in."""

import itertools
import sys
import warnings

import numpy
import oracle
import pytest
import shapes

import npconv

pytestmark = pytest.mark.usefixtures("plain_sums")

INTEGERS = "bBhHiIlLqQ"
FLOATS = "efdg"
COMPLEX = "FDG"
NUMBERS = INTEGERS + FLOATS + COMPLEX

PROBLEMS = (
    shapes.Case((2, 3, 11), (4, 3, 3), padding=1),
    shapes.Case((1, 4, 5, 9), (4, 1, 3, 3), padding=1, groups=4),
    shapes.Case((1, 3, 6, 7), (6, 3, 2, 3), stride=2, padding=((1, 0), (2, 1)), padding_mode="replicate"),
    shapes.Case((1, 5, 3, 4), (3, 5, 1, 1)),
    shapes.Case((1, 2, 300), (3, 2, 90), stride=2),
)


def small(rng, shape, dtype, natural=False):
    """Small whole numbers; `natural`: none below zero, so that every conversion of them is defined."""
    values = shapes.small_integers(rng, shape, dtype)
    return numpy.abs(values.real).astype(dtype) if natural else values


def check(engine, arrays, case, dtype=None):
    arguments = {**case.arguments(), **({} if dtype is None else {"dtype": dtype})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex to real
        done = engine.conv(arrays, arguments)
        expected = oracle.convolve(*arrays, **arguments)
    if done is None:
        return
    names = [None if a is None else str(a.dtype) for a in arrays]
    right = oracle.result_type(*arrays[:2], dtype)
    assert done[1].dtype == right, (names, dtype)
    assert done[1].dtype.isnative, (names, dtype)
    if done[0] == "strict" or right.kind in "iu":
        assert not oracle.difference_exact(done[1], expected), (str(case), names, dtype)
    else:
        wrong = oracle.difference_rounded(done[1], expected, None, oracle.FAST_TOLERANCE[right.char])
        assert not wrong, (str(case), names, dtype)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_same_dtype_everywhere(engine, dtype):
    for case in PROBLEMS:
        data = shapes.shared_data(case, dtype)
        assert not engine.difference(case, data, num_threads=2), str(case)


def test_mixed_dtypes(engine):
    rng = numpy.random.default_rng(1)
    for index, (one, two) in enumerate(itertools.product("?" + NUMBERS, repeat=2)):
        if one == two == "?":
            continue
        case = PROBLEMS[index % len(PROBLEMS)]
        third = NUMBERS[index % len(NUMBERS)]
        result = numpy.result_type(numpy.dtype(one), numpy.dtype(two))
        bias = small(rng, case.weight[:1], third) if numpy.can_cast(third, result, "same_kind") else None
        check(engine, (small(rng, case.input, one), small(rng, case.weight, two), bias), case)


def test_dtype_argument(engine):
    rng = numpy.random.default_rng(2)
    for index, (source, target) in enumerate(itertools.product("?" + NUMBERS, NUMBERS)):
        for step in (1, 5):
            other = NUMBERS[(index + step) % len(NUMBERS)]
            case = PROBLEMS[index % len(PROBLEMS)]
            input = small(rng, case.input, source, natural=True)
            weight = small(rng, case.weight, other, natural=True)
            check(engine, (input, weight, None), case, target)
            if step == 5:
                check(engine, (numpy.ascontiguousarray(input[..., ::-1])[..., ::-1], weight, None), case, target)


@pytest.mark.parametrize("spelling", ["float64", float, numpy.float64, numpy.dtype("f8"), "<f8", ">f8", "d"])
def test_spellings_of_dtype(backend, spelling):
    result = npconv.conv1d(numpy.ones((1, 1, 4), "i1"), numpy.ones((1, 1, 2), "f4"), dtype=spelling)
    assert result.dtype == numpy.float64
    assert result.dtype.isnative
    assert result.tolist() == [[[2, 2, 2]]]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap_around(engine, dtype):
    """Against Python's own integers, not the oracle's."""
    rng = numpy.random.default_rng(3)
    bits = 8 * numpy.dtype(dtype).itemsize
    input, weight = (shapes.any_integers(rng, shape, dtype) for shape in ((1, 3, 4, 9), (5, 3, 2, 3)))
    input[0, 0, 0, :2] = numpy.iinfo(dtype).min, numpy.iinfo(dtype).max
    weight[0, 0, 0, :2] = numpy.iinfo(dtype).min, numpy.iinfo(dtype).max
    bias = shapes.any_integers(rng, (5,), dtype)
    done = engine.conv((input, weight, bias), {})
    exact = oracle.by_definition(input, weight, bias, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, "zeros")
    if done:
        assert done[1].dtype == dtype
        assert numpy.array_equal(done[1].astype(object) % 2**bits, exact % 2**bits)


def test_integers_are_cut_to_narrower_ones(engine):
    rng = numpy.random.default_rng(4)
    for index, (source, target) in enumerate(itertools.product(INTEGERS, repeat=2)):
        case = PROBLEMS[index % len(PROBLEMS)]
        bias_type = source if numpy.can_cast(source, target, "same_kind") else target
        sources = (case.input, source), (case.weight, source), (case.weight[:1], bias_type)
        check(engine, [shapes.any_integers(rng, *of) for of in sources], case, target)


@pytest.mark.parametrize("dtype", [*"bBhHiq", ">h"])
def test_weights_in_runs_of_any_length(engine, dtype):
    """Whole, cut behind every axis, turned around, repeated: a kernel converts as much of them at once as it can."""
    rng = numpy.random.default_rng(16)
    for shape, groups in (((35, 9, 3, 3), 1), ((70, 40, 1, 1), 1), ((4, 1, 3, 5), 4), ((6, 2, 2, 3), 2)):
        case = shapes.Case((1, shape[1] * groups, 6, 7), shape, padding=(shape[2] // 2, shape[3] // 2), groups=groups)
        whole, input = (shapes.any_integers(rng, size, dtype[-1]).astype(dtype) for size in (shape, case.input))
        weights = [whole, whole[..., ::-1], whole[::-1, ::-1, ::-1, ::-1], whole.T.copy().T]
        weights += [numpy.repeat(whole, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)] for axis in range(4)]
        weights += [numpy.broadcast_to(whole[:, :, :1, :1], shape), numpy.broadcast_to(whole[:1], shape)]
        for weight in weights:
            check(engine, (input, weight, None), case)


@pytest.mark.parametrize(("place", "dtype"), list(enumerate(["b", "B", "h", "H", "i", ">i", "Q", ">h"])))
def test_rows_of_integers_are_converted_as_they_lie(engine, place, dtype):
    """Whole images and bands of them, under every stride and padding that a stencil reads; joined rows and others."""
    rng = numpy.random.default_rng(17)
    cases = (
        shapes.Case((2, 3, 14, 14), (3, 1, 3, 3), padding=1, groups=3),
        shapes.Case((1, 3, 15, 37), (6, 1, 3, 3), padding=1, stride=2, groups=3),
        shapes.Case((1, 1, 70, 900), (1, 1, 5, 5), padding=2),
        shapes.Case((1, 2, 3, 4500), (1, 2, 2, 7), padding=(4, 9), dilation=(1, 3)),
        shapes.Case((1, 1, 9, 8300), (2, 1, 3, 5), padding=((6, 1), (0, 30)), stride=(1, 2)),
        shapes.Case((1, 2, 40, 21), (2, 1, 2, 3), stride=(9, 2), padding=(8, 1), groups=2),
        shapes.Case((1, 2, 4, 9, 20), (2, 1, 3, 3, 2), padding=(2, 0, 1), groups=2),
        shapes.Case((1, 2, 30), (2, 1, 4), padding=6, dilation=2, groups=2),
        shapes.Case((1, 2, 11, 40), (2, 1, 3, 3), padding=2, stride=3, groups=2, padding_mode="reflect"),
    )
    for index, case in enumerate(cases):
        weight, input = (shapes.any_integers(rng, size, dtype[-1]).astype(dtype) for size in (case.weight, case.input))
        bias = shapes.any_integers(rng, case.weight[:1], dtype[-1])
        inside = numpy.pad(input, [(1, 2)] * input.ndim)[(slice(1, -2),) * input.ndim]
        layouts = (
            input,
            inside,
            input[:, :, ::-1, ..., ::-1] if input.ndim > 3 else input[..., ::-1],
            input.T.copy().T,
        )
        for layout in layouts[(index + place) % 2 :: 2]:
            check(engine, (layout, weight, bias), case)
    check(engine, (input, weight, None), case, "l")


def test_wide_bias_of_integers_wraps_around(engine):
    input, weight = numpy.full((1, 1, 3), 3, "i1"), numpy.full((2, 1, 3), -5, "i1")
    done = engine.conv((input, weight, numpy.array([1000, -(2**40)], "i8")), {})
    if done:
        expected = numpy.array([1000 - 45, -(2**40) - 45]).astype("i1")
        assert numpy.array_equal(done[1].reshape(2), expected)


def hard_to_round(source):
    """Values at, beside and between the points where narrower types round; their powers of two from tiny to huge."""
    rng = numpy.random.default_rng(5)
    if numpy.dtype(source).kind in "iu":
        limits = numpy.iinfo(source)
        near = [limits.min, limits.min + 1, limits.max, limits.max - 1, 0, 1, 2**24 + 1, 2**53 + 1, 2**53 + 3]
        near = [value for value in near if limits.min <= value <= limits.max]
        return numpy.concatenate([numpy.array(near, source), shapes.any_integers(rng, 200, source)])
    values = rng.standard_normal(300) * 2.0 ** rng.integers(-30, 17, 300)
    halves = (1 + 2.0**-11) * numpy.array([1, 1 + 2.0**-30, 1 - 2.0**-30, 1 + 2.0**-40])
    halves = numpy.concatenate([halves, (1 + 2.0**-24) * numpy.array([1, 1 + 2.0**-40, 1 - 2.0**-45])])
    extreme = [0, -0.0, numpy.inf, -numpy.inf, numpy.nan, 65504, 65519.99, 65520, 6e-8, 2.9e-8, 1e-40, 3.5e38, 1e300]
    with numpy.errstate(all="ignore"):
        return numpy.concatenate([values, halves, -halves, extreme]).astype(source)


def test_conversion_rounds_once(engine):
    """A 1x1 kernel of one gives back the converted input: the very value that astype gives, or zero for denormals."""
    for source, target in itertools.product(INTEGERS + FLOATS, FLOATS + COMPLEX):
        values = hard_to_round(source)
        one = numpy.ones((1, 1, 1), target)
        with numpy.errstate(all="ignore"):
            done = engine.conv((values[numpy.newaxis, numpy.newaxis], one), {"dtype": target})
            expected = values.astype(target)
        if done and done[0] == "strict":
            result = done[1].reshape(-1)
            same = (result.real == expected.real) | (numpy.isnan(result.real) & numpy.isnan(expected.real))
            floats = [kind for kind in (source, target) if kind in "fdFD"]
            least = max((float(numpy.finfo(kind).tiny) for kind in floats), default=0)
            same |= (numpy.abs(expected.real) < least) & (result.real == 0)
            assert same.all(), (source, target, values[~same][:3], result[~same][:3], expected[~same][:3])


def test_byte_swapped_dtypes(engine):
    rng = numpy.random.default_rng(6)
    for dtype, case in itertools.product(NUMBERS, PROBLEMS[2:]):
        swapped = numpy.dtype(dtype).newbyteorder()
        arrays = [small(rng, shape, dtype) for shape in (case.input, case.weight, case.weight[:1])]
        for which in range(3):
            mixed = [a.astype(swapped) if place == which else a for place, a in enumerate(arrays)]
            check(engine, mixed, case)
        check(engine, [a.astype(swapped) for a in arrays], case)
        check(engine, [a.astype(swapped) for a in arrays], case, "D")


def test_half_precision_sums_in_single(engine):
    ones = numpy.ones((1, 1, 5000), "e")
    done = engine.conv((ones, ones), {})
    if done:
        assert done[1].dtype == numpy.float16
        assert done[1].item() == 5000
    large = numpy.full((1, 3, 40), 60000, "e")
    signs = numpy.array([1, 1, -1], "e").reshape(1, 3, 1)
    done = engine.conv((large, signs), {})
    if done:
        assert (done[1] == 60000).all()


def test_half_precision_results_round_to_even(engine):
    """Every half-precision number times some weights: products that single precision holds exactly."""
    every = numpy.arange(2**16, dtype=numpy.uint16).view(numpy.float16)
    weight = numpy.array([0.5, 0.75, 1, 1 + 2**-10, -1.75, 3.5, 2**-11], "e")
    done = engine.conv((every.reshape(1, 1, -1), weight.reshape(-1, 1, 1)), {}, num_threads=2)
    if done and done[0] == "strict":
        with numpy.errstate(all="ignore"):
            expected = weight.astype("d")[:, numpy.newaxis] * every.astype("d")
        assert not oracle.difference_exact(done[1][0], expected)


def test_double_does_not_pass_through_single(engine):
    tiny = 2.0**-50
    for dtype in "dgDG":
        input = numpy.full((1, 2, 20), 1 + tiny, dtype)
        done = engine.conv((input, numpy.ones((3, 2, 1), dtype), numpy.zeros(3, dtype)), {})
        if done and done[0] == "strict":
            assert (done[1] == 2 + 2 * tiny).all()


@pytest.mark.skipif(numpy.finfo("g").nmant <= numpy.finfo("d").nmant, reason="long double is double here")
def test_long_double_keeps_its_bits(engine):
    value = numpy.longdouble(1) + numpy.finfo("g").eps
    for dtype in "gG":
        done = engine.conv((numpy.full((1, 2, 9), value, dtype), numpy.ones((1, 2, 1), dtype)), {})
        if done and done[0] == "strict":
            assert (done[1] == 2 * value).all()


def test_large_integers_do_not_pass_through_float(engine):
    for dtype, value in (("q", 2**62 + 1), ("Q", 2**63 + 1), ("i", 2**30 + 1)):
        done = engine.conv((numpy.full((1, 1, 9), value, dtype), numpy.ones((2, 1, 1), dtype)), {})
        if done:
            assert (done[1] == value).all()


def test_complex_products(engine):
    rng = numpy.random.default_rng(7)
    for dtype in COMPLEX:
        for case in PROBLEMS:
            arrays = [shapes.small_integers(rng, s, dtype) for s in (case.input, case.weight, case.weight[:1])]
            assert not numpy.isreal(arrays[0]).all()
            check(engine, arrays, case)
            check(engine, (arrays[0].real.copy(), *arrays[1:]), case)
            check(engine, (arrays[0], arrays[1].real.copy(), None), case)


def test_bias_takes_no_part_in_the_dtype(backend):
    result = npconv.conv1d(numpy.ones((1, 1, 3), "f4"), numpy.ones((2, 1, 2), "f4"), numpy.array([0.5, 1], "f8"))
    assert result.dtype == numpy.float32
    assert result[0, :, 0].tolist() == [2.5, 3]
    result = npconv.conv1d(numpy.ones((1, 1, 3), "f2"), numpy.ones((2, 1, 2), "f2"), numpy.array([2, -7], "i8"))
    assert result.dtype == numpy.float16
    assert result[0, :, 0].tolist() == [4, -5]


def test_complex_to_real_warns_as_numpy_does(backend):
    values = numpy.ones((1, 1, 4), "D")
    kind = getattr(numpy, "exceptions", numpy).ComplexWarning
    with pytest.warns(kind):
        result = npconv.conv1d(values, values[..., :2], dtype="d")
    assert result.dtype == numpy.float64
    assert (result == 2).all()


@pytest.mark.skipif(sys.byteorder != "little", reason="spelled for little-endian machines")
def test_result_is_native_whatever_came_in(backend):
    for one, two in ((">f4", ">f4"), (">f8", "<f4"), (">i2", ">u2"), (">c16", "<c8")):
        result = npconv.conv1d(numpy.ones((1, 1, 4), one), numpy.ones((1, 1, 2), two))
        assert result.dtype.isnative
        assert result.dtype == numpy.result_type(one, two)
        assert (result == 2).all()
