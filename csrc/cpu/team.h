// The threads of one op: who works on what, and where they wait for each other.
#pragma once
#include <sched.h>

#include <cstdint>

#include "../common/params.h"

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

// A barrier that spins: a time step is too short to sleep in. After a while it yields, so that an
// overloaded machine still makes progress.
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
    for (int spins = 0; __atomic_load_n(&generation_, __ATOMIC_ACQUIRE) == generation; ++spins) {
      if (spins > kSpins) {
        sched_yield();
      } else {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
    }
  }

 private:
  static constexpr int kSpins = 4000;
  alignas(64) int arrived_ = 0;
  alignas(64) int generation_ = 0;
};

// Calls body(rank, size, barrier) on `threads` threads at once. The pool may grant fewer (all of
// them run at the same time all the same), or one where it is entered from a parallel region.
template <class Body>
class Team {
 public:
  static void run(ParallelFor parallel, int threads, Body& body) {
    Team team(threads, body);
    if (threads == 1) {
      body(0, 1, team.barrier_);
    } else {
      FASTRNN_RELEASE(&team);
      parallel(threads, &Team::enter, &team);
      FASTRNN_ACQUIRE(&team);
    }
  }

 private:
  Team(int wanted, Body& body) : wanted_(wanted), body_(body) {}

  // Shares of the pool's range count towards `wanted`; the calls are the team's members. Who gets
  // which rank is a race, what a rank does is not.
  static void enter(int64_t begin, int64_t end, void* self) {
    Team& team = *static_cast<Team*>(self);
    FASTRNN_ACQUIRE(self);
    const int rank = __atomic_fetch_add(&team.members_, 1, __ATOMIC_ACQ_REL);
    __atomic_add_fetch(&team.shares_, int(end - begin), __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&team.shares_, __ATOMIC_ACQUIRE) < team.wanted_) sched_yield();
    team.body_(rank, __atomic_load_n(&team.members_, __ATOMIC_ACQUIRE), team.barrier_);
    FASTRNN_RELEASE(self);
  }

  const int wanted_;
  int members_ = 0, shares_ = 0;
  Barrier barrier_;
  Body& body_;
};

// Part `i` of `parts` of [0, n), in order, sizes differing by at most one.
struct Range {
  int64_t begin, end;
};
inline __attribute__((always_inline)) Range part(int64_t n, int64_t i, int64_t parts) {
  return {n * i / parts, n * (i + 1) / parts};
}

// Do `size` threads share the units of W_hh [weight_bytes], in `panels`, at a barrier a step,
// rather than the B batch rows? That takes W_hh through each thread's cache in part only, and is
// even where the rows are not.
inline bool share_units(int64_t B, int64_t panels, int64_t weight_bytes, int size) {
  constexpr int64_t kLeast = 32 << 10, kCache = 1 << 20;  // a thread's share, at least; L2
  constexpr int64_t kFewRows = 8;  // of a thread, whose sums wait for the weights
  if (size == 1 || B < size) return size > 1;
  if (panels < size || weight_bytes < size * kLeast) return false;
  const auto uneven = [size](int64_t n) {
    return double((n + size - 1) / size * size) / double(n);
  };
  const bool large = weight_bytes >= kCache && B < size * kFewRows;
  return uneven(panels) * (large ? 0.9 : 1.05) < uneven(B);
}

// The batch rows of part i when `parts` threads share them by work: the rows' lengths fall.
inline Range row_part(const ScanParams& s, int64_t i, int64_t parts) {
  if (!s.batch_sizes) return part(s.B, i, parts);
  int64_t bounds[2], work = 0, row = 0;
  for (int side = 0; side < 2; ++side) {
    const int64_t goal = s.N * (i + side) / parts;
    for (int64_t steps = s.T; row < s.B && work < goal; ++row) {
      while (steps > 0 && s.batch_sizes[steps - 1] <= row) --steps;  // the row's length
      work += steps;
    }
    bounds[side] = i + side == parts ? s.B : row;
  }
  return {bounds[0], bounds[1]};
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
