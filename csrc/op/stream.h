// The Python type behind fastrnn.Stream.
#pragma once
#include <Python.h>

namespace fastrnn {

// Adds `StreamBase` to the module; -1, with Python's error set, where it cannot.
int add_stream_type(PyObject* module);

}  // namespace fastrnn
