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


cdef PyArrayObject *array_of(object given) except NULL:
    """That nothing else is read as an array."""
    if not PyArray_Check(given):
        raise TypeError(f"expected a numpy.ndarray, got {type(given).__name__}")
    return <PyArrayObject *> given


cdef int place(npc_tensor *tensor, const npc_tensor *described, object given, Layout layout) except -1:
    """Its type as described, and where the array lies."""
    cdef PyArrayObject *array = array_of(given)
    cdef Py_ssize_t strides[NPC_MAX_AXES + 2]
    cdef Py_ssize_t step = PyArray_ITEMSIZE(array)
    cdef int first = 1 if layout.batched else 0
    cdef int spatial = first if layout.channels_last else first + 1
    cdef int channels = first + layout.spatial_axes if layout.channels_last else first
    cdef int axes = first + layout.spatial_axes + 1
    cdef int a
    if PyArray_NDIM(array) != axes:
        raise ValueError(f"expected an array of {axes} axes, got shape {given.shape}")
    for a in range(axes - 1, -1, -1):
        # That of an axis of one element says nothing: NumPy has 0 for those that it adds.
        strides[a] = step if PyArray_DIMS(array)[a] == 1 else PyArray_STRIDES(array)[a]
        step = strides[a] * PyArray_DIMS(array)[a]
    tensor.scalar, tensor.parts, tensor.swapped = described.scalar, described.parts, described.swapped
    tensor.data = PyArray_BYTES(array)
    tensor.batch_stride = strides[0] if layout.batched else 0
    tensor.channel_stride = strides[channels]
    for a in range(layout.spatial_axes):
        tensor.stride[a] = strides[spatial + a]
    return 0


cdef struct Arrays:
    npc_tensors types  # nothing else of them is set
    Layout input, weight, output


cdef int describe_arrays(Arrays *arrays, problem) except -1:
    cdef Layout image = Layout(problem.spatial_axes, problem.batched, problem.channels_last)
    cdef Layout kernel = Layout(problem.spatial_axes, True, False)
    cdef bint makes_weight = problem.operation == "weight_gradient"  # whose weight is the gradient of an output
    describe_types(&arrays.types.input, problem, problem.input_dtype)
    describe_types(&arrays.types.weight, problem, problem.weight_dtype)
    describe_types(&arrays.types.output, problem, problem.dtype)
    if problem.bias_dtype is not None:
        describe_types(&arrays.types.bias, problem, problem.bias_dtype)
    arrays.input = image
    arrays.weight, arrays.output = (image, kernel) if makes_weight else (kernel, image)
    return 0


cdef int place_arrays(npc_tensors *tensors, const Arrays *arrays, input, weight, bias, out) except -1:
    """Where the arrays of one run lie; that they stay there is the caller's concern."""
    place(&tensors.input, &arrays.types.input, input, arrays.input)
    place(&tensors.weight, &arrays.types.weight, weight, arrays.weight)
    place(&tensors.output, &arrays.types.output, out, arrays.output)
    if bias is not None:
        place(&tensors.bias, &arrays.types.bias, bias, BIAS)
    return 0
