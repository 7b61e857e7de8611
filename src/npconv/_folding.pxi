# `unfold`, `fold` and the weights of transposed convolutions in another order; a part of _core.pyx.

def plan_folding(problem, options):
    """A CompiledFolding: `unfold` or `fold`, as the problem's function says, with the geometry of a convolution."""
    cdef CompiledFolding made = CompiledFolding()
    describe(&made.problem, problem, options)
    describe_types(&made.tensor, problem, problem.input_dtype)
    made.folds = problem.operation == "fold"
    made.layout = Layout(1 if made.folds else problem.spatial_axes, problem.batched, False)
    made.empty = problem.batch == 0
    made.most_threads = npc_fold_threads(&made.problem, options.threads)
    return made


cdef class CompiledFolding:
    """One `unfold` or `fold`; immutable once made, so any number of threads may run it at once."""

    cdef npc_problem problem
    cdef npc_tensor tensor  # its types; the rest is filled in a copy, a run
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
        cdef npc_tensor tensor = self.tensor
        cdef npc_status status = NPC_OK
        cdef Buffers buffers
        cdef char *result
        if self.empty:
            return
        buffers.count = 0
        try:
            place(&tensor, acquire(&buffers, input), self.layout)
            result = <char *> acquire(&buffers, out, PyBUF_WRITABLE).buf
            with nogil:
                if self.folds:
                    status = npc_fold(&self.problem, self.most_threads, &tensor, result)
                else:
                    npc_unfold(&self.problem, self.most_threads, &tensor, result)
        finally:
            release(&buffers)
        if status == NPC_NO_MEMORY:
            raise MemoryError("no memory for the sums of a few rows a thread")


def take_kernels(options, weight, taps, out):
    """As `_numpy.take_kernels`, into `out`; all of them contiguous and aligned."""
    cdef const npc_isa *isa = find_isa(options.isa)
    cdef int threads = options.threads
    cdef npc_kernel_order order
    cdef Buffers buffers
    buffers.count = 0
    order.groups, order.inputs, order.outputs, order.kernel = weight.shape
    order.places, order.taken = taps.shape
    order.element = weight.itemsize
    try:
        order.source = <const char *> acquire(&buffers, weight).buf
        order.to = <char *> acquire(&buffers, out, PyBUF_WRITABLE).buf
        order.taps = <const int64_t *> acquire(&buffers, taps).buf
        with nogil:
            npc_take_kernels(&order, isa, threads)
    finally:
        release(&buffers)
