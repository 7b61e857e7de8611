"""Calls like one before: they go straight to its plan, and must be told from those that only look like it."""

import contextvars
import copy
from concurrent.futures import ThreadPoolExecutor

import numpy
import oracle
import pytest
import shapes
from engines import BACKENDS

import npconv
from npconv import functional, layers
from npconv.functional import prepare

IMAGE = numpy.arange(2 * 3 * 6 * 7, dtype=numpy.float32).reshape(2, 3, 6, 7)
WEIGHT = numpy.arange(4 * 3 * 3 * 3, dtype=numpy.float32).reshape(4, 3, 3, 3) - 50
BIAS = numpy.arange(4, dtype=numpy.float32)


def check(input, weight, bias=None, **settings):
    """From the second time on by what the first one left."""
    expected = oracle.convolve(input, weight, bias, **settings)
    for _ in range(3):
        result = npconv.conv2d(input, weight, bias, **settings)
        assert not oracle.difference_exact(result, expected)
        assert result.flags.c_contiguous
        assert result.flags.writeable


def test_what_makes_calls_different(backend):
    check(IMAGE, WEIGHT)
    check(IMAGE, WEIGHT, BIAS)
    check(IMAGE, WEIGHT, BIAS, stride=2)
    check(IMAGE, WEIGHT, BIAS, stride=(2, 1))
    check(IMAGE, WEIGHT, BIAS, padding=1)
    check(IMAGE, WEIGHT, BIAS, padding=1, padding_mode="circular")
    check(IMAGE, WEIGHT, BIAS, dilation=2)
    check(IMAGE, WEIGHT, -BIAS, activation="relu")
    check(IMAGE[:1], WEIGHT, BIAS)
    check(IMAGE[:, :, ::-1, ::2], WEIGHT[..., ::-1], BIAS[::-1])
    check(IMAGE.astype(">f4"), WEIGHT, BIAS)
    check(IMAGE, WEIGHT.astype(float), BIAS)
    check(IMAGE.astype("i2"), WEIGHT.astype("i2"))
    check(IMAGE[0, 0][numpy.newaxis, numpy.newaxis], WEIGHT[0, 0][numpy.newaxis, numpy.newaxis])
    check(numpy.moveaxis(IMAGE, 1, 3).copy().transpose(0, 3, 1, 2), WEIGHT, BIAS)


@pytest.mark.skipif("compiled" not in BACKENDS, reason="the extension remembers calls")
def test_kinds_of_calls_do_not_push_each_other_out(monkeypatch):
    """Six kinds of one shape, while calls are made that are never found again."""
    slow = []

    def counted(*arguments, **more):
        slow.append(arguments)
        return prepare(*arguments, **more)

    monkeypatch.setattr(functional, "prepare", counted)
    image = numpy.zeros((1, 2, 9, 11), "f4")
    kinds = [dict(zip(("bias", "activation", "dilation", "stride"), kind, strict=True))
             for kind in ((None, None, 1, 1), (BIAS, None, 1, 1), (None, "relu", 1, 1), (None, None, 2, 1),
                          (None, None, 1, 2), (None, None, 1, 3))]  # fmt: skip
    weight = numpy.zeros((4, 2, 3, 3), "f4")
    with npconv.options(backend="compiled"):
        for kind in kinds * 3:
            npconv.conv2d(image, weight, out=numpy.empty((1, 4, 7, 18), "f4")[..., ::2], activation="tanh")
            npconv.conv2d(image, weight, **kind)
        slow.clear()
        for kind in kinds * 10:
            npconv.conv2d(image, weight, **kind)
    assert not slow


def test_many_axes(backend):
    """More than those of calls that are found again."""
    image, weight = numpy.arange(2.0**9).reshape([2] * 9), numpy.ones((3, 2, *[2] * 7))
    expected = numpy.tile(image.reshape(2, 1, -1).sum(axis=2), (1, 3)).reshape(2, 3, *[1] * 7)
    for _ in range(3):
        assert numpy.array_equal(npconv.conv(image, weight), expected)


@pytest.mark.skipif("compiled" not in BACKENDS, reason="needs the extension")
def test_plans_take_only_arrays_of_their_axes():
    with npconv.options(backend="compiled"):
        call = prepare("conv2d", IMAGE, WEIGHT, None, (1, 0, 1, 1, "zeros", None, "channels_first"))
    plan, out = call[0].plan, numpy.empty(call[0].shape, "f")
    for error, wrong in ((TypeError, IMAGE.tobytes()), (ValueError, IMAGE[0])):
        for arrays in ((wrong, WEIGHT, None, out), (IMAGE, wrong, None, out), (IMAGE, WEIGHT, None, wrong)):
            with pytest.raises(error, match="expected"):
                plan.run(*arrays)


@pytest.mark.parametrize("stride", [1.0, (1.0, 1), numpy.float64(1), "1", (1, "1")])
def test_equal_to_an_integer_is_not_enough(backend, stride):
    npconv.conv2d(IMAGE, WEIGHT, None, 1)
    npconv.conv2d(IMAGE, WEIGHT, None, (1, 1))
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match="stride"):
            npconv.conv2d(IMAGE, WEIGHT, None, stride)


def test_the_function_counts(backend):
    npconv.conv(IMAGE, WEIGHT)
    npconv.conv2d(IMAGE, WEIGHT)
    for _ in range(2):
        with pytest.raises(ValueError, match="conv1d"):
            npconv.conv1d(IMAGE, WEIGHT)


def test_options_count(backend):
    layer = npconv.Conv2d.from_weights(WEIGHT, BIAS)
    results = []
    for name in ("numpy", backend, "numpy"):
        with npconv.options(backend=name):
            results += [npconv.conv2d(IMAGE, WEIGHT, BIAS), layer(IMAGE)]
            assert npconv.explain(IMAGE, WEIGHT, BIAS).backend == name
    assert all(numpy.array_equal(results[0], result) for result in results)


@pytest.mark.skipif("compiled" not in BACKENDS, reason="needs algorithms that round differently")
def test_options_that_change_during_a_call(monkeypatch):
    """As another thread's `set_options` may have them: what is kept of the call is not for those it began with."""
    rng = numpy.random.default_rng(0)
    image, weight = shapes.normal(rng, (1, 64, 20, 21), "f"), shapes.normal(rng, (32, 64, 3, 3), "f")
    layer = npconv.Conv2d.from_weights(weight)
    with npconv.options(backend="compiled"):
        expected = npconv.conv2d(image.copy(), weight, padding=0).tobytes(), copy.copy(layer)(image).tobytes()

        def late(*arguments):
            with npconv.options(algorithm="reference"):
                return prepare(*arguments)

        for module in (functional, layers):
            monkeypatch.setattr(module, "prepare", late)
        others = npconv.conv2d(image, weight, stride=(1, 1)).tobytes(), layer(image).tobytes()
        monkeypatch.undo()
        assert npconv.conv2d(image, weight, stride=(1, 1)).tobytes() == expected[0] != others[0]
        assert layer(image).tobytes() == expected[1] != others[1]


def test_layers_keep_up_with_their_weights(backend):
    layer = npconv.Conv2d.from_weights(WEIGHT, BIAS)
    for factor in (1, 2, 3):
        layer.weight, layer.bias = WEIGHT * factor, BIAS - factor
        expected = oracle.convolve(IMAGE, WEIGHT * factor, BIAS - factor)
        for image in (IMAGE, IMAGE.astype(float), IMAGE):
            result = layer(image)
            assert result.dtype == image.dtype
            assert not oracle.difference_exact(result, expected.astype(image.dtype))


def test_more_kinds_of_calls_than_are_kept(backend):
    layer = npconv.Conv1d.from_weights(numpy.ones((1, 1, 2)))
    for size in (*range(2, 90), 2, 3):
        signal = numpy.arange(float(size)).reshape(1, 1, size)
        assert numpy.array_equal(layer(signal), signal[..., 1:] + signal[..., :-1])
    for size in (*range(2, 1100), 2, 3):
        signal = numpy.ones((1, 1, size))
        assert numpy.array_equal(npconv.conv1d(signal, layer.weight), 2 * signal[..., 1:])


def test_large_results_are_their_own(backend):
    """Memory is used again only when nothing looks at it any more."""
    image, weight = numpy.ones((1, 1, 1500, 1500), "f"), numpy.ones((4, 1, 1, 1), "f")
    first = npconv.conv2d(image, weight)
    view = first[0, 3, 1000:, ::7]
    first += 1
    second = npconv.conv2d(image, weight)
    del first
    third = npconv.conv2d(image, weight * 3)
    assert (view == 2).all()
    assert (second == 1).all()
    assert (third == 3).all()
    assert third.flags.writeable
    assert third.flags.aligned


def test_many_threads_share_what_is_kept(backend):
    layer = npconv.Conv2d.from_weights(WEIGHT, BIAS)
    expected = oracle.convolve(IMAGE, WEIGHT, BIAS).astype("f")
    context = contextvars.copy_context()

    def work():
        results = (call for _ in range(200) for call in (layer(IMAGE), npconv.conv2d(IMAGE, WEIGHT, BIAS)))
        return all(numpy.array_equal(result, expected) for result in results)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: context.copy().run(work), range(4)))
