// The little of torch that the ops need, over the stable ABI: allocation, data, checks. The typed C
// shims cost 0.2-0.5 us a call, a call by name through the dispatcher about 1 us.
#pragma once
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "pool.h"

namespace fastrnn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Tensors = std::vector<Tensor>;
using MaybeTensor = std::optional<Tensor>;

// A shim returns a code; ATen's message stays in libtorch, where 2.13 and newer can be asked for
// it.
[[noreturn, gnu::cold, gnu::noinline]] inline void shim_failed(const char* call) {
  using What = const char* (*)();
  const auto what =
      reinterpret_cast<What>(dlsym(RTLD_DEFAULT, "torch_exception_get_what_without_backtrace"));
  const char* message = what ? what() : nullptr;
  throw std::runtime_error(message ? std::string(message) : std::string(call) + " failed");
}
#define FASTRNN_SHIM(call)                          \
  do {                                              \
    if ((call) != 0) ::fastrnn::shim_failed(#call); \
  } while (0)

// In place of STD_TORCH_CHECK, which puts the name of a C++ function before the message; that is
// put together only if it is needed.
#define FASTRNN_CHECK(holds, message)                \
  do {                                               \
    if (!(holds)) throw std::runtime_error(message); \
  } while (0)

// An uninitialised contiguous tensor with the dtype and device of `like`.
// reuse: it comes from the pool where it is large and on the CPU. Such a tensor cannot be resized.
inline Tensor allocate(const Tensor& like, std::initializer_list<int64_t> size,
                       bool reuse = false) {
  int64_t strides[8], count = 1;
  for (size_t i = size.size(); i-- > 0;) {
    strides[i] = count;
    count *= size.begin()[i];
  }
  int32_t dtype, device_type, device_index;
  FASTRNN_SHIM(aoti_torch_get_dtype(like.get(), &dtype));
  FASTRNN_SHIM(aoti_torch_get_device_type(like.get(), &device_type));
  FASTRNN_SHIM(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle handle = nullptr;
  const int64_t dims = size.size(), bytes = count * int64_t(like.element_size());
  if (reuse && bytes >= Pool::kLeast && device_type == aoti_torch_device_type_cpu()) {
    FASTRNN_SHIM(torch_from_blob(
        pool.take(bytes), dims, size.begin(), strides, 0, dtype, device_type, device_index, &handle,
        aoti_torch_layout_strided(), nullptr, 0, [](void* data, void*) { pool.give(data); },
        nullptr));
  } else {
    FASTRNN_SHIM(aoti_torch_empty_strided(dims, size.begin(), strides, dtype, device_type,
                                          device_index, &handle));
  }
  return Tensor(handle);
}

inline Tensor as_contiguous(const Tensor& t) {
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

// A tensor's rows [.., C] where they lie: the distance between neighbours along each axis but the
// last, along which numbers are neighbours. Only what an expanded tensor really holds is copied.
struct StridedRows {
  Tensor tensor;
  int64_t strides[2];  // of a matrix, its rows' distance is the second
};
inline StridedRows strided_rows(const Tensor& t) {
  const int64_t dims = t.dim(), last = dims - 1;
  Tensor rows = t;
  if (t.stride(last) != 1 && t.size(last) != 1) {
    for (int64_t i = 0; i < last; ++i) {
      if (t.stride(i) == 0 && t.size(i) > 1) rows = torch::stable::narrow(rows, i, 0, 1);
    }
    rows = torch::stable::contiguous(rows);
  }
  StridedRows result{rows, {0, 0}};
  for (int64_t i = 0; i < last; ++i) {
    result.strides[2 - last + i] = rows.size(i) == t.size(i) ? rows.stride(i) : 0;
  }
  return result;
}

// The text of a str argument, deleted with it. (TORCH_BOX's std::string leaks one each call.)
class Text {
 public:
  explicit Text(StringHandle handle) : handle_(handle) {}
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;
  ~Text() { torch_delete_string(handle_); }

  std::string_view view() const {
    const char* data;
    size_t length;
    FASTRNN_SHIM(torch_string_c_str(handle_, &data));
    FASTRNN_SHIM(torch_string_length(handle_, &length));
    return {data, length};
  }

 private:
  StringHandle handle_;
};

// Whether the tensors have the same dtype and kind of device.
inline bool alike(const Tensor& a, const Tensor& b) {
  int32_t dtypes[2], devices[2];
  FASTRNN_SHIM(aoti_torch_get_dtype(a.get(), &dtypes[0]));
  FASTRNN_SHIM(aoti_torch_get_dtype(b.get(), &dtypes[1]));
  FASTRNN_SHIM(aoti_torch_get_device_type(a.get(), &devices[0]));
  FASTRNN_SHIM(aoti_torch_get_device_type(b.get(), &devices[1]));
  return dtypes[0] == dtypes[1] && devices[0] == devices[1];
}

// "[3, 4]"
inline std::string shape(const Tensor& t) {
  std::string text = "[";
  for (int64_t i = 0; i < t.dim(); ++i) text += (i ? ", " : "") + std::to_string(t.size(i));
  return text + "]";
}

inline void check_shape(const char* name, const Tensor& t,
                        std::initializer_list<int64_t> expected) {
  const auto sizes = t.sizes();
  if (std::equal(sizes.begin(), sizes.end(), expected.begin(), expected.end())) return;
  std::string text = "[";
  for (size_t i = 0; i < expected.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(expected.begin()[i]);
  }
  throw std::runtime_error(std::string(name) + " must be " + text + "], got " + shape(t));
}

}  // namespace fastrnn
