# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True, auto_pickle=False
"""Turns a Problem into the C struct, drops the GIL and turns a status into an exception."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_FillInfo
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t

import platform

import numpy

from npconv._core cimport *

include "_describe.pxi"

cdef object ndarray = numpy.ndarray
cdef Py_ssize_t LARGE_RESULT = 32 << 20  # below that the C library keeps freed memory too

import_array()
npc_parallel_start()


ctypedef const npc_isa *(*isa_at)(int i) noexcept nogil


cdef tuple isa_names(isa_at at):
    cdef int i = 0
    names = []
    while at(i) != NULL:
        names.append(at(i).name.decode())
        i += 1
    return tuple(names)


cdef tuple algorithm_names():
    cdef int i = 0
    names = []
    while npc_algorithm_at(i) != NULL:
        names.append(npc_algorithm_name(npc_algorithm_at(i)).decode())
        i += 1
    return tuple(names)


ALGORITHMS = algorithm_names()


def config():
    """What this build has, and what of it runs here."""
    return {
        "openmp": f"version {npc_openmp_version()}" if npc_openmp_version() else None,
        "isas": isa_names(npc_usable_isa),
        "built_isas": isa_names(npc_built_isa),
        "compiler": platform.python_compiler(),
    }


cdef class Memory:
    """A block of csrc/memory.h as a buffer of bytes: of those kept between calls, whose pages cost nothing."""

    cdef void *data
    cdef Py_ssize_t size

    def __cinit__(self, Py_ssize_t size):
        self.size = size
        self.data = npc_acquire(size)
        if self.data == NULL:
            raise MemoryError(f"no memory for {size} bytes")

    def __dealloc__(self):
        npc_release(self.data)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)


cdef Py_ssize_t bytes_of(tuple shape, dtype):
    cdef Py_ssize_t size = dtype.itemsize
    for n in shape:
        size *= n
    return size


def kept_result(tuple shape, dtype):
    """As `numpy.empty`, in memory that is kept when the array goes: fresh pages cost as much as filling them."""
    return ndarray(shape, dtype, Memory(bytes_of(shape, dtype)))


def allocator(tuple shape, dtype):
    """`kept_result` for large results, otherwise `numpy.empty`."""
    return kept_result if bytes_of(shape, dtype) >= LARGE_RESULT else numpy.empty


def plan(problem, options, prepacked=False, turned=False):
    """A CompiledPlan; ValueError when the options name an algorithm that refuses the problem.

    `prepacked` says that its weights will be packed once for many runs, so that the packing costs nothing, `turned`
    that they lie as those of a transpose, output channels next to each other.
    """
    cdef CompiledPlan made = CompiledPlan()
    cdef const char *wanted = NULL
    describe(&made.plan.problem, problem, options)
    describe_arrays(&made.arrays, problem)
    made.empty = problem.batch == 0
    made.plan.threads = options.threads
    made.plan.prepacked = prepacked
    made.plan.turned = turned
    made.plan.isa = find_isa(options.isa)
    if options.algorithm is not None:
        algorithm_name = options.algorithm.encode()
        wanted = algorithm_name
    if npc_plan_make(&made.plan, wanted) != NPC_OK:
        reasons = dict(made.refused)
        raise ValueError(
            f"{problem.function}: algorithm {options.algorithm!r} refuses this problem: "
            f"{reasons.get(options.algorithm, 'the compiled backend has no such algorithm')}"
        )
    return made


cdef class PackedWeights:
    """Weights in the order of one algorithm, for plans with the same `packing`."""

    cdef void *data

    def __dealloc__(self):
        npc_release(self.data)


cdef class CompiledPlan:
    """One problem on this machine; immutable once made, so any number of threads may run it at once."""

    cdef npc_plan plan
    cdef Arrays arrays
    cdef bint empty

    @property
    def backend(self):
        return "compiled"

    @property
    def algorithm(self):
        return npc_algorithm_name(self.plan.algorithm).decode()

    @property
    def isa(self):
        return self.plan.isa.name.decode()

    @property
    def threads(self):
        return npc_thread_limit(self.plan.threads)

    @property
    def workspace_bytes(self):
        return npc_plan_workspace(&self.plan)

    @property
    def refused(self):
        return tuple(
            (name, self.plan.refused[i].decode()) for i, name in enumerate(ALGORITHMS) if self.plan.refused[i] != NULL
        )

    @property
    def turns_taps(self):
        """As npc_plan_turns_taps."""
        return npc_plan_turns_taps(&self.plan)

    @property
    def packing(self):
        """What packed weights depend on besides the weights; None where plain ones are as good."""
        cdef const npc_tensor *weight = &self.arrays.types.weight
        if npc_plan_packed_bytes(&self.plan) == 0 or npc_plan_reads_plain_weights(&self.plan, weight):
            return None
        return (
            self.algorithm, self.isa, npc_plan_packed_order(&self.plan),
            <int> self.plan.problem.scalar, self.plan.problem.parts, <int> weight.scalar, weight.parts, weight.swapped,
        )

    def pack(self, weight):
        """The weight, an array as the problem describes it, packed for `run`."""
        cdef PackedWeights packed = PackedWeights()
        cdef npc_tensor tensor
        packed.data = npc_acquire(npc_plan_packed_bytes(&self.plan))
        if packed.data == NULL:
            raise MemoryError(f"no memory for {npc_plan_packed_bytes(&self.plan)} bytes of packed weights")
        place(&tensor, &self.arrays.types.weight, weight, self.arrays.weight)
        with nogil:
            npc_plan_pack(&self.plan, &tensor, packed.data)
        return packed

    def run(self, input, weight, bias, out, PackedWeights packed=None):
        """`out` becomes the convolution; arrays as the problem describes them, `out` aligned and in native order."""
        self.execute(input, weight, bias, out, packed)

    cdef int execute(self, input, weight, bias, out, PackedWeights packed) except -1:
        cdef const void *packed_data = NULL if packed is None else packed.data
        cdef npc_tensors tensors
        cdef npc_status status
        if self.empty:
            return 0
        place_arrays(&tensors, &self.arrays, input, weight, bias, out)
        with nogil:
            status = npc_plan_run(&self.plan, &tensors, packed_data)
        if status == NPC_NO_MEMORY:
            raise MemoryError(f"no memory for {self.workspace_bytes} bytes of workspace and for packed weights")
        return 0


include "_calls.pxi"


def plan_weight_gradient(problem, options):
    """A WeightGradientPlan."""
    cdef WeightGradientPlan made = WeightGradientPlan()
    describe(&made.plan.problem, problem, options)
    describe_arrays(&made.arrays, problem)
    made.empty = problem.batch == 0
    made.plan.most_threads = options.threads
    made.plan.isa = find_isa(options.isa)
    npc_weight_gradient_make(&made.plan)
    return made


cdef class WeightGradientPlan:
    """The gradient of one convolution's weight on this machine, as immutable as a CompiledPlan."""

    cdef npc_weight_gradient plan
    cdef Arrays arrays
    cdef bint empty

    backend = "compiled"
    algorithm = "weight_gradient"
    packing = None
    refused = ()

    @property
    def isa(self):
        return self.plan.isa.name.decode()

    @property
    def threads(self):
        return npc_thread_limit(self.plan.threads)

    @property
    def workspace_bytes(self):
        return npc_weight_gradient_workspace(&self.plan)

    def pack(self, weight):
        """Nothing: there are no weights."""

    def run(self, input, weight, bias, out, packed=None):
        """`weight` is the gradient of the output, `out` becomes that of the weight; otherwise as CompiledPlan.run."""
        cdef npc_tensors tensors
        cdef npc_tensor made
        cdef npc_status status
        if self.empty:
            out.fill(0)
            return
        place_arrays(&tensors, &self.arrays, input, weight, None, out)
        made, tensors.output = tensors.output, tensors.weight
        tensors.weight = made
        with nogil:
            status = npc_weight_gradient_run(&self.plan, &tensors)
        if status == NPC_NO_MEMORY:
            raise MemoryError(f"no memory for {self.workspace_bytes} bytes of workspace")


def plan_spread(problem, options):
    """A SpreadPlan for a transposed convolution, or None where its phases are to be computed each on its own."""
    cdef SpreadPlan made = SpreadPlan()
    describe(&made.plan.problem, problem, options)
    describe_arrays(&made.arrays, problem)
    made.plan.most_threads = options.threads
    made.plan.isa = find_isa(options.isa)
    return made if npc_spread_make(&made.plan) else None


cdef class SpreadPlan:
    """A transposed convolution all of whose phases are computed at once, as immutable as a CompiledPlan."""

    cdef npc_spread plan
    cdef Arrays arrays

    algorithm = "spread"

    @property
    def isa(self):
        return self.plan.isa.name.decode()

    @property
    def threads(self):
        return npc_thread_limit(self.plan.threads)

    def run(self, input, weight, bias, out):
        """As CompiledPlan.run with the transpose's own weight; whether the arrays lie so that it is done."""
        cdef npc_tensors tensors
        cdef npc_status status
        place_arrays(&tensors, &self.arrays, input, weight, bias, out)
        with nogil:
            status = npc_spread_run(&self.plan, &tensors)
        return status == NPC_OK


include "_folding.pxi"
