// All that the ops know of Python: a limited-API module, whose import registers them and brings the
// type of streams, Ctrl-C, and whom to ask for a cell.
#include <Python.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

#include "python.h"
#include "references.h"
#include "stream.h"

static PyModuleDef_Slot slots[] = {{Py_mod_exec, reinterpret_cast<void*>(fastrnn::add_stream_type)},
                                   {0, nullptr}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", 0, 0, 0, slots, 0, 0, 0};

PyMODINIT_FUNC PyInit__C(void) { return PyModuleDef_Init(&module); }

namespace fastrnn {
namespace {

std::string text(PyObject* object) {
  const Reference words{object ? PyObject_Str(object) : nullptr};
  const Reference bytes{words.object ? PyUnicode_AsUTF8String(words.object) : nullptr};
  const char* data = bytes.object ? PyBytes_AsString(bytes.object) : nullptr;
  if (!data) PyErr_Clear();
  return data ? data : "";
}

// Takes the thread's Python error, whose words it returns; "" if all that is wrong is that there is
// no such module, nor perhaps its package.
std::string taken_error(const std::string& module_name) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  const Reference owned[] = {{type}, {value}, {traceback}};
  if (PyErr_GivenExceptionMatches(type, PyExc_ModuleNotFoundError)) {
    const Reference name{PyObject_GetAttrString(value, "name")};
    const std::string missing = text(name.object);
    if (missing == module_name || module_name.rfind(missing + ".", 0) == 0) return "";
  }
  const std::string words = text(value);
  if (!words.empty()) return words;
  const Reference name{PyObject_GetAttrString(type, "__name__")};
  return text(name.object);
}

}  // namespace

bool interrupted() {
  if (syscall(SYS_gettid) != getpid() || !Py_IsInitialized()) return false;
  const Gil gil;
  return PyErr_CheckSignals() != 0;
}

void provide(std::string_view cell, const char* dtype) {
  if (!Py_IsInitialized()) return;
  constexpr char kModule[] = "fastrnn.compiled";
  const Gil gil;
  const Reference compiled{PyImport_ImportModule(kModule)};
  if (compiled.object) {
    const Reference done{
        PyObject_CallMethod(compiled.object, "provide", "ss", std::string(cell).c_str(), dtype)};
    if (done.object) return;
  }
  if (!PyErr_ExceptionMatches(PyExc_Exception)) throw std::runtime_error(kInterrupted);
  const std::string words = taken_error(kModule);
  if (!words.empty()) throw std::runtime_error(words);
}

}  // namespace fastrnn
