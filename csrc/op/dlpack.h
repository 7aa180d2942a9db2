// The part of DLPack 1.3 that torch.Tensor.__dlpack_c_exchange_api__ is made of: torch's own copy
// may not be included beside its stable ABI. Layouts are those of github.com/dmlc/dlpack.
#pragma once
#include <cstdint>

namespace fastrnn {
namespace dlpack {

constexpr int32_t kCpu = 1;
constexpr uint8_t kFloat = 2;
constexpr uint32_t kMajor = 1;  // a version of which the layouts below hold

struct Version {
  uint32_t major, minor;
};

struct Tensor {
  void* data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t code, bits;  // of a number's type
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};

struct ManagedTensor {
  Version version;
  void* manager;
  void (*deleter)(ManagedTensor*);
  uint64_t flags;
  Tensor tensor;
};

// Functions return 0, or -1 with Python's error set, but for allocate(), which tells of it.
struct ExchangeApi {
  Version version;
  const ExchangeApi* older;
  int (*allocate)(const Tensor* like, ManagedTensor** out, void* context,
                  void (*fail)(void* context, const char* kind, const char* message));
  int (*managed_from_object)(void* object, ManagedTensor** out);
  int (*to_object)(ManagedTensor* tensor, void** object);  // takes the tensor
  int (*from_object)(void* object, Tensor* out);           // borrows; or null
  int (*current_stream)(int32_t device_type, int32_t device_id, void** out);
};

}  // namespace dlpack
}  // namespace fastrnn
