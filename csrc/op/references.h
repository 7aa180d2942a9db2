// Owners of what Python counts or locks.
#pragma once
#include <Python.h>

namespace fastrnn {

// The GIL for as long as it lives.
struct Gil {
  const PyGILState_STATE state = PyGILState_Ensure();
  ~Gil() { PyGILState_Release(state); }
};

// No GIL for as long as it lives.
struct Released {
  PyThreadState* const thread = PyEval_SaveThread();
  ~Released() { PyEval_RestoreThread(thread); }
};

// A reference of ours, or none.
struct Reference {
  PyObject* object;
  ~Reference() { Py_XDECREF(object); }
};

}  // namespace fastrnn
