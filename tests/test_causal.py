"""Signals in pieces: however they are cut, the same bits as in one."""

import contextvars
import copy
import importlib.util
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy
import oracle
import pytest
from engines import ENGINES

import npconv

ISAS = tuple(dict.fromkeys((engine.backend, engine.isa) for engine in ENGINES))


@pytest.fixture(params=ISAS, ids=lambda pair: pair[1] or pair[0])
def machine(request):
    """Every backend and instruction set, in force while the test runs."""
    backend, isa = request.param
    with npconv.options(backend=backend, isa=isa):
        yield backend


def normal(shape, dtype=numpy.float32, seed=0):
    random, dtype = numpy.random.default_rng(seed), numpy.dtype(dtype)
    if dtype.kind in "iu":
        return random.integers(0, 100, shape).astype(dtype)
    values = random.standard_normal(shape)
    return (values + 1j * random.standard_normal(shape) if dtype.kind == "c" else values).astype(dtype)


def in_pieces(layer, x, lengths, state=None):
    """The signal cut into pieces of these lengths, in turn, and the state at the end."""
    outputs, at = [], 0
    for length in itertools.cycle(lengths):
        if at >= x.shape[-1]:
            return numpy.concatenate(outputs, axis=-1), state
        y, state = layer(x[..., at : at + length], state)
        assert y.shape[-1] == len(range(*slice(at, at + length).indices(x.shape[-1])))
        outputs.append(y)
        at += length


def bits(array):
    """Of the numbers: long doubles have bytes beside them."""
    if array.dtype.char not in "gG":
        return array.tobytes()
    parts = numpy.frexp(array.view("g"))
    return (
        parts[0].astype("f8").tobytes(),
        (parts[0] - parts[0].astype("f8")).astype("f8").tobytes(),
        parts[1].tobytes(),
    )


CUTS = ((1,), (2, 0, 1), (7,), (16,), (3, 50, 1, 0, 129), (64,), (95, 96, 97), (1000,))

# (channels, outputs, kernel, dilation, groups, length)
LAYERS = (
    (1, 1, 4, 1, 1, 300),
    (1, 1, 700, 1, 1, 400),
    (1, 3, 1, 1, 1, 130),
    (16, 16, 4, 1, 16, 300),
    (6, 12, 5, 3, 6, 300),
    (12, 8, 3, 2, 2, 260),
    (40, 17, 3, 1, 1, 300),
    (70, 9, 2, 512, 1, 300),
    (130, 20, 7, 1, 1, 150),
    (600, 5, 2, 1, 1, 120),
    (1300, 4, 1, 1, 1, 110),
    (640, 6, 3, 40, 2, 110),
)


def make(channels, outputs, kernel, dilation, groups, dtype, **settings):
    weight, bias = normal((outputs, channels // groups, kernel), dtype, 1), normal(outputs, dtype, 2)
    return npconv.CausalConv1d.from_weights(weight, bias, dilation, groups, **settings)


@pytest.mark.parametrize("spec", LAYERS, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_same_bits_however_it_is_cut(machine, spec, dtype):
    *shape, length = spec
    layer, x = make(*shape, dtype), normal((2, shape[0], length), dtype)
    whole, state = layer(x)
    for number, cut in enumerate(CUTS if machine == "compiled" else CUTS[2::2]):
        with npconv.options(num_threads=number % 3 + 1):
            pieces, end = in_pieces(layer, x, cut)
        assert bits(pieces) == bits(whole), cut
        assert bits(end) == bits(state)


@pytest.mark.parametrize("dtype", ["f2", "g", "F", "D", "G", "i1", "u2", "i4", "u8"])
def test_every_dtype(machine, dtype):
    for spec in (LAYERS[3], LAYERS[5], LAYERS[8]):
        *shape, length = spec
        layer, x = make(*shape, dtype), normal((1, shape[0], length), dtype)
        whole, _ = layer(x)
        assert whole.dtype == numpy.dtype(dtype)
        for cut in ((1, 20), (97,)):
            assert bits(in_pieces(layer, x, cut)[0]) == bits(whole)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "silu", "hardswish", ("leaky_relu", 0.1)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_activation(machine, activation, dtype):
    layer, x = make(5, 7, 3, 2, 1, dtype, activation=activation), normal((2, 5, 131), dtype)
    whole, _ = layer(x)
    for cut in ((1,), (13, 5), (64,)):
        assert bits(in_pieces(layer, x, cut)[0]) == bits(whole)


def test_every_length_of_a_piece(machine):
    layer, x = make(20, 9, 30, 1, 1, "f4"), normal((1, 20, 200))
    whole, _ = layer(x)
    for length in range(1, 200):
        y, _ = layer(x[..., :length])
        assert bits(y) == bits(whole[..., :length])


@pytest.mark.parametrize("spec", LAYERS, ids=str)
def test_it_is_the_convolution_of_a_signal_padded_at_its_start(backend, spec):
    *shape, length = spec
    dilation, groups = shape[3:]
    reach = (shape[2] - 1) * dilation
    layer, x = make(*shape, "f4"), normal((2, shape[0], length))
    expected = oracle.convolve(x, layer.weight, layer.bias, 1, ((reach, 0),), dilation, groups)
    scale = oracle.size_of_sums(x, layer.weight, layer.bias, padding=((reach, 0),), dilation=dilation, groups=groups)
    assert not oracle.difference_rounded(layer(x)[0], expected, scale, 1e-6)


def test_state_is_what_was_heard_last(backend):
    layer, x = make(3, 4, 4, 2, 1, "f4"), normal((2, 3, 20))
    _, state = layer(x)
    assert numpy.array_equal(state, x[..., -6:])
    assert not numpy.may_share_memory(state, x)
    _, state = layer(x[..., :2])
    assert numpy.array_equal(state, numpy.concatenate([numpy.zeros((2, 3, 4), "f4"), x[..., :2]], axis=2))
    silence, same = layer(x[..., :0], state)
    assert silence.shape == (2, 4, 0)
    assert numpy.array_equal(same, state)
    assert layer(x[..., :0])[1].shape == (2, 3, 6)
    one, none = npconv.CausalConv1d(3, 4, 1, rng=0)(x)
    assert (one.shape, none.shape) == ((2, 4, 20), (2, 3, 0))


def test_given_state(backend):
    layer, x = make(3, 4, 4, 1, 1, "f8"), normal((1, 3, 20), "f8")
    whole, end = layer(x)
    y, state = layer(x[..., 5:], x[..., 2:5])
    assert numpy.array_equal(y, whole[..., 5:])
    assert numpy.array_equal(state, end)
    assert numpy.array_equal(layer(x[0, :, 5:], x[0, :, 2:5].tolist())[0], whole[0, :, 5:])


def test_unbatched_and_empty_batch(backend):
    layer, x = make(3, 4, 4, 1, 1, "f4"), normal((2, 3, 20))
    whole, end = layer(x)
    y, state = layer(x[1])
    assert numpy.array_equal(y, whole[1])
    assert numpy.array_equal(state, end[1])
    assert bits(in_pieces(layer, x[1], (3,))[0]) == bits(whole[1])
    y, state = layer(x[:0])
    assert (y.shape, state.shape) == ((0, 4, 20), (0, 3, 3))


def test_layouts(backend):
    layer, x = make(6, 4, 3, 1, 2, "f4"), normal((2, 6, 40))
    whole, end = layer(x)
    for other in (numpy.asfortranarray(x), x.astype(">f4"), numpy.repeat(x, 2, axis=2)[..., ::2]):
        y, state = layer(other)
        assert bits(y) == bits(whole)
        assert state.dtype.isnative
        assert numpy.array_equal(state, end)


def test_inputs_of_another_dtype_than_the_weights(backend):
    layer = make(6, 4, 3, 1, 2, "f4")
    for dtype, result in (("i2", "f4"), ("f8", "f8"), ("?", "f4"), ("i8", "f8"), ("F", "F"), ("f2", "f4")):
        x = normal((1, 6, 50)).astype(dtype) if dtype != "F" else normal((1, 6, 50), "F")
        whole, state = layer(x)
        assert (whole.dtype, state.dtype) == (numpy.dtype(result), numpy.dtype(dtype))
        assert bits(in_pieces(layer, x, (1, 17))[0]) == bits(whole)


def test_other_algorithms_are_not_asked(machine):
    layer, x = make(4, 4, 4, 1, 4, "f4"), normal((1, 4, 90))
    whole, _ = layer(x)
    for algorithm in ("stencil", "winograd", "reference") if machine == "compiled" else ("matmul",):
        with npconv.options(algorithm=algorithm):
            assert bits(layer(x)[0]) == bits(whole)


def test_assigning_weights(backend):
    layer, x = make(600, 4, 2, 1, 1, "f4"), normal((1, 600, 30))
    first, _ = layer(x)
    layer.weight, layer.bias = 2 * layer.weight, 2 * layer.bias
    assert numpy.array_equal(layer(x)[0], 2 * first)
    with pytest.raises(ValueError, match=r"CausalConv1d: weight must have shape \(4, 600, 2\)"):
        layer.weight = numpy.ones((4, 600, 3))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(backend, duplicate):
    layer, x = make(4, 6, 3, 5, 2, "f4", activation="silu"), normal((1, 4, 90))
    other = duplicate(layer)
    assert bits(other(x)[0]) == bits(layer(x)[0])
    assert repr(other) == repr(layer) == (
        "CausalConv1d(4, 6, kernel_size=3, dilation=5, groups=2, activation='silu')"
    )  # fmt: skip


def test_repr_and_drawn_weights():
    layer = npconv.CausalConv1d(2, 4, 3, bias=False, rng=0)
    assert repr(layer) == "CausalConv1d(2, 4, kernel_size=3, bias=False)"
    assert numpy.array_equal(layer.weight, npconv.Conv1d(2, 4, 3, bias=False, rng=0).weight)
    assert npconv.CausalConv1d(2, 4, (3,), (2,), rng=0)(numpy.ones((2, 9), "f4"))[1].shape == (2, 4)


def test_backward_of_a_whole_signal(backend):
    layer, x, grad = make(4, 6, 3, 2, 2, "f8"), normal((2, 4, 30), "f8"), normal((2, 6, 30), "f8", 5)
    same = npconv.Conv1d.from_weights(layer.weight, layer.bias, 1, ((4, 0),), 2, 2)
    for ours, theirs in zip(layer.backward(x, grad), same.backward(x, grad), strict=True):
        assert numpy.array_equal(ours, theirs)


def test_many_threads_at_once(backend):
    layer, x = make(30, 30, 5, 1, 1, "f4"), normal((8, 30, 400))
    expected = [copy.copy(layer)(signal)[0] for signal in x]
    context = contextvars.copy_context()
    with ThreadPoolExecutor(8) as pool:
        done = pool.map(lambda signal: context.copy().run(in_pieces, layer, signal, (33, 1))[0], x)
        for result, wanted in zip(done, expected, strict=True):
            assert bits(result) == bits(wanted)


X = numpy.ones((2, 3, 9), "f4")
ERRORS = [
    ((X[:, :2],), ValueError, r"CausalConv1d: x must have shape \(N, 3, L\), or \(3, L\) .* got x shape \(2, 2, 9\)"),
    ((X[0, 0],), ValueError, r"CausalConv1d: x must have shape .* got x shape \(9,\)"),
    ((X[None],), ValueError, r"CausalConv1d: x must have shape .* got x shape \(1, 2, 3, 9\)"),
    (
        (X, X),
        ValueError,
        r"state must have shape \(2, 3, 6\), the last 6 inputs .* got state shape \(2, 3, 9\); x shape",
    ),
    ((X, X[0, :, :6]), ValueError, r"state must have shape \(2, 3, 6\)"),
    ((X, X[..., :6].astype("f8")), TypeError, r"state must have the dtype of x, float32, got <f8 \(float64\)"),
    ((X.astype("U3"),), TypeError, r"CausalConv1d: x has dtype <U3, an integer, float or complex dtype is needed"),
]


@pytest.mark.parametrize(("arguments", "kind", "pattern"), ERRORS)
def test_errors(backend, arguments, kind, pattern):
    with pytest.raises(kind, match=pattern):
        make(3, 4, 4, 2, 1, "f4")(*arguments)


def test_errors_of_settings():
    for act, kind, pattern in (
        (lambda: npconv.CausalConv1d(3, 4, 0), ValueError, "CausalConv1d: kernel_size must be"),
        (lambda: npconv.CausalConv1d(3, 4, 3, 0), ValueError, "CausalConv1d: dilation must be at least 1"),
        (lambda: npconv.CausalConv1d(3, 4, 3, 1.5), TypeError, "CausalConv1d: dilation must be integers"),
        (lambda: npconv.CausalConv1d(3, 4, 3, groups=2), ValueError, "CausalConv1d: groups=2 must divide"),
        (lambda: npconv.CausalConv1d(3, 4, 3, activation="x"), ValueError, "CausalConv1d: activation must be"),
        (lambda: npconv.CausalConv1d(3, 4, 3, stride=2), TypeError, "stride"),
        (lambda: npconv.CausalConv1d.from_weights([[1, 2]]), ValueError, "CausalConv1d: weight must have 3 axes"),
    ):
        with pytest.raises(kind, match=pattern):
            act()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_gives_the_same(backend):
    torch = pytest.importorskip("torch")
    layer, x = make(6, 6, 4, 1, 6, "f8", activation="silu"), normal((2, 6, 50), "f8")
    padded = torch.nn.functional.pad(torch.from_numpy(x), (3, 0))
    weights = torch.from_numpy(layer.weight.copy()), torch.from_numpy(layer.bias.copy())
    expected = torch.nn.functional.silu(torch.nn.functional.conv1d(padded, *weights, groups=6))
    y, _ = in_pieces(layer, torch.from_numpy(x), (7,))
    assert numpy.allclose(y, expected.numpy(), rtol=1e-12, atol=1e-12)
