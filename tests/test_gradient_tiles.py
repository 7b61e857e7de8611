"""The gradient of a weight by tiles: against sums in float64, on every instruction set that has them."""

import numpy
import oracle
import pytest
from engines import ENGINES

import npconv
from npconv import grad

ISAS = sorted({engine.isa for engine in ENGINES if engine.isa})

# Input, weight, padding, groups.
SHAPES = [
    ((1, 32, 24, 24), (32, 32, 3, 3), 1, 1),
    ((2, 40, 23, 31), (35, 40, 3, 3), (0, 2), 1),
    ((1, 24, 30, 29), (17, 24, 4, 4), 2, 1),
    ((1, 33, 27, 26), (48, 33, 5, 5), 2, 1),
    ((3, 64, 18, 250), (40, 32, 3, 3), 1, 2),  # wider than a strip
    ((2, 17, 5, 21, 22), (33, 17, 3, 3, 3), 1, 1),
    ((1, 160, 17, 17), (160, 160, 3, 3), 1, 1),  # several items
]


@pytest.fixture(params=ISAS)
def isa(request):
    with npconv.options(backend="compiled", isa=request.param):
        yield request.param


def data(shape, weight, padding, dtype="float32"):
    axes = len(shape) - 2
    pads = oracle.per_axis(padding, axes)
    output = [n + 2 * p - k + 1 for n, p, k in zip(shape[2:], pads, weight[2:], strict=True)]
    rng = numpy.random.default_rng(sum(shape))
    return [rng.standard_normal(size).astype(dtype) for size in (shape, (shape[0], weight[0], *output))]


def gradient(input, weight, grad_output, padding, groups, **settings):
    with npconv.options(**settings):
        return grad.conv_weight(input, weight, grad_output, padding=padding, groups=groups)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 3e-6), ("float64", 6e-15)])
@pytest.mark.parametrize(("shape", "weight", "padding", "groups"), SHAPES)
def test_sums(isa, shape, weight, padding, groups, dtype, most):
    input, grad_output = data(shape, weight, padding, dtype)
    result = gradient(input, weight, grad_output, padding, groups)
    expected = oracle.weight_gradient(
        input.astype("float64"), weight, grad_output.astype("float64"), padding=padding, groups=groups
    )
    assert numpy.abs(result - expected).max() < most * numpy.abs(expected).max()
    for threads in (1, 2, 3, 7):
        again = gradient(input, weight, grad_output, padding, groups, num_threads=threads)
        assert again.tobytes() == result.tobytes()


@pytest.mark.skipif("avx2" not in ISAS, reason="scalar code has no tiles")
def test_tiles_are_taken():
    """Their sums are rounded elsewhere than plain ones."""
    shape, weight, padding, groups = SHAPES[0]
    input, grad_output = data(shape, weight, padding)
    with npconv.options(backend="compiled", isa="avx2"):
        fast, strict = (
            gradient(input, weight, grad_output, padding, groups, precision=precision)
            for precision in ("fast", "strict")
        )
    assert fast.tobytes() != strict.tobytes()
    numpy.testing.assert_allclose(fast, strict, rtol=0, atol=1e-5 * numpy.abs(strict).max())


@pytest.mark.parametrize("value", [numpy.inf, -numpy.inf, numpy.nan, 3e38])
def test_special_values_reach_their_taps_alone(isa, value):
    shape, weight, padding, groups = SHAPES[0]
    input, grad_output = data(shape, weight, padding)
    input[0, 5, 0, 0] = value
    result = gradient(input, weight, grad_output, padding, groups)
    strict = gradient(input, weight, grad_output, padding, groups, precision="strict")
    numpy.testing.assert_array_equal(numpy.isfinite(result), numpy.isfinite(strict))
    numpy.testing.assert_array_equal(numpy.isnan(result), numpy.isnan(strict))
    others = numpy.delete(strict, 5, axis=1)
    assert numpy.isfinite(others).all()


def test_other_layouts_are_summed_plainly(isa):
    shape, weight, padding, groups = SHAPES[1]
    input, grad_output = data(shape, weight, padding)
    plain = gradient(input, weight, grad_output, padding, groups, precision="strict")
    turned = numpy.ascontiguousarray(input.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert gradient(turned, weight, grad_output, padding, groups).tobytes() == plain.tobytes()
    apart = numpy.repeat(input, 2, axis=2)[:, :, ::2]
    same = gradient(apart, weight, grad_output, padding, groups)
    assert same.tobytes() == gradient(input, weight, grad_output, padding, groups).tobytes()
