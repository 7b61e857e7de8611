"""What is the NumPy backend's own: cutting into blocks, far-apart windows, exact integers, silence, bounded memory."""

import itertools
import math
import tracemalloc
import warnings

import numpy
import oracle
import pytest
import shapes

import npconv
from npconv import _numpy, functional
from npconv.arguments import Arguments
from npconv.options import Options
from npconv.problem import build

MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")


@pytest.fixture(autouse=True)
def numpy_backend():
    with npconv.options(backend="numpy"):
        yield


@pytest.fixture(params=[1, 300, 2000, 20000])
def small_blocks(request, monkeypatch):
    """Blocks of so few bytes that small problems are cut along every axis."""
    functional.planned.cache_clear()
    monkeypatch.setattr(_numpy, "BLOCK_BYTES", request.param)
    yield
    functional.planned.cache_clear()


def check(rng, input_shape, weight_shape, dtype="f8", **arguments):
    input, weight = (shapes.small_integers(rng, shape, dtype) for shape in (input_shape, weight_shape))
    bias = shapes.small_integers(rng, weight_shape[:1], dtype)
    wrong = oracle.difference_exact(
        npconv.conv(input, weight, bias, **arguments), oracle.convolve(input, weight, bias, **arguments)
    )
    assert wrong is None, (wrong, arguments)


@pytest.mark.parametrize("mode", MODES)
def test_every_cut_gives_the_whole(small_blocks, mode):
    rng = numpy.random.default_rng(0)
    for stride, dilation, groups in itertools.product((1, (2, 3)), (1, (1, 2)), (1, 2)):
        steps = {"stride": stride, "dilation": dilation, "groups": groups}
        for padding in (0, ((0, 2), (3, 1))):
            check(rng, (3, 4, 6, 7), (6, 4 // groups, 3, 2), padding=padding, padding_mode=mode, **steps)


@pytest.mark.parametrize("dtype", ["u1", "i8", "f2", "f4", "g", "F", "G"])
def test_every_cut_in_every_kind_of_dtype(small_blocks, dtype):
    check(numpy.random.default_rng(1), (2, 6, 5, 4, 5), (9, 2, 2, 3, 1), dtype, padding=1, groups=3, stride=(1, 1, 2))


@pytest.mark.parametrize("activation", ["relu", "silu", "hardswish", ("leaky_relu", 0.5)])
def test_every_cut_with_activation(small_blocks, activation):
    rng = numpy.random.default_rng(2)
    input, weight = rng.standard_normal((2, 3, 9)), rng.standard_normal((4, 3, 2))
    found = npconv.conv1d(input, weight, activation=activation)
    assert numpy.allclose(found, oracle.convolve(input, weight, activation=activation).astype("f8"), rtol=1e-12)


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
@pytest.mark.parametrize("far", [10**6, 2**40])
def test_windows_far_beyond_the_input(mode, far):
    """Neither the padding nor what lies between the taps takes memory."""
    image = numpy.arange(1.0, 6).reshape(1, 1, 5)
    weight = numpy.array([100.0, 10.0, 1.0]).reshape(1, 1, 3)
    tracemalloc.start()
    found = npconv.conv1d(image, weight, padding=far, dilation=far, padding_mode=mode)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    edges = (0, 0) if mode == "zeros" else (100, 5)
    assert found.ravel().tolist() == [edges[0] + 10 * x + edges[1] for x in range(1, 6)]
    assert peak < 2**18


@pytest.mark.parametrize("mode", MODES)
def test_windows_far_apart_on_several_axes(mode):
    rng = numpy.random.default_rng(3)
    for padding, dilation, stride in itertools.product((3, 4), (1, 4, (1, 5)), (1, 4, (6, 1))):
        steps = {"padding": padding, "dilation": dilation, "stride": stride, "padding_mode": mode}
        check(rng, (2, 2, 6, 7), (3, 2, 2, 2), **steps)


def test_as_many_axes_as_numpy_has():
    most = 0
    while most < 100:
        try:
            numpy.empty((1,) * (most + 1))
        except ValueError:
            break
        most += 1
    axes = most - 2
    ends = (3,) + (1,) * (axes - 2) + (4,)
    rng = numpy.random.default_rng(4)
    input = shapes.small_integers(rng, (1, 2, *ends), "f4")
    weight = shapes.small_integers(rng, (3, 2, 2, *(1,) * (axes - 2), 2), "f4")
    image, kernel = input.reshape(1, 2, 3, 4), weight.reshape(3, 2, 2, 2)
    for mode in ("zeros", "replicate"):
        expected = oracle.convolve(image, kernel, padding=((0, 0), (1, 1)), padding_mode=mode)
        found = npconv.conv(input, weight, padding=((0, 0),) * (axes - 1) + ((1, 1),), padding_mode=mode)
        assert found.ndim == most
        assert numpy.array_equal(found.reshape(expected.shape), expected)


def test_ten_axes_with_windows_along_each():
    check(numpy.random.default_rng(5), (1, 1, *[3] * 8), (1, 1, *[2] * 8), "f4", padding=0)
    check(numpy.random.default_rng(5), (1, 1, *[2] * 10), (1, 1, *[2] * 10), "f4", padding=((1, 0),) * 10)


@pytest.mark.parametrize("dtype", ["i8", "u8", "i4", "u4"])
@pytest.mark.parametrize("bits", [20, 26, 27, 31])
def test_integers_are_exact_on_both_sides_of_float64(dtype, bits):
    """Up to sums of 2**53 in float64, beyond it in the integers themselves."""
    rng = numpy.random.default_rng(bits)
    low = 0 if dtype[0] == "u" else -(2**bits)
    input, weight = (rng.integers(low, 2**bits, shape).astype(dtype) for shape in ((1, 3, 5, 5), (2, 3, 2, 2)))
    exact = oracle.by_definition(input, weight, None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, "zeros")
    modulus = 2 ** (8 * numpy.dtype(dtype).itemsize)
    assert numpy.array_equal(npconv.conv2d(input, weight).astype(object) % modulus, exact % modulus)


def test_the_last_exact_integer_and_the_next():
    for value in (2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, -(2**63), 2**63 - 1):
        image = numpy.array([[[value]]])
        assert npconv.conv1d(image, numpy.array([[[1]]])).item() == value
        assert npconv.conv1d(image, numpy.array([[[0]]])).item() == 0
    large = numpy.array([[[2**64 - 1]]], "u8")
    assert npconv.conv1d(large, numpy.array([[[1]]], "u8")).item() == 2**64 - 1


def test_no_warning_and_no_error_state():
    """Both backends are silent, whatever the caller made of numpy.errstate."""
    image = numpy.array([numpy.nan, numpy.inf, -numpy.inf, 6e4, -6e4, 1e-40, 0, 1], "f4").reshape(1, 1, 8)
    weight = numpy.array([[[6e4, 6e4]], [[numpy.inf, -1]], [[0, 1e-40]]], "f4")
    half = image.astype("f2"), weight.astype("f2")
    large = 1e300 * image.astype("f8"), 1e30 * weight
    with numpy.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for activation in (None, "relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", ("clip", -1e300, 1e300)):
            for arrays in ((image, weight), half, large):
                npconv.conv1d(*arrays, activation=activation, padding=1)
        npconv.conv1d(image.astype("F"), weight)
        npconv.conv1d(*large, numpy.full(3, 1e300), dtype="f4")


@pytest.mark.parametrize(
    ("input", "weight", "arguments"),
    [
        ((1, 64, 60, 60), (64, 64, 3, 3), {"padding": 1}),
        ((1, 64, 60, 60), (64, 64, 3, 3), {"padding": 1, "activation": "silu"}),
        ((1, 64, 60, 60), (64, 64, 3, 3), {"padding": 1, "padding_mode": "circular"}),
        ((30, 8, 20, 20), (16, 8, 3, 3), {"padding": 2, "stride": 2}),
        ((1, 256, 30, 30), (256, 1, 5, 5), {"padding": 2, "groups": 256}),
        ((1, 1, 4, 60000), (1, 1, 3, 3), {"padding": 1, "padding_mode": "circular"}),
        ((1, 1, 60000, 4), (1, 1, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
        ((1, 1, 150, 150), (1, 1, 31, 31), {"padding": 15}),
        ((1, 2, 2500), (4, 2, 1000), {"padding": 5}),
        ((1, 16, 12, 20, 20), (8, 16, 3, 3, 3), {"padding": 1, "dilation": 2}),
        ((1, 3, 5, 5), (2, 3, 3, 3), {}),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "i8", "F"])
def test_workspace_is_what_is_taken_and_bounded(input, weight, arguments, dtype):
    if "activation" in arguments and dtype != "f4":
        return
    image, kernel = numpy.ones(input, dtype), numpy.ones(weight, dtype)
    plan = npconv.explain(image, kernel, **arguments)
    out = npconv.conv(image, kernel, **arguments)
    tracemalloc.start()
    npconv.conv(image, kernel, **arguments, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= plan.workspace_bytes + 2**15
    assert plan.workspace_bytes <= 2.5 * _numpy.BLOCK_BYTES + 3 * math.prod(weight[1:]) * 16


def test_weights_that_need_converting_are_not_converted_whole():
    image, kernel = numpy.ones((1, 512, 4, 4), "i1"), numpy.ones((1024, 512, 3, 3), "i1")
    plan = npconv.explain(image, kernel)
    tracemalloc.start()
    npconv.conv2d(image, kernel)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= plan.workspace_bytes + 2**16
    assert peak < 2 * kernel.nbytes


def test_a_forced_algorithm_that_is_not_here():
    image, weight = numpy.ones((1, 1, 3, 3)), numpy.ones((1, 1, 2, 2))
    with npconv.options(algorithm="matmul"):
        assert npconv.conv2d(image, weight).sum() == 16
    shapes_and_dtypes = image.shape, image.dtype, weight.shape, weight.dtype, None, None
    call = Arguments("conv2d", *shapes_and_dtypes, 1, 0, 1, 1, "zeros", None, "channels_first", None)
    with pytest.raises(ValueError, match=r"^conv2d: the numpy backend has no algorithm 'winograd', only 'matmul'"):
        _numpy.plan(build(call), Options(algorithm="winograd"))
