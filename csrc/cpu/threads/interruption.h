// Ctrl-C during one long call: looked for between blocks of steps, and answered by all threads of
// the call at the same place.
#pragma once
#include <pthread.h>

#include "team.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Made by the calling thread, which alone may ask whether the call is to end early.
class Interruption {
 public:
  explicit Interruption(bool (*asked)()) : asked_(asked), caller_(pthread_self()) {}

  // By a thread that waits for no other one.
  bool seen() {
    if (asked_ && pthread_equal(caller_, pthread_self()) && due() && asked_()) {
      __atomic_store_n(&stop_, true, __ATOMIC_RELAXED);
    }
    return stopped();
  }

  // By all `size` threads that share `barrier`: the same answer for all. group: 0 or 1, whose
  // barrier it is.
  bool agreed(int rank, int size, Barrier& barrier, int group = 0) {
    const bool now = seen();
    if (rank == 0) agreed_[group] = now;
    barrier.wait(size);
    return agreed_[group];
  }

  bool stopped() const { return __atomic_load_n(&stop_, __ATOMIC_RELAXED); }

 private:
  static constexpr int64_t kPeriod = 50'000'000;  // ns between questions, each of which may wait

  // Has a period gone by? The first one begins with the first call.
  bool due() {
    const int64_t now = nanoseconds();
    const bool over = last_ && now - last_ >= kPeriod;
    if (over || !last_) last_ = now;
    return over;
  }

  bool (*const asked_)();
  const pthread_t caller_;
  int64_t last_ = 0;  // the caller's
  bool stop_ = false;
  bool agreed_[2] = {};
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
