// Who runs next: the order of the fibers, from a seed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastrnn {
namespace cuda {
namespace sim {

struct Thread;

// Numbers that look random; the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 0x2545f4914f6cdd1d) {}
  uint32_t below(uint32_t n) {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return uint32_t((state_ >> 32) * n >> 32);
  }

 private:
  uint64_t state_;
};

// A ring that holds each thread at most once.
class Ring {
 public:
  void reserve(size_t threads) {
    size_t size = 1;
    while (size < threads + 1) size *= 2;
    slots_.assign(size, nullptr);
  }
  size_t size() const { return (tail_ - head_) & (slots_.size() - 1); }
  void push(Thread* thread) { at(tail_++) = thread; }
  Thread* pop_front() { return at(head_++); }
  Thread* pop_back() { return at(--tail_); }
  Thread* pop_random(Random& random) {
    Thread*& chosen = at(head_ + random.below(uint32_t(size())));
    Thread* thread = chosen;
    chosen = at(head_++);
    return thread;
  }

 private:
  Thread*& at(size_t i) { return slots_[i & (slots_.size() - 1)]; }
  std::vector<Thread*> slots_;
  size_t head_ = 0, tail_ = 0;
};

// Seed 0 runs the threads in turn, 1 the latest first, odd ones at random, even ones some warps
// (seed % 4 == 0: some blocks) as far ahead of the others as barriers let them.
class Schedule {
 public:
  static constexpr int kLevels = 4;

  Schedule(unsigned seed, size_t threads) : seed_(seed), random_(seed) {
    for (Ring& ring : ready_) ring.reserve(threads);
    idle_.reserve(threads);
  }
  bool random() const { return seed_ > 1; }
  bool ahead() const { return random() && seed_ % 2 == 0; }
  bool whole_blocks() const { return seed_ % 4 == 0; }
  uint32_t below(uint32_t n) { return random_.below(n); }
  // True once in n times, and never in the two plain orders.
  bool chance(uint32_t n) { return random() && random_.below(n) == 0; }

  void ready(Thread* thread, int level) { ready_[level].push(thread); }
  void idle(Thread* thread) { idle_.push(thread); }  // runs when no other can

  Thread* next() {
    for (int level = ahead() ? kLevels - 1 : 0; level >= 0; --level) {
      Ring& ring = ready_[level];
      if (!ring.size()) continue;
      if (random()) return ring.pop_random(random_);
      return seed_ == 0 ? ring.pop_front() : ring.pop_back();
    }
    return nullptr;
  }
  Thread* next_idle() { return idle_.size() ? idle_.pop_front() : nullptr; }

 private:
  unsigned seed_;
  Random random_;
  Ring ready_[kLevels], idle_;
};

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
