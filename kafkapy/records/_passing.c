/* pass_records of passing.py, a hundred times as fast: see there for what it does and tells. It only reads, within the
   buffer that it is given, and keeps the interpreter for at most a step. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

enum { KEYLESS = 1, UNORDERED = 2, UNUSUAL = 4, MOST_HEADERS = 256 };

typedef struct {
    const uint8_t *at, *end;
    int unusual;
} Cursor;

/* Reads a number of up to `longest` bytes, the last of which may have bits up to `last_most`; false where it is none. */
static inline int read_number(Cursor *cursor, uint64_t *raw, int longest, uint8_t last_most)
{
    const uint8_t *at = cursor->at, *end = cursor->end;
    if (at == end)
        return 0;
    uint64_t value = *at++;
    if (value > 0x7F) {
        uint8_t byte;
        int read = 1;
        value &= 0x7F;
        do {
            if (at == end || read == longest)
                return 0;
            byte = *at++;
            value |= (uint64_t)(byte & 0x7F) << 7 * read++;
        } while (byte > 0x7F);
        if (byte == 0 || (read == longest && byte > last_most))
            cursor->unusual = 1;
    }
    cursor->at = at;
    *raw = value;
    return 1;
}

static inline int read_int(Cursor *cursor, int32_t *number)
{
    uint64_t raw;
    if (!read_number(cursor, &raw, 5, 0x0F))
        return 0;
    *number = (int32_t)((uint32_t)raw >> 1 ^ -((uint32_t)raw & 1));
    return 1;
}

static inline int read_long(Cursor *cursor, int64_t *number)
{
    uint64_t raw;
    if (!read_number(cursor, &raw, 10, 0x01))
        return 0;
    *number = (int64_t)(raw >> 1 ^ -(raw & 1));
    return 1;
}

/* Passes over a field with its size before it. */
static inline int pass_field(Cursor *cursor, int32_t *size)
{
    if (!read_int(cursor, size) || *size > cursor->end - cursor->at)
        return 0;
    if (*size > 0)
        cursor->at += *size;
    else if (*size < -1)
        cursor->unusual = 1;
    return 1;
}

static int pass_headers(Cursor *cursor, int32_t *count)
{
    int32_t size;
    if (!read_int(cursor, count) || *count < 0 || *count > MOST_HEADERS)
        return 0;
    for (int32_t i = 0; i < *count; i++) {
        if (!pass_field(cursor, &size) || size < 0)
            return 0;
        for (const uint8_t *name = cursor->at - size; name < cursor->at; name++)
            if (*name > 0x7F)
                cursor->unusual = 1;
        if (!pass_field(cursor, &size))
            return 0;
    }
    return 1;
}

static PyObject *pass_records(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count)
{
    (void)module;
    if (argument_count != 7) {
        PyErr_SetString(PyExc_TypeError, "pass_records() takes 7 arguments");
        return NULL;
    }
    Py_ssize_t position = PyLong_AsSsize_t(arguments[1]);
    long long budget = PyLong_AsLongLong(arguments[2]);
    long long place = PyLong_AsLongLong(arguments[3]);
    long long base = PyLong_AsLongLong(arguments[4]);
    int whole = PyObject_IsTrue(arguments[5]);
    long long most = PyLong_AsLongLong(arguments[6]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer view;
    if (PyObject_GetBuffer(arguments[0], &view, PyBUF_SIMPLE))
        return NULL;
    if (position < 0 || position > view.len) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_IndexError, "a position outside of the buffer");
        return NULL;
    }
    const uint8_t *start = view.buf, *begin = start + position;
    Cursor cursor = {begin, start + view.len, 0};
    long long passed = 0;
    int64_t earliest = INT64_MAX, latest = INT64_MIN;
    int flags = 0;
    for (; budget > 0; begin = cursor.at) {
        int32_t length, offset_delta, key_size, value_size, header_count;
        int64_t timestamp_delta;
        cursor.unusual = 0;
        if (!read_int(&cursor, &length) || length < 0 || length > most)
            break;
        const uint8_t *body = cursor.at;
        if (body == cursor.end || (whole && length > cursor.end - body))
            break;
        if (*cursor.at++)
            cursor.unusual = 1; /* no attributes are defined */
        if (!read_long(&cursor, &timestamp_delta) || !read_int(&cursor, &offset_delta)
            || !pass_field(&cursor, &key_size) || !pass_field(&cursor, &value_size)
            || !pass_headers(&cursor, &header_count))
            break;
        if (whole && cursor.at - body != length)
            break;
        int64_t timestamp = (int64_t)((uint64_t)base + (uint64_t)timestamp_delta);
        if (timestamp < earliest)
            earliest = timestamp;
        if (timestamp > latest)
            latest = timestamp;
        if (key_size < 0)
            flags |= KEYLESS;
        if (offset_delta != place)
            flags |= UNORDERED;
        if (cursor.unusual || (place == 0 && timestamp_delta))
            flags |= UNUSUAL;
        place++;
        passed++;
        budget -= 1 + header_count;
    }
    position = begin - start;
    PyBuffer_Release(&view);
    return Py_BuildValue("nLLLi", position, passed, (long long)earliest, (long long)latest, flags);
}

static PyMethodDef methods[] = {
    {"pass_records", (PyCFunction)(void (*)(void))pass_records, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_passing",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__passing(void)
{
    return PyModuleDef_Init(&definition);
}
