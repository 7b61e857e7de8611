"""Every bad call gets one clear sentence: the function, the argument, what was passed and what would be right."""

import re
import sys
import warnings

import numpy
import pytest

import npconv

HUGE = 2**62
IMAGE = numpy.ones((1, 3, 8, 9), "f4")
WEIGHT = numpy.ones((4, 3, 3, 3), "f4")
INTEGERS = numpy.ones((1, 3, 8, 9), "i4")


def ones(*shape, dtype="f4"):
    return numpy.ones(shape, dtype)


def vast(*shape, dtype="u1"):
    """An array that claims a size no memory has."""
    return numpy.broadcast_to(numpy.ones((), dtype), shape)


def read_only(*shape):
    array = ones(*shape)
    array.flags.writeable = False
    return array


class Exporter:
    """A DLPack producer that will not be read."""

    def __init__(self, error, requires_grad=False):
        self.error, self.requires_grad = error, requires_grad

    def __dlpack__(self, **options):
        raise self.error

    def __dlpack_device__(self):
        return (1, 0)


def bad(pattern, function="conv2d", input=IMAGE, weight=WEIGHT, error=ValueError, **named):
    return pytest.param(error, pattern, function, (input, weight), named, id=f"{function}: {pattern[:60]}")


def bad_type(pattern, **arguments):
    return bad(pattern, error=TypeError, **arguments)


# fmt: off
RANKS = [
    bad(
        r"input must have 4 axes \(N, C, H, W\), or 3 axes \(C, H, W\) without a batch, got input shape \(8, 9\); "
        r"weight shape \(4, 3, 3, 3\)",
        input=ones(8, 9)
    ),
    bad(r"input must have 4 axes .* got input shape \(1, 1, 3, 8, 9\)", input=ones(1, 1, 3, 8, 9)),
    bad(
        r"input must have 4 axes \(N, H, W, C\), or 3 axes \(H, W, C\).* got input shape \(\)",
        input=ones(), data_format="channels_last"
    ),
    bad(
        r"input must have 3 axes \(N, C, L\), or 2 axes \(C, L\).* got input shape \(8,\)",
        "conv1d", ones(8), ones(1, 1, 3)
    ),
    bad(
        r"input must have 5 axes \(N, C, D, H, W\).* got input shape \(3, 8, 9\)",
        "conv3d", ones(3, 8, 9), ones(4, 3, 1, 3, 3)
    ),
    bad(
        r"input must have 6 axes \(N, C, 4 spatial axes\).* got input shape \(2, 2\)",
        "conv", ones(2, 2), ones(1, 2, 1, 1, 1, 1)
    ),
    bad(
        r"weight must have 4 axes \(K, C/groups, R, S\), got weight shape \(3, 3\); input shape \(1, 3, 8, 9\)",
        weight=ones(3, 3)
    ),
    bad(
        r"weight must have 3 axes \(K, C/groups, S\), got weight shape \(4, 3, 3, 3\)",
        "conv1d", ones(1, 3, 8), WEIGHT
    ),
    bad(
        r"weight must have 5 axes \(K, C/groups, Q, R, S\), got weight shape \(4, 3, 3, 3\)",
        "conv3d", ones(1, 3, 8, 9, 9), WEIGHT
    ),
    bad(
        r"weight must have at least 3 axes \(K, C/groups, \*kernel\), got weight shape \(4, 3\)",
        "conv", ones(1, 3, 8), ones(4, 3)
    ),
    bad(r"weight must have at least 3 axes .* got weight shape \(\)", "conv", ones(1, 3, 8), 1.0),
]

CHANNELS = [
    bad(
        r"input has 3 channels, but weight of shape \(8, 4, 3, 3\) with groups=1 takes 4; input shape \(1, 3, "
        r"32, 32\)",
        "conv2d", ones(1, 3, 32, 32), ones(8, 4, 3, 3)
    ),
    bad(
        r"input has 9 channels, but weight of shape \(4, 3, 3, 3\) .*input shape \(1, 3, 8, 9\) is channels_last",
        data_format="channels_last"
    ),
    bad(r"input has 3 channels, but weight .* with groups=3 takes 9", groups=3),
    bad(
        r"weight of shape \(4, 1, 3, 3\) makes 4 output channels, which groups=3 does not divide; input shape "
        r"\(1, 3, 8, 9\)",
        weight=ones(4, 1, 3, 3), groups=3
    ),
    bad(r"groups must be at least 1, got 0", groups=0),
    bad(r"groups must be at least 1, got -1", groups=-1),
    bad(r"input has 3 channels, but weight .* with groups=4611686018427387904", groups=HUGE),
    bad(r"groups=an integer of 5001 bits", groups=2**5000),
    bad(
        r"bias must have shape \(4,\), one value an output channel of weight shape \(4, 3, 3, 3\), got bias "
        r"shape \(3,\)",
        bias=ones(3)
    ),
    bad(r"bias must have shape \(4,\).* got bias shape \(4, 1\)", bias=ones(4, 1)),
    bad(r"bias must have shape \(4,\).* got bias shape \(\)", bias=1.0),
    bad(r"bias must have shape \(4,\).* got bias shape \(0,\)", bias=[]),
    bad(
        r"only the batch axis of the input may have size 0; got input shape \(1, 0, 8, 9\), weight shape \(4, "
        r"0, 3, 3\)",
        "conv2d", ones(1, 0, 8, 9), ones(4, 0, 3, 3)
    ),
    bad(r"only the batch axis .* input shape \(1, 3, 8, 0\)", input=ones(1, 3, 8, 0), padding=2),
    bad(r"only the batch axis .* weight shape \(0, 3, 3, 3\)", weight=ones(0, 3, 3, 3)),
    bad(r"only the batch axis .* weight shape \(4, 3, 0, 3\)", weight=ones(4, 3, 0, 3)),
    bad(r"only the batch axis .* input shape \(0, 8, 9\)", "conv2d", ones(0, 8, 9), ones(4, 3, 3, 3)),
]

NUMBERS = [
    bad(r"stride must be at least 1, got 0", stride=0),
    bad(r"stride must be at least 1, got -1", stride=-1),
    bad(r"stride must be at least 1, got \(1, 0\)", stride=(1, 0)),
    bad(
        r"stride=\(1, 1, 1\) has 3 values, give one integer, or one for each of the 2 spatial axes of "
        r"input shape \(1, 3, 8, 9\), weight shape \(4, 3, 3, 3\)",
        stride=(1, 1, 1)
    ),
    bad(r"stride=\(\) has 0 values", stride=()),
    bad(r"stride=\(1,\) has 1 values", "conv3d", ones(1, 1, 4, 4, 4), ones(1, 1, 2, 2, 2), stride=[1]),
    bad(r"stride an integer of 201 bits|stride 1606938\d+.* does not fit in memory addressing", stride=2**200),
    bad_type(r"stride must be integers, got 1\.0 of type float", stride=1.0),
    bad_type(r"stride must be integers, got 1\.5 of type float", stride=(1, 1.5)),
    bad_type(r"stride must be integers, got '2' of type str", stride="2"),
    bad_type(r"stride must be integers, got True of type bool", stride=True),
    bad_type(r"stride must be integers, got .*True.* of type bool", stride=numpy.array([True, True])),
    bad_type(r"stride must be integers, got None of type NoneType", stride=None),
    bad_type(r"stride must be integers, got .*of type float64", stride=numpy.array([1.0, 2.0])),
    bad_type(r"stride must be integers, got .*of type ndarray", stride=numpy.ones((2, 2), int)),
    bad_type(r"stride must be integers, got \{1, 2\} of type set", stride={1, 2}),
    bad(r"dilation must be at least 1, got 0", dilation=0),
    bad(r"dilation must be at least 1, got \(-2, 1\)", dilation=(-2, 1)),
    bad(r"dilation=\(1, 1, 1\) has 3 values", dilation=[1, 1, 1]),
    bad(
        r"a kernel of 3 with dilation 4 spans 9 elements, but the padded input has 8 \(size 8, padding \(0, 0\)\); "
        r"input shape \(1, 3, 8, 9\), weight shape \(4, 3, 3, 3\)",
        dilation=4
    ),
    bad(r"a kernel of 3 with dilation 4611686018427387904, does not fit in memory addressing", dilation=HUGE),
    bad(r"kernel of 1 with dilation \d+, does not fit in memory addressing", weight=ones(4, 3, 1, 1), dilation=2**64),
    bad_type(r"dilation must be integers, got 2\.0 of type float", dilation=2.0),
    bad_type(r"groups must be integers, got 1\.0 of type float", groups=1.0),
    bad_type(r"groups must be integers, got \(1, 1\) of type tuple", groups=(1, 1)),
    bad_type(r"groups must be integers, got True of type bool", groups=True),
]

PADDINGS = [
    bad(r"padding must be at least 0, got -1", padding=-1),
    bad(r"padding must be at least 0, got \(\(0, 0\), \(1, -1\)\)", padding=((0, 0), (1, -1))),
    bad(r"padding=\(1, 2, 3\) has 3 values", padding=(1, 2, 3)),
    bad(
        r"padding=\(1, 2\) has 2 values for 1 spatial axis; write the pair \(before, after\) as padding=\(\(1, "
        r"2\),\)",
        "conv1d", ones(1, 1, 8), ones(1, 1, 3), padding=(1, 2)
    ),
    bad(
        r"padding=\(\(1, 2\),\) must be one integer, one integer an axis, or one \(before, after\) pair for "
        r"each of the 2",
        padding=((1, 2),)
    ),
    bad(r"padding=\(\(1, 2\), 3\) must be one integer", padding=((1, 2), 3)),
    bad(r"padding=\(\(1, 2, 3\), \(1, 2, 3\)\) must be one integer", padding=numpy.array([[1, 2, 3]] * 2)),
    bad(r"padding must be one of 'valid', 'same', 'same_lower', got 'SAME'", padding="SAME"),
    bad(r"padding must be one of 'valid', 'same', 'same_lower', got ''", padding=""),
    bad_type(r"padding must be integers, got 0\.5 of type float", padding=0.5),
    bad_type(r"padding must be integers, got None of type NoneType", padding=None),
    bad_type(r"padding must be integers, got 'same' of type str", padding=("same", "same")),
    bad_type(r"padding must be integers, got False of type bool", padding=(0, False)),
    bad(
        r"padding \(9223372036854775807, 9223372036854775807\).* does not fit in memory addressing, whose limit "
        r"is \d+",
        padding=2**63 - 1
    ),
    bad(r"a result of shape \(1, 4, \d+, \d+\) and dtype float32 takes \d+ bytes, which does not fit", padding=2**32),
    bad(
        r"padding_mode must be one of 'zeros', 'reflect', 'replicate', 'circular', 'symmetric', got 'edge'",
        padding_mode="edge"
    ),
    bad_type(r"padding_mode must be one of 'zeros', .*, got None", padding_mode=None),
    bad_type(r"padding_mode must be one of 'zeros', .*, got \['zeros'\]", padding_mode=["zeros"]),
    bad(
        r"padding_mode='reflect' pads an axis of size 8 by at most 7, got padding \(8, 8\); input shape \(1, 3, "
        r"8, 9\)",
        padding=8, padding_mode="reflect"
    ),
    bad(
        r"padding_mode='circular' pads an axis of size 8 by at most 8, got padding \(0, 9\)",
        padding=((0, 9), (0, 0)), padding_mode="circular"
    ),
    bad(r"padding_mode='symmetric' pads an axis of size 9 by at most 9", padding=(0, 10), padding_mode="symmetric"),
    bad(
        r"padding_mode='reflect' pads an axis of size 8 by at most 7",
        weight=ones(4, 3, 40, 1), padding="same", padding_mode="reflect"
    ),
    bad(
        r"a kernel of 5 with dilation 1 spans 5 elements, but the padded input has 4 \(size 2, padding \(1, 1\)\)",
        "conv1d", ones(1, 1, 2), ones(1, 1, 5), padding=1
    ),
    bad(r"a kernel of 9 .* spans 9 elements, but the padded input has 8", weight=ones(4, 3, 9, 9), padding="valid"),
]

SIZES = [
    bad(
        r"a result of shape \(1, 2147483648, 1048576, 4096\) and dtype uint8 takes 9223372036854775808 bytes",
        "conv2d", vast(1, 1, 2**20, 2**12), vast(2**31, 1, 1, 1)
    ),
    bad(
        r"a result of shape .* and dtype float64 takes 9223372036854775808 bytes",
        "conv1d", vast(1, 1, 2**30), vast(2**30, 1, 1), dtype="f8"
    ),
    bad(r"a result of shape \(0, 2147483648, 4294967296\)", "conv1d", vast(0, 1, 2**32), vast(2**31, 1, 1)),
    bad(r"does not fit in memory addressing", "conv", ones(1, 1, *[2] * 10), ones(1, 1, *[1] * 10), padding=2**10),
]

DTYPES = [
    bad_type(
        r"input and weight of dtype bool cannot hold sums of products; pass an integer, float or complex dtype=",
        input=IMAGE > 0, weight=WEIGHT > 0
    ),
    bad_type(r"dtype=bool cannot hold sums of products", dtype=bool),
    bad_type(r"dtype=object cannot hold", dtype=object),
    bad_type(r"dtype=<U3 cannot hold", dtype="U3"),
    bad_type(r"dtype=datetime64\[s\] cannot hold", dtype="M8[s]"),
    bad_type(r"dtype='float33' is not a dtype", dtype="float33"),
    bad_type(r"dtype=3 is not a dtype", dtype=3),
    bad_type(r"input has dtype object, an integer, float or complex dtype is needed", input=IMAGE.astype(object)),
    bad_type(r"weight has dtype object", weight=WEIGHT.astype(object)),
    bad_type(r"input has dtype object", input=None),
    bad_type(r"weight has dtype object", weight=object()),
    bad_type(r"input has dtype <U5", input="image"),
    bad_type(r"weight has dtype \|S1", weight=WEIGHT.astype("S1")),
    bad_type(r"input has dtype timedelta64\[s\]", input=INTEGERS.astype("m8[s]")),
    bad_type(r"input has dtype \[\('a', '<f4'\)\]", input=numpy.zeros((1, 3, 8, 9), [("a", "<f4")])),
    bad_type(r"bias has dtype object", bias=object()),
    bad_type(
        r"bias of dtype float64 cannot be cast to the result's dtype int32; convert it, or pass dtype=",
        input=INTEGERS, weight=ones(4, 3, 3, 3, dtype="i4"), bias=ones(4, dtype="f8")
    ),
    bad_type(r"bias of dtype complex64 cannot be cast to the result's dtype float32", bias=ones(4, dtype="F")),
    bad(r"input cannot be made an array of numbers: .*inhomogeneous", input=[[1, 2], [3]]),
    bad(r"weight cannot be made an array of numbers: .*inhomogeneous", weight=[[1, 2], [3]]),
    bad(r"bias cannot be made an array of numbers: .*inhomogeneous", bias=[[1, 2], [3]]),
    bad_type(
        r"input of type Exporter cannot be read through DLPack: not on this device",
        input=Exporter(BufferError("not on this device"))
    ),
    bad_type(
        r"weight of type Exporter cannot be read through DLPack: .*; pass its \.detach\(\)",
        weight=Exporter(RuntimeError("it requires grad"), requires_grad=True)
    ),
]

ACTIVATIONS = [
    bad(
        r"activation must be None, 'relu', .*'hardswish', \('leaky_relu', slope\) or \('clip', low, high\), got "
        r"'gelu'",
        activation="gelu"
    ),
    bad(r"activation must be None.* got 'leaky_relu'", activation="leaky_relu"),
    bad(r"activation must be None.* with low <= high, got \('clip', 2\.0, 1\.0\)", activation=("clip", 2, 1)),
    bad(r"activation must be None.* with low <= high, got \('clip', nan, 1\.0\)", activation=("clip", float("nan"), 1)),
    bad(r"activation must be None.* with low <= high, got \('clip', 1\.0\)", activation=("clip", 1)),
    bad(r"activation must be None.* got \('leaky_relu', nan\)", activation=("leaky_relu", float("nan"))),
    bad(r"activation must be None.* got \('relu', 1\.0\)", activation=("relu", 1)),
    bad_type(r"activation must be None, 'relu', .* got 7", activation=7),
    bad_type(r"activation must be None, 'relu', .* got \(\)", activation=()),
    bad_type(r"activation must be None, 'relu', .* got <ufunc 'tanh'>", activation=numpy.tanh),
    bad_type(r"activation \('clip', '0', 1\) takes real numbers, got '0'", activation=("clip", "0", 1)),
    bad_type(r"activation \('clip', 0, 1j\) takes real numbers, got 1j", activation=("clip", 0, 1j)),
    bad_type(
        r"activation 'relu' needs a float result, but the result has dtype int32",
        input=INTEGERS, weight=ones(4, 3, 3, 3, dtype="i4"), activation="relu"
    ),
    bad_type(
        r"activation 'tanh' needs a float result, but the result has dtype complex64",
        weight=WEIGHT.astype("F"), activation="tanh"
    ),
]

OTHERS = [
    bad(r"data_format must be one of 'channels_first', 'channels_last', got 'NHWC'", data_format="NHWC"),
    bad_type(r"data_format must be one of 'channels_first', 'channels_last', got None", data_format=None),
    bad_type(r"out must be a numpy\.ndarray, got list", out=[]),
    bad_type(r"out must be a numpy\.ndarray, got tuple", out=(ones(1, 4, 6, 7),)),
    bad_type(r"out must have dtype float32, got <f8 \(float64\)", out=ones(1, 4, 6, 7, dtype="<f8")),
    bad_type(r"out must have dtype float32, got >f4", out=ones(1, 4, 6, 7, dtype=">f4")),
    bad_type(r"out must have dtype float64, got <f4", dtype="f8", out=ones(1, 4, 6, 7)),
    bad(r"out must have shape \(1, 4, 6, 7\), got \(1, 4, 6, 8\)", out=ones(1, 4, 6, 8)),
    bad(r"out must have shape \(1, 4, 6, 7\), got \(4, 6, 7\)", out=ones(4, 6, 7)),
    bad(r"out must have shape \(4, 6, 7\), got \(1, 4, 6, 7\)", input=IMAGE[0], out=ones(1, 4, 6, 7)),
    bad(
        r"out must have shape \(1, 6, 7, 4\), got \(1, 4, 6, 7\)",
        input=ones(1, 8, 9, 3), data_format="channels_last", out=ones(1, 4, 6, 7)
    ),
    bad(r"out is read-only, a writeable array is needed", out=read_only(1, 4, 6, 7)),
    bad(r"out is read-only", out=numpy.broadcast_to(ones(1, 4, 6, 1), (1, 4, 6, 7))),
    bad(r"input has 3 channels, but weight of shape \(4, 2, 3, 3\)", "explain", IMAGE, ones(4, 2, 3, 3)),
    bad(r"out must have shape", "explain", IMAGE, WEIGHT, out=ones(1)),
]
SPREAD = numpy.ones((1, 4, 8, 9), "f4")  # what WEIGHT takes in a transposed convolution


def bad_transposed(pattern, input=SPREAD, weight=WEIGHT, function="conv_transpose2d", **named):
    return bad(pattern, function, input, weight, **named)


TRANSPOSED = [
    bad_transposed(
        r"input must have 4 axes \(N, C, H, W\), or 3 axes \(C, H, W\) without a batch, got input shape \(8, 9\)",
        ones(8, 9)
    ),
    bad_transposed(r"weight must have 4 axes \(C, K/groups, R, S\), got .*\(4, 3, 3\)", weight=ones(4, 3, 3)),
    bad_transposed(
        r"weight must have at least 3 axes \(C, K/groups, \*kernel\)", weight=ones(4, 3), function="conv_transpose"
    ),
    bad_transposed(
        r"input has 3 channels, but weight of shape \(4, 3, 3, 3\), \(C, K/groups, \*kernel\), takes 4; input shape "
        r"\(1, 3, 8, 9\) is channels_first",
        IMAGE
    ),
    bad_transposed(r"takes 4 input channels, which groups=3 does not divide", groups=3),
    bad_transposed(r"groups must be at least 1, got 0", groups=0),
    bad_transposed(r"bias must have shape \(6,\), .* got bias shape \(3,\)", groups=2, bias=ones(3)),
    bad_transposed(r"only the batch axis .* input shape \(1, 4, 0, 9\)", ones(1, 4, 0, 9)),
    bad_transposed(r"only the batch axis .* input shape \(1, 0, 8, 9\)", ones(1, 0, 8, 9), ones(0, 3, 3, 3)),
    bad_transposed(r"stride must be at least 1, got -2", stride=-2),
    bad_transposed(r"dilation=\(1, 1, 1\) has 3 values", dilation=(1, 1, 1)),
    bad_transposed(r"padding must be at least 0, got -1", padding=-1),
    bad_transposed(r"padding must be one of 'valid', 'same', 'same_lower', got 'full'", padding="full"),
    bad_transposed(
        r"padding \(5, 5\) leaves nothing of the 10 elements that size 8 with stride 1, a kernel of 3 with dilation 1 "
        r"and output_padding 0 spread over; input shape \(1, 4, 8, 9\)",
        padding=5
    ),
    bad_transposed(
        r"output_padding must be less than the stride or the dilation of its axis, got output_padding=2 with stride=2 "
        r"and dilation=1",
        stride=2, output_padding=2
    ),
    bad_transposed(r"output_padding must be less than .* got output_padding=\(0, 1\)", output_padding=(0, 1)),
    bad_transposed(r"output_padding must be at least 0, got -1", output_padding=-1),
    bad_transposed(r"output_padding=\(1,\) has 1 values", stride=2, output_padding=(1,)),
    bad_transposed(r"output_padding must be integers, got 0\.5", error=TypeError, output_padding=0.5),
    bad_transposed(r"padding='same' makes the result size \* stride", stride=2, padding="same", output_padding=1),
    bad_transposed(r"stride 4611686018427387904.* does not fit in memory addressing", stride=HUGE),
    bad_transposed(r"a result of shape .* takes \d+ bytes, which does not fit", stride=2**31),
    bad_transposed(r"input and weight of dtype bool cannot hold", SPREAD > 0, WEIGHT > 0, error=TypeError),
    bad_transposed(r"weight has dtype object", weight=WEIGHT.astype(object), error=TypeError),
    bad_transposed(r"activation must be None, 'relu'", activation="gelu"),
    bad_transposed(r"data_format must be one of", data_format="NHWC"),
    bad_transposed(r"out must have shape \(1, 3, 10, 11\), got \(1, 3, 8, 9\)", out=IMAGE.copy()),
    bad_transposed(r"out is read-only", out=read_only(1, 3, 10, 11)),
    bad_transposed(r"input has 3 channels", IMAGE, function="explain_transpose"),
]
# fmt: on

BAD_CALLS = [*TRANSPOSED, *RANKS, *CHANNELS, *NUMBERS, *PADDINGS, *SIZES, *DTYPES, *ACTIVATIONS, *OTHERS]


@pytest.mark.parametrize(("error", "pattern", "function", "arguments", "named"), BAD_CALLS)
def test_bad_call(backend, error, pattern, function, arguments, named):
    with pytest.raises(error) as caught:
        getattr(npconv, function)(*arguments, **named)
    message = str(caught.value)
    assert type(caught.value) is error
    assert re.search(f"^{function}: .*(?:{pattern})", message, re.DOTALL), message
    assert len(message) < 400


def test_the_table_is_long_enough():
    assert len(BAD_CALLS) >= 100


@pytest.mark.parametrize(
    "name", ["conv1d", "conv2d", "conv3d", "conv", "explain", "conv_transpose2d", "conv_transpose", "explain_transpose"]
)
def test_unknown_and_missing_arguments(name):
    function = getattr(npconv, name)
    with pytest.raises(TypeError, match=f"{name}.*strides"):
        function(IMAGE, WEIGHT, strides=2)
    with pytest.raises(TypeError, match=f"{name}.*weight"):
        function(IMAGE)
    with pytest.raises(TypeError, match=f"{name}.*positional"):
        function(IMAGE, WEIGHT, None, 1, 0, 1, 1, 1, "zeros")


def test_masks_are_not_seen(backend):
    image = numpy.ma.masked_array(IMAGE, mask=True)
    assert numpy.array_equal(npconv.conv2d(image, WEIGHT), npconv.conv2d(IMAGE, WEIGHT))


def test_good_calls_near_the_bad_ones(backend):
    """What the table refuses is refused for what it is: the nearest right call passes, without a warning."""
    expected = npconv.conv2d(IMAGE, WEIGHT, stride=2, padding=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stride in (2, (2, 2), [2, 2], numpy.int8(2), numpy.array([2, 2]), numpy.array(2), (numpy.int64(2), 2)):
            assert numpy.array_equal(npconv.conv2d(IMAGE, WEIGHT, stride=stride, padding=1), expected)
        for padding in ((1, 1), [1, 1], ((1, 1), (1, 1)), [[1, 1], (1, 1)], numpy.ones((2, 2), "u1"), numpy.uint64(1)):
            assert numpy.array_equal(npconv.conv2d(IMAGE, WEIGHT, stride=2, padding=padding), expected)
    assert npconv.conv1d(ones(1, 1, 8), ones(1, 1, 3), padding=((1, 2),)).shape == (1, 1, 9)
    assert npconv.conv1d(ones(1, 1, 8), ones(1, 1, 3), padding=(1,)).shape == (1, 1, 8)
    assert npconv.conv2d(IMAGE, WEIGHT, numpy.arange(4)).dtype == "f4"
    assert npconv.conv2d(INTEGERS.astype("u1"), WEIGHT.astype("u1"), [1, 2, 3, -4]).dtype == "u1"
    assert npconv.conv2d(IMAGE > 0, WEIGHT > 0, dtype=int).flat[0] == 27
    far = sys.maxsize // 2
    assert npconv.conv1d(ones(1, 1, 1), ones(1, 1, 1), stride=far, dilation=far).shape == (1, 1, 1)
