// Runs a kernel to its end on the calling thread: a check of logic and, over several seeds or under
// ThreadSanitizer, of what orders what. It does not model the scope of atomics, fences, registers,
// or time, and a plain store is seen at once by every thread (ThreadSanitizer knows better). After
// a launch that failed, what ThreadSanitizer says of the threads left behind is of no account.
#pragma once
#include <algorithm>
#include <map>
#include <stdexcept>

#include "machine.h"

namespace fastrnn {
namespace cuda {
namespace sim {

// The GPU that is simulated; see fastrnn_sim_configure.
struct Settings {
  unsigned seed = 0;
  int sms = 16, arch = 90;
  int64_t shared = 232448;
};
inline Settings settings;

constexpr size_t kTail = 128;  // bytes behind shared memory that a kernel must not touch
constexpr unsigned char kTailMark = 0xa5, kPoison = 0xff;  // the poison reads as NaN

// The present thread has left the kernel.
inline void end_thread() {
  Hidden own;
  Machine& m = *machine;
  Thread& me = *current;
  Block& block = *me.block;
  if (block.barrier.arrived) fail("ends while others of its block are in __syncthreads");
  if (me.warp->barrier.arrived) fail("ends while others of its warp wait for it");
  if (me.at_cluster) fail("ends between cluster_arrive and cluster_wait");
  if (block.cluster->barrier.arrived) fail("ends while others of its cluster are at its barrier");
  ++block.cluster->ended, --m.alive, m.spins = 0;
  me.ended = true;
  if (++block.ended == m.block.x) {
    for (const Flying& store : m.flying)
      if (store.block == &block) fail("ends its block while asynchronous stores are on their way");
    std::memset(block.shared, kPoison, m.shared);  // a peer that reads it now is wrong
    forbid(block.shared, m.shared);
  }
}

// What the thread's fiber runs.
inline void thread_body() {
  arrived(current->fiber);
  Machine& m = *machine;
  Thread& me = *current;
  acquire(&m);
  {
    Hidden own;
    // A block starts at its own time: what others have written into it by then is lost.
    if (me.block->started++ == 0) std::memset(me.block->shared, kPoison, m.shared);
    me.waits = "running";
  }
  m.job.run(m.job.parameters);
  end_thread();
  release(&m);
  Fiber* next = &main_fiber;
  {
    Hidden own;
    if (choose_next()) next = &current->fiber;
  }
  switch_fiber(me.fiber, *next, true);  // not hidden: no thread may end so
  std::abort();
}

inline std::string deadlock(const Machine& m) {
  std::map<std::string, int> where;
  for (const Thread& thread : m.threads)
    if (!thread.ended) ++where[thread.waits + name(thread.place)];
  std::string message = "deadlock:";
  for (const auto& [what, count] : where)
    message += " " + std::to_string(count) + " threads in " + what + ";";
  return message + " " + std::to_string(m.threads.size() - m.alive) + " have ended";
}

inline void prepare_block(Machine& m, size_t i, unsigned linear) {
  const dim3 grid = m.job.grid;
  Block& block = m.blocks[i];
  block.linear = linear;
  block.index = dim3(linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y);
  block.cluster = &m.clusters[i / m.job.cluster];
  block.rank = linear % m.job.cluster;
  block.barrier.expected = m.block.x;
  block.cluster->barrier.expected = m.block.x * m.job.cluster;
  block.level = int(m.schedule.below(Schedule::kLevels));
  block.shared_owner.reset(new unsigned char[m.shared + 2 * kTail]);
  const auto start = reinterpret_cast<uintptr_t>(block.shared_owner.get());
  block.shared = reinterpret_cast<unsigned char*>((start + kTail - 1) & ~uintptr_t(kTail - 1));
  std::memset(block.shared + m.shared, kTailMark, kTail);
  forbid(block.shared + m.shared, kTail);
  block.warps = std::vector<Warp>(m.block.x / 32);
  for (Warp& warp : block.warps) {
    warp.barrier.expected = 32;
    warp.level = int(m.schedule.below(Schedule::kLevels));
  }
}

// After the block's end: did anything write behind its shared memory, or in it when it was gone?
inline void check_block(const Machine& m, const Block& block) {
  allow(block.shared, m.shared + kTail);
  const std::string who = "block " + std::to_string(block.linear);
  const unsigned char *begin = block.shared, *end = begin + m.shared;
  if (std::any_of(end, end + kTail, [](unsigned char c) { return c != kTailMark; }))
    throw std::runtime_error(who + " wrote past the end of its shared memory");
  if (std::any_of(begin, end, [](unsigned char c) { return c != kPoison; }))
    throw std::runtime_error(who + " ended while others of its cluster wrote its shared memory");
}

// Blocks [first, first + m.blocks.size()) of the grid, all of them at the same time.
inline void run_wave(Machine& m, unsigned first, Stacks& stacks) {
  const unsigned threads = m.block.x;
  for (Cluster& cluster : m.clusters) cluster = Cluster();
  for (size_t b = 0; b < m.blocks.size(); ++b) {
    m.blocks[b] = Block();
    prepare_block(m, b, first + unsigned(b));
    for (unsigned t = 0; t < threads; ++t) {
      const size_t i = b * threads + t;
      Thread& thread = m.threads[i] = Thread();
      thread.index = dim3(t, 0, 0);
      thread.linear = t, thread.lane = t % 32;
      thread.block = &m.blocks[b], thread.warp = &m.blocks[b].warps[t / 32];
      prepare_fiber(thread.fiber, stacks.get(i), thread_body);
      make_ready(&thread);
    }
  }
  m.alive = m.threads.size();
  release(&m);
  current = m.schedule.next();
  switch_fiber(main_fiber, current->fiber);
  acquire(&m);
  if (m.alive && m.error.empty()) m.error = deadlock(m);
  for (size_t i = 0; i < m.threads.size(); ++i) {
#ifdef __SANITIZE_THREAD__
    if (m.threads[i].ended) __tsan_destroy_fiber(m.threads[i].fiber.tsan);
#endif
    if (stacks.overflown(i)) m.error = "a thread needs more stack than the simulator has";
  }
  if (!m.error.empty()) {
    for (Block& block : m.blocks) allow(block.shared, m.shared + kTail);
    stacks.clear();
    throw std::runtime_error(m.error);
  }
  for (const Block& block : m.blocks) check_block(m, block);
}

// A cooperative grid runs all at once; of any other as many clusters at a time as are cheap.
inline void run(const Job& job) {
  static thread_local Stacks stacks;
  Hidden own;
  const unsigned blocks = job.grid.x * job.grid.y * job.grid.z;
  unsigned wave = blocks;
  if (!job.cooperative) {
    const unsigned clusters = std::max(1u, 4096 / (job.threads * job.cluster));
    wave = std::min(blocks, clusters * job.cluster);
  }
  Machine m(job, settings.seed, size_t(wave) * job.threads);
#ifdef __SANITIZE_THREAD__
  main_fiber.tsan = __tsan_get_current_fiber();
#endif
  struct Restore {
    ~Restore() { machine = nullptr, current = nullptr; }
  } restore;
  machine = &m;
  for (unsigned first = 0; first < blocks; first += wave) {
    const unsigned n = std::min(wave, blocks - first);
    m.blocks.resize(n), m.clusters.resize(n / job.cluster),
        m.threads.resize(size_t(n) * job.threads);
    run_wave(m, first, stacks);
  }
}

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
