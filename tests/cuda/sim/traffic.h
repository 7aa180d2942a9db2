// What blocks write for each other, and when the others see it: relaxed words in global memory,
// asynchronous stores into shared memory.
#pragma once
#include "primitives.h"

namespace fastrnn {
namespace cuda {
namespace sim {

inline void check_aligned(const uint64_t* p, Place place) {
  if (reinterpret_cast<uintptr_t>(p) % 16) fail("words that are not aligned to 16 bytes", place);
}

// Has those delayed stores to a word happen that one of `block` must see, or any if it is null.
inline void settle(const uint64_t* where, const Block* block) {
  std::vector<Delayed>& delayed = machine->delayed;
  for (size_t i = 0; i < delayed.size(); ++i) {
    if (delayed[i].where != where || (block && delayed[i].block != block)) continue;
    __atomic_store_n(delayed[i].where, delayed[i].value, __ATOMIC_RELAXED);
    delayed.erase(delayed.begin() + int64_t(i--));
  }
}

// A store may reach the other blocks after stores that follow it, but for those to the same word.
inline void store_word(uint64_t* where, uint64_t value) {
  Hidden own;
  Machine& m = *machine;
  maybe_yield(8);
  m.spins = 0;
  settle(where, nullptr);
  if (kThreadSanitizer || !m.schedule.chance(4)) {
    __atomic_store_n(where, value, __ATOMIC_RELAXED);
    return;
  }
  if (m.delayed.size() == 16) land(m);
  m.delayed.push_back({where, value, current->block});
}
inline uint64_t load_word(const uint64_t* where) {
  Hidden own;
  maybe_yield(8);
  settle(where, current->block);
  return __atomic_load_n(where, __ATOMIC_RELAXED);
}

inline void spin(Place place) {
  Hidden own;
  Machine& m = *machine;
  Thread* me = current;
  const dim3 grid = m.job.grid;
  if (!m.job.cooperative && grid.x * grid.y * grid.z > m.job.cluster)
    fail("waits for other blocks, which run at the same time only in a cooperative launch", place);
  if (++m.spins > 10000 + 500 * m.alive)
    fail("spins, and no other thread makes progress: a word that nobody publishes?", place);
  me->waits = "a wait loop", me->place = place;
  if (m.schedule.chance(32)) land(m);
  if (m.schedule.chance(4))
    make_ready(me);
  else
    m.schedule.idle(me);
  run_next();
}

inline Tally& tally_at(Block& block, const void* where, Place place) {
  Tally* tally = find_tally(block, where);
  if (!tally) fail("a counter that its block has not made", place);
  return *tally;
}
inline void make_counter(const void* where, Place place) {
  Hidden own;
  Block& block = *current->block;
  cluster_map(where, block.rank, place);  // for its checks
  if (find_tally(block, where)) fail("a counter made twice", place);
  block.tallies.emplace_back();
  block.tallies.back().where = where;
}
inline void expect_bytes(const void* where, uint32_t bytes, Place place) {
  Hidden own;
  Tally& tally = tally_at(*current->block, where, place);
  if (tally.expecting) fail("a counter told twice in a phase what to expect", place);
  tally.expecting = true;
  count(tally, -int64_t(bytes));
}
inline void wait_bytes(const void* where, uint32_t parity, Place place) {
  Hidden own;
  Tally& tally = tally_at(*current->block, where, place);
  if (machine->schedule.chance(2)) land(*machine);
  while ((tally.barrier.phase & 1) == parity) wait(tally.barrier, "wait_bytes", place);
  acquire(&tally.barrier.order[parity]);
}

template <class T>
void store_async(T* p, T value, const void* counter, unsigned rank, Place place) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "store_async moves one or two words");
  T* to = static_cast<T*>(cluster_map(p, rank, place));
  if (kThreadSanitizer) *to = value;  // where it sees it
  Hidden own;
  Machine& m = *machine;
  Block& peer = current->block[int(rank) - int(current->block->rank)];
  const void* there = cluster_map(counter, rank, place);
  Tally& tally = tally_at(peer, there, place);
  release(&tally.barrier.order[tally.barrier.phase & 1]);
  if (kThreadSanitizer) return count(tally, sizeof(T));
  Flying store = {&peer, to, there, {}, sizeof(T)};
  std::memcpy(store.bytes, &value, sizeof(T));
  m.flying.push_back(store);
  if (m.flying.size() > 16 || !m.schedule.chance(2)) land(m);
  maybe_yield(8);
}

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
