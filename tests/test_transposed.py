"""Transposed convolution, against sums that are scattered one tap at a time."""

import itertools

import numpy
import oracle
import pytest
import shapes

import npconv

pytestmark = pytest.mark.usefixtures("plain_sums")


def numbers(shape, dtype="f", seed=0):
    return shapes.small_integers(numpy.random.default_rng((seed, *shape)), shape, dtype)


def case(input, weight, **arguments):
    return input, weight, arguments


def strides_and_dilations():
    for k, s, d, p in itertools.product((1, 2, 3, 5), (1, 2, 3, 4, 7), (1, 2, 3, 4), (0, 1, 3)):
        if 4 * s + (k - 1) * d + 1 > 2 * p:
            yield case((2, 3, 5), (3, 4, k), stride=s, dilation=d, padding=p)
    for k, s, d in itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2)):
        yield case((1, 2, 4, 5), (2, 3, k, k), stride=s, dilation=d, padding=min(1, k - 1))
    yield case((1, 3, 5, 6), (3, 4, 3, 2), stride=(1, 3), dilation=(4, 1))
    yield case((1, 3, 5, 6), (3, 4, 2, 5), stride=(2, 1), dilation=(3, 2), padding=(0, 4))


def output_paddings():
    for s, d, k in itertools.product((1, 2, 3, 5), (1, 2, 4), (1, 2, 3)):
        for extra in range(max(s, d)):
            yield case((1, 2, 4), (2, 3, k), stride=s, dilation=d, output_padding=extra)
    yield case((1, 2, 3, 4), (2, 3, 3, 2), stride=(2, 3), padding=1, output_padding=(1, 2))


def paddings():
    for before, after in itertools.product(range(4), repeat=2):
        yield case((1, 2, 5, 4), (2, 3, 3, 3), stride=2, padding=((before, after), (1, 0)))
    for rule, k, s, d in itertools.product(("same", "same_lower"), (1, 2, 3, 4, 5), (1, 2, 3), (1, 2)):
        yield case((1, 2, 5), (2, 3, k), padding=rule, stride=s, dilation=d)
    yield case((1, 2, 5), (2, 3, 3), padding="valid", stride=2)
    yield case((1, 2, 1), (2, 3, 1), stride=5, padding=((1, 0),), output_padding=4)  # no output sees a tap
    yield case((1, 2, 1), (2, 3, 9), padding=4)
    yield case((1, 2, 9), (2, 3, 3), padding=5)  # the ends of the input are not read


def groups():
    for g in (1, 2, 3, 4, 6, 12):
        yield case((1, 12, 4, 5), (12, 24 // g, 3, 3), padding=1, groups=g)
        yield case((2, 12, 5), (12, 2, 4), stride=2, groups=g)
    for channels, stride in itertools.product((1, 5, 17), (1, 2)):
        yield case((1, channels, 5, 9), (channels, 1, 3, 3), stride=stride, padding=1, groups=channels)


def many_places():
    """Strides at which one convolution makes the outputs of many places."""
    yield case((1, 3, 7), (3, 2, 40), stride=16)
    yield case((2, 3, 7), (3, 4, 37), stride=16, padding=5, output_padding=15)
    yield case((1, 4, 5), (4, 3, 8), stride=8, groups=2)
    yield case((2, 3, 3, 4), (3, 2, 4, 4), stride=4)
    yield case((2, 3, 3, 4), (3, 2, 7, 5), stride=(4, 5), padding=(1, 2), output_padding=(3, 0))
    yield case((1, 2, 4, 3), (2, 3, 9, 9), stride=3, dilation=2, padding=2)
    yield case((1, 1, 20), (1, 1, 100), stride=40, padding=((7, 90),))
    yield case((1, 2, 3, 2, 3), (2, 3, 2, 2, 2), stride=2)


def extremes():
    yield case((1, 2, 1), (2, 3, 1))
    yield case((1, 2, 1, 1), (2, 3, 1, 1), stride=3, output_padding=2)
    yield case((1, 2, 1), (2, 3, 2), stride=1000)
    yield case((1, 2, 3), (2, 3, 2), stride=1000, padding=999)
    yield case((1, 2, 1), (2, 3, 1), stride=2**40)
    yield case((1, 2, 1), (2, 3, 2), stride=2**40, dilation=50)
    yield case((1, 2, 3), (2, 3, 1), stride=5)
    yield case((0, 2, 3), (2, 3, 2), stride=2)
    yield case((0, 2, 3, 4), (2, 3, 2, 2), padding=1)
    yield case((1, 2, 3, 4, 2), (2, 3, 2, 3, 2), stride=2, padding=1)
    yield case((2, 2, 2, 3, 2, 2), (2, 3, 2, 2, 1, 2), stride=(1, 2, 1, 3))


def sizes():
    for c, k in itertools.product((1, 3, 16, 17, 33), repeat=2):
        yield case((1, c, 5, 6), (c, k, 3, 3), stride=2, padding=1)
    for n in range(1, 40, 3):
        yield case((1, 3, 3, n), (3, 5, 3, 3), padding=1)
        yield case((1, 2, 3, n), (2, 3, 4, 4), stride=2, padding=1)
    yield case((1, 130, 6, 7), (130, 70, 3, 3), padding=1)
    yield case((1, 16, 30, 33), (16, 24, 3, 3), stride=2, padding=1, output_padding=1)


CASES = {
    function.__name__: tuple(function())
    for function in (strides_and_dilations, output_paddings, paddings, groups, many_places, extremes, sizes)
}
VARIED = (
    case((2, 3, 5, 6), (3, 5, 3, 3), stride=2, padding=1, output_padding=1),
    case((2, 4, 7), (4, 3, 5), stride=3, dilation=2, groups=2),
    case((1, 3, 3, 4), (3, 2, 4, 4), stride=4),
    case((1, 4, 6, 7), (4, 1, 3, 3), padding=1, groups=4),
    case((1, 2, 3, 2, 4), (2, 3, 2, 3, 3), stride=(1, 2, 2), padding=1),
)
DTYPES = "bBhHiIlLqQefdgFDG"


def arrays(problem, dtype, seed=0):
    input, weight, arguments = problem
    outputs = weight[1] * arguments.get("groups", 1)
    bias = numbers((outputs,), dtype, seed + 2) if sum(input) % 2 else None
    return numbers(input, dtype, seed), numbers(weight, dtype, seed + 1), bias


def wrong(problem, dtype, result):
    given = arrays(problem, dtype)
    if result.dtype != numpy.dtype(dtype):
        return f"dtype {result.dtype}"
    return oracle.difference_exact(result, oracle.transpose(*given, **problem[2]))


def refuses(engine, given, arguments):
    """Whether the forced algorithm refuses one of the convolutions. To be called inside its options."""
    if engine.algorithm is None:
        return False
    try:
        plan = npconv.explain_transpose(*given, **arguments)
    except ValueError as error:
        if "refuses this problem" not in str(error):
            raise
        return True
    assert plan.algorithm in (engine.algorithm, "none")
    return False


@pytest.mark.parametrize("sweep", CASES)
def test_sweep(engine, sweep):
    for index, problem in enumerate(CASES[sweep]):
        for dtype in ("f", "d", DTYPES[index % len(DTYPES)]):
            given = arrays(problem, dtype)
            with engine.options(num_threads=index % 3 + 1):
                if not refuses(engine, given, problem[2]):
                    result = npconv.conv_transpose(*given, **problem[2])
                    assert not wrong(problem, dtype, result), (problem, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(backend, dtype):
    for problem in VARIED:
        assert not wrong(problem, dtype, npconv.conv_transpose(*arrays(problem, dtype), **problem[2])), problem


def test_mixed_dtypes(backend):
    input, weight = numbers((2, 3, 7), "u1"), numbers((3, 2, 4), "f4")
    assert npconv.conv_transpose1d(input, weight).dtype == numpy.float32
    result = npconv.conv_transpose1d(input, weight, stride=3, dtype="i8")
    assert not oracle.difference_exact(result, oracle.transpose(input, weight, stride=3, dtype="i8"))


@pytest.mark.parametrize("problem", VARIED, ids=str)
def test_it_is_the_adjoint_of_conv(backend, problem):
    """<conv(x), y> == <x, conv_transpose(y)> in exact integers, whatever part of y the convolution does not reach."""
    shape, weight, arguments = problem
    y, kernels = numbers(shape, "i8"), numbers(weight, "i8", 1)
    spread = npconv.conv_transpose(y, kernels, **arguments)
    x = numbers(spread.shape, "i8", 2)
    arguments = {name: value for name, value in arguments.items() if name != "output_padding"}
    again = npconv.conv(x, kernels, **arguments)
    assert again.shape == y.shape
    assert (again * y).sum() == (x * spread).sum()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_functions_with_a_number(backend, axes):
    for problem in (problem for problem in VARIED if len(problem[0]) == axes + 2):
        function = getattr(npconv, f"conv_transpose{axes}d")
        assert not wrong(problem, "f", function(*arrays(problem, "f"), **problem[2]))


def test_positional_order_is_torchs(backend):
    input, weight, bias = numbers((1, 4, 5, 6)), numbers((4, 3, 3, 3)), numbers((6,))
    result = npconv.conv_transpose2d(input, weight, bias, 3, 2, 1, 2, 4)
    expected = oracle.transpose(input, weight, bias, stride=3, padding=2, output_padding=1, groups=2, dilation=4)
    assert not oracle.difference_exact(result, expected)


def test_worked_example(backend):
    result = npconv.conv_transpose1d([[[1, 2, 4]]], [[[1, 10, 100]]], stride=2)
    assert result.tolist() == [[[1, 10, 102, 20, 204, 40, 400]]]


@pytest.mark.parametrize("problem", VARIED, ids=str)
def test_unbatched_and_channels_last(backend, problem):
    input, weight, bias = arrays(problem, "f")
    expected = npconv.conv_transpose(input, weight, bias, **problem[2])
    last = numpy.moveaxis(input, 1, -1)
    for image in (last, last.copy()):
        result = npconv.conv_transpose(image, weight, bias, **problem[2], data_format="channels_last")
        assert numpy.array_equal(result, numpy.moveaxis(expected, 1, -1))
        assert result.flags.c_contiguous
    assert numpy.array_equal(npconv.conv_transpose(input[0], weight, bias, **problem[2]), expected[0])
    one = npconv.conv_transpose(last[0], weight, bias, **problem[2], data_format="channels_last")
    assert numpy.array_equal(one, numpy.moveaxis(expected[0], 0, -1))


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", ("leaky_relu", 0.5), ("clip", 1, 3)], ids=str)
def test_activations(backend, activation):
    """On outputs without a tap too, where the bias alone is activated."""
    for problem in (*VARIED, *CASES["extremes"][:2], CASES["paddings"][-3]):
        input, weight, _ = arrays(problem, "d")
        bias = numbers((weight.shape[1] * problem[2].get("groups", 1),), "d", 5)
        result = npconv.conv_transpose(input, weight, bias, **problem[2], activation=activation)
        expected = oracle.transpose(input, weight, bias, **problem[2], activation=activation)
        numpy.testing.assert_allclose(result, expected.astype("d"), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("problem", VARIED, ids=str)
def test_out(backend, problem):
    given = arrays(problem, "f")
    expected = npconv.conv_transpose(*given, **problem[2])
    wide = numpy.zeros((*expected.shape[:-1], 2 * expected.shape[-1]), "f")
    out = wide[..., ::-2]
    assert npconv.conv_transpose(*given, **problem[2], out=out) is out
    assert numpy.array_equal(out, expected)
    assert not wide[..., ::2].any()
    with pytest.raises(ValueError, match=r"conv_transpose: out must have shape"):
        npconv.conv_transpose(*given, **problem[2], out=wide)


def test_out_that_overlaps(backend):
    weight, memory = numbers((3, 3, 3, 3)), numbers((2, 3, 8, 9))
    expected = npconv.conv_transpose2d(memory, weight, padding=1)
    assert npconv.conv_transpose2d(memory, weight, padding=1, out=memory) is memory
    assert numpy.array_equal(memory, expected)


def test_layouts(backend):
    for problem in VARIED:
        input, weight, bias = arrays(problem, "f")
        expected = npconv.conv_transpose(input, weight, bias, **problem[2])
        apart = numpy.zeros((*weight.shape, 2), "f")[..., 0]
        apart[...] = weight
        reversed_input = input[..., ::-1].copy()[..., ::-1]
        for x, w in (
            (input.astype(">f4"), weight.astype(">f4")),
            (numpy.asfortranarray(input), numpy.asfortranarray(weight)),
            (reversed_input, apart),
            (numpy.frombuffer(b"\0" + input.tobytes(), "f", offset=1).reshape(input.shape), weight),
            (input, numpy.frombuffer(b"\0" + weight.tobytes(), "f", offset=1).reshape(weight.shape)),
        ):
            x.flags.writeable = w.flags.writeable = False
            assert numpy.array_equal(npconv.conv_transpose(x, w, bias, **problem[2]), expected), problem


def test_threads_change_nothing(backend):
    for problem in (*VARIED, CASES["sizes"][-1], CASES["sizes"][-2]):
        rng = numpy.random.default_rng(0)
        x, w = (rng.standard_normal(shape, dtype="f") for shape in problem[:2])
        results = []
        for threads in (1, 2, 3, 2):
            with npconv.options(num_threads=threads):
                results.append(npconv.conv_transpose(x, w, **problem[2]))
        assert all(numpy.array_equal(results[0], result) for result in results)


def test_infinities_reach_their_outputs_only(backend):
    """Places that share a convolution keep to taps of their own."""
    for s, k in ((1, 3), (2, 3), (16, 40)):
        x, w = numpy.ones((1, 2, 9), "f"), numpy.ones((2, 3, k), "f")
        x[0, 1, 4] = numpy.inf
        with npconv.options(precision="fast"):
            result = npconv.conv_transpose1d(x, w, stride=s)
        expected = numpy.zeros(result.shape, bool)
        expected[..., 4 * s : 4 * s + k] = True
        assert numpy.array_equal(numpy.isinf(result), expected)
        assert not numpy.isnan(result).any()


def test_explain_transpose(backend):
    x, w = numpy.ones((1, 16, 8, 8), "f"), numpy.ones((16, 8, 3, 3), "f")
    plan = npconv.explain_transpose(x, w, stride=2, padding=1)
    assert plan.backend == backend
    assert isinstance(plan, npconv.Plan)
    assert set(plan.algorithm.split(", ")) <= (
        {"matmul"} if backend == "numpy" else {"blocked", "direct", "winograd_2x2", "winograd"}
    )
    with npconv.options(algorithm="reference" if backend == "compiled" else "matmul"):
        assert npconv.explain_transpose(x, w).algorithm == npconv.get_options()["algorithm"]
    nothing = npconv.explain_transpose(numpy.ones((1, 1, 1)), numpy.ones((1, 1, 1)), None, 5, ((1, 0),), 4)
    assert nothing.algorithm == "none"
    with pytest.raises(ValueError, match="explain_transpose: out must have shape"):
        npconv.explain_transpose(x, w, out=x)
