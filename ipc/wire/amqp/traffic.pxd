# Types of the compiled twin of traffic.py.

cimport cython
from libc.stdint cimport uint64_t
from ipc.wire.raw cimport get32, get64, same

cdef Py_ssize_t _OVERHEAD, _ACK_BYTES, _ACK_FRAME_BYTES, _ACK_TAG_AT, _ACK_FLAGS_AT
cdef uint64_t _METHOD, _HEADER, _BODY, _HEARTBEAT, _END, _DELIVER, _GET_OK, _ACK, _NACK, _STAMP_BYTES, _EACH


cdef inline int put64(unsigned char[::1] target, Py_ssize_t at, uint64_t value) except -1:
    cdef Py_ssize_t byte
    for byte in range(8):
        target[at + 7 - byte] = <unsigned char>(value & 0xFF)
        value >>= 8
    return 0


@cython.locals(
    taken=Py_ssize_t, tag_at=Py_ssize_t, done_at=Py_ssize_t, phase=uint64_t, body=uint64_t, left=uint64_t,
    stamped=Py_ssize_t, different=Py_ssize_t, stamps_max=Py_ssize_t, expected_bytes=uint64_t, size=uint64_t,
    after=Py_ssize_t, kind=uint64_t, index=uint64_t,
)
cpdef Py_ssize_t walk_deliveries(
    const unsigned char[::1] buffer, Py_ssize_t at, Py_ssize_t end, Py_ssize_t wanted, uint64_t[::1] state,
    uint64_t[::1] stamps, bytes expected, Py_ssize_t expected_from,
) except -1

@cython.locals(first=Py_ssize_t)
cdef int differs(
    const unsigned char[::1] buffer, Py_ssize_t at, Py_ssize_t size, Py_ssize_t offset, bytes expected,
    Py_ssize_t expected_from,
) except -1

@cython.locals(
    room=uint64_t, low=uint64_t, beyond=uint64_t, refused=uint64_t, size=uint64_t, after=Py_ssize_t, kind=uint64_t,
    index=uint64_t, tag=uint64_t, before=uint64_t,
)
cpdef Py_ssize_t walk_confirms(
    const unsigned char[::1] buffer, Py_ssize_t at, Py_ssize_t end, uint64_t[::1] state, unsigned char[::1] ring
) except -1

@cython.locals(number=Py_ssize_t)
cpdef int stamp(unsigned char[::1] chunk, uint64_t[::1] starts, Py_ssize_t first, Py_ssize_t last, uint64_t now) except -1

@cython.locals(at=Py_ssize_t)
cpdef Py_ssize_t number_acks(unsigned char[::1] acks, Py_ssize_t count, uint64_t tag, uint64_t every) except -1

@cython.locals(number=Py_ssize_t, last=Py_ssize_t, stamped=uint64_t, value=uint64_t, shift=uint64_t, bucket=Py_ssize_t)
cpdef int record_latencies(uint64_t[::1] stamps, Py_ssize_t count, uint64_t now, uint64_t[::1] buckets) except -1
