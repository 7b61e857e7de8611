# Calls that were made before, found again by what their arguments are; a part of _core.pyx.

cdef enum:
    MOST_AXES = 8  # of arrays whose calls are remembered
    PROBES = 4  # places of the table where a call may be


cdef struct Form:
    int axes  # below 0 where there is no array
    Py_ssize_t size[MOST_AXES]


cdef class _Argument:
    """Shape and dtype of an array, or that there is none."""

    cdef Form form
    cdef object dtype

    cdef bint fits(self, array):
        cdef PyArrayObject *given = <PyArrayObject *> array
        cdef PyArray_Descr *dtype = <PyArray_Descr *> self.dtype
        cdef int a
        if array is None or self.form.axes < 0:
            return array is None and self.form.axes < 0
        if not PyArray_CheckExact(array) or PyArray_NDIM(given) != self.form.axes:
            return False
        for a in range(self.form.axes):
            if PyArray_DIMS(given)[a] != self.form.size[a]:
                return False
        return PyArray_DESCR(given) == dtype or PyArray_EquivTypes(PyArray_DESCR(given), dtype)


cdef _Argument argument_of(tuple shape, dtype):
    cdef _Argument argument = _Argument()
    cdef int a
    argument.dtype = dtype
    argument.form.axes = <int> len(shape)
    for a in range(argument.form.axes):
        argument.form.size[a] = shape[a]
    return argument


cdef _Argument array_argument(array):
    cdef _Argument argument
    if array is not None:
        return argument_of(array.shape, array.dtype)
    argument = _Argument()
    argument.form.axes = -1
    return argument


cdef bint is_plain(setting):
    """Integers, or tuples of nothing else: equal ones that are not would find the plan of another call."""
    if type(setting) is tuple:
        for element in <tuple> setting:
            if type(element) is not int:
                return False
        return True
    return setting is None or type(setting) is int or type(setting) is str


cdef bint are_plain(input, weight, bias, tuple settings):
    for array in (input, weight, bias):
        if array is not None and not (PyArray_CheckExact(array) and array.ndim <= MOST_AXES):
            return False
    for setting in settings:
        if not is_plain(setting):
            return False
    return True


cdef bint lie_apart(PyArrayObject *one, PyArrayObject *other):
    """No byte of `one`, which is contiguous, between the first and the last of `other`."""
    cdef const char *first = PyArray_BYTES(other)
    cdef const char *end = first + PyArray_ITEMSIZE(other)
    cdef Py_ssize_t span
    cdef int a
    for a in range(PyArray_NDIM(other)):
        span = (PyArray_DIMS(other)[a] - 1) * PyArray_STRIDES(other)[a]
        if span < 0:
            first += span
        else:
            end += span
    return end <= <const char *> PyArray_BYTES(one) or PyArray_BYTES(one) + PyArray_NBYTES(one) <= first


cdef class _Call:
    """What is known of a call, and what answers it."""

    cdef object options, function
    cdef tuple settings
    cdef _Argument input, weight, bias, output
    cdef CompiledPlan compiled  # None where the plan is another
    cdef object plan
    cdef tuple own  # weight, bias and packed weights of a layer
    cdef tuple shape
    cdef bint is_kept

    cdef bint is_like(self, options, function, input, weight, bias, tuple settings):
        cdef Py_ssize_t i
        if self.options is not options or len(settings) != len(self.settings):
            return False
        if not (self.input.fits(input) and self.weight.fits(weight) and self.bias.fits(bias)):
            return False
        if self.function is not function and self.function != function:
            return False
        for i in range(len(settings)):
            known, setting = self.settings[i], settings[i]
            if known is not setting and (type(known) is not type(setting) or not is_plain(setting) or known != setting):
                return False
        return True

    cdef bint may_write(self, out, input, weight, bias):
        """That it is fit for the result: what is not, or only perhaps, is left to the long way."""
        cdef PyArrayObject *array = <PyArrayObject *> out
        if not self.output.fits(out) or not PyArray_ISCARRAY(array):
            return False
        for read in (input, weight, bias):
            if read is not None and not lie_apart(array, <PyArrayObject *> read):
                return False
        return True

    cdef object answer(self, input, weight, bias, out):
        packed = None
        if self.own is not None:
            weight, bias, packed = self.own
        if out is not None:
            if not self.may_write(out, input, weight, bias):
                return None
        elif self.is_kept:
            out = kept_result(self.shape, self.output.dtype)
        else:
            Py_INCREF(self.output.dtype)
            out = PyArray_Empty(self.output.form.axes, self.output.form.size, <PyArray_Descr *> self.output.dtype, 0)
        if self.compiled is not None:
            self.compiled.execute(input, weight, bias, out, packed)
        else:
            self.plan.run(input, weight, bias, out, packed)
        return out


cdef inline uint64_t mixed(uint64_t hash, uint64_t value) noexcept:
    return (hash ^ value) * <uint64_t> 0x9E3779B97F4A7C15


cdef inline uint64_t mixed_with(uint64_t hash, setting) noexcept:
    if type(setting) is int or type(setting) is str:
        return mixed(hash, <uint64_t> PyObject_Hash(setting))
    return hash


cdef class Calls:
    """Calls with plain arguments: the next one of a kind costs no more than finding it here."""

    cdef list places
    cdef Py_ssize_t count, turn

    def __cinit__(self, Py_ssize_t count):
        """`count`, a power of 2, is how many places there are; each call may be at PROBES of them."""
        self.places = [None] * count
        self.count = count

    cdef Py_ssize_t first_place(self, options, input, weight, bias, tuple settings):
        cdef uint64_t hash = mixed(<size_t> <void *> options, bias is None)
        cdef int a
        for array in (input, weight):
            if array is None:
                continue
            hash = mixed(hash, <uint64_t> PyArray_TYPE(<PyArrayObject *> array))
            for a in range(PyArray_NDIM(<PyArrayObject *> array)):
                hash = mixed(hash, <uint64_t> PyArray_DIMS(<PyArrayObject *> array)[a])
        for setting in settings:
            if type(setting) is not tuple:
                hash = mixed_with(hash, setting)
                continue
            for element in <tuple> setting:
                hash = mixed_with(hash, element)
        return <Py_ssize_t> (hash >> 32)

    def again(self, options, function, input, weight, bias, tuple settings, out=None):
        """The result of a call whose like was given to `remember`, else None."""
        cdef Py_ssize_t first
        cdef int i
        if not PyArray_CheckExact(input) or not (weight is None or PyArray_CheckExact(weight)):
            return None
        first = self.first_place(options, input, weight, bias, settings)
        for i in range(PROBES):
            with cython.critical_section(self):  # or another thread may free it, where there is no GIL
                found = self.places[(first + i) & (self.count - 1)]
            if found is not None and (<_Call> found).is_like(options, function, input, weight, bias, settings):
                return (<_Call> found).answer(input, weight, bias, out)
        return None

    def remember(self, prepared, function, input, weight, bias, tuple settings, tuple own=None):
        """Has `again` answer such calls under the options they were prepared for, if their arguments are plain.

        `own` are weight, bias and packed weights of a layer, whose calls have none.
        """
        cdef _Call call = _Call()
        cdef Py_ssize_t first, at
        cdef int i
        if not are_plain(input, weight, bias, settings) or len(prepared.shape) > MOST_AXES:
            return
        # Not those looked up for `again`: another thread may have changed them meanwhile.
        call.options, call.function, call.settings = prepared.options, function, settings
        call.input, call.weight, call.bias = array_argument(input), array_argument(weight), array_argument(bias)
        call.output = argument_of(prepared.shape, prepared.dtype)
        call.plan, call.own = prepared.plan, own
        call.compiled = prepared.plan if type(prepared.plan) is CompiledPlan else None
        call.shape, call.is_kept = prepared.shape, prepared.allocate is kept_result
        options = prepared.options
        first = self.first_place(options, input, weight, bias, settings)
        with cython.critical_section(self):
            self.turn += 1
            at = self.turn  # the place of another, where all are taken
            for i in range(PROBES):
                found = self.places[(first + i) & (self.count - 1)]
                if found is None or (<_Call> found).is_like(options, function, input, weight, bias, settings):
                    at = i
                    break
            self.places[(first + at % PROBES) & (self.count - 1)] = call
