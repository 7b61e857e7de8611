"""What plans promise for sizes that are never run here."""

import numpy
import pytest
from engines import ENGINES

import npconv

MIB = 1 << 20

LARGE = [
    ((1, 1, 4096, 4096), (1, 1, 256, 256), {"stride": 256}),
    ((1, 1, 8192, 8192), (1, 1, 1024, 1024), {"stride": 1024}),
    ((1, 4, 3000, 4000), (4, 1, 3, 3), {"groups": 4, "stride": (7, 5)}),
    ((1, 1, 1 << 26), (1, 1, 1 << 20), {}),
    ((1, 1, 1 << 26), (1, 1, 7), {"dilation": 1 << 22}),
    ((1, 4096, 64, 64), (8, 4096, 5, 5), {"padding": "same"}),
    ((1, 1536, 28, 200), (16, 1536, 5, 5), {"padding": 2}),
    ((2, 3000, 28, 200), (16, 3000, 5, 3), {"padding": (2, 1)}),
    ((1, 1, 4, 4), (1, 1, 3, 4000), {"padding": ((0, 2**40), (2000, 2000))}),
    ((1, 2, 200, 200, 200), (3, 2, 31, 31, 31), {}),
]


def zeros(shape, dtype):
    """An array of any size that takes no memory."""
    return numpy.broadcast_to(numpy.zeros((), dtype), shape)


@pytest.mark.parametrize(("input", "weight", "arguments"), LARGE)
@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "F"])
def test_workspace_stays_small(backend, input, weight, arguments, dtype):
    """8 MiB a thread; on NumPy, whose blocks hold a whole window at least, what the input takes."""
    x = zeros(input, dtype)
    with npconv.options(num_threads=4):
        plan = npconv.explain(x, zeros(weight, dtype), **arguments)
    limit = 8 * MIB * plan.threads
    assert 0 < plan.workspace_bytes <= (max(limit, x.size * x.itemsize) if backend == "numpy" else limit)


@pytest.mark.parametrize("weight", [(8, 3, 3, 3), (8, 3, 1, 1), (64, 3, 3, 3)])
def test_an_empty_batch_is_planned_as_any_other(backend, weight):
    x = numpy.ones((0, 3, 8, 8), numpy.float32)
    assert npconv.explain(x, numpy.ones(weight, numpy.float32)).threads == 1
    assert npconv.conv2d(x, numpy.ones(weight, numpy.float32)).shape[:2] == (0, weight[0])


@pytest.mark.parametrize("isa", dict.fromkeys(engine.isa for engine in ENGINES if engine.isa))
def test_weights_of_a_transpose_count_for_algorithms_that_would_have_them_copied(isa):
    weight = zeros((512, 512, 1), "f4")
    with npconv.options(isa=isa, num_threads=1):
        plain, turned = (
            [explain(zeros((1, 512, n), "f4"), weight).algorithm for n in range(1, 64)]
            for explain in (npconv.explain, npconv.explain_transpose)
        )
    assert turned.count("blocked") > plain.count("blocked")
