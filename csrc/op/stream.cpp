// The Python type behind fastrnn.Stream: a stack, and calls of it without an interpreter's frame or
// a dispatcher. What is no plain tensor that fits goes to the Python method _other, which makes it
// one or says why not.
#include "stream.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "cells.h"
#include "plain_tensors.h"
#include "references.h"
#include "stream/stack.h"

namespace fastrnn {
namespace {

using stream::LayerSpec;
using stream::Stack;

struct StreamObject {
  PyObject_HEAD Stack* stack;
  double work;  // products of a step
  bool busy;    // in another thread, or by a signal's handler: the rest is not to be touched
};

StreamObject* object_of(PyObject* self) { return reinterpret_cast<StreamObject*>(self); }

void set_error(const std::exception& error) {
  const bool memory = dynamic_cast<const std::bad_alloc*>(&error);
  const bool value = dynamic_cast<const std::invalid_argument*>(&error);
  PyErr_SetString(memory  ? PyExc_MemoryError
                  : value ? PyExc_ValueError
                          : PyExc_RuntimeError,
                  error.what());
}

// The stack, to be used until the end of a scope; null, with Python's error set, where it cannot.
class Use {
 public:
  explicit Use(PyObject* self) : object_(object_of(self)) {
    if (!object_->stack || object_->busy) {
      PyErr_SetString(PyExc_RuntimeError, object_->stack ? "the stream is in use by another thread"
                                                         : "the stream has no layers yet");
      object_ = nullptr;
    } else {
      object_->busy = true;
    }
  }
  ~Use() {
    if (object_) object_->busy = false;
  }
  Use(const Use&) = delete;
  explicit operator bool() const { return object_; }
  Stack* operator->() const { return object_->stack; }
  double work() const { return object_->work; }

 private:
  StreamObject* object_;
};

// T steps; false with Python's error set. Other threads run meanwhile where it takes long, and
// signals are looked for.
bool steps(const Use& stack, const float* x, int64_t T, float* out) {
  constexpr double kLong = 4e5, kPart = 4e8;  // products: some 10 us, some 20 ms
  const int64_t most = std::max<int64_t>(1, int64_t(std::min(kPart / stack.work(), 1e9)));
  try {
    if (stack.work() * double(T) < kLong) {
      stack->step(x, T, out);
      return true;
    }
    for (int64_t t = 0; t < T; t += most) {
      if (t > 0 && PyErr_CheckSignals() != 0) return false;
      const int64_t count = std::min(most, T - t);
      const Released others;
      stack->step(x + t * stack->batch() * stack->input(), count,
                  out + t * stack->batch() * stack->output());
    }
    return true;
  } catch (const std::exception& error) {
    set_error(error);
    return false;
  }
}

PyObject* other(PyObject* self, PyObject* args, PyObject* kwargs) {
  const Reference method{PyObject_GetAttrString(self, "_other")};
  return method.object ? PyObject_Call(method.object, args, kwargs) : nullptr;
}

// stream(input, *, out=None)
PyObject* call(PyObject* self, PyObject* args, PyObject* kwargs) {
  StreamObject* object = object_of(self);
  if (!object->stack || !find_tensor_type()) {
    PyErr_Clear();
    return other(self, args, kwargs);
  }
  const int64_t B = object->stack->batch(), I = object->stack->input(), O = object->stack->output();
  PyObject* out = nullptr;
  if (kwargs && PyDict_Size(kwargs) > 0) {
    out = PyDict_Size(kwargs) == 1 ? PyDict_GetItem(kwargs, tensor_type.out) : nullptr;
    if (!out) return other(self, args, kwargs);
    if (out == Py_None) out = nullptr;
  }
  dlpack::Tensor x, y;
  if (PyTuple_Size(args) != 1 || !read_tensor(PyTuple_GetItem(args, 0), B, I, x)) {
    return other(self, args, kwargs);
  }
  const int64_t T = x.ndim == 3 ? x.shape[0] : 1;
  const float* from = static_cast<const float*>(x.data);
  if (out) {
    if (!read_tensor(out, B, O, y) || y.ndim != x.ndim || (y.ndim == 3 && y.shape[0] != T) ||
        overlap(from, T * B * I, static_cast<float*>(y.data), T * B * O)) {
      return other(self, args, kwargs);
    }
    const Use stack(self);
    if (!stack || !steps(stack, from, T, static_cast<float*>(y.data))) return nullptr;
    Py_INCREF(out);
    return out;
  }
  dlpack::ManagedTensor* result = allocate_result(x, O);
  if (!result) return nullptr;
  {
    const Use stack(self);
    if (!stack || !steps(stack, from, T, static_cast<float*>(result->tensor.data))) {
      result->deleter(result);
      return nullptr;
    }
  }
  void* made = nullptr;
  if (tensor_type.api->to_object(result, &made) != 0) return nullptr;
  return static_cast<PyObject*>(made);
}

template <class P>
P pointer(unsigned long long address) {
  return reinterpret_cast<P>(uintptr_t(address));
}

// _run(input, T, out): of addresses
PyObject* run(PyObject* self, PyObject* args) {
  unsigned long long x, out;
  long long T;
  if (!PyArg_ParseTuple(args, "KLK", &x, &T, &out)) return nullptr;
  const Use stack(self);
  if (!stack || !steps(stack, pointer<const float*>(x), T, pointer<float*>(out))) return nullptr;
  Py_RETURN_NONE;
}

bool read_layer(PyObject* item, LayerSpec& spec) {
  const char* cell;
  long long I, H, P;
  long long heads;
  unsigned long long w_ih, w_hh, b_ih, b_hh, w_hr, params;
  if (!PyArg_ParseTuple(item, "sLLLKKKKKKL", &cell, &I, &H, &P, &w_ih, &w_hh, &b_ih, &b_hh, &w_hr,
                        &params, &heads)) {
    return false;
  }
  spec.cell = cell;
  spec.input = I, spec.hidden = H, spec.projected = P;
  spec.w_ih = pointer<const float*>(w_ih), spec.w_hh = pointer<const float*>(w_hh);
  spec.b_ih = pointer<const float*>(b_ih), spec.b_hh = pointer<const float*>(b_hh);
  spec.w_hr = pointer<const float*>(w_hr);
  if (!stream::has_steps(spec.cell)) {
    const KnownCell known = known_cell(spec.cell, ScalarType::Float);
    spec.kernels = known.kernels, spec.info = known.info;
    spec.params = pointer<const float*>(params), spec.heads = heads;
  }
  return true;
}

// _pack(layers, weights, batch): layers of (cell, I, H, P, w_ih, w_hh, b_ih, b_hh, w_hr, params,
// heads), tensors by address; weights as stream::Weights numbers them
PyObject* pack(PyObject* self, PyObject* args) {
  PyObject* layers;
  int weights;
  long long batch;
  if (!PyArg_ParseTuple(args, "O!iL", &PyTuple_Type, &layers, &weights, &batch)) return nullptr;
  StreamObject* object = object_of(self);
  if (object->busy) {
    PyErr_SetString(PyExc_RuntimeError, "the stream is in use by another thread");
    return nullptr;
  }
  try {
    std::vector<LayerSpec> specs(PyTuple_Size(layers));
    double work = 0;
    for (size_t i = 0; i < specs.size(); ++i) {
      LayerSpec& spec = specs[i];
      if (!read_layer(PyTuple_GetItem(layers, Py_ssize_t(i)), spec)) return nullptr;
      work += 4. * double(spec.hidden) * double(spec.input + spec.hidden) * double(batch);
    }
    auto stack = Stack::make(specs, stream::Weights(weights), batch);
    delete object->stack;
    object->stack = stack.release();
    object->work = std::max(work, 1.);
    Py_RETURN_NONE;
  } catch (const std::exception& error) {
    set_error(error);
    return nullptr;
  }
}

// _sizes() -> (input, output, ((size of each state), .. of each layer))
PyObject* sizes(PyObject* self, PyObject*) {
  const Use stack(self);
  if (!stack) return nullptr;
  const Reference layers{PyTuple_New(stack->layers())};
  if (!layers.object) return nullptr;
  for (int i = 0; i < stack->layers(); ++i) {
    PyObject* states = PyTuple_New(stack->states(i));
    if (!states) return nullptr;
    PyTuple_SetItem(layers.object, i, states);
    for (int k = 0; k < stack->states(i); ++k) {
      PyTuple_SetItem(states, k, PyLong_FromLongLong(stack->state_size(i, k)));
    }
  }
  return Py_BuildValue("LLO", static_cast<long long>(stack->input()),
                       static_cast<long long>(stack->output()), layers.object);
}

// _copy(layer, state, address, to): of all rows; to: there, else from there
PyObject* copy(PyObject* self, PyObject* args) {
  int i, k, to;
  unsigned long long address;
  if (!PyArg_ParseTuple(args, "iiKp", &i, &k, &address, &to)) return nullptr;
  const Use stack(self);
  if (!stack) return nullptr;
  const int64_t size = stack->batch() * stack->state_size(i, k);
  float *own = stack->state(i, k), *given = pointer<float*>(address);
  std::copy(to ? own : given, (to ? own : given) + size, to ? given : own);
  Py_RETURN_NONE;
}

// _reset(row): of all rows below 0
PyObject* reset(PyObject* self, PyObject* args) {
  long long row;
  if (!PyArg_ParseTuple(args, "L", &row)) return nullptr;
  const Use stack(self);
  if (!stack) return nullptr;
  if (row < 0) {
    stack->reset();
  } else {
    stack->reset(row);
  }
  Py_RETURN_NONE;
}

void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete object_of(self)->stack;
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"_run", run, METH_VARARGS, nullptr},     {"_pack", pack, METH_VARARGS, nullptr},
    {"_sizes", sizes, METH_NOARGS, nullptr},  {"_copy", copy, METH_VARARGS, nullptr},
    {"_reset", reset, METH_VARARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};

PyType_Slot slots[] = {{Py_tp_call, reinterpret_cast<void*>(call)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                       {Py_tp_methods, methods},
                       {0, nullptr}};

PyType_Spec spec = {"fastrnn._C.StreamBase", sizeof(StreamObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

}  // namespace

int add_stream_type(PyObject* module) {
  PyObject* type = PyType_FromSpec(&spec);
  if (!type) return -1;
  if (PyModule_AddObject(module, "StreamBase", type) == 0) return 0;
  Py_DECREF(type);
  return -1;
}

}  // namespace fastrnn
