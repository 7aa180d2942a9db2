// How many threads a call gets on a machine that is busy with other things. Threads that meet at
// every step stand still while one of them has no processor: two of them can take three times what
// one takes. So the time that calls lose so is added up, and from some milliseconds on calls go on
// one thread for a while; then on several again, to see.
#pragma once
#include <algorithm>
#include <cstdint>
#include <mutex>

namespace fastrnn {

// Times in ns, of a clock that the caller brings. Safe to use from several threads.
class Pace {
 public:
  static constexpr int64_t kDebt = 5'000'000, kFirstRest = 50'000'000, kLongestRest = 2'000'000'000;

  // Of the threads that a call wants.
  int threads(int wanted, int64_t now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return now < rest_until_ ? 1 : wanted;
  }

  // A call on `threads` threads took so long, and they waited so long for late ones, all together.
  void note(int threads, int64_t now, int64_t taken, int64_t waited) {
    if (threads == 1) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    // One is late while the others wait, and one alone would take what remains of each.
    const int64_t alone = threads * std::max<int64_t>(taken - waited / (threads - 1), 0);
    debt_ = std::max<int64_t>(debt_ + taken - alone, 0);
    if (debt_ == 0) rest_ = 0;
    if (debt_ < kDebt) return;
    // The next try is to lose no more than a tenth of the time until then.
    const int64_t longer = std::min(2 * rest_, kLongestRest);
    rest_ = std::max({longer, kFirstRest, 10 * (taken - alone)});
    rest_until_ = now + rest_;
    debt_ = kDebt / 2;
  }

 private:
  std::mutex mutex_;
  int64_t debt_ = 0;  // what one thread alone would have saved, less what several have
  int64_t rest_ = 0, rest_until_ = 0;
};

}  // namespace fastrnn
