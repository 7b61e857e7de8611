"""The same calls through torch, where it is installed."""

import itertools

import numpy
import pytest
import shapes

import npconv

pytestmark = pytest.mark.usefixtures("plain_sums")

torch = pytest.importorskip("torch")
functional = torch.nn.functional

CASES = (
    shapes.Case((2, 3, 17), (4, 3, 3)),
    shapes.Case((2, 4, 30), (6, 2, 5), stride=2, padding=3, dilation=2, groups=2),
    shapes.Case((1, 3, 12, 13), (5, 3, 3, 3), padding=1),
    shapes.Case((2, 4, 12, 13), (8, 1, 3, 5), stride=(2, 1), padding=(1, 3), dilation=(1, 2), groups=4),
    shapes.Case((1, 6, 9, 9), (4, 3, 1, 1), groups=2),
    shapes.Case((2, 3, 10, 11), (4, 3, 4, 3), padding="same"),
    shapes.Case((2, 3, 10, 11), (4, 3, 2, 3), padding="same", dilation=3),
    shapes.Case((2, 3, 10, 11), (4, 3, 3, 3), padding="valid", stride=2),
    shapes.Case((1, 2, 6, 7, 8), (3, 2, 2, 3, 3), padding=1, stride=2),
    shapes.Case((1, 4, 6, 7, 8), (4, 1, 3, 3, 3), padding=(1, 0, 2), groups=4),
)


def torch_arguments(case):
    return {"stride": case.stride, "padding": case.padding, "dilation": case.dilation, "groups": case.groups}


def through_torch(case, arrays):
    tensors = [None if a is None else torch.from_numpy(a.copy()) for a in arrays]
    return getattr(functional, f"conv{case.axes}d")(*tensors, **torch_arguments(case)).numpy()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4", "i2", "i1", "u1", "c8", "c16"])
def test_same_results(backend, case, dtype):
    data = shapes.shared_data(case, dtype)
    try:
        expected = through_torch(case, data.arrays)
    except RuntimeError as error:
        pytest.skip(f"torch: {str(error)[:80]}")
    result = getattr(npconv, f"conv{case.axes}d")(*data.arrays, **torch_arguments(case))
    assert result.dtype == expected.dtype
    assert numpy.allclose(result, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes_are_torchs(backend, axes, mode):
    layer = getattr(torch.nn, f"Conv{axes}d")(3, 5, 3, padding=2, stride=2, padding_mode=mode, dtype=torch.float64)
    input = torch.from_numpy(numpy.random.default_rng(0).standard_normal((2, 3, *(8, 7, 9)[:axes])))
    with torch.no_grad():
        expected = layer(input).numpy()
    weight, bias = layer.weight.detach(), layer.bias.detach()
    result = npconv.conv(input, weight, bias, stride=2, padding=2, padding_mode=mode)
    assert numpy.allclose(result, expected, rtol=1e-12, atol=1e-12)


ACTIVATIONS = {
    "relu": torch.relu,
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "hardswish": functional.hardswish,
    ("leaky_relu", 0.1): lambda x: functional.leaky_relu(x, 0.1),
    ("clip", -1, 2): lambda x: torch.clip(x, -1, 2),
}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_are_torchs(backend, activation):
    case = CASES[2]
    data = shapes.shared_data(case, "f8", exact=False)
    expected = ACTIVATIONS[activation](torch.from_numpy(through_torch(case, data.arrays)))
    result = npconv.conv2d(*data.arrays, **torch_arguments(case), activation=activation)
    assert numpy.allclose(result, expected.numpy(), rtol=1e-12, atol=1e-12)


TRANSPOSED = (
    ((2, 3, 7), (3, 4, 3), {}),
    ((2, 4, 7), (4, 3, 5), {"stride": 3, "padding": 2, "output_padding": 2, "dilation": 2, "groups": 2}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 4, 5, 6), (4, 1, 3, 2), {"stride": (2, 3), "groups": 4, "output_padding": (0, 2)}),
    ((1, 3, 4, 5), (3, 2, 4, 4), {"stride": 4, "dilation": (1, 2), "output_padding": 1}),
    ((1, 2, 3, 4, 3), (2, 3, 2, 3, 3), {"stride": 2, "padding": (0, 1, 1)}),
)


@pytest.mark.parametrize(("input", "weight", "arguments"), TRANSPOSED, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "c16"])
def test_transposed_is_torchs(backend, input, weight, arguments, dtype):
    rng = numpy.random.default_rng(0)
    outputs = weight[1] * arguments.get("groups", 1)
    given = [rng.integers(-4, 5, shape).astype(dtype) for shape in (input, weight, (outputs,))]
    name = f"conv_transpose{len(input) - 2}d"
    try:
        expected = getattr(functional, name)(*map(torch.from_numpy, given), **arguments).numpy()
    except RuntimeError as error:
        pytest.skip(f"torch: {str(error)[:80]}")
    result = getattr(npconv, name)(*given, **arguments)
    assert result.dtype == expected.dtype
    assert numpy.array_equal(result, expected)


def assert_backward(layer, x, forward):
    """The layer's gradients are those that torch finds for `forward(x, weight, bias)`."""
    leaves = [torch.tensor(value, requires_grad=True) for value in (x, layer.weight, layer.bias)]
    y = forward(*leaves)
    rng = numpy.random.default_rng(7)
    grad_output = rng.standard_normal(tuple(y.shape))
    if x.dtype.kind == "c":
        grad_output = grad_output + 1j * rng.standard_normal(tuple(y.shape))
    y.backward(torch.from_numpy(grad_output))
    assert numpy.allclose(layer(x), y.detach().numpy(), rtol=1e-12, atol=1e-12)
    for result, leaf in zip(layer.backward(x, grad_output), leaves, strict=True):
        assert numpy.allclose(result, leaf.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", ["f8", "c16"])
@pytest.mark.parametrize(("input", "weight", "arguments"), TRANSPOSED, ids=str)
def test_gradients_of_transposed_layers_are_torchs(backend, input, weight, arguments, dtype):
    rng = numpy.random.default_rng(0)
    make = [rng.standard_normal(shape) for shape in (input, weight, (weight[1] * arguments.get("groups", 1),))]
    x, kernels, bias = ((a + 1j * a[::-1] if dtype == "c16" else a) for a in make)
    axes = len(input) - 2
    layer = getattr(npconv, f"ConvTranspose{axes}d").from_weights(kernels, bias, **arguments)
    function = getattr(functional, f"conv_transpose{axes}d")
    assert_backward(layer, x, lambda *leaves: function(*leaves, **arguments))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_gradients_of_layers_are_torchs(backend, case, dtype):
    rng = numpy.random.default_rng(0)
    make = [rng.standard_normal(shape) for shape in (case.input, case.weight, case.weight[:1])]
    x, weight, bias = ((a + 1j * a[::-1] if dtype == "c16" else a) for a in make)
    layer = getattr(npconv, f"Conv{case.axes}d").from_weights(weight, bias, **torch_arguments(case))
    function = getattr(functional, f"conv{case.axes}d")
    assert_backward(layer, x, lambda *leaves: function(*leaves, **torch_arguments(case)))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_gradients_of_padding_modes_are_torchs(backend, mode):
    rng = numpy.random.default_rng(0)
    layer = npconv.Conv2d.from_weights(
        rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4), 2, ((1, 2), (3, 0)), padding_mode=mode
    )
    assert_backward(
        layer, rng.standard_normal((2, 3, 6, 7)),
        lambda x, weight, bias: functional.conv2d(functional.pad(x, (3, 0, 1, 2), mode), weight, bias, 2),
    )  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradients_of_activations_are_torchs(backend, activation):
    """At kinks too: one filter is zero, and so are its sums."""
    rng = numpy.random.default_rng(0)
    weight = rng.standard_normal((4, 2, 3, 3))
    weight[1] = 0
    layer = npconv.Conv2d.from_weights(weight, numpy.array([0.5, 0, -1, 2]), activation=activation)
    assert_backward(
        layer, rng.standard_normal((2, 2, 6, 7)), lambda *leaves: ACTIVATIONS[activation](functional.conv2d(*leaves))
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_grad_functions_are_torchs(backend, axes):
    rng = numpy.random.default_rng(0)
    x, weight = rng.standard_normal((2, 4, *(9, 8, 7)[:axes])), rng.standard_normal((6, 2, *(3, 2, 2)[:axes]))
    y = npconv.conv(x, weight, None, 2, 1, 2, 2)
    for kind, arguments in (("input", (x.shape, weight, y)), ("weight", (x, weight.shape, y))):
        name = f"conv{axes}d_{kind}"
        tensors = [torch.from_numpy(a) if isinstance(a, numpy.ndarray) else a for a in arguments]
        expected = getattr(torch.nn.grad, name)(*tensors, 2, 1, 2, 2)
        assert numpy.allclose(getattr(npconv.grad, name)(*arguments, 2, 1, 2, 2), expected, rtol=1e-12, atol=1e-12)
        assert numpy.allclose(getattr(npconv.grad, name)(*tensors, 2, 1, 2, 2), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [{"stride": 0}, {"stride": -1}, {"dilation": 0}, {"groups": 0}, {"groups": 2},
                                 {"padding": -1}, {"padding": "same", "stride": 2}, {"padding": "full"},
                                 {"padding": (1, 2, 3)}], ids=str)  # fmt: skip
def test_what_torch_refuses(backend, bad):
    """And what we take on purpose: "same" with a stride."""
    input, weight = torch.ones(1, 3, 5, 5), torch.ones(4, 3, 3, 3)
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        functional.conv2d(input, weight, **bad)
    if bad == {"padding": "same", "stride": 2}:
        assert npconv.conv2d(input, weight, **bad).shape == (1, 4, 3, 3)
    else:
        with pytest.raises(ValueError, match="conv2d"):
            npconv.conv2d(input, weight, **bad)


@pytest.mark.parametrize("unbatched", [False, True])
def test_tensors_are_taken_without_a_copy(backend, unbatched, monkeypatch):
    def refuse(self, *arguments, **more):
        raise AssertionError("not through DLPack")

    case = CASES[3]
    data = shapes.shared_data(case, "f4")
    tensors = [torch.from_numpy(a.copy()) for a in (data.input, data.weight, numpy.arange(8, dtype="f4"))]
    if unbatched:
        tensors[0] = tensors[0][0]
    expected = functional.conv2d(*tensors, **torch_arguments(case)).numpy()
    monkeypatch.setattr(torch.Tensor, "__array__", refuse)
    monkeypatch.setattr(torch.Tensor, "numpy", refuse)
    result = npconv.conv2d(*tensors, **torch_arguments(case))
    assert type(result) is numpy.ndarray
    assert numpy.allclose(result, expected, rtol=1e-6)


def test_tensors_of_any_layout(backend):
    case = CASES[2]
    data = shapes.shared_data(case, "f4")
    input, weight = torch.from_numpy(data.input.copy()), torch.from_numpy(data.weight.copy())
    expected = functional.conv2d(input, weight, padding=1).numpy()
    layouts = (
        input.contiguous(memory_format=torch.channels_last),
        input.transpose(1, 3).contiguous().transpose(1, 3),
        torch.stack([input, input], -1)[..., 1],
    )
    for layout in layouts:
        assert numpy.array_equal(npconv.conv2d(layout, weight, padding=1), expected)
    one = torch.ones(1, 1, 1, 1).expand(1, 3, 12, 13)
    assert numpy.array_equal(npconv.conv2d(one, weight), functional.conv2d(one, weight).numpy())


def test_tensors_that_need_a_gradient(backend):
    input, weight = torch.ones(1, 3, 5, 5), torch.ones(4, 3, 3, 3, requires_grad=True)
    with pytest.raises(TypeError, match=r"weight.*detach\(\)"):
        npconv.conv2d(input, weight)
    assert npconv.conv2d(input, weight.detach()).shape == (1, 4, 3, 3)


def test_half_precision_of_tensors(backend):
    input, weight = torch.ones(1, 3, 5, 5, dtype=torch.float16), torch.ones(4, 3, 3, 3, dtype=torch.float16)
    assert npconv.conv2d(input, weight).dtype == numpy.float16
    with pytest.raises(TypeError, match="input"):
        npconv.conv2d(input.to(torch.bfloat16), weight.to(torch.bfloat16))


def test_both_in_one_process(backend):
    """Two sets of threads side by side, in turns."""
    case = shapes.Case((2, 16, 40, 40), (16, 16, 3, 3), padding=1)
    data = shapes.shared_data(case, "f4")
    expected = data.expected.astype("f4")
    for _, threads in itertools.product(range(5), (1, 2)):
        with npconv.options(num_threads=threads):
            assert numpy.array_equal(npconv.conv2d(*data.arrays, padding=1), expected)
        assert numpy.allclose(through_torch(case, data.arrays), expected, rtol=1e-5)
