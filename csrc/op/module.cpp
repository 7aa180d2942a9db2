// All that the library knows of Python: an empty limited-API module, whose import registers the
// ops, and Ctrl-C.
#include <Python.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "interrupted.h"

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", 0, 0, 0, 0, 0, 0, 0};

PyMODINIT_FUNC PyInit__C(void) { return PyModuleDef_Init(&module); }

bool fastrnn::interrupted() {
  if (syscall(SYS_gettid) != getpid() || !Py_IsInitialized()) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}
