"""One problem of the tests and its data, and tables of problems: NETWORKS and VARIED. Many more are in sweeps.py."""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy
import oracle

MODES = tuple(oracle.PAD_MODE)


@dataclass(frozen=True)
class Case:
    """Shapes are batched and channels first; `arguments()` is what goes to conv besides the arrays."""

    input: tuple
    weight: tuple
    stride: object = 1
    padding: object = 0
    dilation: object = 1
    groups: int = 1
    padding_mode: str = "zeros"
    activation: object = None

    def arguments(self):
        names = ("stride", "padding", "dilation", "groups", "padding_mode", "activation")
        return {name: getattr(self, name) for name in names}

    @property
    def axes(self):
        return len(self.weight) - 2

    @property
    def work(self):
        """Multiplications, or more where a stride leaves some out."""
        return math.prod(self.input) * math.prod(self.weight) // self.input[1]

    @property
    def seed(self):
        return zlib.crc32(repr(self).encode())

    @property
    def has_bias(self):
        return self.seed % 2 == 0

    def __str__(self):
        default = Case((), ())
        extra = [f"{k}={v}" for k, v in self.arguments().items() if v != getattr(default, k)]
        return " ".join(["x".join(map(str, self.input)), "by", "x".join(map(str, self.weight)), *extra])


@dataclass(frozen=True)
class Data:
    input: numpy.ndarray
    weight: numpy.ndarray
    bias: numpy.ndarray | None
    expected: numpy.ndarray
    scale: float

    @property
    def arrays(self):
        return self.input, self.weight, self.bias


def small_integers(rng, shape, dtype):
    """Values whose sums of products are exact in every float type's accumulator."""
    dtype = numpy.dtype(dtype)
    low = 0 if dtype.kind == "u" else -4
    values = rng.integers(low, 5, shape)
    if dtype.kind == "c":
        values = values + 1j * rng.integers(low, 5, shape)
    return values.astype(dtype)


def any_integers(rng, shape, dtype):
    """The whole range of an integer type, so that sums wrap around."""
    limits = numpy.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def normal(rng, shape, dtype):
    dtype = numpy.dtype(dtype)
    values = rng.standard_normal(shape)
    if dtype.kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def random_array(rng, shape, dtype, exact=True):
    if numpy.dtype(dtype).kind in "iu":
        return any_integers(rng, shape, dtype)
    return (small_integers if exact else normal)(rng, shape, dtype)


def make_data(case, dtype, exact=True):
    rng = numpy.random.default_rng(case.seed)
    input = random_array(rng, case.input, dtype, exact)
    weight = random_array(rng, case.weight, dtype, exact)
    bias = random_array(rng, case.weight[:1], dtype, exact) if case.has_bias else None
    expected = oracle.convolve(input, weight, bias, **case.arguments())
    scale = numpy.abs(expected).max(initial=0) if expected.dtype.kind in "fc" else 0
    for array in (input, weight, bias, expected):
        if array is not None:
            array.flags.writeable = False
    return Data(input, weight, bias, expected, scale)


@lru_cache(maxsize=6000)
def shared_data(case, dtype, exact=True):
    """As make_data, read-only, computed once for all engines."""
    return make_data(case, numpy.dtype(dtype), exact)


# Real layers, at their real size.
NETWORKS = {
    "resnet50 3x3 64@56": Case((1, 64, 56, 56), (64, 64, 3, 3), padding=1),
    "resnet50 3x3 128@28": Case((1, 128, 28, 28), (128, 128, 3, 3), padding=1),
    "resnet50 3x3 256@14": Case((1, 256, 14, 14), (256, 256, 3, 3), padding=1),
    "resnet50 3x3 512@7": Case((1, 512, 7, 7), (512, 512, 3, 3), padding=1),
    "resnet50 7x7s2 3@224": Case((1, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3),
    "resnet50 3x3s2 128@56": Case((1, 128, 56, 56), (128, 128, 3, 3), stride=2, padding=1),
    "resnet50 1x1s2 256@56": Case((1, 256, 56, 56), (512, 256, 1, 1), stride=2),
    "resnet50 1x1 256-64@56": Case((1, 256, 56, 56), (64, 256, 1, 1)),
    "mobilenetv1 dw3x3 32@112": Case((1, 32, 112, 112), (32, 1, 3, 3), padding=1, groups=32),
    "mobilenetv1 dw3x3s2 128@56": Case((1, 128, 56, 56), (128, 1, 3, 3), stride=2, padding=1, groups=128),
    "resnext 3x3 g32 256@28": Case((1, 256, 28, 28), (256, 8, 3, 3), padding=1, groups=32),
    "deeplab 3x3d2 64@28": Case((1, 64, 28, 28), (64, 64, 3, 3), padding=2, dilation=2),
    "gray 5x5 1080p": Case((1, 1, 1080, 1920), (1, 1, 5, 5), padding=2),
    "wav 1-64 k400 s160": Case((1, 1, 16000), (64, 1, 400), stride=160),
    "1d 128 k3 x4096": Case((1, 128, 4096), (128, 128, 3), padding=1),
    "c3d 3x3x3 16@8x28": Case((1, 16, 8, 28, 28), (16, 16, 3, 3, 3), padding=1),
    "lenet 5x5 6-16@14 N32": Case((32, 6, 14, 14), (16, 6, 5, 5)),
}

# A few cases of every kind, for tests that vary something else (layout, dtype, threads).
VARIED = (
    Case((2, 3, 9, 17), (5, 3, 3, 3), padding=1),
    Case((1, 4, 8, 21), (4, 1, 3, 3), padding=1, groups=4),
    Case((1, 9, 5, 7), (20, 9, 1, 1)),
    Case((2, 3, 37), (6, 3, 5), stride=2, padding=((3, 1),)),
    Case((1, 9, 5, 3, 4), (20, 9, 3, 1, 1), padding=(1, 0, 0)),
    Case((1, 4, 5, 6, 7), (6, 2, 3, 2, 3), groups=2, padding=1, padding_mode="reflect"),
    Case((1, 1, 33, 40), (1, 1, 5, 5), padding=2),
    Case((1, 3, 14, 15), (8, 3, 3, 3), stride=2, dilation=2, padding="same", padding_mode="circular"),
    Case((1, 33, 6, 6), (18, 33, 3, 3), padding=1),
    Case((1, 2, 4, 3, 5, 4), (3, 2, 2, 2, 2, 2), padding=1, padding_mode="symmetric"),
    Case((1, 2, 20, 22), (2, 2, 11, 9), padding=((5, 5), (4, 4)), padding_mode="replicate"),
    Case((1, 5, 2, 23), (18, 5, 2, 9), padding=(1, 8), dilation=(1, 2)),
    Case((2, 6, 7, 19), (6, 3, 1, 1), groups=2),
    Case((1, 530, 35), (3, 530, 1)),
    Case((1, 70, 2101), (5, 70, 1)),
)
