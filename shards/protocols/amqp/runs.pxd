# Types of the compiled twin of runs.py.

cimport cython
from cpython cimport array
from libc.stdint cimport uint32_t, uint64_t
from ipc.wire.raw cimport (
    add, add8, add32le, add64, add_all, add_head, add_number, get16le, get32, get32le, get64, same,
)

cdef Py_ssize_t _OVERHEAD, _PREFIX, _ACK_FRAME, _RECORD_HEAD, _LARGE
cdef uint64_t _FRAME_END, _METHOD_FRAME, _HEADER_FRAME, _BODY_FRAME, _ACK_INDEX


@cython.locals(
    end=Py_ssize_t, method_bytes=Py_ssize_t, lead_bytes=Py_ssize_t, properties_bytes=Py_ssize_t, record_bytes=Py_ssize_t,
    room=Py_ssize_t, header_at=Py_ssize_t, size_at=Py_ssize_t, body_at=Py_ssize_t, size=uint64_t, after=Py_ssize_t, count=Py_ssize_t,
    before=Py_ssize_t,
)
cpdef tuple take_publishes(
    const unsigned char[::1] view, Py_ssize_t position, bytes method, bytes header_lead, bytes properties,
    bytes body_lead, bytes record_rest, uint64_t body_max, bytearray tail, Py_ssize_t tail_max,
)

@cython.locals(
    method_bytes=Py_ssize_t, record_bytes=Py_ssize_t, header_bytes=Py_ssize_t, address=Py_ssize_t,
    address_bytes=Py_ssize_t, header=Py_ssize_t, body=Py_ssize_t, after=Py_ssize_t, piece=Py_ssize_t,
    before=Py_ssize_t,
)
cpdef Py_ssize_t frame_deliveries(
    const unsigned char[::1] buffer, Py_ssize_t at, Py_ssize_t end, bytearray outbox, Py_ssize_t outbox_max,
    uint32_t channel, bytes method, bint redelivered, uint64_t tag, uint64_t last_tag, Py_ssize_t body_max,
    uint64_t base, array.array positions,
) except -1

@cython.locals(end=Py_ssize_t)
cpdef Py_ssize_t take_acknowledgements(
    const unsigned char[::1] view, Py_ssize_t position, uint32_t channel, array.array tags
) except -1
