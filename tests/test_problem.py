"""What a call comes to before anything is computed: shapes, padding, dtypes, activations, and the cache's key."""

import dataclasses
import itertools
import math

import numpy
import pytest

import npconv
from npconv.arguments import Arguments
from npconv.problem import build

FLOAT = numpy.dtype("f4")


def problem(input_shape=(1, 3, 8, 9), weight_shape=(4, 3, 3, 3), **changes):
    call = {
        "function": "conv",
        "input_shape": input_shape,
        "input_dtype": FLOAT,
        "weight_shape": weight_shape,
        "weight_dtype": FLOAT,
        "bias_shape": None,
        "bias_dtype": None,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "padding_mode": "zeros",
        "activation": None,
        "data_format": "channels_first",
        "dtype": None,
    }
    return build(Arguments(**{**call, **changes}))


def windows(size, kernel, stride, dilation, padding):
    """How many windows fit, by trying every place."""
    padded = size + sum(padding)
    return sum(start + (kernel - 1) * dilation < padded for start in range(0, padded, stride))


def small_axes():
    return itertools.product(range(1, 8), range(1, 5), range(1, 4), range(1, 4))


def test_output_size_is_the_number_of_windows():
    for (size, kernel, stride, dilation), padding in itertools.product(small_axes(), [(0, 0), (1, 0), (0, 2), (3, 3)]):
        arguments = {"stride": stride, "dilation": dilation, "padding": (padding,)}
        expected = windows(size, kernel, stride, dilation, padding)
        if expected == 0:
            with pytest.raises(ValueError, match="spans"):
                problem((1, 1, size), (1, 1, kernel), **arguments)
        else:
            assert problem((1, 1, size), (1, 1, kernel), **arguments).output_size == (expected,)


def test_same_is_the_least_padding_that_gives_one_output_a_stride():
    for size, kernel, stride, dilation in small_axes():
        wanted = math.ceil(size / stride)
        arguments = {"stride": stride, "dilation": dilation}
        found = {
            name: problem((1, 1, size), (1, 1, kernel), padding=name, **arguments) for name in ("same", "same_lower")
        }
        before, after = found["same"].padding[0]
        assert found["same_lower"].padding == ((after, before),)
        assert after - before in (0, 1)
        assert all(each.output_size == (wanted,) for each in found.values())
        if before + after:
            assert windows(size, kernel, stride, dilation, (before, after - 1)) < wanted


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 7, 2, (2, 3)),  # TensorFlow's SAME, where torch users write padding=3
        (5, 3, 1, (1, 1)),
        (5, 2, 1, (0, 1)),
        (6, 3, 2, (0, 1)),
        (5, 3, 2, (1, 1)),
        (5, 1, 3, (0, 0)),
    ],
)
def test_same_as_elsewhere(size, kernel, stride, expected):
    assert problem((1, 1, size), (1, 1, kernel), stride=stride, padding="same").padding == (expected,)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 1), (1, 1))),
        ("same_lower", ((1, 1), (1, 1))),
    ],
)
def test_forms_of_padding(padding, expected):
    assert problem(padding=padding).padding == expected


@pytest.mark.parametrize(
    ("mode", "largest"), [("reflect", 4), ("symmetric", 5), ("circular", 5), ("replicate", 50), ("zeros", 50)]
)
def test_most_padding_of_each_mode(mode, largest):
    assert problem((1, 1, 5), (1, 1, 3), padding=largest, padding_mode=mode).output_size == (3 + 2 * largest,)
    if largest < 50:
        with pytest.raises(ValueError, match=f"by at most {largest}"):
            problem((1, 1, 5), (1, 1, 3), padding=((0, largest + 1),), padding_mode=mode)


@pytest.mark.parametrize(
    ("input_shape", "data_format", "output_shape", "batched"),
    [
        ((2, 3, 8, 9), "channels_first", (2, 4, 6, 7), True),
        ((3, 8, 9), "channels_first", (4, 6, 7), False),
        ((2, 8, 9, 3), "channels_last", (2, 6, 7, 4), True),
        ((8, 9, 3), "channels_last", (6, 7, 4), False),
        ((0, 3, 8, 9), "channels_first", (0, 4, 6, 7), True),
        ((0, 8, 9, 3), "channels_last", (0, 6, 7, 4), True),
    ],
)
def test_shapes(input_shape, data_format, output_shape, batched):
    found = problem(input_shape, data_format=data_format)
    assert found.output_shape == output_shape
    assert found.batched == batched
    assert found.batch == (input_shape[0] if batched else 1)
    assert (found.input_channels, found.output_channels, found.spatial_axes) == (3, 4, 2)
    assert (found.input_size, found.kernel_size, found.output_size) == ((8, 9), (3, 3), (6, 7))


def test_one_number_serves_every_axis():
    found = problem((1, 1, 9, 9, 9), (1, 1, 2, 2, 2), stride=2, dilation=(1, 2, 3))
    assert (found.stride, found.dilation, found.output_size) == ((2, 2, 2), (1, 2, 3), (4, 4, 3))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (None, None),
        ("relu", ("clip", 0, math.inf)),
        ("relu6", ("clip", 0, 6)),
        (("clip", -1.0, 1.0), ("clip", -1, 1)),
        (("clip", -math.inf, math.inf), ("clip", -math.inf, math.inf)),
        (("leaky_relu", 0.1), ("leaky_relu", 0.1, 0)),
        ("sigmoid", ("sigmoid", 0, 0)),
        ("tanh", ("tanh", 0, 0)),
        ("silu", ("silu", 0, 0)),
        ("hardswish", ("hardswish", 0, 0)),
    ],
)
def test_activations(activation, expected):
    assert problem(activation=activation).activation == expected


@pytest.mark.parametrize(
    ("input", "weight", "dtype", "expected"),
    [
        ("f4", "f4", None, "f4"),
        ("f4", "f8", None, "f8"),
        ("f2", "f2", None, "f2"),
        ("f2", "i1", None, "f2"),
        ("i4", "f4", None, "f8"),
        ("u1", "i1", None, "i2"),
        ("u8", "i8", None, "f8"),
        ("?", "i2", None, "i2"),
        ("f4", "F", None, "F"),
        ("g", "F", None, "G"),
        (">f4", ">f4", None, "f4"),
        ("f4", "f4", "i2", "i2"),
        ("?", "?", "f4", "f4"),
        ("i1", "i1", ">i4", "i4"),
    ],
)
def test_result_dtype(input, weight, dtype, expected):
    given = {"input_dtype": numpy.dtype(input), "weight_dtype": numpy.dtype(weight)}
    found = problem(**given, dtype=dtype and numpy.dtype(dtype)).dtype
    assert found == numpy.dtype(expected)
    assert found.isnative


@pytest.mark.parametrize(
    ("result", "source", "must"),
    [
        ("i4", "i8", False),
        ("u1", "?", False),
        ("i4", "f4", True),
        ("i4", "F", True),
        ("f4", "i8", False),
        ("f4", "f8", False),
        ("f4", ">f2", False),
        ("f4", "F", True),
        ("F", "D", False),
        ("f2", "f2", False),
        ("f2", ">f2", False),
        ("f2", "f4", True),
        ("f2", "i1", True),
    ],
)
def test_what_is_converted_beforehand(result, source, must):
    source = numpy.dtype(source)
    assert problem(dtype=numpy.dtype(result)).must_cast(source.newbyteorder("=")) == must
    assert problem(dtype=numpy.dtype(result)).must_cast(source) == must


def test_equal_calls_are_equal_problems():
    assert problem() == problem(stride=(1, 1), padding=((0, 0), (0, 0)))
    assert hash(problem()) == hash(problem(padding="valid"))
    assert problem() != problem(dilation=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem().groups = 2


IMAGE, WEIGHT = numpy.ones((1, 2, 6, 6), "f4"), numpy.ones((2, 2, 3, 3), "f4")


@pytest.mark.parametrize("name", ["stride", "dilation", "groups", "padding"])
def test_what_hashes_like_an_integer_is_none(backend, name):
    """1, 1.0 and True are one key to a dictionary; a call that went through must not let the next one through."""
    integers = [1, numpy.int64(1), numpy.uint8(1)] + ([(1, 1), [1, 1]] if name != "groups" else [])
    others = [1.0, True, numpy.float64(1), numpy.bool_(True), 1 + 0j, numpy.array(1.0)]
    others += [(1, 1.0), (True, 1), [1, 1 + 0j]] if name != "groups" else []
    others += [((1, 1), (1, True)), ((1.0, 1), (1, 1))] if name == "padding" else []
    expected = npconv.conv2d(IMAGE, WEIGHT, **{name: 1})
    for other in others:
        for good in integers:
            assert numpy.array_equal(npconv.conv2d(IMAGE, WEIGHT, **{name: good}), expected)
        with pytest.raises(TypeError, match=f"^conv2d: {name} must be integers"):
            npconv.conv2d(IMAGE, WEIGHT, **{name: other})


def test_equal_numbers_of_an_activation_are_one(backend):
    """-0.0 and 0.0 are one key too, but bounds of different sign."""
    for low, high in ((-0.0, 0.0), (0.0, -0.0), (0, numpy.float32(0))):
        result = npconv.conv2d(-IMAGE, WEIGHT, activation=("clip", low, high))
        assert not numpy.signbit(result).any()


def test_equal_arguments_of_different_functions_keep_their_names(backend):
    for function in (npconv.conv, npconv.conv2d, npconv.explain, npconv.conv2d):
        function(IMAGE, WEIGHT)
        with pytest.raises(ValueError, match=f"^{function.__name__}: "):
            function(IMAGE, WEIGHT, stride=0)


def test_a_changed_list_is_a_changed_call(backend):
    stride = [1, 1]
    assert npconv.conv2d(IMAGE, WEIGHT, stride=stride).shape == (1, 2, 4, 4)
    stride[0] = 2
    assert npconv.conv2d(IMAGE, WEIGHT, stride=stride).shape == (1, 2, 2, 4)


def test_strings_of_other_kinds(backend):
    class Name(str):
        __slots__ = ()

    expected = npconv.conv2d(IMAGE, WEIGHT, padding="same", activation="relu")
    for kind in (Name, numpy.str_):
        found = npconv.conv2d(
            IMAGE,
            WEIGHT,
            padding=kind("same"),
            activation=kind("relu"),
            padding_mode=kind("zeros"),
            data_format=kind("channels_first"),
        )
        assert numpy.array_equal(found, expected)
