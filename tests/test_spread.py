"""Depthwise transposed convolution of stride 2, all of whose phases are computed at once."""

import numpy
import oracle
import pytest
import shapes
from engines import ENGINES

import npconv
from npconv import grad

ISAS = sorted({engine.isa for engine in ENGINES if engine.isa})
pytestmark = [
    pytest.mark.usefixtures("plain_sums"),
    pytest.mark.skipif(not ISAS, reason="the NumPy backend computes each phase on its own"),
]


@pytest.fixture(params=ISAS or [None])
def isa(request):
    with npconv.options(backend="compiled", isa=request.param):
        yield request.param


def widths():
    """Every remainder of one and two vectors of any instruction set."""
    for width in (*range(1, 37), 63, 64, 65, 101):
        yield (1, 2, 2, width), (2, 1, 3, 3), {"stride": 2, "padding": 1, "output_padding": width % 2}


def kernels():
    for size in range(1, 9):
        for dilation in (1, 2, 3):
            arguments = {"stride": (1 + size % 3, 2), "dilation": (2, dilation), "padding": (1, size // 2)}
            yield (2, 3, 7, 20), (3, 1 + size % 3, 2 + size % 3, size), arguments


def axes():
    for stride in (1, 2, 3):
        yield (1, 3, 21), (3, 2, 4), {"stride": 2, "padding": stride}
        yield (2, 2, 4, 3, 18), (2, 1, 3, 2, 3), {"stride": (stride, 1, 2), "padding": (1, 0, 2), "dilation": (1, 2, 1)}
    yield (1, 20, 30, 9), (20, 1, 3, 3), {"stride": 2}
    yield (3, 1, 100, 40), (1, 3, 3, 3), {"stride": 2, "padding": ((2, 0), (0, 1))}
    yield (1, 2, 3, 5), (2, 1, 1, 1), {"stride": (3, 2), "output_padding": (2, 1)}  # rows that no tap adds to
    yield (1, 1, 1, 2, 1, 5), (1, 2, 1, 2, 2, 3), {"stride": (1, 2, 3, 2)}
    yield (1, 2, 9), (2, 1, 64), {"stride": 2, "padding": 30}


CASES = [*widths(), *kernels(), *axes()]


def prepare(image, weight, arguments, dtype):
    rng = numpy.random.default_rng(sum(image))
    x, w = shapes.small_integers(rng, image, dtype), shapes.small_integers(rng, weight, dtype)
    return x, w, {"groups": image[1], **arguments}


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_spread(isa, dtype):
    for number, (image, weight, given) in enumerate(CASES):
        x, w, arguments = prepare(image, weight, given, dtype)
        bias = shapes.small_integers(numpy.random.default_rng(number), image[1] * weight[1], dtype)
        bias = bias if number % 2 else None
        plan = npconv.explain_transpose(x, w, bias, **arguments)
        assert (plan.algorithm, plan.isa) == ("spread", isa)
        expected = oracle.transpose(x, w, bias, **arguments)
        for threads in (1, 2, 5):
            with npconv.options(num_threads=threads):
                result = npconv.conv_transpose(x, w, bias, **arguments)
            assert not oracle.difference_exact(result, expected), (image, weight, arguments)


def test_gradient_of_the_input(isa):
    rng = numpy.random.default_rng(0)
    w, g = shapes.small_integers(rng, (6, 1, 3, 3), "f"), shapes.small_integers(rng, (2, 6, 9, 28), "f")
    for mode in ("zeros", "reflect", "circular"):
        given = {"stride": 2, "padding": 1, "groups": 3, "padding_mode": mode}
        result = grad.conv2d_input((2, 3, 18, 56), w, g, **given)
        assert not oracle.difference_exact(result, oracle.input_gradient((2, 3, 18, 56), w, g, **given)), mode


def test_any_layout(isa):
    """Rows that lie otherwise are left to the phases."""
    x, w, arguments = prepare((2, 3, 6, 19), (3, 2, 3, 3), {"stride": 2, "padding": 1}, "f")
    expected = oracle.transpose(x, w, None, **arguments)
    layouts = (
        lambda a: a[..., ::-1].copy()[..., ::-1],
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: numpy.repeat(a, 2, -1)[..., ::2],
        lambda a: a.astype(">f4"),
        lambda a: numpy.asfortranarray(a),
        lambda a: numpy.frombuffer(b"." + a.tobytes(), "u1", offset=1).view("f").reshape(a.shape),
    )
    for lay in layouts:
        for arrays in ((lay(x), w), (x, lay(w)), (lay(x), lay(w))):
            assert not oracle.difference_exact(npconv.conv_transpose2d(*arrays, **arguments), expected)
        out = lay(numpy.zeros(expected.shape, "f"))
        if out.flags.writeable and out.dtype.isnative:
            assert npconv.conv_transpose2d(x, w, **arguments, out=out) is out
            assert not oracle.difference_exact(out, expected)
    last = numpy.moveaxis(x, 1, -1).copy()
    result = npconv.conv_transpose2d(last, w, **arguments, data_format="channels_last")
    assert not oracle.difference_exact(numpy.moveaxis(result, -1, 1), expected)


def test_nothing_beyond_the_result_is_written(isa):
    x, w, arguments = prepare((1, 2, 4, 17), (2, 1, 3, 3), {"stride": 2}, "f")
    expected = oracle.transpose(x, w, None, **arguments)
    around = numpy.full([n + 2 for n in expected.shape], 77, "f")
    out = around[tuple(slice(1, -1) for _ in around.shape)]
    npconv.conv_transpose2d(x, w, **arguments, out=out)
    assert not oracle.difference_exact(out, expected)
    out[...] = 77
    assert (around == 77).all()


@pytest.mark.parametrize("value", [numpy.inf, numpy.nan])
def test_special_values_stay_with_their_windows(isa, value):
    x, w, arguments = prepare((1, 2, 4, 40), (2, 1, 3, 4), {"stride": 2, "padding": 1}, "f")
    w[w == 0] = 1
    x[0, 1, 2, 17] = value
    marked = numpy.zeros_like(x)
    marked[0, 1, 2, 17] = 1
    reached = oracle.transpose(marked, numpy.ones_like(w), None, **arguments) != 0
    result = npconv.conv_transpose2d(x, w, **arguments)
    assert numpy.array_equal(~numpy.isfinite(result), reached)


def test_layers(isa):
    layer = npconv.ConvTranspose2d(6, 6, 3, stride=2, padding=1, groups=6, rng=0)
    x = numpy.random.default_rng(1).standard_normal((1, 6, 5, 33), dtype="f")
    expected = oracle.transpose(x.astype("d"), layer.weight.astype("d"), layer.bias.astype("d"), 2, 1, groups=6)
    for _ in range(2):
        assert not oracle.difference_rounded(layer(x), expected)


def test_others_are_left_to_the_phases(isa):
    x, w = numpy.ones((1, 4, 6, 6), "f"), numpy.ones((4, 1, 3, 3), "f")
    others = (
        {"groups": 2, "stride": 2},
        {"groups": 4},
        {"groups": 4, "stride": (2, 3)},
        {"groups": 4, "stride": 2, "activation": "relu"},
        {"groups": 4, "stride": 2, "dtype": "i"},
        {"groups": 4, "stride": 2, "dtype": "F"},
    )
    for given in others:
        assert npconv.explain_transpose(x, w, **given).algorithm != "spread", given
    with npconv.options(algorithm="stencil"):
        assert npconv.explain_transpose(x, w, groups=4, stride=2).algorithm == "stencil"
