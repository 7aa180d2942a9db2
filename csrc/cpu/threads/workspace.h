// Carves one block of memory into aligned arrays. Run once without memory, it measures.
#pragma once
#include <cstdint>

namespace fastrnn {
namespace FASTRNN_ISA {

class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(int64_t count) {
    const int64_t at = used_;
    used_ += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
