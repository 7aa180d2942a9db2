// What AddressSanitizer and ThreadSanitizer have to be told of the simulator: which stack runs, and
// which of its acts order memory. Without a sanitizer all of this is empty.
#pragma once
#include <cstddef>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace fastrnn {
namespace cuda {
namespace sim {

#ifdef __SANITIZE_THREAD__
constexpr bool kThreadSanitizer = true;
inline void release(void* where) { __tsan_release(where); }
inline void acquire(void* where) { __tsan_acquire(where); }
// Hides the simulator's own memory: every access to it that writes is inside one of these.
struct Hidden {
  Hidden() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Hidden() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};
#else
constexpr bool kThreadSanitizer = false;
inline void release(void*) {}
inline void acquire(void*) {}
struct Hidden {
  Hidden() {}
};
#endif

#ifdef __SANITIZE_ADDRESS__
constexpr bool kAddressSanitizer = true;
inline void forbid(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void allow(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
constexpr bool kAddressSanitizer = false;
inline void forbid(const void*, size_t) {}
inline void allow(const void*, size_t) {}
#endif

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
