"""Every way in which pixels are brought to the kernels: copied, turned around, listed; small images together."""

import itertools

import numpy
import oracle
import pytest
import shapes
from engines import difference
from test_layouts import LAYOUTS

import npconv

pytestmark = pytest.mark.usefixtures("plain_sums")

# (input, weight, arguments); few outputs go to one algorithm, many to another.
PROBLEMS = [
    ((2, 5, 9, 8), (3, 5, 3, 3), {"stride": 3, "padding": 1}),
    ((2, 5, 9, 8), (20, 5, 3, 3), {"stride": 3, "padding": 1}),
    ((1, 6, 40, 61), (3, 6, 5, 5), {"stride": 5, "padding": 2}),  # a row's places are listed, not all
    ((1, 6, 40, 61), (20, 6, 4, 5), {"stride": 5, "padding": (0, 3)}),
    ((1, 4, 33, 170), (18, 4, 11, 11), {"stride": 11, "padding": 5}),
    ((1, 2, 33, 170), (18, 2, 11, 11), {"stride": 11}),
    ((1, 4, 36, 68), (3, 4, 4, 4), {"stride": 4, "padding": 1}),
    ((1, 4, 7, 130), (3, 4, 2, 3), {"stride": 3}),
    ((1, 3, 7, 1200), (2, 3, 3, 3), {"stride": (1, 3), "padding": 1}),  # copied row by row, not by columns of vectors
    ((1, 3, 5, 1200), (17, 3, 3, 2), {"stride": (1, 2)}),
    ((1, 3, 23, 19), (17, 3, 2, 2), {"stride": 2, "padding": 1}),
    ((1, 12, 9, 9), (12, 1, 3, 3), {"stride": 3, "padding": 1, "groups": 12}),
    ((1, 12, 5, 7), (24, 1, 3, 2), {"stride": (3, 4), "padding": (1, 0), "groups": 12}),
    ((1, 5, 300), (3, 5, 7), {"stride": 6, "padding": 3}),
    ((1, 3, 5, 11, 9), (2, 3, 3, 2, 2), {"stride": 3, "padding": (1, 0, 1)}),
    ((1, 70, 9, 131), (3, 70, 1, 1), {}),  # a single tap in long rows of some channels at a time
    ((2, 67, 1201), (2, 67, 1), {"padding": 1}),
    ((1, 8, 22, 19), (8, 1, 3, 3), {"padding": 2, "dilation": (2, 3), "groups": 8}),  # dilated rows as neighbours
    ((1, 4, 29, 40), (4, 1, 5, 3), {"padding": (7, 1), "dilation": (3, 1), "groups": 4}),
    ((1, 64, 14, 9), (3, 64, 4, 1), {"stride": (5, 1), "padding": ((14, 24), (36, 0))}),  # bands of nothing but padding
]

# Images that share a band: of one pixel and a few, in batches that do not divide by their number, along outer axes.
SMALL_IMAGES = [
    ((7, 5, 1, 1), (33, 5, 1, 1), {}),
    ((5, 9, 3, 2), (20, 9, 1, 1), {}),
    ((5, 9, 4, 3), (20, 9, 1, 1), {"stride": 2, "padding": 1}),
    ((9, 6, 2, 2), (40, 6, 3, 3), {"stride": 2, "padding": 1}),
    ((9, 6, 3, 5), (20, 6, 3, 3), {"padding": 1}),
    ((23, 3, 7, 7), (18, 3, 3, 3), {"padding": 1, "dilation": 2}),
    ((5, 8, 4, 4), (66, 4, 3, 2), {"groups": 2}),
    ((3, 4, 6), (17, 4, 5), {"padding": 2}),
    ((3, 4, 5, 2, 3), (17, 4, 3, 2, 2), {"padding": (1, 0, 1)}),
    ((2, 4, 9, 3, 3), (17, 4, 2, 3, 3), {"stride": (2, 1, 1), "dilation": (3, 1, 1), "padding": (3, 0, 0)}),
    ((300, 2, 1, 1), (17, 2, 1, 1), {}),
    # Columns in the padding are left out for the pixels of all images.
    ((5, 6, 4, 2), (40, 6, 9, 9), {"padding": 4}),
    ((7, 4, 3, 5), (20, 4, 5, 9), {"padding": (2, 4), "stride": (1, 2)}),
    ((9, 5, 6), (33, 5, 13), {"padding": 6}),
    ((3, 4, 6, 6), (18, 4, 3, 3), {"padding": 4, "dilation": 4}),
]  # fmt: skip

# Pixels under a single tap and many outputs, which an instruction set may copy into panels: rests of every width, rows
# joined and cut, reductions in several runs and with sums that wait.
PANELS = [
    ((1, 9, 31), (33, 9, 1), {}),
    ((3, 8, 1), (34, 8, 1), {}),
    ((2, 70, 9, 131), (35, 70, 1, 1), {}),
    ((1, 600, 5, 9), (37, 600, 1, 1), {}),
    # Weights go by in several blocks.
    ((1, 520, 5, 9), (131, 520, 1, 1), {}),
    ((2, 33, 14, 15), (130, 33, 1, 1), {"stride": 2}),
    ((1, 130, 61, 47), (32, 130, 1, 1), {"stride": (3, 2)}),
    ((1, 9, 7, 11), (32, 9, 1, 1), {"stride": (1, 3), "padding": (2, 1)}),
    ((1, 40, 3, 2600), (32, 40, 1, 1), {"stride": (2, 1)}),
    ((2, 64, 5, 6, 7), (64, 32, 1, 1, 1), {"groups": 2, "stride": (2, 1, 1)}),
    ((1, 6000, 3, 20), (32, 6000, 1, 1), {}),
    # Of few input channels they are read where they lie.
    ((1, 7, 31), (33, 7, 1), {}),
    ((3, 5, 1), (34, 5, 1), {}),
    ((2, 3, 13, 29), (70, 3, 1, 1), {}),
    ((1, 14, 9, 131), (64, 7, 1, 1), {"groups": 2}),
    # Threads share output channels, and the last of them has too few for a panel.
    ((4, 40, 12, 31), (34, 40, 1, 1), {}),
]


# All phases of a row at once: rows of several vectors, longer ones that are copied one by one, fewer taps than the
# stride, a line with phases of its own.
STRIDES = [
    problem
    for s in range(2, 9)
    for problem in (
        ((2, 5, 6 * s + 1, s * 37 + 3), (3, 5, 2, 2), {"stride": s, "padding": s - 1}),
        ((2, 3, 6 * s + 1, s * 32), (18, 3, s, s), {"stride": s, "padding": (0, s - 1)}),
        ((1, 2, 2 * s + 1, s * 270 + 1), (2, 2, s, s + 1), {"stride": s, "padding": 1}),
        ((1, 3, s * 300), (3, 1, s + 2), {"stride": s, "padding": s, "groups": 3}),
    )
]


def cases(problems):
    return [shapes.Case(input, weight, **arguments) for input, weight, arguments in problems]


@pytest.mark.parametrize("case", cases(PROBLEMS + SMALL_IMAGES + PANELS + STRIDES), ids=str)
def test_packing(engine, case):
    for dtype, threads in (("f", 1), ("f", 2), ("f", 3), ("d", 2), ("e", 3), ("i", 2), ("g", 3), ("B", 1)):
        assert not engine.difference(case, shapes.shared_data(case, dtype), num_threads=threads), (dtype, threads)


@pytest.mark.parametrize(("place", "mode"), list(enumerate(["reflect", "replicate", "circular", "symmetric"])))
def test_packing_of_borders(engine, place, mode):
    for index, (input, weight, arguments) in enumerate(PROBLEMS + SMALL_IMAGES + PANELS[:-1]):
        if not oracle_allows(input, arguments, mode):
            continue
        case = shapes.Case(input, weight, padding_mode=mode, **arguments)
        data = shapes.shared_data(case, "ffe"[(index + place) % 3])
        assert not engine.difference(case, data, num_threads=2), str(case)


def oracle_allows(input, arguments, mode):
    padding = arguments.get("padding", 0)
    sizes = input[2:]
    each = padding if isinstance(padding, tuple) else (padding,) * len(sizes)
    most = [max(p) if isinstance(p, tuple) else p for p in each]
    return all(p < size if mode == "reflect" else p <= size for p, size in zip(most, sizes, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_packing_of_layouts(engine, layout):
    place = LAYOUTS.index(layout)
    for index, case in enumerate(cases(PROBLEMS + SMALL_IMAGES + PANELS[:-1])):
        if (index + place) % 3:
            continue  # other layouts have it
        data = shapes.shared_data(case, "fdi"[index // 3 % 3])
        done = engine.conv((layout(data.input), *data.arrays[1:]), case.arguments(), num_threads=2)
        assert not (done and difference(case, data, *done)), str(case)


def test_panels_into_any_result(engine):
    """Where the result does not lie as panels run over it, sums go by way of the workspace."""
    problems = itertools.product(PANELS, (None, "tanh", ("clip", -3, 5)))
    for index, ((input, weight, arguments), activation) in enumerate(problems):
        case = shapes.Case(input, weight, activation=activation, **arguments)
        data = shapes.shared_data(case, "fd"[index % 2])
        wide = numpy.empty((*data.expected.shape[:-1], 2 * data.expected.shape[-1]), data.input.dtype)
        out = wide[..., : data.expected.shape[-1]] if index % 4 < 2 else wide[..., ::2]
        done = engine.conv(data.arrays, case.arguments(), num_threads=2, out=out)
        assert not (done and difference(case, data, *done)), str(case)


@pytest.mark.parametrize("case", cases(SMALL_IMAGES + PANELS), ids=str)
def test_images_packed_together_have_the_same_bits(engine, case):
    """As each of them alone, and for any number of threads."""
    rng = numpy.random.default_rng(0)
    input = rng.standard_normal(case.input).astype("f")
    weight = rng.standard_normal(case.weight).astype("f")
    done = [engine.conv((input, weight, None), case.arguments(), num_threads=threads) for threads in (1, 2, 3)]
    if done[0] is None:
        return
    for _, result in done[1:]:
        assert result.tobytes() == done[0][1].tobytes()


def test_zeros_have_the_same_sign_on_any_number_of_threads(engine):
    """Products with padding, which some tiles leave out, make +0 of -0."""
    for case in [*cases(SMALL_IMAGES), shapes.Case((40, 8, 5), (64, 8, 12), padding=6)]:
        weight = numpy.ones(case.weight, "f")
        arrays = numpy.full(case.input, -0.0, "f"), weight, numpy.full(len(weight), -0.0, "f")
        done = [engine.conv(arrays, case.arguments(), num_threads=threads) for threads in (1, 2, 3)]
        assert done[0] is None or len({result.tobytes() for _, result in done}) == 1, str(case)


def test_images_packed_together_keep_what_is_not_finite_to_themselves(engine):
    for case in cases(SMALL_IMAGES):
        data = shapes.shared_data(case, "f")
        input = data.input.copy()
        input[case.input[0] // 2, 0] = numpy.nan
        done = engine.conv((input, *data.arrays[1:]), case.arguments())
        if done is None:
            continue
        expected = oracle.convolve(input, *data.arrays[1:], **case.arguments())
        assert numpy.array_equal(numpy.isnan(done[1]), numpy.isnan(expected)), str(case)


def test_layers_of_small_images(engine):
    """Weights packed beforehand serve batches of every size."""
    for case in cases(SMALL_IMAGES):
        data = shapes.shared_data(case, "f")
        arguments = case.arguments()
        with engine.options(precision="strict"):
            if engine.refusal(data.arrays, arguments):
                continue
            layer = [npconv.Conv1d, npconv.Conv2d, npconv.Conv3d][case.axes - 1].from_weights(
                data.weight, data.bias, **arguments
            )
            for count in (case.input[0], 1, 2):
                assert not oracle.difference_exact(layer(data.input[:count]), data.expected[:count]), str(case)
