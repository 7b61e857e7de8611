"""`explain`, and proof that what was forced is what ran."""

import dataclasses
import itertools
import os

import numpy
import pytest
import shapes
from engines import BACKENDS, ENGINES, compiled_core, difference
from sweeps import SWEEPS

import npconv

FORCED = [engine for engine in ENGINES if engine.algorithm]
ISAS = sorted({engine.isa for engine in ENGINES if engine.isa})
EVERY_FIFTH = [
    (case, dtype)
    for place, case in enumerate(itertools.islice(itertools.chain(*SWEEPS.values()), 0, None, 5))
    for dtype in ("f", "dlbDeBg"[place % 7])
    if 0 not in case.input and not (case.activation and dtype not in "fdeg")
]
PLAIN = (numpy.ones((1, 8, 20, 20), "f"), numpy.ones((8, 8, 3, 3), "f"), numpy.ones(8, "f"))


def arrays_for(case, dtype):
    """Arrays of the right shapes that take no memory."""
    return [numpy.broadcast_to(numpy.ones((), dtype), shape) for shape in (case.input, case.weight)]


def taken(engine, precision="fast"):
    """How many of the sampled problems this engine takes."""
    with engine.options(precision=precision):
        return sum(engine.refusal(arrays_for(case, dtype), case.arguments()) is None for case, dtype in EVERY_FIFTH)


@pytest.mark.parametrize("forced", FORCED, ids=str)
def test_every_algorithm_and_instruction_set_takes_many_problems(forced):
    assert taken(forced) >= 10


def test_something_takes_every_problem_with_plain_sums(backend):
    for case, dtype in EVERY_FIFTH:
        with npconv.options(precision="strict"):
            plan = npconv.explain(*arrays_for(case, dtype), **case.arguments())
        assert plan.backend == backend


def test_the_compiled_backend_is_there_where_it_must_be():
    """A build that was told to fail without the extension must be tested with it."""
    if os.environ.get("NPCONV_REQUIRE_EXTENSION") == "1":
        assert "compiled" in BACKENDS


def test_every_instruction_set_is_forced_by_name():
    for isa in ISAS:
        with npconv.options(backend="compiled", isa=isa):
            assert npconv.explain(*PLAIN).isa == isa
            assert npconv.get_options()["isa"] == isa


def test_fields(backend):
    plan = npconv.explain(*PLAIN, padding=1)
    assert plan.backend == backend
    assert isinstance(plan.algorithm, str)
    assert isinstance(plan.isa, str)
    assert isinstance(plan.threads, int)
    assert plan.threads >= 1
    assert isinstance(plan.workspace_bytes, int)
    assert plan.workspace_bytes >= 0
    assert all(isinstance(name, str) and isinstance(reason, str) and reason for name, reason in plan.refused)
    assert plan.algorithm not in [name for name, _ in plan.refused]
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.algorithm = "other"
    assert isinstance(plan, npconv.Plan)
    assert plan == npconv.explain(*PLAIN, padding=1)


def test_text_says_everything(backend):
    plan = npconv.explain(*PLAIN)
    text = str(plan)
    for value in (plan.backend, plan.algorithm, plan.isa, str(plan.threads)):
        assert value in text
    for name, reason in plan.refused:
        assert name in text
        assert reason in text
    assert len(text.splitlines()) >= 4


def test_a_refusal_says_who_and_why():
    """Each forced algorithm either takes a problem or gives its own reason."""
    odd = numpy.ones((1, 3, 9), "g"), numpy.ones((2, 3, 2), "g")
    for engine in FORCED:
        with engine.options(precision="strict"):
            reason = engine.refusal(odd, {"stride": 2, "dilation": 3})
            assert reason is None or (engine.algorithm in reason and len(reason) > len(engine.algorithm) + 10)
            if reason:
                with pytest.raises(ValueError, match=engine.algorithm):
                    npconv.conv(*odd, stride=2, dilation=3)


def test_threads_within_what_was_asked(backend):
    for number in (1, 2, 3):
        with npconv.options(num_threads=number):
            assert 1 <= npconv.explain(*PLAIN).threads <= number


def test_explaining_costs_no_memory(backend):
    image = numpy.broadcast_to(numpy.float32(1), (1, 3, 10**6, 10**6))
    plan = npconv.explain(image, numpy.ones((4, 3, 3, 3), "f"), padding=1)
    assert plan.backend == backend


def test_same_arguments_and_errors_as_conv(backend):
    image, weight, bias = PLAIN
    plan = npconv.explain(image, weight, bias, 2, ((1, 2), (3, 4)), 2, 8 // 8, padding_mode="reflect",
                          activation=("clip", 0, 1), data_format="channels_first", dtype="f8",
                          out=numpy.empty((1, 8, 10, 12)))  # fmt: skip
    assert plan.backend == backend
    with pytest.raises(ValueError, match="groups"):
        npconv.explain(image, weight, groups=3)
    with pytest.raises(TypeError, match="stride"):
        npconv.explain(image, weight, stride=1.5)


@pytest.mark.parametrize(
    ("kind", "weight", "image", "settings"),
    [
        (npconv.Conv1d, (4, 3, 5), (2, 3, 9), {"stride": 2}),
        (npconv.Conv2d, (8, 8, 3, 3), (8, 9, 9), {"padding": 1, "activation": "relu"}),
        (npconv.Conv3d, (2, 1, 1, 2, 3), (1, 2, 5, 5, 5), {"groups": 2}),
        (npconv.ConvTranspose2d, (3, 2, 3, 3), (1, 3, 9, 9), {"stride": 2, "padding": 1}),
    ],
)
def test_layers_are_explained_as_what_was_forced(kind, weight, image, settings):
    explain = npconv.explain_transpose if "Transpose" in kind.__name__ else npconv.explain
    weight, image = numpy.ones(weight, "f"), numpy.ones(image, "f")
    layer = kind.from_weights(weight, **settings)
    for engine in FORCED:
        with engine.options():
            try:
                expected = explain(image, weight, **settings)
            except ValueError:
                with pytest.raises(ValueError, match=engine.algorithm):
                    layer.explain(image)
            else:
                plan = layer.explain(image)
                assert (plan.algorithm, plan.isa) == (expected.algorithm, expected.isa)


def test_what_a_layer_explains_is_what_it_runs(backend):
    """Weights that are packed once may be worth another algorithm than those of a call."""
    weight = numpy.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype("f")
    x = numpy.random.default_rng(1).standard_normal((1, 64, 4, 4)).astype("f")
    layer = npconv.Conv2d.from_weights(weight, padding=1)
    compiled = backend == "compiled"
    with npconv.options(**{"isa": "scalar"} if compiled else {}):  # whose choice is the same on every machine
        call, own = npconv.explain(x, weight, padding=1).algorithm, layer.explain(x).algorithm
        assert (call != own) == compiled
        assert not layer._weights.packed
        result = layer(x)
        with npconv.options(algorithm=own):
            numpy.testing.assert_array_equal(result, npconv.conv2d(x, weight, padding=1))
        with npconv.options(algorithm=call):
            assert numpy.array_equal(result, npconv.conv2d(x, weight, padding=1)) == (call == own)


def test_a_layer_checks_what_it_explains(backend):
    layer = npconv.Conv2d(3, 4, 3, rng=0)
    with pytest.raises(ValueError, match="conv2d: input has 2 channels"):
        layer.explain(numpy.ones((1, 2, 9, 9), "f"))
    with pytest.raises(ValueError, match=r"conv2d: out must have shape \(1, 4, 7, 7\)"):
        layer.explain(numpy.ones((1, 3, 9, 9), "f"), out=numpy.ones(1, "f"))


def test_explaining_writes_nothing(backend):
    out = numpy.full((1, 8, 18, 18), 7, "f")
    npconv.explain(*PLAIN, out=out)
    assert (out == 7).all()


# --- proof -------------------------------------------------------------------------------------------------------


def test_the_numpy_backend_runs_when_forced_and_only_then(monkeypatch):
    from npconv import _numpy

    ran = []
    original = _numpy.NumpyPlan.run

    def run(self, *arguments):
        ran.append(self)
        return original(self, *arguments)

    monkeypatch.setattr(_numpy.NumpyPlan, "run", run)
    for backend in BACKENDS:
        ran.clear()
        with npconv.options(backend=backend):
            npconv.conv(*PLAIN, padding=7)
        assert len(ran) == (backend == "numpy")


def test_the_compiled_backend_runs_when_forced_and_only_then(monkeypatch):
    core = compiled_core()
    if core is None:
        pytest.skip("no compiled core")
    planned = []
    original = core.plan

    def plan(*arguments):
        planned.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(core, "plan", plan)
    for number, backend in enumerate(BACKENDS):
        planned.clear()
        with npconv.options(backend=backend):
            npconv.conv(*PLAIN, padding=11 + number)
        assert bool(planned) == (backend == "compiled")


# Sums long enough for every algorithm to group them in its own way.
TELLING = (
    *shapes.VARIED,
    shapes.Case((1, 1, 40, 41), (1, 1, 31, 29), padding=(15, 14)),
    shapes.Case((1, 24, 20, 20), (16, 24, 3, 3), padding=1),
    shapes.Case((1, 3, 60, 40), (3, 1, 27, 25), groups=3),
    shapes.Case((1, 1, 3000), (4, 1, 1200), stride=100),
)


def bits_of(engine, case):
    data = shapes.shared_data(case, "f", exact=False)
    done = engine.conv(data.arrays, case.arguments())
    return done and done[1].tobytes()


@pytest.mark.parametrize("isa", ISAS)
def test_algorithms_are_told_apart_by_their_bits(isa):
    """Each rounds in its own order: two that always gave the same bits would be one under two names."""
    bits = {engine.algorithm: [bits_of(engine, case) for case in TELLING] for engine in FORCED if engine.isa == isa}
    for one, two in itertools.combinations(bits, 2):
        if isa == "scalar" and {one, two} == {"channelwise", "reference"}:
            continue  # both add one tap after the other, and round each product
        if "sliding" in (one, two) and {one, two} & {"channelwise", "blocked", "direct"}:
            continue  # so do these of a single channel, with fused products
        both = [pair for pair in zip(bits[one], bits[two], strict=True) if None not in pair]
        assert not both or any(a != b for a, b in both), (one, two)


def test_fused_and_separate_multiplication_tell_instruction_sets_apart():
    """Bits as witnesses: fused multiply-add rounds once, plain C for the oldest machines rounds twice."""
    fused = [isa for isa in ISAS if isa in ("avx2", "avx512", "neon")]
    if "scalar" not in ISAS or not fused:
        pytest.skip("one instruction set only")
    case = shapes.Case((1, 32, 20, 20), (32, 32, 3, 3), padding=1)
    data = shapes.make_data(case, "f", exact=False)

    def bits(isa):
        with npconv.options(backend="compiled", isa=isa, precision="strict"):
            return npconv.conv(*data.arrays, **case.arguments()).tobytes()

    for isa in fused:
        assert bits(isa) != bits("scalar")


def test_what_npconv_chooses_is_what_it_says(backend):
    """Forcing the chosen algorithm and instruction set by name gives the same bits."""
    for case in shapes.VARIED:
        data = shapes.shared_data(case, "f", exact=False)
        plan = npconv.explain(*data.arrays, **case.arguments())
        chosen = npconv.conv(*data.arrays, **case.arguments())
        forced = {"algorithm": plan.algorithm, **({"isa": plan.isa} if backend == "compiled" else {})}
        with npconv.options(**forced):
            again = npconv.conv(*data.arrays, **case.arguments())
        assert again.tobytes() == chosen.tobytes(), str(case)
        assert not difference(case, data, "fast", chosen, exact=False)
