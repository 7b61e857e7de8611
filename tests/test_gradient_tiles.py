"""The gradient of a weight by tiles: against sums in float64, on every instruction set that has them."""

import numpy
import oracle
import pytest
from engines import ENGINES

import npconv
from npconv import grad

ISAS = sorted({engine.isa for engine in ENGINES if engine.isa})

# Input, weight, padding, dilation, groups.
SHAPES = [
    ((1, 32, 24, 24), (32, 32, 3, 3), 1, 1, 1),
    ((2, 40, 23, 31), (35, 40, 3, 3), (0, 2), 1, 1),
    ((1, 24, 30, 29), (31, 24, 4, 4), 2, 1, 1),
    ((1, 33, 27, 26), (48, 33, 5, 5), 2, 1, 1),
    ((3, 64, 18, 250), (40, 32, 3, 3), 1, 1, 2),  # wider than a strip
    ((2, 30, 5, 21, 22), (31, 30, 3, 3, 3), 1, 1, 1),
    ((1, 160, 17, 17), (160, 160, 3, 3), 1, 1, 1),  # several items
]
DILATED = [
    ((1, 32, 24, 24), (32, 32, 3, 3), 2, 2, 1),
    ((2, 40, 33, 34), (35, 40, 3, 3), 3, 3, 1),
    ((1, 32, 29, 33), (48, 32, 3, 3), (1, 2), (1, 2), 1),
    ((1, 32, 29, 33), (48, 32, 3, 3), (0, 1), (2, 1), 1),
    ((1, 48, 17, 33), (40, 48, 3, 3), 4, 4, 1),  # one phase longer than the others, by a tile
    ((1, 24, 30, 45), (40, 24, 4, 4), (5, 3), (2, 3), 1),
    ((2, 33, 27, 26), (48, 33, 5, 5), (8, 6), (4, 3), 1),
    ((3, 64, 18, 241), (40, 32, 3, 3), (2, 3), (2, 3), 2),  # wider than a strip
    ((1, 32, 24, 165), (32, 32, 3, 3), (1, 20), (1, 20), 1),  # phases that miss a strip
    ((2, 30, 7, 21, 22), (31, 30, 3, 3, 3), 2, 2, 1),
    ((1, 160, 17, 17), (160, 160, 3, 3), 2, 2, 1),  # several items
]
UNTILED = [  # most of their tiles would be empty
    ((1, 32, 12, 12), (32, 32, 3, 3), 5, 5, 1),
    ((1, 32, 12, 12), (32, 32, 3, 3), 12, 12, 1),
    ((1, 32, 12, 40), (32, 32, 3, 3), (13, 1), (13, 1), 1),
    ((1, 32, 40, 12), (32, 32, 3, 3), (1, 50), (1, 50), 1),
    ((1, 16, 9, 9), (16, 16, 3, 3), 2**40, 2**40, 1),
]
KEYS = ("padding", "dilation", "groups")


@pytest.fixture(params=ISAS)
def isa(request):
    with npconv.options(backend="compiled", isa=request.param):
        yield request.param


def data(shape, weight, padding, dilation, groups, dtype="float32"):
    axes = len(shape) - 2
    pads, dilations = oracle.per_axis(padding, axes), oracle.per_axis(dilation, axes)
    output = [n + 2 * p - d * (k - 1) for n, p, d, k in zip(shape[2:], pads, dilations, weight[2:], strict=True)]
    rng = numpy.random.default_rng(sum(shape))
    return [rng.standard_normal(size).astype(dtype) for size in (shape, (shape[0], weight[0], *output))]


def gradient(input, grad_output, weight, *settings, **options):
    with npconv.options(**options):
        return grad.conv_weight(input, weight, grad_output, **dict(zip(KEYS, settings, strict=True)))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 3e-6), ("float64", 6e-15)])
@pytest.mark.parametrize("problem", SHAPES + DILATED, ids=str)
def test_sums(isa, problem, dtype, most):
    input, grad_output = data(*problem, dtype)
    result = gradient(input, grad_output, *problem[1:])
    expected = oracle.weight_gradient(
        input.astype("float64"),
        problem[1],
        grad_output.astype("float64"),
        **dict(zip(KEYS, problem[2:], strict=True)),
    )
    assert numpy.abs(result - expected).max() < most * numpy.abs(expected).max()
    for threads in (1, 2, 3, 7):
        again = gradient(input, grad_output, *problem[1:], num_threads=threads)
        assert again.tobytes() == result.tobytes()


@pytest.mark.parametrize("problem", SHAPES + DILATED, ids=str)
def test_tiles_are_taken(isa, problem):
    """Their sums are rounded elsewhere than plain ones."""
    if isa == "scalar":
        pytest.skip("scalar code has no tiles")
    arrays = data(*problem)
    fast, strict = (gradient(*arrays, *problem[1:], precision=precision) for precision in ("fast", "strict"))
    assert fast.tobytes() != strict.tobytes()
    numpy.testing.assert_allclose(fast, strict, rtol=0, atol=1e-5 * numpy.abs(strict).max())


@pytest.mark.parametrize("problem", UNTILED, ids=str)
def test_short_phases_are_summed_plainly(isa, problem):
    arrays = data(*problem)
    fast, strict = (gradient(*arrays, *problem[1:], precision=precision) for precision in ("fast", "strict"))
    assert fast.tobytes() == strict.tobytes()


@pytest.mark.parametrize("problem", [SHAPES[0], DILATED[0]], ids=str)
@pytest.mark.parametrize("value", [numpy.inf, -numpy.inf, numpy.nan, 3e38])
def test_special_values_reach_their_taps_alone(isa, value, problem):
    input, grad_output = data(*problem)
    input[0, 5, 0, 0] = value
    result = gradient(input, grad_output, *problem[1:])
    strict = gradient(input, grad_output, *problem[1:], precision="strict")
    numpy.testing.assert_array_equal(numpy.isfinite(result), numpy.isfinite(strict))
    numpy.testing.assert_array_equal(numpy.isnan(result), numpy.isnan(strict))
    others = numpy.delete(strict, 5, axis=1)
    assert numpy.isfinite(others).all()


@pytest.mark.parametrize("problem", [SHAPES[1], DILATED[1]], ids=str)
def test_other_layouts_are_summed_plainly(isa, problem):
    input, grad_output = data(*problem)
    plain = gradient(input, grad_output, *problem[1:], precision="strict")
    turned = numpy.ascontiguousarray(input.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert gradient(turned, grad_output, *problem[1:]).tobytes() == plain.tobytes()
    apart = numpy.repeat(input, 2, axis=2)[:, :, ::2]
    same = gradient(apart, grad_output, *problem[1:])
    assert same.tobytes() == gradient(input, grad_output, *problem[1:]).tobytes()
