// The simulated GPU during one launch: threads, warps, blocks and clusters, who waits for whom, and
// how a run ends in an error.
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "schedule.h"

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace fastrnn {
namespace cuda {
namespace sim {

// In the kernel's source. As a default argument, Place::here() is where the call stands.
struct Place {
  const char* file;
  int line;
  static Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

// Counts arrivals. Nothing may be read from it about the phase before the last, so two parities of
// what it keeps are enough.
struct Barrier {
  unsigned phase = 0, expected = 0, arrived = 0;
  const char* what = nullptr;  // the call and place of the first to arrive in this phase
  Place place = {};
  Thread *first = nullptr, *last = nullptr;  // waiting for the phase to end
  char order[2] = {};  // what ThreadSanitizer orders: apart, or a thread slow to leave one phase
                       // would seem to be ordered after arrivals at the next
};

// Counts the bytes of asynchronous stores, a phase at a time.
struct Tally {
  Barrier barrier;  // its phase, and who waits for its end
  const void* where;
  int64_t missing = 0;  // in this phase; below zero where stores come before it is known how many
  bool expecting = false;
};

struct Warp {
  Barrier barrier;
  int level = 0;
  uint64_t slots[2][32][2];  // what lanes exchange, by parity of the phase
  float a[2][16][16], b[2][8][16];
};

struct Cluster {
  Barrier barrier;
  unsigned ended = 0;  // threads
};

struct Block {
  dim3 index;
  unsigned linear = 0, started = 0, ended = 0;  // the last two count threads
  int level = 0;
  Barrier barrier;
  Cluster* cluster = nullptr;
  unsigned rank = 0;  // in the cluster
  unsigned char* shared = nullptr;
  std::deque<Tally> tallies;  // threads hold references to them while they wait
  std::unique_ptr<unsigned char[]> shared_owner;
  std::vector<Warp> warps;
};

struct Thread {
  Fiber fiber;
  dim3 index;
  unsigned linear = 0, lane = 0;
  Block* block = nullptr;
  Warp* warp = nullptr;
  Thread* next = nullptr;             // in a barrier's list
  const char* waits = "not started";  // what for
  Place place = {};
  bool ended = false;
  bool at_cluster = false;     // between cluster_arrive and cluster_wait
  unsigned cluster_phase = 0;  // in which it arrived
};

// A relaxed store that other blocks do not see yet.
struct Delayed {
  uint64_t *where, value;
  Block* block;
};

// An asynchronous store on its way to another block.
struct Flying {
  Block* block;
  void* where;
  const void* counter;
  unsigned char bytes[8];
  unsigned size;
};

struct Job {  // a launch
  dim3 grid;
  unsigned threads;
  size_t shared;
  unsigned cluster;
  bool cooperative;
  void (*run)(const void* parameters);  // the kernel
  const void* parameters;
};

struct Machine {
  Machine(const Job& job, unsigned seed, size_t threads)
      : job(job), block(job.threads), shared(job.shared), schedule(seed, threads) {}
  const Job& job;
  dim3 block;
  size_t shared;
  Schedule schedule;
  std::vector<Cluster> clusters;  // of the wave that runs now, as are blocks and threads
  std::vector<Block> blocks;
  std::vector<Thread> threads;
  size_t alive = 0;    // threads not ended
  uint64_t spins = 0;  // in a row, while nothing else happened
  std::vector<Delayed> delayed;
  std::vector<Flying> flying;
  std::string error;
};

inline thread_local Fiber main_fiber;  // the one that launches
inline thread_local Machine* machine = nullptr;
inline thread_local Thread* current = nullptr;

inline std::string name(const Place& place) {
  if (!place.file) return "";
  const std::string file = place.file;
  return " (" + file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line) + ")";
}

// Ends the launch; the threads' stacks are abandoned as they stand.
[[noreturn]] inline void fail(const std::string& message, Place place = {}) {
  machine->error = "block " + std::to_string(current->block->linear) + " thread " +
                   std::to_string(current->linear) + ": " + message + name(place);
  switch_fiber(current->fiber, main_fiber, true);
  __builtin_unreachable();
}

inline void make_ready(Thread* thread) {
  Schedule& schedule = machine->schedule;
  if (!schedule.ahead()) return schedule.ready(thread, 0);
  int& level = schedule.whole_blocks() ? thread->block->level : thread->warp->level;
  if (schedule.chance(512)) level = int(schedule.below(Schedule::kLevels));
  schedule.ready(thread, level);
}

// Ends the barrier's phase.
inline void complete(Barrier& barrier) {
  barrier.arrived = 0, ++barrier.phase, machine->spins = 0;
  while (Thread* thread = barrier.first) {
    barrier.first = thread->next;
    make_ready(thread);
  }
}

// Of the block's counter at this address; null: nothing has made it.
inline Tally* find_tally(Block& block, const void* where) {
  for (Tally& tally : block.tallies)
    if (tally.where == where) return &tally;
  return nullptr;
}
inline void count(Tally& tally, int64_t bytes) {
  tally.missing -= bytes;
  if (!tally.expecting || tally.missing) return;
  tally.expecting = false;
  complete(tally.barrier);
}

// Removes one of those on their way, in no order.
template <class T>
T take_any(std::vector<T>& all) {
  std::swap(all[machine->schedule.below(uint32_t(all.size()))], all.back());
  const T taken = all.back();
  all.pop_back();
  return taken;
}

// One of the words and one of the stores that are on their way between blocks arrive.
inline void land(Machine& m) {
  if (!m.delayed.empty()) {
    const Delayed store = take_any(m.delayed);
    __atomic_store_n(store.where, store.value, __ATOMIC_RELAXED);
  }
  if (!m.flying.empty()) {
    const Flying store = take_any(m.flying);
    std::memcpy(store.where, store.bytes, store.size);
    count(*find_tally(*store.block, store.counter), store.size);
  }
}

// Makes whoever is next the present thread. Null: nobody can run, and main's turn has come.
inline Thread* choose_next() {
  Machine& m = *machine;
  current = m.schedule.next();
  while (!current && !(m.delayed.empty() && m.flying.empty())) {
    land(m);
    current = m.schedule.next();
  }
  return current ? current : current = m.schedule.next_idle();
}

// Returns when the present thread's turn comes again.
inline void run_next() {
  Thread* me = current;
  Thread* next = choose_next();
  if (next != me) switch_fiber(me->fiber, next ? next->fiber : main_fiber);
}

// Lets others run first, if the order is a random one.
inline void maybe_yield(uint32_t once_in) {
  if (!machine->schedule.chance(once_in)) return;
  make_ready(current);
  run_next();
}

// Counts the present thread in. The one that completes the phase wakes the others and returns true.
inline bool arrive(Barrier& barrier, const char* what, Place place) {
  if (barrier.arrived == 0) {
    barrier.what = what, barrier.place = place;
  } else if (barrier.place.line != place.line || barrier.what != what) {
    fail(std::string("divergent barrier: others are in ") + barrier.what + name(barrier.place) +
             ", this one in " + what,
         place);
  }
  if (++barrier.arrived < barrier.expected) return false;
  complete(barrier);
  return true;
}

inline void wait(Barrier& barrier, const char* what, Place place) {
  Thread* me = current;
  me->waits = what, me->place = place, me->next = nullptr;
  (barrier.first ? barrier.last->next : barrier.first) = me;
  barrier.last = me;
  run_next();
}

// Returns the parity of the phase that all have then arrived in.
inline unsigned arrive_and_wait(Barrier& barrier, const char* what, Place place) {
  const unsigned parity = barrier.phase & 1;
  if (arrive(barrier, what, place)) {
    make_ready(current);  // the last to come takes its turn with the others
    run_next();
  } else {
    wait(barrier, what, place);
  }
  return parity;
}

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
