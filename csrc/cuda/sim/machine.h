// The simulated GPU during one launch: threads, warps, blocks and clusters, who waits for whom, and
// how a run ends in an error.
#pragma once
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

struct Place {  // in the kernel's source
  const char* file;
  int line;
};
#define FASTRNN_HERE \
  ::fastrnn::cuda::sim::Place { __builtin_FILE(), __builtin_LINE() }

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

struct Machine {
  Machine(dim3 grid, unsigned threads, size_t shared, unsigned cluster, unsigned seed, size_t alive)
      : grid(grid), block(threads), shared(shared), cluster_size(cluster), schedule(seed, alive) {}
  dim3 grid, block;
  size_t shared;
  unsigned cluster_size;
  Schedule schedule;
  std::vector<Cluster> clusters;  // of the wave that runs now, as are blocks and threads
  std::vector<Block> blocks;
  std::vector<Thread> threads;
  size_t alive = 0;    // threads not ended
  uint64_t spins = 0;  // in a row, while nothing else happened
  std::vector<Delayed> delayed;
  Fiber main;
  std::string error;
  void (*run)(const void*) = nullptr;  // the kernel with its parameters
  const void* parameters = nullptr;
};

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
  switch_fiber(current->fiber, machine->main, true);
  __builtin_unreachable();
}

// Has the delayed store i happen; the order among those that remain is of no meaning.
inline void perform(size_t i) {
  std::vector<Delayed>& delayed = machine->delayed;
  const Delayed store = delayed[i];
  delayed[i] = delayed.back();
  delayed.pop_back();
  __atomic_store_n(store.where, store.value, __ATOMIC_RELAXED);
}

inline void make_ready(Thread* thread) {
  Schedule& schedule = machine->schedule;
  if (!schedule.ahead()) return schedule.ready(thread, 0);
  int& level = schedule.whole_blocks() ? thread->block->level : thread->warp->level;
  if (schedule.chance(512)) level = int(schedule.below(Schedule::kLevels));
  schedule.ready(thread, level);
}

// Makes whoever is next the present thread; none, and main's turn has come, returns null.
inline Thread* choose_next() {
  Machine& m = *machine;
  current = m.schedule.next();
  if (!current) {
    while (!m.delayed.empty()) perform(m.schedule.below(uint32_t(m.delayed.size())));
    current = m.schedule.next_idle();
  }
  return current;
}

// Returns when the present thread's turn comes again.
inline void run_next() {
  Thread* me = current;
  Thread* next = choose_next();
  if (next != me) switch_fiber(me->fiber, next ? next->fiber : machine->main);
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
  barrier.arrived = 0, ++barrier.phase, machine->spins = 0;
  while (Thread* thread = barrier.first) {
    barrier.first = thread->next;
    make_ready(thread);
  }
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
