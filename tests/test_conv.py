"""The arithmetic: every problem of shapes.py on every engine, against the oracle."""

import dataclasses
import itertools

import numpy
import oracle
import pytest
import shapes
from engines import ENGINES, difference
from sweeps import SWEEPS

import npconv

pytestmark = pytest.mark.usefixtures("plain_sums")

OTHER_DTYPES = "bBhHiIlLqQefFDgG"


def test_oracle_agrees_with_the_definition():
    compared = 0
    for case in itertools.islice(itertools.chain(*SWEEPS.values()), 0, None, 11):
        if numpy.prod(case.input) > 400 or numpy.prod(case.weight) > 400 or case.activation:
            continue
        axes = case.axes
        stride, dilation = oracle.per_axis(case.stride, axes), oracle.per_axis(case.dilation, axes)
        pairs = oracle.resolve_padding(case.padding, case.input[2:], case.weight[2:], stride, dilation)
        if sum(map(sum, pairs)) > 50:
            continue
        compared += 1
        for dtype in "Bld":
            data = shapes.shared_data(case, dtype)
            exact = oracle.by_definition(*data.arrays, stride, pairs, dilation, case.groups, case.padding_mode)
            if dtype != "d":
                exact = exact & (2 ** (8 * data.expected.itemsize) - 1)
                exact = exact.astype("uint64").astype(dtype)
            assert numpy.array_equal(data.expected, exact.astype(data.expected.dtype)), case
    assert compared > 30


def test_oracle_tells_right_from_wrong():
    case = shapes.VARIED[0]
    data = shapes.shared_data(case, "f")
    for change in (lambda y: y[..., ::-1], lambda y: y.astype("d"), lambda y: y[:, :-1], lambda y: y * numpy.nan):
        wrong = change(data.expected.astype("f"))
        assert difference(case, data, "strict", wrong)
        assert difference(case, data, "fast", wrong)
    one_off = data.expected.astype("f")
    assert difference(case, data, "strict", one_off) is None
    one_off[1, 2, 3, 4] += 1
    assert "(1, 2, 3, 4)" in difference(case, data, "strict", one_off)
    assert "(1, 2, 3, 4)" in difference(case, data, "fast", one_off)


def failures(engine, cases, dtypes, exact=True):
    """Threads vary from case to case, so that every number meets every kind of problem."""
    for index, case in enumerate(cases):
        for place, dtype in enumerate(dtypes(index, case)):
            data = shapes.shared_data(case, dtype, exact)
            threads = (index + index // 3 + place) % 3 + 1  # dtypes take turns in threes, too
            wrong = engine.difference(case, data, exact=exact, num_threads=threads)
            if wrong:
                yield f"{case}, dtype {numpy.dtype(dtype)}, {threads} threads: {wrong}"


def assert_none(found):
    found = list(itertools.islice(found, 5))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_sweep(engine, sweep):
    def dtypes(index, case):
        other = OTHER_DTYPES[(index + len(sweep)) % len(OTHER_DTYPES)]
        return "fd" if index % 3 or case.activation else "f" + other

    assert_none(failures(engine, SWEEPS[sweep], dtypes))


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_varied_problems_in_every_dtype(engine, dtype):
    assert_none(failures(engine, shapes.VARIED, lambda index, case: dtype))


@pytest.mark.parametrize("dtype", "fdF")
def test_rounding_stays_small(engine, dtype):
    names = ("channel_pairs", "large_channel_counts", "long_reductions", "large_kernels", "small_networks",
             "activations", "lengths_1d")  # fmt: skip
    for name in names:
        cases = [case for case in SWEEPS[name] if not (case.activation and dtype == "F")]
        cases = cases["fdF".index(dtype) :: 3]
        assert_none(failures(engine, cases, lambda index, case: dtype, exact=False))


@pytest.mark.parametrize("name", shapes.NETWORKS)
def test_real_layers(backend, name):
    case = shapes.NETWORKS[name]
    data = shapes.shared_data(case, "f")
    for precision, threads in (("strict", 2), ("fast", 1), ("fast", 2)):
        with npconv.options(precision=precision, num_threads=threads):
            result = npconv.conv(*data.arrays, **case.arguments())
        assert not difference(case, data, precision, result), (precision, threads)


@pytest.mark.parametrize("precision", ["strict", "fast"])
@pytest.mark.parametrize("name", ["resnet50 3x3 128@28", "resnet50 3x3 512@7", "deeplab 3x3d2 64@28"])
def test_real_layers_keep_their_precision(backend, name, precision):
    case = shapes.NETWORKS[name]
    data = shapes.shared_data(case, "f", exact=False)
    with npconv.options(precision=precision):
        result = npconv.conv(*data.arrays, **case.arguments())
    scale = numpy.abs(data.expected).max()
    assert not oracle.difference_rounded(result, data.expected, scale, 2e-6 if precision == "strict" else 1e-5)


@pytest.mark.parametrize("stencil", [e for e in ENGINES if e.algorithm == "stencil" and not e.precision], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_strict_stencils_sum_alike_in_rows_of_any_length(stencil, stride):
    """Fast ones need not: kernels of 3x3 are others for long rows."""
    random = numpy.random.default_rng(0)
    input, weight = (random.standard_normal(shape).astype("f") for shape in ((1, 4, 9, 201), (4, 1, 3, 3)))
    with stencil.options(precision="strict"):
        whole, part = (npconv.conv2d(pixels, weight, groups=4, stride=stride) for pixels in (input, input[..., :27]))
    assert numpy.array_equal(whole[..., : part.shape[3]], part)


@pytest.mark.parametrize(("size", "kernel"), [((5500,), (4000,)), ((20, 790), (3, 700))])
def test_long_strict_sums(engine, size, kernel):
    """Of numbers that do not cancel, whose error grows with the length of what is summed at once."""
    random = numpy.random.default_rng(3)
    x, w = random.random((1, 1, *size), "f4"), random.random((1, 1, *kernel), "f4")
    if engine.backend == "numpy" or engine.algorithm == "reference":
        return  # up to its BLAS; one product after the other, for this dtype only where it is asked for
    with engine.options(precision="strict"):
        if engine.refusal((x, w), {}) is None:
            result = npconv.conv(x, w)
            windows = numpy.lib.stride_tricks.sliding_window_view(x[0, 0].astype("f8"), kernel)
            exact = (windows * w[0, 0]).sum(tuple(range(-len(kernel), 0)))
            assert abs(result[0, 0] - exact).max() < 2e-6 * exact.max()


@pytest.mark.parametrize("winograd", [e for e in ENGINES if "winograd" in (e.algorithm or "")], ids=str)
@pytest.mark.parametrize("dtype", "fd")
def test_more_weights_than_a_cache_holds(winograd, dtype):
    """They are asked for ahead where tiles are few, or transformed for all tiles of a call at once."""
    for input, outputs in (((2, 256, 14, 14), 34), ((3, 160, 9, 8), 65), ((1, 256, 24, 20), 33), ((2, 256, 6, 49), 48)):
        case = shapes.Case(input, (outputs, input[1], 3, 3), padding=1)
        data = shapes.shared_data(case, dtype)
        layer = npconv.Conv2d.from_weights(data.weight, data.bias, padding=1)
        results = set()
        for threads in (1, 2, 3):
            with winograd.options(precision="fast", num_threads=threads):
                assert winograd.refusal(data.arrays, case.arguments()) is None
                for result in (npconv.conv(*data.arrays, **case.arguments()), layer(data.input)):
                    assert not difference(case, data, "fast", result), (str(case), threads)
                    results.add(result.tobytes())
        assert len(results) == 1, str(case)


@pytest.mark.parametrize("case", [case for case in shapes.VARIED if case.axes <= 3], ids=str)
def test_functions_with_a_number_agree_with_conv(backend, case):
    data = shapes.shared_data(case, "f")
    function = getattr(npconv, f"conv{case.axes}d")
    assert not difference(case, data, "strict", function(*data.arrays, **case.arguments()))


def test_positional_order_is_torchs(backend):
    case = shapes.Case((2, 4, 9, 8), (6, 2, 3, 3), stride=2, padding=3, dilation=2, groups=2)
    data = shapes.make_data(case, "f")
    for function in (npconv.conv2d, npconv.conv):
        result = function(*data.arrays, 2, 3, 2, 2)
        assert not difference(case, data, "strict", result)


def test_worked_example(backend):
    image = [[1, 2, 0, 3, 1], [0, 1, 2, 3, 1], [1, 2, 1, 0, 0], [5, 2, 3, 1, 1], [2, 1, 0, 1, 1]]
    kernel = [[1, 2, 1], [0, 1, 0], [2, 1, 0]]
    image, kernel = numpy.reshape(image, (1, 1, 5, 5)), numpy.reshape(kernel, (1, 1, 3, 3))
    assert npconv.conv2d(image, kernel)[0, 0].tolist() == [[10, 12, 12], [18, 16, 16], [13, 9, 3]]
    assert npconv.conv2d(image, kernel, stride=2)[0, 0].tolist() == [[10, 12], [13, 3]]
    padded = npconv.conv2d(image, kernel, padding=1)
    assert padded.shape == (1, 1, 5, 5)
    assert padded[0, 0, 0].tolist() == [1, 3, 4, 10, 8]


def test_ways_to_write_the_same_arguments(backend):
    rng = numpy.random.default_rng(0)
    input, weight = rng.integers(-5, 5, (2, 4, 9, 8)), rng.integers(-5, 5, (6, 2, 3, 3))
    expected = oracle.convolve(input, weight, None, (2, 1), ((1, 1), (2, 2)), (1, 2), 2)
    one, two = numpy.int8(1), numpy.array([2, 1], numpy.uint16)
    for stride, padding, dilation, group_count in (
        ((2, 1), (1, 2), (1, 2), 2),
        ([2, 1], [[1, 1], [2, 2]], [1, 2], numpy.int64(2)),
        (two, numpy.array([[1, 1], [2, 2]]), (one, 2), numpy.array(2)),
        (two.astype("i8"), ((one, one), (2, 2)), numpy.array([1, 2]), numpy.uint8(2)),
    ):
        result = npconv.conv2d(input, weight, None, stride, padding, dilation, group_count)
        assert numpy.array_equal(result, expected)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_unbatched_and_channels_last(backend, axes):
    case = next(case for case in shapes.VARIED if case.axes == axes)
    data, arguments = shapes.shared_data(case, "f"), case.arguments()
    last = numpy.moveaxis(data.input, 1, -1)
    expected = data.expected.astype("f")
    expected_last = numpy.moveaxis(expected, 1, -1)
    for image in (last, last.copy()):
        result = npconv.conv(image, *data.arrays[1:], **arguments, data_format="channels_last")
        assert numpy.array_equal(result, expected_last)
        assert result.flags.c_contiguous
        one = npconv.conv(image[0], *data.arrays[1:], **arguments, data_format="channels_last")
        assert numpy.array_equal(one, expected_last[0])
    one = npconv.conv(data.input[0], *data.arrays[1:], **arguments)
    assert numpy.array_equal(one, expected[0])
    assert one.flags.c_contiguous


def test_sweep_in_channels_last(engine):
    def found():
        cases = itertools.islice(itertools.chain(*SWEEPS.values()), 3, None, 7)
        for index, case in enumerate(cases):
            data = shapes.shared_data(case, "fd"[index % 2])
            image = numpy.ascontiguousarray(numpy.moveaxis(data.input, 1, -1))
            arguments = {**case.arguments(), "data_format": "channels_last"}
            done = engine.conv((image, *data.arrays[1:]), arguments, num_threads=index % 3 + 1)
            wrong = done and difference(case, data, done[0], numpy.moveaxis(done[1], -1, 1))
            if wrong:
                yield f"{case}: {wrong}"

    assert_none(found())


def test_sweep_with_activations(engine):
    """The exact ones: they must come after the last addition, wherever an algorithm splits its sums."""
    chosen = ("relu", ("clip", -3, 8), ("leaky_relu", 0.5), "relu6")

    def found():
        cases = itertools.islice(itertools.chain(*SWEEPS.values()), 1, None, 5)
        for index, case in enumerate(cases):
            case = dataclasses.replace(case, activation=chosen[index % len(chosen)])
            data = shapes.shared_data(case, "fdfe"[index // 4 % 4])
            wrong = engine.difference(case, data, num_threads=index % 3 + 1)
            if wrong:
                yield f"{case}: {wrong}"

    assert_none(found())


def test_result_is_a_fresh_contiguous_array(engine):
    case = shapes.VARIED[0]
    data = shapes.shared_data(case, "f")
    done = engine.conv(data.arrays, case.arguments())
    if done:
        again = engine.conv(data.arrays, case.arguments())[1]
        result = done[1]
        assert type(result) is numpy.ndarray
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert result.dtype.isnative
        assert result.flags.aligned
        assert not numpy.may_share_memory(result, data.input)
        assert not numpy.may_share_memory(result, again)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_empty_batch(engine, axes):
    for dtype in "fdlD":
        input, weight = numpy.empty((0, 3, *[6] * axes), dtype), numpy.ones((5, 3, *[2] * axes), dtype)
        with engine.options():
            if engine.refusal((input, weight), {}) is None:
                result = npconv.conv(input, weight, stride=2)
                assert result.shape == (0, 5, *[3] * axes)
                assert result.dtype == dtype
