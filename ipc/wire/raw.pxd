# The compiled twin of raw.py: inline C, every access checked against the buffer it goes into.

from cpython cimport array
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy


cdef extern from *:
    """
    #include <Python.h>
    #include <stdint.h>
    #include <string.h>
    static inline uint16_t ebb_load16(const unsigned char *p) { uint16_t v; memcpy(&v, p, 2); return v; }
    static inline uint32_t ebb_load32(const unsigned char *p) { uint32_t v; memcpy(&v, p, 4); return v; }
    static inline uint64_t ebb_load64(const unsigned char *p) { uint64_t v; memcpy(&v, p, 8); return v; }
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define ebb_big16(v) __builtin_bswap16(v)
    #define ebb_big32(v) __builtin_bswap32(v)
    #define ebb_big64(v) __builtin_bswap64(v)
    #define ebb_little16(v) (v)
    #define ebb_little32(v) (v)
    #else
    #define ebb_big16(v) (v)
    #define ebb_big32(v) (v)
    #define ebb_big64(v) (v)
    #define ebb_little16(v) __builtin_bswap16(v)
    #define ebb_little32(v) __builtin_bswap32(v)
    #endif
    /* Room for count bytes behind the last. PyByteArray_Resize adds an eighth at a time, which copies a buffer that grows
       in small steps eight times over; this doubles what is allocated. NULL, with an exception, when there is no memory
       or the buffer is held by somebody. */
    static inline unsigned char *ebb_grow(PyObject *target, Py_ssize_t count) {
        PyByteArrayObject *array = (PyByteArrayObject *)target;
        Py_ssize_t size = Py_SIZE(array), offset = array->ob_start - array->ob_bytes;
        if (count <= 0)
            return (unsigned char *)PyByteArray_AS_STRING(target);
        if (array->ob_exports != 0 || size == 0 || count >= array->ob_alloc - offset - size) {
            if (size > PY_SSIZE_T_MAX / 2 - count) {
                PyErr_NoMemory();
                return NULL;
            }
            if (PyByteArray_Resize(target, size + (count > size ? count : size)) < 0)
                return NULL;
        }
        Py_SET_SIZE(array, size + count);
        array->ob_start[size + count] = 0;
        return (unsigned char *)array->ob_start + size;
    }
    """
    uint16_t ebb_load16(const unsigned char *p) nogil
    uint32_t ebb_load32(const unsigned char *p) nogil
    uint64_t ebb_load64(const unsigned char *p) nogil
    uint16_t ebb_big16(uint16_t v) nogil
    uint32_t ebb_big32(uint32_t v) nogil
    uint64_t ebb_big64(uint64_t v) nogil
    uint16_t ebb_little16(uint16_t v) nogil
    uint32_t ebb_little32(uint32_t v) nogil
    unsigned char *ebb_grow(object target, Py_ssize_t count) except NULL


cdef inline const unsigned char *_within(const unsigned char[::1] source, Py_ssize_t at, Py_ssize_t count) except NULL:
    if at < 0 or count < 0 or at > source.shape[0] - count:
        raise IndexError("read beyond a buffer")
    return &source[0] + at


cdef inline uint32_t get16(const unsigned char[::1] source, Py_ssize_t at) except? 0xFFFFFFFF:
    return ebb_big16(ebb_load16(_within(source, at, 2)))


cdef inline uint64_t get32(const unsigned char[::1] source, Py_ssize_t at) except? 0xFFFFFFFFFFFFFFFF:
    return ebb_big32(ebb_load32(_within(source, at, 4)))


cdef inline uint64_t get64(const unsigned char[::1] source, Py_ssize_t at) except? 0xFFFFFFFFFFFFFFFF:
    return ebb_big64(ebb_load64(_within(source, at, 8)))


cdef inline uint32_t get16le(const unsigned char[::1] source, Py_ssize_t at) except? 0xFFFFFFFF:
    return ebb_little16(ebb_load16(_within(source, at, 2)))


cdef inline uint64_t get32le(const unsigned char[::1] source, Py_ssize_t at) except? 0xFFFFFFFFFFFFFFFF:
    return ebb_little32(ebb_load32(_within(source, at, 4)))


cdef inline bint same(const unsigned char[::1] source, Py_ssize_t at, bytes expected) except -1:
    cdef Py_ssize_t count = PyBytes_GET_SIZE(expected)
    if count == 0:
        return True
    if at < 0 or at > source.shape[0] - count:
        return False
    return memcmp(&source[0] + at, PyBytes_AS_STRING(expected), count) == 0


cdef inline int add(bytearray target, const unsigned char[::1] source, Py_ssize_t start, Py_ssize_t end) except -1:
    cdef const unsigned char *found
    if end > start:
        found = _within(source, start, end - start)
        memcpy(ebb_grow(target, end - start), found, end - start)
    return 0


cdef inline int add_all(bytearray target, bytes source) except -1:
    cdef Py_ssize_t count = PyBytes_GET_SIZE(source)
    memcpy(ebb_grow(target, count), PyBytes_AS_STRING(source), count)
    return 0


cdef inline int add8(bytearray target, uint8_t value) except -1:
    ebb_grow(target, 1)[0] = value
    return 0


cdef inline int add64(bytearray target, uint64_t value) except -1:
    cdef uint64_t big = ebb_big64(value)
    memcpy(ebb_grow(target, 8), &big, 8)
    return 0


cdef inline int add32le(bytearray target, uint32_t value) except -1:
    cdef uint32_t little = ebb_little32(value)
    memcpy(ebb_grow(target, 4), &little, 4)
    return 0


cdef inline int add_head(bytearray target, uint8_t kind, uint16_t channel, uint32_t size) except -1:
    cdef uint16_t big_channel = ebb_big16(channel)
    cdef uint32_t big_size = ebb_big32(size)
    cdef unsigned char *to = ebb_grow(target, 7)
    to[0] = kind
    memcpy(to + 1, &big_channel, 2)
    memcpy(to + 3, &big_size, 4)
    return 0


cdef inline int add_number(array.array target, uint64_t value) except -1:
    cdef Py_ssize_t size = len(target)
    array.resize_smart(target, size + 1)
    if target.ob_descr.itemsize == 8:
        target.data.as_ulonglongs[size] = value
    elif target.ob_descr.itemsize == 4:
        target.data.as_uints[size] = <uint32_t>value
    else:
        raise TypeError("an array of 32 or 64 bits")
    return 0
