// The threads of one op: who works on what, and where they wait for each other.
#pragma once
#include <sched.h>
#include <time.h>

#include <cstdint>

#include "cpu/params.h"

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
// The pool's fork and join, which ThreadSanitizer cannot see into.
#define FASTRNN_RELEASE(address) __tsan_release(address)
#define FASTRNN_ACQUIRE(address) __tsan_acquire(address)
#else
#define FASTRNN_RELEASE(address)
#define FASTRNN_ACQUIRE(address)
#endif

namespace fastrnn {
namespace FASTRNN_ISA {

inline int64_t nanoseconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

// A barrier that spins: a time step is too short to sleep in. After a while it yields, so that an
// overloaded machine still makes progress, and counts the time: somebody has no processor.
class Barrier {
 public:
  void wait(int size) {
    if (size == 1) return;
    const int generation = __atomic_load_n(&generation_, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == size) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&generation_, generation + 1, __ATOMIC_RELEASE);
      return;
    }
    int64_t late = 0;
    for (int spins = 0; __atomic_load_n(&generation_, __ATOMIC_ACQUIRE) == generation; ++spins) {
      if (spins > kSpins) {
        if (late == 0) late = nanoseconds();
        sched_yield();
      } else {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
    }
    if (late > 0) add_waited(nanoseconds() - late);
  }

  // ns that its threads have waited for late ones, all together.
  int64_t waited() const { return __atomic_load_n(&waited_, __ATOMIC_RELAXED); }
  void add_waited(int64_t ns) { __atomic_fetch_add(&waited_, ns, __ATOMIC_RELAXED); }

 private:
  static constexpr int kSpins = 4000;
  alignas(64) int arrived_ = 0;
  alignas(64) int generation_ = 0;
  int64_t waited_ = 0;
};

// Calls body(rank, size, barrier) on at most `threads` threads at once. Who comes within kPatience
// of the first is a member; the rest find the team closed and leave: the pool may run its parts one
// after the other, or keep threads busy that wait for each other, as where it has one queue.
// run() gives the ns that members waited for late ones, all together.
template <class Body>
class Team {
 public:
  static int64_t run(ParallelFor parallel, int threads, Body& body) {
    Team team(threads, body);
    if (threads == 1) {
      body(0, 1, team.barrier_);
    } else {
      FASTRNN_RELEASE(&team);
      parallel(threads, &Team::enter, &team);
      FASTRNN_ACQUIRE(&team);
    }
    return team.barrier_.waited();
  }

 private:
  Team(int wanted, Body& body) : wanted_(wanted), body_(body) {}

  static constexpr int64_t kPatience = 20'000'000;  // ns; a busy machine's threads come late
  static constexpr int64_t kLate = 100'000;         // ns; an idle one's are there before
  // The team in one word: how many parts of the pool's range have come, in how many calls, and
  // whether nobody joins any more. The calls are the members. Who gets which rank is a race, and
  // how many they are may be one; what comes out hangs on neither.
  static constexpr uint64_t kMember = uint64_t(1) << 32, kClosed = uint64_t(1) << 63;

  static void enter(int64_t begin, int64_t end, void* self) {
    Team& team = *static_cast<Team*>(self);
    FASTRNN_ACQUIRE(self);
    uint64_t word = __atomic_load_n(&team.word_, __ATOMIC_ACQUIRE);
    do {
      if (word & kClosed) return;
    } while (!team.replace(word, word + kMember + uint64_t(end - begin)));
    const int rank = int(word / kMember);
    team.body_(rank, team.close(), team.barrier_);
    FASTRNN_RELEASE(self);
  }

  // The number of members, once all parts have come or time is up.
  int close() {
    const int64_t since = nanoseconds();
    uint64_t word = __atomic_load_n(&word_, __ATOMIC_ACQUIRE);
    while (!(word & kClosed)) {
      if (int64_t(word % kMember) >= wanted_ || nanoseconds() > since + kPatience) {
        if (replace(word, word | kClosed)) break;
      } else {
        sched_yield();
        word = __atomic_load_n(&word_, __ATOMIC_ACQUIRE);
      }
    }
    const int64_t waited = nanoseconds() - since;
    if (waited > kLate) barrier_.add_waited(waited);
    return int((word & ~kClosed) / kMember);
  }

  // Puts `to` in the place of `word`, or what is there now into `word`.
  bool replace(uint64_t& word, uint64_t to) {
    return __atomic_compare_exchange_n(&word_, &word, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
  }

  const int wanted_;
  uint64_t word_ = 0;
  Barrier barrier_;
  Body& body_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
