# `unfold`, `fold` and the weights of transposed convolutions in another order; a part of _core.pyx.

def plan_folding(problem, options):
    """A CompiledFolding: `unfold` or `fold`, as the problem's function says, with the geometry of a convolution."""
    cdef CompiledFolding made = CompiledFolding()
    describe(&made.problem, problem, options)
    describe_types(&made.type, problem, problem.input_dtype)
    made.folds = problem.operation == "fold"
    made.layout = Layout(1 if made.folds else problem.spatial_axes, problem.batched, False)
    made.empty = problem.batch == 0
    made.most_threads = npc_fold_threads(&made.problem, options.threads)
    return made


cdef class CompiledFolding:
    """One `unfold` or `fold`; immutable once made, so any number of threads may run it at once."""

    cdef npc_problem problem
    cdef npc_tensor type  # nothing else of it is set
    cdef Layout layout
    cdef int most_threads
    cdef bint empty, folds

    @property
    def backend(self):
        return "compiled"

    @property
    def threads(self):
        return npc_thread_limit(self.most_threads)

    def run(self, input, out):
        """`out`, contiguous, aligned and native, becomes the result; an image to unfold is in native order too."""
        cdef npc_tensor tensor
        cdef npc_status status = NPC_OK
        cdef char *result = PyArray_BYTES(array_of(out))
        if self.empty:
            return
        place(&tensor, &self.type, input, self.layout)
        with nogil:
            if self.folds:
                status = npc_fold(&self.problem, self.most_threads, &tensor, result)
            else:
                npc_unfold(&self.problem, self.most_threads, &tensor, result)
        if status == NPC_NO_MEMORY:
            raise MemoryError("no memory for the sums of a few rows a thread")


def take_kernels(options, weight, taps, out):
    """As `_numpy.take_kernels`, into `out`; all of them contiguous and aligned."""
    cdef const npc_isa *isa = find_isa(options.isa)
    cdef int threads = options.threads
    cdef npc_kernel_order order
    order.groups, order.inputs, order.outputs, order.kernel = weight.shape
    order.places, order.taken = taps.shape
    order.element = weight.itemsize
    order.source, order.to = PyArray_BYTES(array_of(weight)), PyArray_BYTES(array_of(out))
    order.taps = <const int64_t *> PyArray_BYTES(array_of(taps))
    with nogil:
        npc_take_kernels(&order, isa, threads)
