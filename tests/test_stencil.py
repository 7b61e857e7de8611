"""Depthwise and single-channel kernels of 3x3 along rows, which default precision alone takes."""

import itertools

import numpy
import pytest
import shapes
from engines import ENGINES, difference

import npconv

STENCIL = [engine for engine in ENGINES if (engine.algorithm, engine.precision) == ("stencil", "fast")]
# More than three vectors of 16 and 8 pixels, or one of every other pixel, and every rest of them.
WIDTHS = (*range(25, 50, 3), *range(50, 68), 97, 131)


@pytest.fixture(params=STENCIL, ids=str)
def stencil(request):
    return request.param


def result(engine, arrays, arguments, threads):
    """By kernels of default precision, which must not refuse."""
    precision, done = engine.conv(arrays, arguments, num_threads=threads)
    assert precision == "fast"
    return done


@pytest.mark.parametrize(("stride", "padding"), list(itertools.product((1, 2), (0, 1, (2, 0), ((0, 2), (3, 1))))))
def test_rows_of_every_length(stencil, stride, padding):
    for index, width in enumerate(WIDTHS):
        groups = (1, 3)[index % 2]
        size = (2, groups, 3 + index % 9, width)
        case = shapes.Case(size, (groups, 1, 3, 3), groups=groups, stride=stride, padding=padding)
        data = shapes.shared_data(case, "fd"[index % 3 == 0])
        done = [result(stencil, data.arrays, case.arguments(), threads) for threads in (1, 2, 3)]
        assert not difference(case, data, "fast", done[0], exact=False), str(case)
        assert len({each.tobytes() for each in done}) == 1, str(case)


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_not_finite_stays_in_its_windows(stencil, stride, value):
    image, weight = numpy.ones((1, 1, 7, 75), "f"), numpy.ones((1, 1, 3, 3), "f")
    for row, column in itertools.product((0, 3, 6), (0, 1, 15, 16, 47, 48, 63, 74)):
        spoilt = image.copy()
        spoilt[0, 0, row, column] = value
        arguments = {"stride": stride, "padding": 1}
        done = result(stencil, (spoilt, weight), arguments, 1)
        with npconv.options(backend="compiled", algorithm="reference"):
            expected = npconv.conv(spoilt, weight, **arguments)
        assert numpy.array_equal(numpy.isfinite(done), numpy.isfinite(expected)), (row, column)
