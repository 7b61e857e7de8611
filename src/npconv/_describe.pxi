# The problem, the options and the arrays of a call as the C side sees them; a part of _core.pyx.

cdef dict SCALARS = {
    "b": NPC_SCALAR_int8, "B": NPC_SCALAR_uint8, "?": NPC_SCALAR_uint8,
    "e": NPC_SCALAR_float16, "f": NPC_SCALAR_float32, "d": NPC_SCALAR_float64, "g": NPC_SCALAR_longdouble,
    "F": NPC_SCALAR_float32, "D": NPC_SCALAR_float64, "G": NPC_SCALAR_longdouble,
}
cdef dict INTEGERS = {
    ("i", 1): NPC_SCALAR_int8, ("u", 1): NPC_SCALAR_uint8, ("i", 2): NPC_SCALAR_int16, ("u", 2): NPC_SCALAR_uint16,
    ("i", 4): NPC_SCALAR_int32, ("u", 4): NPC_SCALAR_uint32, ("i", 8): NPC_SCALAR_int64, ("u", 8): NPC_SCALAR_uint64,
}
cdef dict PADDING_MODES = {
    "zeros": NPC_PADDING_ZEROS, "reflect": NPC_PADDING_REFLECT, "replicate": NPC_PADDING_REPLICATE,
    "circular": NPC_PADDING_CIRCULAR, "symmetric": NPC_PADDING_SYMMETRIC,
}
cdef dict ACTIVATIONS = {
    "clip": NPC_ACTIVATION_CLIP, "leaky_relu": NPC_ACTIVATION_LEAKY_RELU, "sigmoid": NPC_ACTIVATION_SIGMOID,
    "tanh": NPC_ACTIVATION_TANH, "silu": NPC_ACTIVATION_SILU, "hardswish": NPC_ACTIVATION_HARDSWISH,
}


cdef const npc_isa *find_isa(name) except NULL:
    cdef const char *wanted = NULL
    cdef const npc_isa *found
    if name is not None:
        encoded = name.encode()
        wanted = encoded
    found = npc_find_isa(wanted)
    if found == NULL:
        raise ValueError(f"isa {name!r} does not run on this machine, or was not built")
    return found


cdef int scalar_of(dtype) except -1:
    return INTEGERS[dtype.kind, dtype.itemsize] if dtype.kind in "iu" else SCALARS[dtype.char]


cdef int describe_types(npc_tensor *tensor, problem, dtype) except -1:
    if problem.must_cast(dtype):
        dtype = problem.dtype
    tensor.scalar = <npc_scalar> scalar_of(dtype)
    tensor.parts = 2 if dtype.kind == "c" else 1
    tensor.swapped = not dtype.isnative
    return 0


cdef int describe(npc_problem *target, problem, options) except -1:
    cdef int a
    target.spatial_axes = problem.spatial_axes
    target.batch = max(problem.batch, 1)  # an empty batch is planned as any other, and never run
    target.groups = problem.groups
    target.input_channels = problem.input_channels
    target.output_channels = problem.output_channels
    for a in range(target.spatial_axes):
        target.axis[a].input = problem.input_size[a]
        target.axis[a].kernel = problem.kernel_size[a]
        target.axis[a].output = problem.output_size[a]
        target.axis[a].stride = problem.stride[a]
        target.axis[a].dilation = problem.dilation[a]
        target.axis[a].before = problem.padding[a][0]
    target.padding_mode = <npc_padding_mode> (<int> PADDING_MODES[problem.padding_mode])
    target.activation = <npc_activation> NPC_ACTIVATION_NONE
    if problem.activation is not None:
        name, target.activation_a, target.activation_b = problem.activation
        target.activation = <npc_activation> (<int> ACTIVATIONS[name])
    target.has_bias = problem.bias_dtype is not None
    target.strict = options.precision == "strict"
    target.scalar = <npc_scalar> scalar_of(problem.dtype)
    target.parts = 2 if problem.dtype.kind == "c" else 1
    target.compute = npc_compute_of(target.scalar)
    return 0


cdef struct Layout:
    int spatial_axes
    bint batched, channels_last


cdef Layout BIAS = Layout(0, False, False)


cdef void place(npc_tensor *tensor, const Py_buffer *view, Layout layout) noexcept:
    cdef int first = 1 if layout.batched else 0
    cdef int spatial = first if layout.channels_last else first + 1
    cdef int a
    tensor.data = <char *> view.buf
    tensor.batch_stride = view.strides[0] if layout.batched else 0
    tensor.channel_stride = view.strides[first + layout.spatial_axes if layout.channels_last else first]
    for a in range(layout.spatial_axes):
        tensor.stride[a] = view.strides[spatial + a]


cdef struct Arrays:
    npc_tensors tensors  # types; the rest is filled in a copy, a run
    Layout input, weight, output


cdef int describe_arrays(Arrays *arrays, problem) except -1:
    cdef Layout image = Layout(problem.spatial_axes, problem.batched, problem.channels_last)
    cdef Layout kernel = Layout(problem.spatial_axes, True, False)
    cdef bint makes_weight = problem.operation == "weight_gradient"  # whose weight is the gradient of an output
    describe_types(&arrays.tensors.input, problem, problem.input_dtype)
    describe_types(&arrays.tensors.weight, problem, problem.weight_dtype)
    describe_types(&arrays.tensors.output, problem, problem.dtype)
    if problem.bias_dtype is not None:
        describe_types(&arrays.tensors.bias, problem, problem.bias_dtype)
    arrays.input = image
    arrays.weight, arrays.output = (image, kernel) if makes_weight else (kernel, image)
    return 0


cdef struct Buffers:
    int count
    Py_buffer[4] views


cdef Py_buffer *acquire(Buffers *buffers, array, int flags=0) except NULL:
    """The array's memory, until `release` of all that was acquired."""
    cdef Py_buffer *view = &buffers.views[buffers.count]
    PyObject_GetBuffer(array, view, PyBUF_STRIDES | flags)
    buffers.count += 1
    return view


cdef void release(Buffers *buffers) noexcept:
    while buffers.count:
        buffers.count -= 1
        PyBuffer_Release(&buffers.views[buffers.count])


cdef struct Run:
    Buffers buffers
    npc_tensors tensors


cdef int acquire_arrays(Run *run, const Arrays *arrays, input, weight, bias, out) except -1:
    """Where the arrays of one run lie; its buffers are to be released, also after an error."""
    cdef Buffers *buffers = &run.buffers
    cdef npc_tensors *tensors = &run.tensors
    tensors[0] = arrays.tensors
    buffers.count = 0
    place(&tensors.input, acquire(buffers, input), arrays.input)
    place(&tensors.weight, acquire(buffers, weight), arrays.weight)
    place(&tensors.output, acquire(buffers, out, PyBUF_WRITABLE), arrays.output)
    if bias is not None:
        place(&tensors.bias, acquire(buffers, bias), BIAS)
    return 0
