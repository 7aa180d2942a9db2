// How the values that a step publishes reach all blocks that multiply with them next. Every block
// keeps the whole operand of its batch rows [rows][operand_row bytes] in shared memory.
//   publish(tick, ..)  by the thread that made the values
//   wait(tick)         by all threads: afterwards operand(tick) holds what was published as tick
// Ticks count up by one; tick t + 1 is published only by those who have waited for tick t.
#pragma once
#include "cuda/plan.h"
#include "step.cuh"

namespace fastrnn {
namespace cuda {

// Two values that lie side by side in an operand.
template <class T>
struct alignas(4) Pair {
  static constexpr int kWords = 1;
  uint32_t word[kWords];
  FASTRNN_DEVICE static Pair of(float lo, float hi, bool) { return {{pack2<T>(lo, hi)}}; }
};
template <>
struct alignas(8) Pair<float> {
  static constexpr int kWords = 2;
  uint32_t word[kWords];
  FASTRNN_DEVICE static Pair of(float lo, float hi, bool tf32) {
    return {{tf32 ? to_tf32(lo) : float_bits(lo), tf32 ? to_tf32(hi) : float_bits(hi)}};
  }
};

// One block owns all units: its own shared memory and a block barrier.
template <class T>
struct BlockExchange {
  unsigned char* slots;
  const Plan& plan;

  FASTRNN_DEVICE BlockExchange(const Plan& p, unsigned char* shared, void*, int, int)
      : slots(shared + kHeader), plan(p) {}
  FASTRNN_DEVICE unsigned char* operand(uint32_t tick) const {
    return slots + (tick & 1) * operand_bytes(plan);
  }
  FASTRNN_DEVICE void start() { __syncthreads(); }
  FASTRNN_DEVICE void publish(uint32_t tick, int row, int part, int unit, Pair<T> values) {
    *at(tick, row, part, unit) = values;
  }
  FASTRNN_DEVICE void wait(uint32_t, int) { __syncthreads(); }
  FASTRNN_DEVICE Pair<T>* at(uint32_t tick, int row, int part, int unit) const {
    const int column = part * plan.padded + unit;
    return reinterpret_cast<Pair<T>*>(operand(tick) + row * plan.operand_row + column * sizeof(T));
  }
};

// A cluster owns all units: values are sent into the shared memory of each of its blocks, which
// count the bytes that have come. A cluster barrier would do too, but its release waits for all
// that the block has written to device memory.
template <class T>
struct ClusterExchange : BlockExchange<T> {
  using Block = BlockExchange<T>;
  Counter* counters;  // [2 slots]
  uint32_t row_bytes;

  FASTRNN_DEVICE ClusterExchange(const Plan& p, unsigned char* shared, void* workspace, int group,
                                 int parts)
      : Block(p, shared, workspace, group, parts),
        counters(reinterpret_cast<Counter*>(shared)),
        row_bytes(parts * p.padded * sizeof(T)) {}

  // All blocks run, have cleared their operands and can count.
  FASTRNN_DEVICE void start() {
    if (threadIdx.x == 0) make_counter(counters), make_counter(counters + 1);
    cluster_arrive();
    cluster_wait();
  }
  FASTRNN_DEVICE void publish(uint32_t tick, int row, int part, int unit, Pair<T> values) {
    Pair<T>* mine = Block::at(tick, row, part, unit);
    for (unsigned rank = 0; rank < cluster_size(); ++rank) {
      store_async(mine, values, counters + (tick & 1), rank);
    }
  }
  FASTRNN_DEVICE void wait(uint32_t tick, int rows) {
    Counter* counter = counters + (tick & 1);
    if (threadIdx.x == 0) expect_bytes(counter, rows * row_bytes);
    wait_bytes(counter, tick >> 1 & 1);
  }
};

// Blocks anywhere on the device, all running at once: values go through the L2 cache, each 32-bit
// word beside the tick it belongs to, so that a reader needs no barrier: it reads until the tick is
// right. Two slots suffice: who publishes tick t + 2 has seen all of tick t + 1, whose publishers
// had read all of tick t.
template <class T>
struct GridExchange : BlockExchange<T> {
  using Block = BlockExchange<T>;
  static constexpr int kWords = Pair<T>::kWords;
  uint64_t* words;  // [2 slots][rows][row_words], of this group
  int row_words;

  FASTRNN_DEVICE GridExchange(const Plan& p, unsigned char* shared, void* workspace, int group,
                              int parts)
      : Block(p, shared, workspace, group, parts), row_words(parts * p.padded / 2 * kWords) {
    words = static_cast<uint64_t*>(workspace) + int64_t(group) * 2 * p.rows * row_words;
  }
  FASTRNN_DEVICE unsigned char* operand(uint32_t) const { return Block::slots; }
  FASTRNN_DEVICE void publish(uint32_t tick, int row, int part, int unit, Pair<T> values) {
    uint64_t* to = slot(tick, row) + (part * Block::plan.padded + unit) / 2 * kWords;
    const uint64_t tag = uint64_t(tick + 1) << 32;
    if constexpr (kWords == 1) {
      store_word(to, tag | values.word[0]);
    } else {
      store_words(to, {tag | values.word[0], tag | values.word[1]});
    }
  }

  // Copies the tick's words of the first `rows` rows to the operand as they arrive: a warp a row,
  // or 2, 4, 8 where that many warps are there.
  FASTRNN_DEVICE void wait(uint32_t tick, int rows) {
    const int warps = int(blockDim.x) / 32, thread = int(threadIdx.x);
    int log = 0;  // of the warps of a row
    while (rows << (log + 1) <= warps) ++log;
    const int threads = 32 << log;  // of a row
    for (int row = thread >> (5 + log); row < rows; row += warps >> log) {
      unsigned char* to = Block::slots + row * Block::plan.operand_row;
      copy_row(slot(tick, row), reinterpret_cast<uint2*>(to), tick + 1, thread & (threads - 1),
               threads);
    }
    __syncthreads();
  }

 private:
  FASTRNN_DEVICE uint64_t* slot(uint32_t tick, int row) const {
    return words + (int64_t(tick & 1) * Block::plan.rows + row) * row_words;
  }
  // The part of thread `thread` of `threads`.
  FASTRNN_DEVICE void copy_row(const uint64_t* from, uint2* to, uint32_t tag, int thread,
                               int threads) const {
    constexpr int kAhead = 6;  // loads in flight
    const int pairs = row_words / 2;
    for (int first = thread; first < pairs; first += kAhead * threads) {
      Words2 found[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int pair = first + i * threads;
        if (pair < pairs) found[i] = load_words(from + 2 * pair);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int pair = first + i * threads;
        if (pair >= pairs) break;
        while (uint32_t(found[i].a >> 32) != tag || uint32_t(found[i].b >> 32) != tag) {
          spin_pause();
          found[i] = load_words(from + 2 * pair);
        }
        to[pair] = {uint32_t(found[i].a), uint32_t(found[i].b)};
      }
    }
  }
};

}  // namespace cuda
}  // namespace fastrnn
