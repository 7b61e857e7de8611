"""The problems that every engine is tested on: small ones, each sweep around one idea."""

import itertools
import math

from shapes import MODES, Case

LENGTHS = range(1, 71)
CHANNELS = (*range(1, 21), 31, 32, 33, 47, 48, 49, 50, 63, 64, 65, 97)


def lengths_1d():
    for n in LENGTHS:
        yield Case((2, 3, n), (5, 3, 3), padding=1)


def widths_3x3():
    for w in LENGTHS:
        yield Case((1, 2, 4, w), (4, 2, 3, 3), padding=1)


def widths_without_padding():
    for w in range(3, 71):
        yield Case((1, 3, 5, w), (7, 3, 3, 3))


def widths_stride_2():
    for w in LENGTHS:
        yield Case((1, 3, 5, w), (6, 3, 3, 3), stride=2, padding=1)


def widths_pointwise():
    for w in LENGTHS:
        yield Case((1, 5, 2, w), (7, 5, 1, 1))


def widths_pointwise_stride_2():
    """Every other pixel read where it lies: whole blocks of output channels and others, all sizes of tiles."""
    for w in (*range(3, 33, 2), 44, 57):
        yield Case((1, 6, 3, w), (32, 6, 1, 1), stride=2)
        yield Case((1, 6, 3, w + 1), (50 if w % 3 else 40, 6, 1, 1), stride=(1, 2))
    yield Case((1, 6, 5, 30), (64, 6, 1, 1), stride=2, padding=1)
    yield Case((2, 6, 3, 5, 29), (32, 6, 1, 1, 1), stride=2, padding=(1, 0, 0))


def widths_depthwise():
    for w in LENGTHS:
        yield Case((1, 3, 6, w), (3, 1, 3, 3), padding=1, groups=3)


def widths_depthwise_stride_2():
    for w in LENGTHS:
        yield Case((1, 5, 4, w), (5, 1, 3, 3), stride=2, padding=1, groups=5)


def heights():
    for h in range(1, 21):
        yield Case((2, 3, h, 9), (5, 3, 3, 3), padding=1)
        yield Case((1, 4, h, 17), (4, 1, 5, 5), padding=2, groups=4)


def output_channels():
    for k in CHANNELS:
        yield Case((1, 3, 7, 9), (k, 3, 3, 3), padding=1)


def output_channels_pointwise():
    for k in CHANNELS:
        yield Case((2, 6, 3, 7), (k, 6, 1, 1))


def input_channels():
    for c in CHANNELS:
        yield Case((1, c, 6, 8), (5, c, 3, 3), padding=1)


def input_channels_pointwise():
    for c in CHANNELS:
        yield Case((1, c, 5, 13), (17, c, 1, 1))


def channel_pairs():
    for c, k in itertools.product((1, 2, 3, 15, 16, 17, 33), repeat=2):
        yield Case((1, c, 5, 6), (k, c, 3, 3), padding=1)


def large_channel_counts():
    """Past the block sizes of cache blocking."""
    for c, k, n in ((130, 70, 9), (257, 33, 7), (31, 300, 7), (520, 17, 4), (19, 513, 5)):
        yield Case((1, c, n, n), (k, c, 3, 3), padding=1)
        yield Case((2, c, n, n + 2), (k, c, 1, 1))
    yield Case((1, 160, 50), (24, 160, 5), padding=2)


def long_reductions():
    """Channels times taps that no cache holds, one case for each thing that can be cut."""
    yield Case((1, 2100, 3, 60), (2, 2100, 3, 3))
    yield Case((1, 3000, 2, 50), (4, 1500, 2, 5), groups=2, padding=(0, 1), activation="relu6")
    yield Case((2, 4000, 33), (3, 4000, 3), padding=1, dilation=2)
    yield Case((1, 1, 67, 66, 66), (1, 1, 65, 65, 65))
    yield Case((1, 1, 301, 1100), (1, 1, 300, 5))
    yield Case((1, 1, 270020), (2, 1, 270000))
    yield Case((1, 2, 9000), (2, 1, 8900), groups=2, stride=7)


def kernels_of_three():
    """Dilated, along one axis and under outer axes, past the blocks of channels and tiles."""
    for d, mode in itertools.product((1, 2, 3, 5), ("zeros", "reflect")):
        yield Case((1, 18, 19, 23), (20, 18, 3, 3), padding=2, dilation=d, padding_mode=mode)
        yield Case((2, 17, 90), (33, 17, 3), padding=3, dilation=d, padding_mode=mode)
        yield Case((1, 5, 23, 19), (18, 5, 3, 1), padding=(1, 0), dilation=(d, 7), padding_mode=mode)
        yield Case((1, 6, 11, 9, 11), (9, 6, 3, 3, 3), padding=1, dilation=(d, 1, 2), padding_mode=mode)
    yield Case((1, 130, 6, 9, 5), (34, 130, 3, 3, 3), padding=(2, 1, 1), stride=(2, 1, 1))
    yield Case((2, 4, 4, 5, 9, 10), (6, 2, 2, 3, 3, 3), padding=1, groups=2)
    yield Case((1, 33, 1, 700), (17, 33, 1, 3), activation="tanh")
    yield Case((1, 40, 5, 300), (33, 40, 3, 3), padding=(1, 2))
    yield Case((1, 300, 9, 11), (40, 300, 3, 3), padding=4, dilation=4)


def wide_images():
    """Past the sizes of cache blocking along each axis."""
    yield Case((1, 2, 3, 2100), (3, 2, 3, 3), padding=1)
    yield Case((1, 2, 2, 3001), (3, 2, 1, 1))
    yield Case((1, 3, 4, 1999), (3, 1, 3, 3), padding=1, groups=3)
    yield Case((1, 2, 4, 2050), (3, 2, 3, 5), padding=2, stride=2, padding_mode="reflect")
    yield Case((1, 2, 1500, 3), (3, 2, 3, 3), padding=1)
    yield Case((1, 8, 120, 130), (12, 8, 3, 3), padding=1)
    yield Case((1, 1, 9000), (5, 1, 7), padding=3)
    yield Case((1, 4, 3000), (6, 4, 9), dilation=30, padding=120, padding_mode="circular")
    yield Case((1, 2, 3, 4, 1000), (3, 2, 2, 2, 3), padding=1)
    yield Case((300, 2, 4, 5), (3, 2, 3, 3), padding=1)


def square_kernels():
    for k in range(1, 12):
        yield Case((1, 2, 13, 14), (3, 2, k, k), padding=k // 2)
        yield Case((2, 1, 12, 15), (1, 1, k, k))


def rectangular_kernels():
    for kernel in itertools.product((1, 2, 3, 4, 5, 7, 11), repeat=2):
        if kernel[0] != kernel[1]:
            yield Case((1, 2, 12, 13), (3, 2, *kernel), padding=tuple(k // 2 for k in kernel))
    yield Case((1, 3, 1, 40), (4, 3, 1, 21), padding=(0, 10))
    yield Case((1, 3, 40, 1), (4, 3, 21, 1), padding=(10, 0))


def large_kernels():
    yield Case((1, 1, 40, 41), (1, 1, 31, 29), padding=(15, 14))
    yield Case((1, 2, 33, 35), (3, 2, 17, 19))
    yield Case((1, 3, 25, 25), (3, 1, 21, 21), padding=10, groups=3)
    yield Case((1, 1, 64, 64), (2, 1, 64, 64))
    yield Case((1, 2, 20, 20, 20), (2, 2, 9, 9, 9))


def long_kernels_1d():
    for n, k, s in ((800, 400, 160), (1000, 400, 160), (500, 129, 64), (333, 100, 7), (257, 256, 1), (300, 63, 32)):
        yield Case((2, 1, n), (9, 1, k), stride=s)
        yield Case((1, 3, n), (5, 3, k), stride=s, padding=k // 2)


def long_rows():
    """What Fourier transforms cut: blocks that end anywhere, kernels in parts, lines of every remainder, phases."""
    for w in (*range(15, 60, 3), 97, 128, 211):
        yield Case((1, 2, 3, w), (3, 2, 2, 15))
    for h in (*range(1, 20), 31, 32, 33, 48, 65):
        yield Case((1, 1, h, 40), (2, 1, 3, 9), padding=(1, 4))
    for n, k in ((4000, 1000), (3000, 300), (2000, 129), (700, 699), (700, 700), (64, 33)):
        yield Case((1, 1, n), (1, 1, k))
        yield Case((2, 2, n // 2), (3, 2, k // 2), padding=k // 4)
    for outputs in range(1, 6):
        yield Case((2, 4, 18, 40), (2 * outputs, 2, 3, 11), groups=2, padding=(1, 5), activation="relu")
    for stride in ((3, 2), (2, 3), (1, 4), (7, 1)):
        yield Case((1, 2, 37, 90), (3, 2, 5, 20), stride=stride, padding=(2, 7))
    yield Case((1, 2, 40, 70), (2, 2, 4, 17), dilation=(3, 1), padding=(4, 8))
    for mode in MODES:
        yield Case((1, 2, 20, 50), (3, 2, 5, 21), padding=(2, 10), padding_mode=mode)
        yield Case((1, 1, 90), (1, 1, 41), padding=20, padding_mode=mode)
    yield Case((1, 2, 4, 9, 40), (3, 2, 2, 3, 16), stride=(2, 1, 1), padding=(1, 1, 8), activation="tanh")


def lines():
    """Under a single kernel row: whole and parts of eight vectors, strides, dilations, images added up, borders."""
    for n in (17, 33, 64, 65, 100, 127, 128, 129, 130, 255, 300, 400):
        yield Case((1, 3, n), (3, 1, 5), padding=2, groups=3)
        yield Case((2, 2, n + 9), (4, 1, 10), groups=2, activation="relu")
    for d, s in ((1, 2), (1, 3), (1, 5), (2, 1), (7, 1)):
        yield Case((1, 2, 1300), (2, 1, 8), stride=s, dilation=d, padding=20, groups=2)
        yield Case((1, 4, 2, 700), (2, 2, 1, 17), stride=(1, s), dilation=(1, d), padding=(1, 3), groups=2)
    for mode in MODES:
        yield Case((1, 2, 6, 260), (2, 1, 1, 9), padding=(1, 8), groups=2, stride=(2, 1), padding_mode=mode)
    yield Case((1, 1, 5, 9000), (1, 1, 1, 25))


def wide_paddings():
    """Of which some columns of a kernel read nothing else, under some tiles or all."""
    for n, k in itertools.product((1, 7, 15, 16, 40, 57), (2, 9, 31)):
        yield Case((1, 17, n), (33, 17, k), padding=k - 1)
        yield Case((2, 8, n), (20, 4, k), padding=((2 * k, 0),), groups=2, stride=2 - n % 2)
        yield Case((1, 5, 3, n), (18, 5, 2, k), padding=(1, 2 * k), dilation=(1, 2), activation="relu")
    for d in (5, 12, 16, 23):
        yield Case((1, 20, 23, 33), (24, 20, 3, 3), padding=d, dilation=d)
        yield Case((1, 40, 3, 9, 30), (18, 40, 2, 2, 3), padding=(1, d, d), dilation=(1, d, d))
    yield Case((1, 70, 49), (40, 70, 300), padding=150, activation="silu")
    yield Case((1, 6, 500), (20, 6, 3), padding=((400, 0),), dilation=200)
    yield Case((1, 6, 30), (20, 6, 5), padding=30)
    for stride in (1, 2):
        yield Case((1, 2, 5, 70), (2, 1, 3, 3), stride=stride, padding=(2, 40), groups=2)


def batches():
    for n in (0, 1, 2, 3, 5, 8, 17):
        yield Case((n, 3, 6, 7), (4, 3, 3, 3), padding=1)
        yield Case((n, 2, 11), (3, 2, 2))
        yield Case((n, 4, 3, 5, 4), (2, 2, 2, 1, 3), groups=2)


def groups():
    for g in (1, 2, 3, 4, 6, 12):
        yield Case((1, 12, 6, 7), (24, 12 // g, 3, 3), padding=1, groups=g)
        yield Case((1, 12, 5, 9), (12, 12 // g, 1, 1), groups=g)
    for width in range(1, 20):
        yield Case((1, 2 * width, 5, 6), (2 * width, width, 3, 3), padding=1, groups=2)
        yield Case((1, 3 * width, 4, 9), (3, width, 3, 2), groups=3)
        yield Case((2, 6, 20), (3 * width, 2, 3), groups=3)


def narrow_groups():
    """Several fit one vector, wholly or not, or their number has no divisor that would."""
    pairs = ((1, 1, 16), (1, 2, 8), (2, 2, 12), (2, 3, 5), (3, 2, 10), (3, 3, 15), (4, 4, 7), (4, 4, 8), (5, 5, 6),
             (7, 4, 4), (8, 8, 4), (8, 2, 2))  # fmt: skip
    for inputs, outputs, g in pairs:
        c, k = inputs * g, outputs * g
        yield Case((1, c, 9, 14), (k, inputs, 3, 3), padding=1, groups=g)
        yield Case((1, c, 21, 19), (k, inputs, 3, 3), padding=1, groups=g, activation="relu")
        yield Case((2, c, 7, 13), (k, inputs, 5, 5), padding=2, groups=g)
        yield Case((1, c, 9, 8), (k, inputs, 3, 3), stride=2, padding=1, groups=g)
        yield Case((1, c, 4, 6, 7), (k, inputs, 3, 3, 3), padding=1, groups=g)
        yield Case((1, c, 50), (k, inputs, 3), groups=g)


def depthwise():
    for channels, multiplier in itertools.product((1, 2, 7, 16, 17, 33), (1, 2, 3, 5)):
        yield Case((1, channels, 6, 9), (channels * multiplier, 1, 3, 3), padding=1, groups=channels)
    for k, s, d in itertools.product((1, 2, 3, 5, 7), (1, 2, 3), (1, 2)):
        yield Case((1, 5, 15, 19), (5, 1, k, k), stride=s, dilation=d, padding=k // 2, groups=5)
    for k, rows in itertools.product((4, 5, 6, 7, 8, 12), (3, 5, 8, 13)):
        yield Case((1, 2, rows, 21), (2, 1, k, 3), padding=(k // 2, 1), groups=2)
        yield Case((1, 2, 2 * rows, 37), (2, 1, k, 5), stride=2, padding=(k // 2, 2), groups=2)
    yield Case((2, 6, 40), (6, 1, 31), padding=15, groups=6)
    yield Case((1, 3, 5, 6, 7), (6, 1, 3, 3, 3), padding=1, groups=3)


def strides_and_dilations():
    for k, s, d in itertools.product((1, 2, 3, 5), (1, 2, 3, 4, 7), (1, 2, 3, 4)):
        yield Case((1, 2, 18, 23), (3, 2, k, k), stride=s, dilation=d, padding=1)
    yield Case((1, 3, 20, 30), (4, 3, 3, 2), stride=(1, 3), dilation=(4, 1))
    yield Case((1, 3, 20, 30), (4, 3, 2, 5), stride=(2, 1), dilation=(3, 2), padding=(0, 4))
    yield Case((2, 3, 30), (4, 3, 3), stride=2, dilation=5, padding=3)
    for s, n in itertools.product((3, 4, 5), (93, 96, 97, 130, 200)):
        yield Case((1, 2, 7, n), (20, 2, 3, 5), stride=s, padding=2)
        yield Case((1, 4, 7, n), (4, 1, 3, 3), stride=(1, s), padding=(1, 3), groups=4)
        yield Case((2, 17, n), (18, 17, 7), stride=s, padding=5)


def extremes():
    yield Case((1, 2, 9), (3, 2, 2), stride=1000)
    yield Case((1, 2, 9, 9), (3, 2, 2, 2), stride=2**40)
    yield Case((1, 2, 9, 9), (3, 2, 1, 1), stride=2**62, dilation=2**62)
    yield Case((1, 2, 41), (3, 2, 2), dilation=40)
    yield Case((1, 2, 45, 44), (3, 2, 3, 3), dilation=(22, 21))
    yield Case((1, 2, 5, 6), (3, 2, 3, 3), dilation=9, padding=9)
    yield Case((1, 2, 4, 4), (3, 2, 3, 3), padding=8)
    yield Case((1, 2, 2, 3), (3, 2, 1, 1), padding=5)
    yield Case((1, 1, 1, 1), (2, 1, 3, 3), padding=(20, 33))
    yield Case((1, 2, 5), (3, 2, 3), padding=3000, stride=11)
    yield Case((1, 2, 3), (3, 2, 3), padding=((0, 700),), stride=5, dilation=3)
    yield Case((1, 1, 1), (1, 1, 1))
    yield Case((1, 1, 1, 1), (1, 1, 1, 1), padding=1)
    yield Case((1, 7, 4, 5), (6, 7, 4, 5))
    yield Case((2, 3, 4, 5), (4, 3, 6, 7), padding=1)
    yield Case((1, 3, 8, 8), (4, 3, 2, 2), stride=5)
    yield Case((1, 3, 50, 2), (4, 3, 3, 3), stride=(25, 1), padding=1)


def uneven_paddings():
    for left, right in itertools.product(range(5), repeat=2):
        yield Case((1, 2, 5, 7), (3, 2, 3, 3), padding=((right, 1), (left, right)))
        yield Case((2, 2, 12), (3, 2, 4), padding=((left, right),), stride=2)


def padding_modes():
    sizes, pads = (6, 5, 7, 4), ((2, 1), (0, 3), (4, 2), (1, 0))
    for mode, axes in itertools.product(MODES, (1, 2, 3, 4)):
        shape, kernel = sizes[:axes], (3, 2, 3, 1)[:axes]
        yield Case((2, 3, *shape), (4, 3, *kernel), padding=pads[:axes], padding_mode=mode)
        yield Case((1, 4, *shape), (4, 1, *kernel), padding=1, groups=4, padding_mode=mode)
        yield Case((1, 2, *shape), (3, 2, *kernel), padding=2, stride=2, padding_mode=mode)
        yield Case((1, 2, *shape), (3, 2, *kernel), padding=3, dilation=2, padding_mode=mode)
        yield Case((1, 2, *shape), (3, 2, *kernel), padding="same", padding_mode=mode)


def padding_modes_at_their_limit():
    limit = {"zeros": 9, "replicate": 9, "reflect": -1, "circular": 0, "symmetric": 0}
    for mode, n in itertools.product(MODES, (1, 2, 3, 6)):
        p = n + limit[mode]
        yield Case((1, 2, n), (3, 2, min(3, n + 2 * p)), padding=p, padding_mode=mode)
        yield Case((1, 2, n, 4), (3, 2, 1, 3), padding=(p, 3), stride=(1, 2), padding_mode=mode)
        yield Case((1, 3, 20, n), (3, 1, 3, 1), padding=((5, 7), (p, 0)), groups=3, padding_mode=mode)


def same_paddings():
    for rule, k, s, d in itertools.product(("same", "same_lower"), (1, 2, 3, 4, 5), (1, 2, 3), (1, 2)):
        for n in (5, 6, 7):
            yield Case((1, 2, n + 6), (3, 2, k), padding=rule, stride=s, dilation=d)
        yield Case((1, 2, 6, 7), (3, 2, k, 3), padding=rule, stride=(s, 2), dilation=(d, 1))
    yield Case((1, 2, 2, 3), (3, 2, 6, 7), padding="same")
    yield Case((1, 2, 2, 3), (3, 2, 6, 7), padding="same_lower", dilation=3)
    yield Case((1, 2, 5, 6), (3, 2, 2, 3), padding="valid")


def many_axes():
    yield Case((2, 3, 5, 6, 7), (4, 3, 3, 3, 3), padding=1)
    yield Case((1, 4, 6, 5, 17), (6, 2, 2, 3, 3), groups=2, stride=(2, 1, 1), padding=(1, 0, 1))
    yield Case((1, 2, 4, 9, 9), (5, 2, 1, 3, 3), padding=(0, 1, 1))
    yield Case((1, 2, 9, 4, 4), (5, 2, 3, 1, 1), padding=(1, 0, 0), dilation=(2, 1, 1))
    yield Case((1, 2, 3, 4, 5, 6), (3, 2, 2, 3, 2, 3), padding=(1, 0, 2, 1))
    yield Case((2, 4, 3, 3, 4, 5), (4, 2, 2, 2, 2, 2), groups=2, stride=(1, 2, 1, 2), padding="same")
    yield Case((1, 2, 3, 2, 3, 2, 4), (2, 2, 2, 1, 2, 2, 3), padding=1)
    yield Case((1, 2, 2, 3, 2, 2, 3, 3), (2, 1, 2, 2, 1, 2, 2, 3), groups=2, padding=(0, 1, 0, 1, 0, 1))
    yield Case((1, 1, *[1] * 9, 5), (2, 1, *[1] * 9, 3))


def last_axes_of_one_tap():
    for k in (2, 3, 5):
        yield Case((2, 40, 9, 5, 7), (33, 40, k, 1, 1), padding=(1, 0, 0))
        yield Case((1, 4, 9, 6, 5), (4, 1, k, 1, 1), groups=4, stride=(2, 1, 1))
    yield Case((1, 6, 7, 8, 3, 5), (20, 3, 3, 3, 1, 1), groups=2, padding=(1, 2, 0, 0), dilation=(1, 2, 3, 4))


def kernels_in_pieces():
    """Kernels and strides that Winograd's algorithm takes apart, channels that fill vectors and that do not."""
    for kernel, stride in (((2, 2), 1), ((4, 4), 1), ((5, 5), 1), ((7, 7), 2), ((3, 3), 2), ((3, 3), 3), ((6, 4), 2),
                           ((9, 2), (1, 2)), ((8, 8), (4, 1)), ((1, 7), 1), ((5, 1), (2, 1)), ((2, 3), 2)):  # fmt: skip
        for channels in (1, 3, 17):
            yield Case((1, channels, 19, 21), (18, channels, *kernel), stride=stride, padding=2)
    yield Case((2, 48, 11, 12), (33, 48, 5, 5), padding=2)
    yield Case((2, 70, 13, 11), (8, 35, 3, 3), stride=2, padding=1, groups=2)
    yield Case((1, 33, 21, 22), (17, 33, 5, 5), padding=4, dilation=2)
    yield Case((1, 20, 14, 17), (16, 20, 5, 4), padding=2, padding_mode="reflect", stride=2)
    yield Case((1, 20, 15, 17), (16, 20, 3, 3), padding=1, padding_mode="circular", stride=2, activation="silu")
    yield Case((1, 16, 4, 12, 13), (32, 16, 2, 4, 5), stride=(2, 2, 1), padding=1)


def kernels_along_one_axis():
    """The same, of a single tap along the other: every number of outputs a tile may have, and rests of it."""
    for k, n in itertools.product((2, 3, 4, 5, 6, 7, 8), (33, 46, 60)):
        yield Case((1, 17, n), (18, 17, k))
        yield Case((1, 32, 2, n), (32, 32, 1, k), stride=(1, 1 + n % 2), padding=(0, k - 1))
        yield Case((1, 16, n, 3), (33, 16, k, 1), stride=(1 + n % 2, 1), padding=(1, 0), activation="relu")
    for k in (2, 4):
        yield Case((2, 40, 90), (24, 20, k), dilation=4, groups=2, padding=5, padding_mode="replicate")
        yield Case((1, 48, 41, 5), (32, 48, k, 1), dilation=(3, 1), padding=(4, 0))
        yield Case((1, 256, 60), (32, 8, k), groups=32)


def activations():
    for activation in ("relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", ("leaky_relu", 0.25),
                       ("clip", -2.5, 7), ("clip", 0, math.inf)):  # fmt: skip
        yield Case((1, 3, 6, 17), (5, 3, 3, 3), padding=1, activation=activation)
        yield Case((2, 4, 19), (4, 1, 3), groups=4, activation=activation)
        yield Case((1, 9, 4, 5), (18, 9, 1, 1), activation=activation)
        yield Case((1, 4, 6, 17), (1, 4, 3, 3), padding=1, activation=activation)
        yield Case((1, 3, 4, 5, 9), (3, 1, 3, 3, 3), padding=1, groups=3, activation=activation)


def small_networks():
    """The layers of known networks, with fewer channels or pixels."""
    yield Case((1, 32, 14, 14), (64, 32, 3, 3), padding=1)
    yield Case((1, 96, 7, 7), (80, 96, 3, 3), padding=1)
    yield Case((16, 8, 14, 14), (16, 8, 3, 3), padding=1)
    yield Case((1, 48, 15, 13), (24, 48, 3, 3), padding=2, dilation=2)
    yield Case((1, 3, 56, 56), (8, 3, 7, 7), stride=2, padding=3)
    yield Case((1, 32, 28, 28), (24, 32, 3, 3), stride=2, padding=1)
    yield Case((1, 64, 28, 28), (96, 64, 1, 1), stride=2)
    yield Case((1, 64, 14, 28), (128, 64, 1, 1))
    yield Case((1, 32, 28, 28), (32, 1, 3, 3), padding=1, groups=32)
    yield Case((1, 32, 27, 29), (32, 1, 3, 3), stride=2, padding=1, groups=32)
    yield Case((1, 64, 14, 14), (64, 8, 3, 3), padding=1, groups=8)
    yield Case((1, 1, 108, 192), (1, 1, 5, 5), padding=2)
    yield Case((1, 3, 54, 96), (16, 3, 3, 3), padding=1)
    yield Case((1, 1, 4000), (64, 1, 400), stride=160)
    yield Case((1, 64, 256), (48, 64, 3), padding=1)
    yield Case((1, 8, 6, 14, 14), (16, 8, 3, 3, 3), padding=1)
    yield Case((1, 1, 5, 5), (1, 1, 3, 3))
    yield Case((8, 6, 14, 14), (16, 6, 5, 5))


SWEEPS = {
    function.__name__: tuple(function())
    for function in (
        lengths_1d, widths_3x3, widths_without_padding, widths_stride_2, widths_pointwise, widths_pointwise_stride_2,
        widths_depthwise,
        widths_depthwise_stride_2, heights, output_channels, output_channels_pointwise, input_channels,
        input_channels_pointwise, channel_pairs, large_channel_counts, long_reductions, kernels_of_three,
        wide_images, square_kernels, rectangular_kernels, large_kernels, long_kernels_1d, long_rows, lines,
        wide_paddings, batches, groups, narrow_groups, depthwise, strides_and_dilations,
        extremes, uneven_paddings, padding_modes, padding_modes_at_their_limit, same_paddings, many_axes, activations,
        small_networks, kernels_in_pieces, kernels_along_one_axis, last_axes_of_one_tap,
    )
}  # fmt: skip
