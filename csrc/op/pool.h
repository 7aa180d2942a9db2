// Large memory that one call leaves to the next. malloc maps memory of this size anew for each
// call: a page fault every 4 kB, or huge pages that the system has to find and clear, which may
// take longer than the arithmetic.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace fastrnn {

// Never holds more idle memory than 1/16 of the machine's, nor any while it asks for new. Without a
// lock: a thread that looks at an idle block owns it, so a fork in between leaves the rest usable.
class Pool {
 public:
  static constexpr int64_t kLeast = 2 << 20;  // bytes from which on it serves

  // `bytes` of memory, 64-byte aligned.
  void* take(int64_t bytes) {
    Block* best = nullptr;
    for (auto& slot : idle_) {
      Block* block = own(slot);
      if (block && fits(*block, bytes) && (!best || block->bytes < best->bytes)) {
        std::swap(block, best);
      }
      if (block) keep(block);
    }
    if (best) return best + 1;
    for (auto& slot : idle_) {
      if (Block* block = own(slot)) unmap(block);
    }
    return map(bytes) + 1;
  }

  void give(void* data) {
    Block* block = static_cast<Block*>(data) - 1;
#ifdef MADV_FREE
    if (block->bytes >= kLazy) {  // all but the page where Block is
      madvise(reinterpret_cast<char*>(block) + kHuge, block->bytes / kHuge * kHuge - kHuge,
              MADV_FREE);
    }
#endif
    keep(block);
  }

 private:
  struct alignas(64) Block {  // what stands before the memory
    void* base;               // what was mapped
    int64_t mapped, bytes;
  };
  static constexpr int kSlots = 16;
  static constexpr int64_t kLazy = 32 << 20;  // idle memory that the system may take when short
  static constexpr uintptr_t kHuge = 2 << 20;

  static bool fits(const Block& block, int64_t bytes) {
    return block.bytes >= bytes && block.bytes / 2 <= bytes;
  }

  Block* own(std::atomic<Block*>& slot) {
    Block* block = slot.exchange(nullptr, std::memory_order_acquire);
    if (block) idle_bytes_ -= block->mapped;
    return block;
  }

  void keep(Block* block) {
    static const int64_t most = int64_t(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE) / 16;
    if ((idle_bytes_ += block->mapped) <= most) {
      for (auto& slot : idle_) {
        Block* none = nullptr;
        if (slot.compare_exchange_strong(none, block, std::memory_order_release)) return;
      }
    }
    idle_bytes_ -= block->mapped;
    unmap(block);
  }

  static Block* map(int64_t bytes) {
    const int64_t mapped = bytes + int64_t(sizeof(Block) + kHuge);
    void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
      throw std::runtime_error("out of memory: the system does not give " + std::to_string(mapped) +
                               " bytes");
    }
    const auto begin = (reinterpret_cast<uintptr_t>(base) + kHuge - 1) / kHuge * kHuge;
#ifdef MADV_HUGEPAGE
    // the kernel may have none
    madvise(reinterpret_cast<void*>(begin), (bytes + sizeof(Block)) / kHuge * kHuge, MADV_HUGEPAGE);
#endif
    return new (reinterpret_cast<void*>(begin)) Block{base, mapped, bytes};
  }
  static void unmap(Block* block) { munmap(block->base, block->mapped); }

  std::atomic<Block*> idle_[kSlots] = {};
  std::atomic<int64_t> idle_bytes_{0};
};

inline Pool pool;

}  // namespace fastrnn
