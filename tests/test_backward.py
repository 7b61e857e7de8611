"""`backward` of every layer class, and what transposed layers have besides (test_layers.py)."""

import contextvars
import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy
import oracle
import pytest

import npconv

CONV = (npconv.Conv1d, npconv.Conv2d, npconv.Conv3d)
TRANSPOSED = (npconv.ConvTranspose1d, npconv.ConvTranspose2d, npconv.ConvTranspose3d)
ACTIVATIONS = (None, "relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", ("leaky_relu", 0.25), ("clip", -1, 1.5))


def normal(shape, dtype="d", seed=0):
    rng = numpy.random.default_rng(seed)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if numpy.dtype(dtype).kind == "c" else values).astype(dtype)


def integers(shape, dtype="d", seed=0):
    rng = numpy.random.default_rng(seed)
    values = rng.integers(-3, 4, shape)
    return (values + 1j * rng.integers(-3, 4, shape) if numpy.dtype(dtype).kind == "c" else values).astype(dtype)


def assert_slopes(layer, x, samples=4):
    """Each gradient against central differences of the layer's own results."""
    grad_output = normal(layer(x).shape, seed=9)
    gradients = layer.backward(x, grad_output)

    def loss(values):
        other = copy.copy(layer)
        other.weight = values[1]
        if values[2] is not None:
            other.bias = values[2]
        return (other(values[0]) * grad_output).sum()

    values = [x, layer.weight, layer.bias]
    for place, seed in itertools.product(range(3), range(samples)):
        if values[place] is None:
            assert gradients[place] is None
            continue
        step = 1e-6 * normal(values[place].shape, seed=seed + 20)
        ends = [loss([v + sign * step if i == place else v for i, v in enumerate(values)]) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / 2
        assert abs(slope - (gradients[place] * step).sum()) < 1e-6 * abs(step).sum() * abs(gradients[place]).max()
        assert gradients[place].shape == values[place].shape


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
@pytest.mark.parametrize("padding", [0, 2, ((0, 2), (1, 0)), "same", "same_lower"], ids=str)
def test_paddings(backend, mode, padding):
    layer = npconv.Conv2d.from_weights(
        normal((4, 2, 3, 2)), normal((4,)), (2, 1), padding, (1, 2), 2, padding_mode=mode
    )
    assert_slopes(layer, normal((2, 4, 6, 7), seed=1))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations(backend, activation):
    layer = npconv.Conv2d.from_weights(normal((3, 2, 3, 3)), normal((3,)), padding=1, activation=activation)
    assert_slopes(layer, normal((2, 2, 5, 6), seed=1))
    layer = npconv.ConvTranspose1d.from_weights(normal((2, 3, 4)), normal((3,)), 2, 1, 1, activation=activation)
    assert_slopes(layer, normal((2, 2, 5), seed=1))


@pytest.mark.parametrize("activation", ["relu", "relu6", ("clip", 0, 6), ("leaky_relu", 0.25), "hardswish"], ids=str)
def test_kinks_are_torchs(backend, activation):
    """clip passes the gradient at its limits; the others take what lies on their flat or lower side."""
    x = numpy.array([[[-3.0, 0.0, 3.0, 6.0]]])
    layer = npconv.Conv1d.from_weights([[[1.0]]], activation=activation)
    expected = {"relu": [0, 0, 1, 1], "relu6": [0, 0, 1, 0], "clip": [0, 1, 1, 1],
                "leaky_relu": [0.25, 0.25, 1, 1], "hardswish": [0, 0.5, 1, 1]}  # fmt: skip
    name = activation if isinstance(activation, str) else activation[0]
    assert layer.backward(x, numpy.ones_like(x))[0].ravel().tolist() == expected[name]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["f", "d", "i4", "u1", "q", "F"])
def test_conv(backend, plain_sums, axes, bias, dtype):
    weight, x = integers((6, 2, *(3,) * axes), dtype), integers((2, 4, *(9, 6, 5)[:axes]), dtype, 1)
    layer = CONV[axes - 1].from_weights(weight, integers((6,), dtype, 2) if bias else None, 2, 1, 1, 2)
    grad_output = integers(layer(x).shape, dtype, 3)
    given = {"stride": 2, "padding": 1, "groups": 2}
    grad_x, grad_weight, grad_bias = layer.backward(x, grad_output)
    assert not oracle.difference_exact(grad_x, oracle.input_gradient(x.shape, weight, grad_output, **given))
    assert not oracle.difference_exact(grad_weight, oracle.weight_gradient(x, weight.shape, grad_output, **given))
    assert grad_x.dtype == grad_weight.dtype == dtype
    if bias:
        assert grad_bias.dtype == dtype
        assert numpy.array_equal(grad_bias, numpy.moveaxis(grad_output, 1, 0).reshape(6, -1).sum(1, dtype=dtype))
    else:
        assert grad_bias is None


@pytest.mark.parametrize("dtype", ["f", "d", "i4", "q", "D"])
@pytest.mark.parametrize(
    "arguments",
    [
        (2, 1, 1, 2),
        (1, 0, 0, 1),
        (1, 0, 2, 1, 3),
        (3, ((0, 2),), 2, 2),
        (1, 3, 2, 2, 3),
        (2, "same"),
        (5, ((1, 0),), 4),
    ],
    ids=str,
)
def test_transposed(backend, plain_sums, arguments, dtype):
    """The layer is linear in x and in its weight: <y, g> is <x, grad x> and <weight, grad weight>, for any of them."""
    groups = (*arguments, 1, 1, 1)[3]
    weight = integers((4, 3, 1 if arguments[0] == 5 else 3), dtype)
    x = integers((2, 4, 1 if arguments[0] == 5 else 6), dtype, 1)
    layer = npconv.ConvTranspose1d.from_weights(weight, None, *arguments)
    y = layer(x)
    assert y.shape[1] == 3 * groups
    gradient = integers(y.shape, dtype, 2)
    product = (y * gradient.conj()).sum()
    grad_x, grad_weight, grad_bias = layer.backward(x, gradient)
    assert grad_bias is None
    assert grad_x.shape == x.shape
    assert (x * grad_x.conj()).sum() == product
    assert (weight * grad_weight.conj()).sum() == product
    for seed in range(3):
        other = integers(x.shape, dtype, seed + 5)
        assert (layer(other) * gradient.conj()).sum() == (other * grad_x.conj()).sum()
        kernels = integers(weight.shape, dtype, seed + 9)
        again = npconv.ConvTranspose1d.from_weights(kernels, None, *arguments)
        assert (again(x) * gradient.conj()).sum() == (kernels * grad_weight.conj()).sum()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_slopes(backend, axes):
    layer = TRANSPOSED[axes - 1].from_weights(normal((4, 3, *(3, 2, 2)[:axes])), normal((6,)), 2, 1, 1, 2)
    assert_slopes(layer, normal((2, 4, *(4, 3, 3)[:axes]), seed=1))


def test_channels_last_and_unbatched(backend):
    weight, x = normal((4, 2, 3, 3)), normal((2, 4, 7, 8), seed=1)
    for make in (npconv.Conv2d.from_weights, npconv.ConvTranspose2d.from_weights):
        first, last = (make(weight, stride=2, padding=1, groups=2, data_format=f"channels_{name}", activation="tanh")
                       for name in ("first", "last"))  # fmt: skip
        first.bias = last.bias = numpy.arange(len(first(x)[0]))
        gradient = normal(first(x).shape, seed=2)
        moved = numpy.moveaxis(x, 1, -1), numpy.moveaxis(gradient, 1, -1)
        expected, result = first.backward(x, gradient), last.backward(*moved)
        numpy.testing.assert_allclose(result[0], numpy.moveaxis(expected[0], 1, -1), rtol=1e-12, atol=1e-12)
        for one, other in zip(result[1:], expected[1:], strict=True):
            numpy.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
        alone = [last.backward(moved[0][n], moved[1][n]) for n in range(2)]
        numpy.testing.assert_allclose(alone[0][1] + alone[1][1], expected[1], rtol=1e-12, atol=1e-12)
        numpy.testing.assert_allclose(alone[1][0], result[0][1], rtol=1e-12, atol=1e-12)


def test_complex_gradients_descend(backend):
    """A step against the gradient of |y|^2 / 2, which is y itself, makes that smaller."""
    x = normal((2, 4, 6), "D")
    for make in (npconv.Conv1d.from_weights, npconv.ConvTranspose1d.from_weights):
        layer = make(normal((4, 4, 3), "D", 1), normal((4,), "D", 2), padding=1)
        y = layer(x)
        grad_x, grad_weight, grad_bias = layer.backward(x, y)
        before, rate = (abs(y) ** 2).sum() / 2, 1e-7
        drop = before - (abs(layer(x - rate * grad_x)) ** 2).sum() / 2
        assert numpy.isclose(drop, rate * (abs(grad_x) ** 2).sum(), rtol=1e-3)
        other = make(layer.weight - rate * grad_weight, layer.bias, padding=1)
        assert numpy.isclose(before - (abs(other(x)) ** 2).sum() / 2, rate * (abs(grad_weight) ** 2).sum(), rtol=1e-3)
        other = make(layer.weight, layer.bias - rate * grad_bias, padding=1)
        assert numpy.isclose(before - (abs(other(x)) ** 2).sum() / 2, rate * (abs(grad_bias) ** 2).sum(), rtol=1e-3)


def test_dtype_is_that_of_the_result(backend):
    layer = npconv.Conv1d(1, 2, 3, rng=0)
    x = numpy.arange(8, dtype="u1").reshape(1, 1, 8)
    gradients = layer.backward(x, numpy.ones((1, 2, 6)))
    assert [gradient.dtype for gradient in gradients] == ["f4"] * 3
    half = npconv.Conv1d.from_weights(numpy.ones((1, 1, 1), "e"), numpy.zeros(1, "e"), activation="tanh")
    ones = numpy.ones((1, 1, 3000), "e")
    grad_x, grad_weight, grad_bias = half.backward(ones, ones)
    assert grad_x.dtype == grad_weight.dtype == grad_bias.dtype == "e"
    assert numpy.isclose(grad_bias.item(), 3000 * (1 - numpy.tanh(1) ** 2), rtol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((numpy.ones((1, 3, 5)), numpy.ones((1, 4, 4))), ValueError,
         r"Conv1d.backward: grad_output must have shape \(1, 4, 3\), that of the layer's result, got"),
        ((numpy.ones((1, 2, 5)), numpy.ones((1, 4, 3))), ValueError, r"conv1d: input has 2 channels"),
        ((numpy.ones((1, 3, 5)), [[1], [2, 3]]), ValueError, r"Conv1d.backward: grad_output cannot be made an array"),
        ((numpy.ones((1, 3, 5)), numpy.ones((1, 4, 3), object)), TypeError, r"Conv1d.backward: grad_output has dtype"),
        ((object(), numpy.ones((1, 4, 3))), TypeError, r"conv1d: input has dtype object"),
    ],
)  # fmt: skip
def test_errors(backend, arguments, error, match):
    with pytest.raises(error, match=match):
        npconv.Conv1d(3, 4, 3, rng=0).backward(*arguments)


def test_nothing_is_written_to(backend):
    layer = npconv.Conv2d(3, 4, 3, activation="relu", rng=0)
    x, gradient = normal((1, 3, 6, 6), "f"), normal((1, 4, 4, 4), "f", 1)
    given = x.copy(), gradient.copy()
    x.flags.writeable = gradient.flags.writeable = False
    layer.backward(x, gradient)
    assert numpy.array_equal(x, given[0])
    assert numpy.array_equal(gradient, given[1])


def test_many_threads_at_once(backend):
    layer, x = npconv.ConvTranspose2d(8, 6, 4, 2, 1, activation="silu", rng=0), normal((2, 8, 9, 9), "f")
    gradient = normal(layer(x).shape, "f", 1)
    expected = layer(x), *layer.backward(x, gradient)
    context = contextvars.copy_context()

    def work(_):
        fresh = pickle.loads(pickle.dumps(layer))
        return (
            context.copy().run(fresh, x),
            *context.copy().run(layer.backward, x, gradient),
            context.copy().run(layer, x),
        )

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(24)):
            for result, right in zip(results, (*expected, expected[0]), strict=True):
                assert numpy.array_equal(result, right)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "F", "i4", ">f4"])
def test_transposed_layers_give_what_the_functions_give(backend, axes, dtype):
    function = (npconv.conv_transpose1d, npconv.conv_transpose2d, npconv.conv_transpose3d)[axes - 1]
    weight, bias, x = normal((4, 3, *(3,) * axes), dtype), normal((6,), dtype), normal((2, 4, *(5,) * axes), dtype)
    for stride in (1, 2, 12):
        layer = TRANSPOSED[axes - 1].from_weights(weight, bias, stride, 1, stride - 1, 2)
        expected = function(x, weight, bias, stride, 1, stride - 1, 2)
        for _ in range(2):
            numpy.testing.assert_allclose(layer(x), expected, rtol=1e-6)
        assert len(layer._weights.packed) == 1
        layer.weight = 2 * layer.weight
        layer.bias = None
        expected = function(x, (2 * weight).astype(dtype), None, stride, 1, stride - 1, 2)
        numpy.testing.assert_allclose(layer(x), expected, rtol=1e-6)


def test_packed_kernels_depend_on_the_size(backend):
    """A result narrower than the stride has fewer places."""
    layer = npconv.ConvTranspose1d(2, 3, 4, stride=3, padding=1, rng=0)
    for size in (1, 2, 5, 1):
        x = normal((1, 2, size), "f")
        expected = npconv.conv_transpose1d(x, layer.weight, layer.bias, 3, 1)
        numpy.testing.assert_allclose(layer(x), expected, rtol=1e-6)  # a layer's algorithm may be another


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_of_transposed_layers(backend, duplicate):
    layer, x = npconv.ConvTranspose2d(8, 6, 3, 2, 1, 1, 2, dilation=2, rng=0), normal((1, 8, 5, 5), "f")
    expected = layer(x)
    other = duplicate(layer)
    numpy.testing.assert_array_equal(other(x), expected)
    assert repr(other) == repr(layer)
    assert len(pickle.dumps(layer)) < layer.weight.nbytes + 2000


def test_repr_of_transposed_layers():
    assert repr(npconv.ConvTranspose1d(1, 2, 3, rng=0)) == "ConvTranspose1d(1, 2, kernel_size=(3,), stride=1)"
    layer = npconv.ConvTranspose2d(4, 8, (3, 1), (2, 1), 1, (1, 0), 4, False, 2, data_format="channels_last")
    assert repr(layer) == (
        "ConvTranspose2d(4, 8, kernel_size=(3, 1), stride=(2, 1), padding=1, output_padding=(1, 0), groups=4, "
        "bias=False, dilation=2, data_format='channels_last')"
    )


def test_transposed_weights_that_are_drawn():
    layer, again = (
        npconv.ConvTranspose2d(8, 300, 3, groups=2, rng=7),
        npconv.ConvTranspose2d(8, 300, 3, groups=2, rng=7),
    )
    assert layer.weight.shape == (8, 150, 3, 3)
    assert layer.bias.shape == (300,)
    numpy.testing.assert_array_equal(layer.weight, again.weight)
    bound = 1 / numpy.sqrt(150 * 9)
    assert 0.95 * bound < abs(layer.weight).max() <= bound


@pytest.mark.parametrize(
    ("act", "kind", "match"),
    [
        (lambda: npconv.ConvTranspose2d(3, 8, 3, stride=0), ValueError, "ConvTranspose2d: stride must be at least 1"),
        (lambda: npconv.ConvTranspose2d(3, 8, 3, output_padding=1), ValueError,
         "ConvTranspose2d: output_padding must be less than the stride or the dilation"),
        (lambda: npconv.ConvTranspose2d(3, 8, 3, output_padding=0.5), TypeError,
         "ConvTranspose2d: output_padding must be integers"),
        (lambda: npconv.ConvTranspose2d(3, 8, 3, groups=2), ValueError, "groups=2 must divide in_channels=3"),
        (lambda: npconv.ConvTranspose2d(3, 8, 3, padding=-1), ValueError, "padding must be at least 0, got -1"),
        (lambda: npconv.ConvTranspose2d(3, 8, 3, dtype=int), TypeError, "ConvTranspose2d: dtype must be a float"),
        (lambda: npconv.ConvTranspose1d.from_weights(numpy.ones((4, 3, 3, 3))), ValueError,
         r"ConvTranspose1d: weight must have 3 axes \(C, K/groups, \*kernel\)"),
        (lambda: npconv.ConvTranspose2d.from_weights(numpy.ones((3, 2, 3, 3)), groups=2), ValueError,
         "takes 3 input channels, which groups=2 does not divide"),
        (lambda: npconv.ConvTranspose2d.from_weights(numpy.ones((3, 2, 3, 3)), [1]), ValueError,
         r"ConvTranspose2d: bias must have shape \(2,\)"),
        (lambda: npconv.ConvTranspose2d(3, 8, 3, rng=0)(numpy.ones((1, 2, 9, 9))), ValueError,
         "conv_transpose2d: input has 2 channels"),
    ],
)  # fmt: skip
def test_settings_of_transposed_layers(act, kind, match):
    with pytest.raises(kind, match=match):
        act()


@pytest.mark.parametrize("padding", [0, 3, (1, 2), ((0, 1), (2, 0)), "same", "valid"])
def test_settings_that_are_fine(padding):
    layer = npconv.ConvTranspose2d(2, 3, (1, 3), (2, 1), padding, data_format="channels_last", rng=0)
    assert layer(numpy.ones((1, 9, 9, 2), numpy.float32)).shape[-1] == 3
