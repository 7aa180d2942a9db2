// Memory of a stack: 64-byte aligned; where it is large, in huge pages, as a step reads all of it.
#pragma once
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace fastrnn {
namespace stream {

struct Free {
  void operator()(void* data) const { std::free(data); }
};
using Memory = std::unique_ptr<void, Free>;

inline Memory allocate(int64_t bytes) {
  constexpr int64_t kHuge = 2 << 20;
  const int64_t unit = bytes >= kHuge ? kHuge : 64;
  const int64_t rounded = (bytes / unit + 1) * unit;
  Memory memory(std::aligned_alloc(unit, rounded));
  if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (unit == kHuge) madvise(memory.get(), rounded, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace stream
}  // namespace fastrnn
