"""The parts of csrc/ that the extension names."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

cdef extern from "Python.h":
    Py_ssize_t PyObject_Hash(object value) noexcept  # of integers and strings, which have one

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArrayObject:
        pass
    ctypedef struct PyArray_Descr:
        pass

    int import_array "_import_array"() except -1
    bint PyArray_CheckExact(object)
    bint PyArray_Check(object)
    bint PyArray_ISCARRAY(PyArrayObject *array)
    int PyArray_NDIM(PyArrayObject *array)
    int PyArray_TYPE(PyArrayObject *array)
    char *PyArray_BYTES(PyArrayObject *array)
    Py_ssize_t PyArray_ITEMSIZE(PyArrayObject *array)
    Py_ssize_t PyArray_NBYTES(PyArrayObject *array)
    Py_ssize_t *PyArray_DIMS(PyArrayObject *array)
    Py_ssize_t *PyArray_STRIDES(PyArrayObject *array)
    PyArray_Descr *PyArray_DESCR(PyArrayObject *array)
    bint PyArray_EquivTypes(PyArray_Descr *one, PyArray_Descr *other)
    object PyArray_Empty(int axes, const Py_ssize_t *size, PyArray_Descr *stolen, int fortran)

cdef extern from "plan.h" nogil:
    enum:
        NPC_MAX_AXES
        NPC_MAX_ALGORITHMS

    ctypedef enum npc_scalar:
        pass
    ctypedef enum npc_compute:
        pass
    ctypedef enum npc_padding_mode:
        pass
    ctypedef enum npc_activation:
        pass

    int NPC_SCALAR_int8, NPC_SCALAR_uint8, NPC_SCALAR_int16, NPC_SCALAR_uint16, NPC_SCALAR_int32, NPC_SCALAR_uint32
    int NPC_SCALAR_int64, NPC_SCALAR_uint64, NPC_SCALAR_float16, NPC_SCALAR_float32, NPC_SCALAR_float64
    int NPC_SCALAR_longdouble
    int NPC_PADDING_ZEROS, NPC_PADDING_REFLECT, NPC_PADDING_REPLICATE, NPC_PADDING_CIRCULAR, NPC_PADDING_SYMMETRIC
    int NPC_ACTIVATION_NONE, NPC_ACTIVATION_CLIP, NPC_ACTIVATION_LEAKY_RELU, NPC_ACTIVATION_SIGMOID
    int NPC_ACTIVATION_TANH, NPC_ACTIVATION_SILU, NPC_ACTIVATION_HARDSWISH

    npc_compute npc_compute_of(npc_scalar scalar)

    ctypedef struct npc_axis:
        int64_t input, kernel, output, stride, dilation, before

    ctypedef struct npc_problem:
        int spatial_axes
        int64_t batch, groups, input_channels, output_channels
        npc_axis axis[NPC_MAX_AXES]
        npc_padding_mode padding_mode
        npc_activation activation
        double activation_a, activation_b
        int has_bias, strict
        npc_scalar scalar
        int parts
        npc_compute compute

    ctypedef struct npc_tensor:
        char *data
        npc_scalar scalar
        int parts, swapped
        int64_t batch_stride, channel_stride
        int64_t stride[NPC_MAX_AXES]

    ctypedef struct npc_tensors:
        npc_tensor input, weight, bias, output

    ctypedef struct npc_isa:
        const char *name

    ctypedef struct npc_algorithm:
        pass

    ctypedef struct npc_plan:
        npc_problem problem
        const npc_isa *isa
        const npc_algorithm *algorithm
        int threads, prepacked, turned
        const char *refused[NPC_MAX_ALGORITHMS]

    ctypedef enum npc_status:
        NPC_OK
        NPC_NO_MEMORY
        NPC_REFUSED
        NPC_NOT_FINITE

    const npc_algorithm *npc_algorithm_at(int i)
    const char *npc_algorithm_name(const npc_algorithm *algorithm)
    npc_status npc_plan_make(npc_plan *plan, const char *wanted)
    size_t npc_plan_workspace(const npc_plan *plan)
    size_t npc_plan_packed_bytes(const npc_plan *plan)
    int64_t npc_plan_packed_order(const npc_plan *plan)
    int npc_plan_reads_plain_weights(const npc_plan *plan, const npc_tensor *weight)
    int64_t npc_plan_turns_taps(const npc_plan *plan)
    void npc_plan_pack(const npc_plan *plan, const npc_tensor *weight, void *packed)
    npc_status npc_plan_run(const npc_plan *plan, const npc_tensors *tensors, const void *packed)

cdef extern from "weight_gradient.h" nogil:
    ctypedef struct npc_weight_gradient:
        npc_problem problem
        const npc_isa *isa
        int most_threads, threads

    void npc_weight_gradient_make(npc_weight_gradient *plan)
    size_t npc_weight_gradient_workspace(const npc_weight_gradient *plan)
    npc_status npc_weight_gradient_run(const npc_weight_gradient *plan, const npc_tensors *tensors)

cdef extern from "spread.h" nogil:
    ctypedef struct npc_spread:
        npc_problem problem
        const npc_isa *isa
        int most_threads, threads

    bint npc_spread_make(npc_spread *plan)
    npc_status npc_spread_run(const npc_spread *plan, const npc_tensors *tensors)

cdef extern from "take_kernels.h" nogil:
    ctypedef struct npc_kernel_order:
        const char *source "from"
        char *to
        int64_t groups, inputs, outputs, kernel, places, taken
        const int64_t *taps
        int64_t element

    void npc_take_kernels(const npc_kernel_order *order, const npc_isa *isa, int threads)

cdef extern from "memory.h" nogil:
    void *npc_acquire(size_t bytes)
    void npc_release(void *block)

cdef extern from "fold.h" nogil:
    int npc_fold_threads(const npc_problem *problem, int threads)
    void npc_unfold(const npc_problem *problem, int threads, const npc_tensor *image, char *columns)
    npc_status npc_fold(const npc_problem *problem, int threads, const npc_tensor *columns, char *image)

cdef extern from "isa.h" nogil:
    const npc_isa *npc_built_isa(int i)
    const npc_isa *npc_usable_isa(int i)
    const npc_isa *npc_find_isa(const char *name)

cdef extern from "parallel.h" nogil:
    void npc_parallel_start()
    int npc_thread_limit(int threads)
    int npc_openmp_version()
