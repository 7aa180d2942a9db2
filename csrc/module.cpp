// An empty limited-API module: importing it loads the library, which registers the ops.
#include <Python.h>

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", 0, 0, 0, 0, 0, 0, 0};

PyMODINIT_FUNC PyInit__C(void) { return PyModuleDef_Init(&module); }
