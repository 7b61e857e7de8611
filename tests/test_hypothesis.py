"""Properties over the whole space of arguments. NPCONV_HYPOTHESIS=search looks further than the usual run."""

import math
import os

import numpy
import oracle
import pytest
import shapes
from engines import ENGINES, Engine, difference
from test_layouts import LAYOUTS
from test_out import TARGETS, Target

import npconv

hypothesis = pytest.importorskip("hypothesis")
strategies = hypothesis.strategies
integers, sampled = strategies.integers, strategies.sampled_from

FEW = {"deadline": None, "max_examples": 150, "derandomize": True, "database": None}
MANY = {"deadline": None, "max_examples": 5000, "derandomize": False, "print_blob": True}
Check = hypothesis.HealthCheck
CHECKS = [Check.too_slow, Check.filter_too_much, Check.data_too_large]
settings = hypothesis.settings(
    **(MANY if os.environ.get("NPCONV_HYPOTHESIS") == "search" else FEW), suppress_health_check=CHECKS
)

NAMED = ("relu", "relu6", "sigmoid", "tanh", "silu", "hardswish")
ACTIVATIONS = (None, None, *NAMED, ("leaky_relu", 0.5), ("clip", -3, 9.5))
REAL = "bBhHiIlLqQefdg"


@strategies.composite
def spatial(draw):
    """(size, kernel, stride, dilation, padding, padding_mode), small enough for many examples."""
    axes = draw(integers(1, 4))
    longest = (60, 20, 9, 6)[axes - 1]
    size = draw(strategies.lists(integers(1, longest), min_size=axes, max_size=axes))
    kernel = draw(strategies.lists(integers(1, (12, 6, 4, 3)[axes - 1]), min_size=axes, max_size=axes))
    stride = draw(strategies.one_of(integers(1, 4), strategies.tuples(*[integers(1, 5)] * axes)))
    dilation = draw(strategies.one_of(integers(1, 3), strategies.tuples(*[integers(1, 4)] * axes)))
    mode = draw(sampled(shapes.MODES))
    limits = [padding_limit(mode, n) for n in size]
    padding = draw(paddings(limits))
    return tuple(size), tuple(kernel), stride, dilation, padding, mode


def padding_limit(mode, size):
    return {"zeros": 6, "replicate": 6, "reflect": size - 1, "circular": size, "symmetric": size}[mode]


def paddings(limits):
    limits = [min(limit, 6) for limit in limits]
    pairs = strategies.tuples(*(strategies.tuples(integers(0, n), integers(0, n)) for n in limits))
    forms = [integers(0, min(limits)), pairs, sampled(["same", "same_lower", "valid"])]
    if len(limits) > 1:
        forms.append(strategies.tuples(*(integers(0, n) for n in limits)))
    return strategies.one_of(*forms)


@strategies.composite
def problems(draw):
    size, kernel, stride, dilation, padding, mode = draw(spatial())
    groups = draw(integers(1, 4))
    wide = len(size) < 3
    group_inputs, group_outputs = draw(integers(1, 20 if wide else 4)), draw(integers(1, 20 if wide else 4))
    return shapes.Case(
        (draw(integers(0, 3)), groups * group_inputs, *size), (groups * group_outputs, group_inputs, *kernel),
        stride, padding, dilation, groups, mode,
    )  # fmt: skip


def obstacle(case):
    """What npconv must object to: a border wider than the image can give, or a kernel wider than the padded image."""
    axes = case.axes
    stride, dilation = oracle.per_axis(case.stride, axes), oracle.per_axis(case.dilation, axes)
    size, kernel = case.input[2:], case.weight[2:]
    pairs = oracle.resolve_padding(case.padding, size, kernel, stride, dilation)
    limits = [padding_limit(case.padding_mode, n) for n in size]
    limited = case.padding_mode not in ("zeros", "replicate")
    if limited and any(max(pair) > limit for pair, limit in zip(pairs, limits, strict=True)):
        return "padding"
    padded = [n + sum(pair) for n, pair in zip(size, pairs, strict=True)]
    if any((k - 1) * d + 1 > n for k, d, n in zip(kernel, dilation, padded, strict=True)):
        return "kernel"
    return None


def engine_and(draw):
    return draw(sampled(ENGINES)), draw(integers(1, 4))


def prepared(case, data, draw):
    """The arrays in drawn layouts, with the drawn data format and batching; (arrays, arguments, expected)."""
    arguments, image, expected = case.arguments(), data.input, data.expected
    if draw(strategies.booleans()):
        arguments["data_format"] = "channels_last"
        image, expected = numpy.moveaxis(image, 1, -1), numpy.moveaxis(expected, 1, -1)
    if case.input[0] and draw(strategies.booleans()):
        image, expected = image[0], expected[0]
    arrays = [image, data.weight, data.bias]
    arrays = [a if a is None or draw(strategies.booleans()) else draw(sampled(LAYOUTS))(a) for a in arrays]
    return arrays, arguments, expected


def judge(case, data, done, expected):
    """As engines.difference, for results in any format."""
    fitting = shapes.Data(data.input, data.weight, data.bias, expected, data.scale)
    return difference(case, fitting, *done)


@settings
@hypothesis.given(problems(), sampled("fdfdfd" + REAL + "FDG"), sampled(ACTIVATIONS), strategies.data())
def test_any_problem(case, dtype, activation, data):
    if activation and numpy.dtype(dtype).kind == "f":
        case = shapes.Case(**{**vars(case), "activation": activation})
    engine, threads = engine_and(data.draw)
    if obstacle(case):
        arrays = numpy.ones(case.input, dtype), numpy.ones(case.weight, dtype)
        with engine.options(), pytest.raises(ValueError, match=obstacle(case)):
            npconv.conv(*arrays, **case.arguments())
        return
    known = shapes.make_data(case, dtype)
    arrays, arguments, expected = prepared(case, known, data.draw)
    out = {}
    if data.draw(strategies.booleans()):
        target = Target(data.draw(sampled(TARGETS)), expected.shape, known.input.dtype)
        out = {"out": target.view}
    done = engine.conv(arrays, arguments, num_threads=threads, **out)
    if done is None:
        return
    assert not judge(case, known, done, expected)
    if out:
        assert done[1] is target.view
        assert dtype in "gG" or target.surroundings_untouched()


@settings
@hypothesis.given(problems(), sampled(REAL), sampled(REAL), sampled((None, *REAL)), strategies.data())
def test_any_pair_of_dtypes(case, one, two, target, data):
    hypothesis.assume(not obstacle(case))
    engine, threads = engine_and(data.draw)
    rng = numpy.random.default_rng(case.seed)
    input, weight = (numpy.abs(shapes.small_integers(rng, s, t)) for s, t in ((case.input, one), (case.weight, two)))
    arguments = {**case.arguments(), **({} if target is None else {"dtype": target})}
    done = engine.conv((input, weight), arguments, num_threads=threads)
    if done:
        expected = oracle.convolve(input, weight, **arguments)
        assert done[1].dtype == oracle.result_type(input, weight, target)
        if done[0] == "strict":
            assert not oracle.difference_exact(done[1], expected)


@settings
@hypothesis.given(problems(), sampled("fd"), strategies.data())
def test_linear_in_the_input_and_in_the_weight(case, dtype, data):
    hypothesis.assume(not obstacle(case))
    engine, threads = engine_and(data.draw)
    rng = numpy.random.default_rng(case.seed)
    one, two = (shapes.small_integers(rng, case.input, dtype) for _ in range(2))
    weight = shapes.small_integers(rng, case.weight, dtype)
    results = [
        engine.conv((input, weight), case.arguments(), num_threads=threads) for input in (one, two, one + 2 * two)
    ]
    if results[0] and results[0][0] == "strict":
        one_result, two_result, sum_result = (result for _, result in results)
        assert numpy.array_equal(sum_result, one_result + 2 * two_result)
        twice = engine.conv((one, 2 * weight), case.arguments(), num_threads=threads)[1]
        assert numpy.array_equal(twice, 2 * one_result)


@settings
@hypothesis.given(problems(), strategies.data())
def test_engines_agree_within_rounding(case, data):
    hypothesis.assume(not obstacle(case) and case.input[0])
    known = shapes.make_data(case, data.draw(sampled("fd")), exact=False)
    engine: Engine = data.draw(sampled(ENGINES))
    assert not engine.difference(case, known, exact=False, num_threads=data.draw(integers(1, 4)))


@settings
@hypothesis.given(problems(), strategies.data())
def test_groups_are_separate_convolutions(case, data):
    hypothesis.assume(not obstacle(case) and case.groups > 1)
    engine, threads = engine_and(data.draw)
    known = shapes.make_data(case, "d")
    together = engine.conv(known.arrays, case.arguments(), num_threads=threads)
    if together is None or together[0] != "strict":
        return
    arguments = {**case.arguments(), "groups": 1}
    inputs = numpy.split(known.input, case.groups, 1)
    weights = numpy.split(known.weight, case.groups)
    biases = [None] * case.groups if known.bias is None else numpy.split(known.bias, case.groups)
    parts = [engine.conv(part, arguments) for part in zip(inputs, weights, biases, strict=True)]
    if all(parts):
        assert numpy.array_equal(numpy.concatenate([part[1] for part in parts], 1), together[1])


@settings
@hypothesis.given(strategies.data())
def test_output_shape_and_a_kernel_of_one_tap(data):
    """One tap of one is a strided crop of the padded input."""
    case = data.draw(problems())
    hypothesis.assume(not obstacle(case) and math.prod(case.weight[2:]) < 200)
    engine, threads = engine_and(data.draw)
    input = shapes.small_integers(numpy.random.default_rng(case.seed), case.input, "f")
    channels = case.input[1]
    tap = tuple(data.draw(integers(0, k - 1)) for k in case.weight[2:])
    weight = numpy.zeros((channels, 1, *case.weight[2:]), "f")
    weight[(slice(None), 0, *tap)] = 1
    arguments = {**case.arguments(), "groups": channels}
    done = engine.conv((input, weight), arguments, num_threads=threads)
    if done and done[0] == "strict":
        axes = case.axes
        stride, dilation = oracle.per_axis(case.stride, axes), oracle.per_axis(case.dilation, axes)
        pairs = oracle.resolve_padding(case.padding, case.input[2:], case.weight[2:], stride, dilation)
        padded = oracle.pad(input, pairs, case.padding_mode)
        size = oracle.output_size(padded.shape[2:], case.weight[2:], stride, dilation)
        crop = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilation, size, stride, strict=True)
        )
        assert numpy.array_equal(done[1], padded[(slice(None), slice(None), *crop)])
