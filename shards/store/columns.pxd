# Types of the compiled twin of columns.py. Arrays are walked through typed views, which check their ranges.

cimport cython
from cpython cimport array
from libc.stdint cimport uint32_t, uint64_t
from ipc.wire.raw cimport add_number, get16le, get32le

cdef uint64_t _OFFSET
cdef Py_ssize_t _BLOCK_CHECKED
cdef Py_ssize_t _BLOCK_HEAD
cdef Py_ssize_t _FLAGS_AT
cdef Py_ssize_t _PLACE
cdef Py_ssize_t _PLACED
cdef Py_ssize_t _RECORD_HEAD


@cython.locals(number=uint64_t)
cpdef int add_sequence(array.array target, uint64_t first, uint64_t count) except -1

@cython.locals(index=Py_ssize_t)
cpdef bint is_uniform(const uint32_t[::1] column, Py_ssize_t start, Py_ssize_t end) except -1

@cython.locals(end=Py_ssize_t)
cpdef Py_ssize_t add_offsets(
    const uint64_t[::1] positions, Py_ssize_t index, uint64_t low, uint64_t high, array.array offsets
) except -1

@cython.locals(count=Py_ssize_t, end=Py_ssize_t)
cpdef Py_ssize_t count_matching(
    const uint64_t[::1] wanted, Py_ssize_t index, const uint64_t[::1] tags, const uint32_t[::1] sources, Py_ssize_t head
) except -1

@cython.locals(total=Py_ssize_t, record_bytes=Py_ssize_t, rest=Py_ssize_t)
cpdef Py_ssize_t body_bytes(const unsigned char[::1] buffer, Py_ssize_t at, Py_ssize_t end) except -1

@cython.locals(total=Py_ssize_t, flags=Py_ssize_t, record_bytes=Py_ssize_t, rest=Py_ssize_t)
cpdef tuple tally(const unsigned char[::1] buffer, Py_ssize_t at, Py_ssize_t end)

@cython.locals(
    count=Py_ssize_t, total=Py_ssize_t, flags=Py_ssize_t, payload_bytes=Py_ssize_t, start=Py_ssize_t, end=Py_ssize_t,
    record=Py_ssize_t, record_bytes=Py_ssize_t, rest=Py_ssize_t, last=Py_ssize_t,
)
cpdef tuple placed_blocks(
    const unsigned char[::1] buffer, object view, Py_ssize_t at, Py_ssize_t size, Py_ssize_t salt, Py_ssize_t skip,
    object checksum,
)

@cython.locals(
    at=Py_ssize_t, count=Py_ssize_t, next_offset=Py_ssize_t, next_range=Py_ssize_t, end=Py_ssize_t, offset=Py_ssize_t,
    is_single=bint, record_bytes=Py_ssize_t,
)
cpdef tuple settled_front(
    const unsigned char[::1] buffer, Py_ssize_t base, const uint32_t[::1] offsets, const uint32_t[::1] ranges
)
