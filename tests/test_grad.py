"""Gradients with respect to input and weight, against sums over taps, difference quotients and the adjoint identity."""

import itertools
import re

import numpy
import oracle
import pytest
import shapes
from engines import BACKENDS, ENGINES
from sweeps import SWEEPS

import npconv
from npconv import grad

pytestmark = pytest.mark.usefixtures("plain_sums")

DTYPES = "bBhHiIlLqQefdgFDG"


def settings(case):
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    return {name: value for name, value in case.arguments().items() if name in names}


def output_shape(case):
    axes, size, kernel = case.axes, case.input[2:], case.weight[2:]
    stride, dilation = oracle.per_axis(case.stride, axes), oracle.per_axis(case.dilation, axes)
    pairs = oracle.resolve_padding(case.padding, size, kernel, stride, dilation)
    padded = [n + sum(pair) for n, pair in zip(size, pairs, strict=True)]
    return (case.input[0], case.weight[0], *oracle.output_size(padded, kernel, stride, dilation))


def data(case, dtype):
    rng = numpy.random.default_rng(case.seed)
    return tuple(shapes.small_integers(rng, shape, dtype) for shape in (case.input, case.weight, output_shape(case)))


def chosen(name):
    """Without activations, of which gradients have none, and not too large for the oracle."""
    cases = [case for case in SWEEPS[name] if not case.activation]
    small = [case for case in cases if numpy.prod(output_shape(case)) * numpy.prod(case.weight[1:]) < 4e6]
    return list(enumerate(small))[:: 1 + len(small) // 40]


# Every backend and instruction set, with the algorithms that npconv chooses.
KERNELS = {"numpy": {"backend": "numpy"}} | {
    isa: {"backend": "compiled", "isa": isa} for isa in sorted({engine.isa for engine in ENGINES if engine.isa})
}


@pytest.fixture(params=KERNELS)
def kernels(request):
    with npconv.options(**KERNELS[request.param]):
        yield request.param


def check_on_all_kernels(case, dtype, threads, expected, function, *given):
    for kernels, forced in KERNELS.items():
        with npconv.options(num_threads=threads, **forced):
            result = function(*given, **settings(case))
        assert result.dtype == dtype
        if dtype != "e":  # sums past 2048 have no place in it
            assert not oracle.difference_exact(result, expected), (case, dtype, kernels)


@pytest.mark.parametrize("sweep", [name for name in SWEEPS if name != "activations"])
def test_weight(sweep):
    for index, case in chosen(sweep):
        for dtype in ("f", "d", DTYPES[index % len(DTYPES)]):
            input, weight, grad_output = data(case, dtype)
            expected = oracle.weight_gradient(input, weight.shape, grad_output, **settings(case))
            given = grad.conv_weight, input, weight.shape, grad_output
            check_on_all_kernels(case, dtype, index % 3 + 1, expected, *given)


@pytest.mark.parametrize("sweep", [name for name in SWEEPS if name != "activations"])
def test_input(sweep):
    for index, case in chosen(sweep):
        if numpy.prod(case.input[2:]) * numpy.prod(case.weight) > 1e8:
            continue  # kernels as large as images, most of whose taps fall on padding
        for dtype in ("f", DTYPES[index % len(DTYPES)]):
            input, weight, grad_output = data(case, dtype)
            expected = oracle.input_gradient(input.shape, weight, grad_output, **settings(case))
            given = grad.conv_input, input.shape, weight, grad_output
            check_on_all_kernels(case, dtype, index % 3 + 1, expected, *given)


VARIED = [case for name in ("groups", "padding_modes", "many_axes", "strides_and_dilations", "same_paddings")
          for case in chosen(name)[3::9]]  # fmt: skip
VARIED = [case for _, case in VARIED]


@pytest.mark.parametrize("dtype", ["e", "f", "d", "F", "D", "h"])
@pytest.mark.parametrize(("outputs", "inputs"), [(40, 70), (64, 128), (5, 17)])
def test_single_taps_of_many_channels(kernels, dtype, outputs, inputs):
    """Weights are turned around in vectors, and what does not fill them one by one."""
    rng = numpy.random.default_rng(8)
    weight = shapes.small_integers(rng, (2 * outputs, inputs, 1, 1), dtype)
    given = shapes.small_integers(rng, (1, 2 * outputs, 3, 4), dtype)
    groups = slice(0, outputs), slice(outputs, None)
    halves = [numpy.einsum("kc,nkyx->ncyx", weight[i, :, 0, 0].conj(), given[:, i]) for i in groups]
    made = grad.conv_input((1, 2 * inputs, 3, 4), weight, given, groups=2)
    assert numpy.array_equal(made, numpy.concatenate(halves, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(backend, dtype):
    """float16 too, whose sums must fit it."""
    for case in VARIED:
        input, weight, grad_output = data(case, dtype)
        if dtype == "e":
            grad_output = grad_output * (numpy.arange(grad_output.size).reshape(grad_output.shape) % 7 == 0)
            grad_output = grad_output.astype("e")
        for result, expected in (
            (grad.conv_weight(input, weight.shape, grad_output, **settings(case)),
             oracle.weight_gradient(input, weight.shape, grad_output, **settings(case))),
            (grad.conv_input(input.shape, weight, grad_output, **settings(case)),
             oracle.input_gradient(input.shape, weight, grad_output, **settings(case))),
        ):  # fmt: skip
            assert result.dtype == dtype
            if numpy.abs(expected).max(initial=0) < 2048 or dtype != "e":
                assert not oracle.difference_exact(result, expected), case


@pytest.mark.parametrize("case", VARIED[::3], ids=str)
def test_difference_quotients(backend, case):
    """The convolution is linear in each of its arguments, so that central differences are exact but for rounding."""
    rng = numpy.random.default_rng(0)
    input, weight = rng.standard_normal(case.input), rng.standard_normal(case.weight)
    grad_output = rng.standard_normal(output_shape(case))

    def loss(x, w):
        return (npconv.conv(x, w, **settings(case)) * grad_output).sum()

    grad_input = grad.conv_input(input.shape, weight, grad_output, **settings(case))
    grad_weight = grad.conv_weight(input, weight.shape, grad_output, **settings(case))
    for _ in range(5):
        step, other = rng.standard_normal(case.input), rng.standard_normal(case.weight)
        slope = (loss(input + step, weight) - loss(input - step, weight)) / 2
        assert numpy.isclose(slope, (grad_input * step).sum(), rtol=1e-9, atol=1e-9)
        slope = (loss(input, weight + other) - loss(input, weight - other)) / 2
        assert numpy.isclose(slope, (grad_weight * other).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", VARIED[::3], ids=str)
def test_adjoints(backend, case):
    """<conv(x, w), y> == <x, input gradient> == <w, weight gradient> in exact integers."""
    input, weight, grad_output = data(case, "q")
    product = (npconv.conv(input, weight, **settings(case)) * grad_output).sum()
    assert product == (input * grad.conv_input(input.shape, weight, grad_output, **settings(case))).sum()
    assert product == (weight * grad.conv_weight(input, weight.shape, grad_output, **settings(case))).sum()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_functions_with_a_number(backend, axes):
    """In torch's positional order."""
    rng = numpy.random.default_rng(0)
    sizes = (2, 4, *(9, 8, 7)[:axes]), (6, 2, *(3, 2, 2)[:axes])
    input, weight = (shapes.small_integers(rng, size, "f") for size in sizes)
    grad_output = shapes.small_integers(rng, npconv.conv(input, weight, None, 2, 3, 2, 2).shape, "f")
    given = {"stride": 2, "padding": 3, "dilation": 2, "groups": 2}
    result = getattr(grad, f"conv{axes}d_input")(input.shape, weight, grad_output, 2, 3, 2, 2)
    assert not oracle.difference_exact(result, oracle.input_gradient(input.shape, weight, grad_output, **given))
    result = getattr(grad, f"conv{axes}d_weight")(input, weight.shape, grad_output, 2, 3, 2, 2)
    assert not oracle.difference_exact(result, oracle.weight_gradient(input, weight.shape, grad_output, **given))


def both(case, input, weight, grad_output, **more):
    """The two gradients."""
    arguments = {**settings(case), **more}
    return (grad.conv_input(input.shape, weight, grad_output, **arguments),
            grad.conv_weight(input, weight.shape, grad_output, **arguments))  # fmt: skip


@pytest.mark.parametrize("case", VARIED[::4], ids=str)
def test_unbatched_and_channels_last(backend, case):
    input, weight, grad_output = data(case, "f")
    one = both(case, input[:1], weight, grad_output[:1])
    alone = both(case, input[0], weight, grad_output[0])
    assert numpy.array_equal(alone[0], one[0][0])
    assert numpy.array_equal(alone[1], one[1])
    expected = both(case, input, weight, grad_output)
    for copy in (lambda array: array, numpy.ascontiguousarray):
        last = (copy(numpy.moveaxis(array, 1, -1)) for array in (input, grad_output))
        image, gradient = last
        result = both(case, image, weight, gradient, data_format="channels_last")
        assert numpy.array_equal(result[0], numpy.moveaxis(expected[0], 1, -1))
        assert numpy.array_equal(result[1], expected[1])


@pytest.mark.parametrize("case", VARIED[1::4], ids=str)
def test_layouts(backend, case):
    given = data(case, "f")
    expected = both(case, *given)
    for change in (
        lambda array: array.astype(">f4"),
        numpy.asfortranarray,
        lambda array: array[..., ::-1].copy()[..., ::-1],
        lambda array: numpy.repeat(array, 2, -1)[..., ::2],
        lambda array: numpy.frombuffer(b"\0" + array.tobytes(), "f", offset=1).reshape(array.shape),
    ):
        changed = [change(array) for array in given]
        for array in changed:
            array.flags.writeable = False
        for result, right in zip(both(case, *changed), expected, strict=True):
            assert numpy.array_equal(result, right)


@pytest.mark.parametrize("case", VARIED[2::6], ids=str)
def test_out(backend, case):
    input, weight, grad_output = data(case, "f")
    expected = both(case, input, weight, grad_output)
    outs = [numpy.zeros((*array.shape[:-1], 2 * array.shape[-1]), "f")[..., ::-2] for array in (input, weight)]
    arguments = settings(case)
    assert grad.conv_input(input.shape, weight, grad_output, **arguments, out=outs[0]) is outs[0]
    assert grad.conv_weight(input, weight.shape, grad_output, **arguments, out=outs[1]) is outs[1]
    assert all(map(numpy.array_equal, outs, expected))
    for out in outs:
        assert not out.base[..., ::2].any()


def test_out_that_overlaps(backend):
    rng = numpy.random.default_rng(0)
    image, gradient, weight = (
        shapes.small_integers(rng, size, "f") for size in ((2, 3, 6, 6), (2, 3, 6, 6), (3, 3, 3, 3))
    )
    expected = grad.conv2d_input(image.shape, weight, gradient, padding=1)
    grad.conv2d_input(image.shape, weight, gradient, padding=1, out=gradient)
    assert numpy.array_equal(gradient, expected)
    expected = grad.conv2d_weight(image, (3, 3, 3, 3), gradient, padding=1)
    out = image[0, :, :3, :3][:, :, :, numpy.newaxis].transpose(0, 3, 1, 2)
    assert numpy.array_equal(
        grad.conv2d_weight(image[:, :1], (3, 1, 3, 3), gradient, padding=1, out=out), expected[:, :1]
    )


def test_empty_batch(backend):
    image, gradient, weight = numpy.ones((0, 3, 6), "f"), numpy.ones((0, 4, 4), "f"), numpy.ones((4, 3, 3), "f")
    result = grad.conv1d_input(image.shape, weight, gradient)
    assert (result.shape, result.dtype) == ((0, 3, 6), "f")
    out = numpy.ones((4, 3, 3), "f")
    assert grad.conv1d_weight(image, (4, 3, 3), gradient, out=out) is out
    assert not out.any()


# Few channels and many pixels, whose sums are cut into slices; channels that threads share; dot products; several taps.
SHARED = (
    ((4, 3, 90, 130), (4, 3, 3, 3), {"padding": 1}),
    ((2, 1, 300, 310), (1, 1, 5, 5), {"padding": 2}),
    ((1, 64, 20, 30), (48, 64, 3, 3), {"padding": 1}),
    ((2, 8, 40, 50), (8, 1, 3, 3), {"stride": 2, "groups": 8}),
    ((1, 1, 9000), (7, 1, 1200), {"stride": 3}),
    ((3, 5, 6, 30, 31), (9, 5, 2, 3, 3), {}),
)


@pytest.mark.parametrize(("input", "weight", "arguments"), SHARED, ids=str)
@pytest.mark.parametrize("dtype", ["f", "d", "F"])
def test_threads_change_nothing(backend, input, weight, arguments, dtype):
    rng = numpy.random.default_rng(0)
    image = (rng.standard_normal(input) + (1j * rng.standard_normal(input) if dtype == "F" else 0)).astype(dtype)
    size = npconv.conv(image, numpy.ones(weight, dtype), **arguments).shape
    gradient = rng.standard_normal(size).astype(dtype)
    results = []
    for threads in (1, 2, 3, 5, 2):
        with npconv.options(num_threads=threads):
            results.append(grad.conv_weight(image, weight, gradient, **arguments))
    assert all(numpy.array_equal(results[0], result) for result in results)
    expected = oracle.weight_gradient(image, weight, gradient, **arguments)
    scale = oracle.weight_gradient(abs(image), weight, abs(gradient), **arguments).max()
    assert not oracle.difference_rounded(results[0], expected, scale, oracle.TOLERANCE[dtype] / 10)


def test_long_sums_stay_precise(backend):
    rng = numpy.random.default_rng(0)
    image, gradient = (rng.random((1, 1, 700, 800), dtype="f") for _ in range(2))
    result = grad.conv2d_weight(image, (1, 1, 1, 1), gradient)
    assert numpy.isclose(result.item(), numpy.sum(image.astype("d") * gradient), rtol=1e-6)
    images, gradients = rng.random((1, 20, 300, 400), dtype="f"), rng.random((1, 20, 300, 400), dtype="f")
    result = grad.conv2d_weight(images, (20, 20, 1, 1), gradients)[..., 0, 0]
    numpy.testing.assert_allclose(result, numpy.einsum("nkhw,nchw->kc", gradients, images, dtype="d"), rtol=3e-6)


@pytest.mark.skipif("compiled" not in BACKENDS, reason="the NumPy backend adds one sample after the other")
@pytest.mark.parametrize("channels", [1, 40])  # dot products, outer products
def test_long_sums_are_cut_into_slices(channels):
    """A sum so large that ones added to it are lost stands at the start: the other slices keep theirs."""
    image = numpy.ones((2048, channels, 1, 2), "f")
    gradient = image.copy()
    gradient[0] = 2**24
    with npconv.options(backend="compiled"):
        result = grad.conv2d_weight(image, (channels, channels, 1, 1), gradient)
    ones = result.astype("d") - 2 * 2**24
    assert ones.min() > 0.8 * 2 * 2047


def test_infinities_reach_their_taps_only(backend):
    for channels in (1, 3, 20):
        image, gradient = numpy.ones((1, channels, 9, 9), "f"), numpy.ones((1, 2, 7, 7), "f")
        image[0, 0, 0, 0] = numpy.inf
        infinite = numpy.isinf(grad.conv2d_weight(image, (2, channels, 3, 3), gradient))
        expected = numpy.zeros((2, channels, 3, 3), bool)
        expected[:, 0, 0, 0] = True
        assert numpy.array_equal(infinite, expected)


def test_explained_by_no_algorithm(backend):
    """One that is named steers the gradient of the input; that of the weight has one of its own."""
    image = numpy.ones((1, 2, 5, 5), "f")
    with npconv.options(algorithm="matmul" if backend == "numpy" else "direct"):
        assert grad.conv2d_weight(image, (2, 2, 3, 3), image, padding=1)[0, 0, 1, 1] == 25


IMAGE, WEIGHT, GRADIENT = numpy.ones((1, 3, 8, 9), "f4"), numpy.ones((4, 3, 3, 3), "f4"), numpy.ones((1, 4, 6, 7), "f4")
BAD_CALLS = [
    ("input", (IMAGE.shape, WEIGHT, IMAGE), {}, ValueError,
     r"grad_output must have shape \(1, 4, 6, 7\), that of the convolution's result for input shape \(1, 3, 8, 9\), "
     r"weight shape \(4, 3, 3, 3\), got grad_output shape \(1, 3, 8, 9\)"),
    ("weight", (IMAGE, WEIGHT.shape, IMAGE), {}, ValueError, r"grad_output must have shape \(1, 4, 6, 7\)"),
    ("weight", (IMAGE, WEIGHT.shape, GRADIENT[0]), {}, ValueError, r"got grad_output shape \(4, 6, 7\)"),
    ("input", ((1, 3, 8), WEIGHT, GRADIENT), {}, ValueError, r"grad_output must have shape|input has 1 channels"),
    ("input", ((1, 2, 8, 9), WEIGHT, GRADIENT), {}, ValueError, r"input has 2 channels, but weight of shape"),
    ("input", ((1, 3, 0, 9), WEIGHT, GRADIENT), {}, ValueError, r"only the batch axis of the input may have size 0"),
    ("weight", (IMAGE, (4, 3, 3), GRADIENT), {}, ValueError, r"weight must have 4 axes"),
    ("weight", (IMAGE, (4, 0, 3, 3), GRADIENT), {}, ValueError, r"only the batch axis"),
    ("weight", (IMAGE, (4, 3, 3, -3), GRADIENT), {}, ValueError, r"weight_size must be at least 0 along"),
    ("input", ((1, 3, 8, -9), WEIGHT, GRADIENT), {}, ValueError, r"input_size must be at least 0 along"),
    ("input", (7, WEIGHT, GRADIENT), {}, TypeError, r"input_size must be a sequence of integers, got 7"),
    ("input", ((1, 3, 8, 9.0), WEIGHT, GRADIENT), {}, TypeError, r"input_size must be integers, got 9\.0"),
    ("weight", (IMAGE, "4333", GRADIENT), {}, TypeError, r"weight_size must be a sequence of integers, got '4333'"),
    ("weight", (IMAGE, (4, 3, 3, True), GRADIENT), {}, TypeError, r"weight_size must be integers, got True"),
    ("input", (IMAGE.shape, WEIGHT, GRADIENT), {"stride": 0}, ValueError, r"stride must be at least 1, got 0"),
    ("weight", (IMAGE, WEIGHT.shape, GRADIENT), {"padding": "SAME"}, ValueError, r"padding must be one of"),
    ("weight", (IMAGE, WEIGHT.shape, GRADIENT), {"padding_mode": "edge"}, ValueError, r"padding_mode must be one of"),
    ("input", (IMAGE.shape, WEIGHT, GRADIENT), {"groups": 2}, ValueError, r"with groups=2 takes 6"),
    ("input", (IMAGE.shape, WEIGHT, GRADIENT.astype(object)), {}, TypeError, r"grad_output has dtype object"),
    ("weight", (IMAGE, WEIGHT.shape, GRADIENT.astype(object)), {}, TypeError, r"grad_output has dtype object"),
    ("input", (IMAGE.shape, WEIGHT > 0, GRADIENT > 0), {}, TypeError, r"grad_output and weight of dtype bool cannot"),
    ("weight", (IMAGE > 0, WEIGHT.shape, GRADIENT > 0), {}, TypeError, r"input and grad_output of dtype bool cannot"),
    ("weight", (IMAGE, WEIGHT.shape, [[1], [2, 3]]), {}, ValueError, r"grad_output cannot be made an array of numbers"),
    ("input", (IMAGE.shape, WEIGHT, GRADIENT), {"out": IMAGE[:, :2]}, ValueError, r"out must have shape \(1, 3,"),
    ("weight", (IMAGE, WEIGHT.shape, GRADIENT), {"out": GRADIENT}, ValueError, r"out must have shape \(4, 3, 3, 3\)"),
    ("weight", (IMAGE, WEIGHT.shape, GRADIENT), {"out": WEIGHT.astype("d")}, TypeError, r"out must have dtype float32"),
    ("weight", (IMAGE, WEIGHT.shape, GRADIENT), {"dtype": bool}, TypeError, r"dtype=bool cannot hold"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "named", "error", "pattern"), BAD_CALLS)
def test_bad_call(backend, kind, arguments, named, error, pattern):
    with pytest.raises(error) as caught:
        getattr(grad, f"conv2d_{kind}")(*arguments, **named)
    message = str(caught.value)
    assert type(caught.value) is error
    assert re.search(f"^conv2d_{kind}: .*(?:{pattern})", message, re.DOTALL), message
    assert len(message) < 400


def test_names():
    names = [f"conv{axes}_{kind}" for axes, kind in itertools.product(("", "1d", "2d", "3d"), ("input", "weight"))]
    assert sorted(grad.__all__) == sorted(names)


FEW_INPUTS = [  # input, weight, arguments
    ((1, 3, 31, 29), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((3, 2, 40, 17), (37, 2, 9, 5), {"padding": 2, "dilation": (1, 2)}),
    ((2, 6, 23, 24), (50, 3, 3, 3), {"groups": 2, "padding": 1}),
    ((1, 5, 6, 9, 40), (33, 5, 2, 3, 4), {"stride": (1, 1, 2), "padding": 1}),
    ((1, 1, 3000), (48, 1, 40), {"stride": 3, "padding_mode": "reflect", "padding": 7}),
]


@pytest.mark.parametrize("dtype", ["f", "d", "i", "g", "e"])
@pytest.mark.parametrize(("image", "weight", "given"), FEW_INPUTS)
def test_weight_of_few_input_channels(kernels, image, weight, given, dtype):
    """Whose vectors lie along output channels where those along the window's elements would be emptier."""
    rng = numpy.random.default_rng(len(image))
    axes = len(image) - 2
    stride, dilation, padding = (
        oracle.per_axis(given.get(name, default), axes)
        for name, default in (("stride", 1), ("dilation", 1), ("padding", 0))
    )
    spatial = zip(image[2:], weight[2:], stride, dilation, padding, strict=True)
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, d, p in spatial]
    input = shapes.small_integers(rng, image, dtype)
    grad_output = (shapes.small_integers(rng, (image[0], weight[0], *size), dtype) % 2).astype(dtype)
    expected = oracle.weight_gradient(input, weight, grad_output, **given)
    for threads in (1, 2, 5):
        with npconv.options(num_threads=threads):
            result = grad.conv_weight(input, weight, grad_output, **given)
            turned = numpy.moveaxis(numpy.moveaxis(grad_output, 1, -1).copy(), -1, 1)
            again = grad.conv_weight(input, weight, turned, **given)
        if dtype != "e":  # sums past 2048 have no place in it
            assert not oracle.difference_exact(result, expected)
        numpy.testing.assert_array_equal(again, result)


@pytest.mark.parametrize("dtype", [">c8", "<c8", ">c16", "<c16"])
def test_complex_numbers_of_any_byte_order(backend, dtype):
    rng = numpy.random.default_rng(0)
    x, w, g = (shapes.small_integers(rng, shape, "F") for shape in ((2, 3, 9), (4, 3, 2), (2, 4, 8)))
    for swapped in itertools.product((False, True), repeat=3):
        given = zip((x, w, g), swapped, strict=True)
        arrays = [a.astype(dtype) if swap else a.astype(numpy.dtype(dtype).newbyteorder("=")) for a, swap in given]
        result = grad.conv1d_input(x.shape, *arrays[1:])
        assert not oracle.difference_exact(result, oracle.input_gradient(x.shape, w, g))
        assert not oracle.difference_exact(
            grad.conv1d_weight(arrays[0], w.shape, arrays[2]), oracle.weight_gradient(x, w.shape, g)
        )
