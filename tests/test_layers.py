"""Layers give what the functions give, whatever is packed and whoever calls."""

import contextvars
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import shapes

import npconv

LAYERS = [(npconv.Conv1d, npconv.conv1d), (npconv.Conv2d, npconv.conv2d), (npconv.Conv3d, npconv.conv3d)]


def normal(shape, dtype=numpy.float32, seed=0):
    return shapes.normal(numpy.random.default_rng(seed), shape, dtype)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "F", "i4"])
def test_same_as_the_function(backend, axes, dtype):
    cls, function = LAYERS[axes - 1]
    weight, bias = normal((6, 2, *(3,) * axes), dtype), normal((6,), dtype)
    x = normal((2, 4, *(9,) * axes), dtype)
    layer = cls.from_weights(weight, bias, stride=2, padding=1, groups=2)
    numpy.testing.assert_array_equal(layer(x), function(x, weight, bias, stride=2, padding=1, groups=2))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_packed_weights_are_used_again_and_again(backend, dtype):
    weight, bias, x = normal((32, 32, 3, 3), dtype), normal((32,), dtype), normal((1, 32, 40, 40), dtype, 1)
    layer = npconv.Conv2d.from_weights(weight, bias, padding=1, activation="relu")
    exact = npconv.conv2d(x.astype("f8"), weight.astype("f8"), bias.astype("f8"), padding=1, activation="relu")
    for _ in range(3):
        numpy.testing.assert_allclose(layer(x), exact, rtol=0, atol=1e-5 * exact.max())
    with npconv.options(precision="strict"):
        numpy.testing.assert_allclose(layer(x), exact, rtol=0, atol=2e-6 * exact.max())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (4, 4), (5, 5), (7, 5)])
def test_images_of_many_sizes(backend, kernel, stride):
    """The same weights, for tiles of whatever size suits the image."""
    weight = shapes.small_integers(numpy.random.default_rng(0), (32, 16, *kernel), "f4")
    layer = npconv.Conv2d.from_weights(weight, stride=stride, padding=(kernel[0] // 2, kernel[1] // 2))
    for size in ((60, 9), (7, 9), (9, 90), (14, 14), (5, 33), (60, 60), (28, 28), (60, 9)):
        x = shapes.small_integers(numpy.random.default_rng(1), (1, 16, *size), "f4")
        with npconv.options(precision="strict"):
            exact = npconv.conv2d(x, weight, stride=stride, padding=(kernel[0] // 2, kernel[1] // 2))
        numpy.testing.assert_allclose(layer(x), exact, rtol=0, atol=1e-5 * abs(exact).max())


@pytest.mark.parametrize("kernel", [2, 5, 31, 200])
def test_signals_of_many_lengths(backend, kernel):
    """The same weights, in the order of whatever part of the padding is left out."""
    weight = shapes.small_integers(numpy.random.default_rng(0), (32, 16, kernel), "f4")
    layer = npconv.Conv1d.from_weights(weight, padding=kernel)
    with npconv.options(precision="strict"):
        for length in (900, 20, 1, 200, 15, 900):
            x = shapes.small_integers(numpy.random.default_rng(1), (1, 16, length), "f4")
            numpy.testing.assert_array_equal(layer(x), npconv.conv1d(x, weight, padding=kernel))


def test_results_that_are_not_finite_with_packed_weights(backend):
    weight, x = normal((32, 32, 3, 3)), normal((1, 32, 40, 40), seed=1)
    x[0, 3, 20, 20], x[0, 5, 0, 39] = numpy.nan, numpy.inf
    layer = npconv.Conv2d.from_weights(weight, padding=1)
    expected = numpy.zeros((40, 40), bool)
    expected[19:22, 19:22] = expected[:2, 38:] = True
    numpy.testing.assert_array_equal(~numpy.isfinite(layer(x)), numpy.broadcast_to(expected, (1, 32, 40, 40)))


def test_assigning_weights_packs_anew(backend):
    x, weight = normal((1, 32, 24, 24)), normal((32, 32, 3, 3), seed=1)
    layer = npconv.Conv2d.from_weights(weight)
    first = layer(x)
    layer.weight = 2 * weight
    numpy.testing.assert_array_equal(layer(x), 2 * first)
    layer.bias = numpy.ones(32)
    numpy.testing.assert_allclose(layer(x), 2 * first + 1, rtol=1e-5, atol=1e-4)
    layer.bias = None
    numpy.testing.assert_array_equal(layer(x), 2 * first)


def test_weights_are_read_only_copies():
    weight, bias = normal((4, 3, 3, 3)), normal((4,))
    layer = npconv.Conv2d.from_weights(weight, bias)
    weight[:], bias[:] = 0, 0
    assert layer.weight.any()
    assert layer.bias.any()
    for array in (layer.weight, layer.bias):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert weight.flags.writeable


def assign(layer, name, value):
    setattr(layer, name, value)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda one: assign(one, "weight", numpy.ones((4, 3, 3))), r"Conv2d: weight must have shape \(4, 3, 3, 3\)"),
        (lambda one: assign(one, "bias", numpy.ones(3)), r"Conv2d: bias must have shape \(4,\).*bias shape \(3,\)"),
        (lambda one: npconv.Conv2d.from_weights(numpy.ones((4, 3, 3))), r"Conv2d: weight must have 4 axes"),
        (lambda one: npconv.Conv2d.from_weights(one.weight, [1, 2]), r"Conv2d: bias must have shape \(4,\)"),
        (lambda one: npconv.Conv2d(3, 4, 0), r"Conv2d: kernel_size must be one integer from 1 up, or 2"),
        (lambda one: npconv.Conv2d(3, 4, (3, 3, 3)), r"Conv2d: kernel_size"),
        (lambda one: npconv.Conv2d(3, 4, 3, groups=2), r"groups=2 must divide in_channels=3 and out_channels=4"),
        (lambda one: npconv.Conv2d(0, 4, 3), r"in_channels must be at least 1, got 0"),
        (lambda one: one(numpy.ones((1, 2, 9, 9))), r"conv2d: input has 2 channels"),
    ],
)
def test_wrong_shapes(act, match):
    with pytest.raises(ValueError, match=match):
        act(npconv.Conv2d(3, 4, 3, rng=0))


def test_dtype_of_given_weights():
    layer = npconv.Conv1d.from_weights([[[1, 2, 3]]], [1], dtype="f4")
    assert layer.weight.dtype == layer.bias.dtype == numpy.float32


@pytest.mark.parametrize(
    ("act", "kind", "match"),
    [
        (lambda: npconv.Conv2d(3, 8, 3, stride=0), ValueError, "Conv2d: stride must be at least 1"),
        (lambda: npconv.Conv2d(3, 8, 3, padding="foo"), ValueError, "Conv2d: padding must be one of"),
        (lambda: npconv.Conv2d(3, 8, 3, activation="gelu"), ValueError, "Conv2d: activation must be"),
        (lambda: npconv.Conv2d(3, 8, 3, padding=-1), ValueError, "Conv2d: padding must be at least 0"),
        (lambda: npconv.Conv2d(3, 8, 3, dilation=(1, 0)), ValueError, "Conv2d: dilation must be at least 1"),
        (lambda: npconv.Conv2d(3, 8, 3, stride=1.5), TypeError, "Conv2d: stride must be integers"),
        (lambda: npconv.Conv2d(3, 8, 3, dtype="foo"), TypeError, "Conv2d: dtype='foo' is not a dtype"),
        (lambda: npconv.Conv2d.from_weights(numpy.ones((3, 1, 3, 3)), groups=2), ValueError, "groups=2"),
        (lambda: npconv.Conv2d.from_weights(numpy.full((3, 1, 3, 3), "a")), TypeError, "Conv2d: weight has dtype"),
    ],
)
def test_settings_are_checked_when_the_layer_is_made(act, kind, match):
    with pytest.raises(kind, match=match):
        act()


@pytest.mark.parametrize("padding", [0, 3, (1, 2), ((0, 1), (2, 0)), "same"])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_settings_that_are_fine(padding, mode):
    layer = npconv.Conv2d(2, 3, (1, 3), (2, 1), padding, padding_mode=mode, data_format="channels_last", rng=0)
    assert layer(numpy.ones((1, 9, 9, 2), numpy.float32)).shape[-1] == 3


def test_settings_are_copied():
    stride = [1, 1]
    layer = npconv.Conv2d(1, 1, 3, stride, padding=numpy.array([1, 1]), rng=0)
    stride[0] = 2
    assert layer(numpy.ones((1, 1, 9, 9), numpy.float32)).shape == (1, 1, 9, 9)
    assert repr(layer) == "Conv2d(1, 1, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"


def test_nothing_is_lost_in_assignments():
    layer = npconv.Conv1d.from_weights(numpy.ones((1, 1, 3), "i1"), numpy.array([1000], "i4"))
    layer.bias = numpy.array([2000], "i4")
    assert layer.bias.tolist() == [2000]
    with pytest.raises(TypeError, match="Conv1d: weight of dtype float64 cannot be cast to the layer's int8"):
        layer.weight = numpy.full((1, 1, 3), 0.7)
    with pytest.raises(ValueError, match="WRITEABLE"):
        layer.weight.flags.writeable = True


@pytest.mark.parametrize("dtype", ["f2", "F", "i2", ">f4"])
def test_weights_to_be_converted_are_converted_once(dtype):
    layer = npconv.Conv2d.from_weights(normal((4, 3, 3, 3), dtype))
    x = normal((1, 3, 9, 9), dtype)
    first = layer(x)
    numpy.testing.assert_array_equal(layer(x), first)
    compiled = npconv.explain(x, layer.weight).backend == "compiled"
    assert len(layer._weights.packed) == compiled


def test_wrong_types():
    with pytest.raises(TypeError, match="Conv1d: in_channels must be integers"):
        npconv.Conv1d(2.0, 4, 3)
    with pytest.raises(TypeError, match="Conv1d: dtype must be a float"):
        npconv.Conv1d(2, 4, 3, dtype=int)


def test_weights_that_are_drawn():
    layer, again = npconv.Conv2d(8, 300, (3, 5), rng=7, groups=2), npconv.Conv2d(8, 300, (3, 5), rng=7, groups=2)
    bound = 1 / numpy.sqrt(4 * 3 * 5)
    assert layer.weight.shape == (300, 4, 3, 5)
    assert layer.weight.dtype == layer.bias.dtype == numpy.float32
    numpy.testing.assert_array_equal(layer.weight, again.weight)
    for values in (layer.weight, layer.bias):
        assert 0.95 * bound < abs(values).max() <= bound
        assert abs(values.mean()) < 0.1 * bound
    assert npconv.Conv1d(1, 2, 3, bias=False).bias is None
    assert npconv.Conv3d(1, 2, 3, dtype="f8").weight.dtype == numpy.float64


def test_out(backend):
    layer, x = npconv.Conv2d(32, 32, 3, padding=1, rng=0), normal((1, 32, 24, 24))
    out = numpy.empty((1, 32, 24, 48), numpy.float32)[..., ::2]
    assert layer(x, out=out) is out
    numpy.testing.assert_array_equal(out, layer(x))
    assert layer(x, out=x) is x
    numpy.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(backend, duplicate):
    layer, x = npconv.Conv2d(32, 32, 3, padding="same", activation=("clip", -1, 1), rng=0), normal((1, 32, 24, 24))
    expected = layer(x)
    other = duplicate(layer)
    numpy.testing.assert_array_equal(other(x), expected)
    assert repr(other) == repr(layer)
    assert len(pickle.dumps(layer)) < layer.weight.nbytes + 2000
    other.weight = numpy.zeros_like(layer.weight)
    numpy.testing.assert_array_equal(layer(x), expected)


def test_many_threads_at_once(backend):
    layer, x = npconv.Conv2d(32, 32, 3, padding=1, rng=0), normal((1, 32, 24, 24))
    expected = copy.copy(layer)(x)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: context.copy().run(layer, x), range(40)):
            numpy.testing.assert_array_equal(result, expected)


def test_repr():
    assert repr(npconv.Conv1d(1, 2, 3, rng=0)) == "Conv1d(1, 2, kernel_size=(3,), stride=1)"
    layer = npconv.Conv2d(4, 8, (3, 1), (2, 1), 1, 2, 4, False, padding_mode="reflect", data_format="channels_last")
    assert repr(layer) == (
        "Conv2d(4, 8, kernel_size=(3, 1), stride=(2, 1), padding=1, dilation=2, groups=4, bias=False, "
        "padding_mode='reflect', data_format='channels_last')"
    )
