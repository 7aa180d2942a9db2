// torch's tensors from C, without torch's C++: over DLPack's table, which torch.Tensor carries.
// That takes some 30 ns, where an op's arguments take microseconds.
#pragma once
#include <Python.h>

#include <algorithm>

#include "dlpack.h"
#include "references.h"

namespace fastrnn {

// torch.Tensor and how to look into one.
struct TensorType {
  PyTypeObject* type = nullptr;
  const dlpack::ExchangeApi* api = nullptr;
  PyObject* out = nullptr;  // the name of the argument
};
inline TensorType tensor_type;

inline bool find_tensor_type() {
  if (tensor_type.api) return true;
  const Reference torch{PyImport_ImportModule("torch")};
  const Reference type{torch.object ? PyObject_GetAttrString(torch.object, "Tensor") : nullptr};
  const Reference capsule{
      type.object ? PyObject_GetAttrString(type.object, "__dlpack_c_exchange_api__") : nullptr};
  const auto* api = static_cast<const dlpack::ExchangeApi*>(
      capsule.object ? PyCapsule_GetPointer(capsule.object, "dlpack_exchange_api") : nullptr);
  if (!api || api->version.major != dlpack::kMajor || !api->from_object) return false;
  PyObject* out = PyUnicode_InternFromString("out");
  if (!out) return false;
  Py_INCREF(type.object);
  tensor_type = {reinterpret_cast<PyTypeObject*>(type.object), api, out};
  return true;
}

// Is it a plain tensor of this many numbers in all its dimensions but the first, which is free
// where there are three: [B, size] or [T, B, size], in float32, on the CPU, contiguous?
inline bool read_tensor(PyObject* object, int64_t B, int64_t size, dlpack::Tensor& t) {
  if (Py_TYPE(object) != tensor_type.type) return false;
  if (tensor_type.api->from_object(object, &t) != 0) {
    PyErr_Clear();
    return false;
  }
  if (t.device_type != dlpack::kCpu || t.code != dlpack::kFloat || t.bits != 32) {
    return false;
  }
  if (t.ndim != 2 && t.ndim != 3) return false;
  const int64_t *shape = t.shape + (t.ndim - 2), *strides = t.strides + (t.ndim - 2);
  if (shape[0] != B || shape[1] != size) return false;
  if (strides[1] != 1 && size != 1) return false;
  if (strides[0] != size && B != 1) return false;
  if (t.ndim == 3 && t.strides[0] != B * size && t.shape[0] != 1) return false;
  t.data = static_cast<char*>(t.data) + t.byte_offset;
  return true;
}

// Uninitialised: [.., output] with the leading sizes of `like`.
inline dlpack::ManagedTensor* allocate_result(const dlpack::Tensor& like, int64_t output) {
  int64_t shape[3];
  std::copy(like.shape, like.shape + like.ndim, shape);
  shape[like.ndim - 1] = output;
  dlpack::Tensor wanted = like;
  wanted.data = nullptr, wanted.shape = shape, wanted.strides = nullptr, wanted.byte_offset = 0;
  dlpack::ManagedTensor* result = nullptr;
  const auto fail = [](void*, const char*, const char* message) {
    PyErr_SetString(PyExc_RuntimeError, message);
  };
  if (tensor_type.api->allocate(&wanted, &result, nullptr, fail) != 0) {
    if (!PyErr_Occurred()) PyErr_NoMemory();
    return nullptr;
  }
  return result;
}

inline bool overlap(const float* a, int64_t a_size, const float* b, int64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

}  // namespace fastrnn
