// The names of device.cuh, in the simulator.
#pragma once
#include "names.h"

namespace fastrnn {
namespace cuda {

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(sim::current->block->shared);
}

inline unsigned cluster_rank() { return sim::current->block->rank; }
inline unsigned cluster_size() { return sim::machine->job.cluster; }
template <class T>
T* cluster_map(T* p, unsigned rank, sim::Place here = sim::Place::here()) {
  return static_cast<T*>(sim::cluster_map(p, rank, here));
}
inline void cluster_arrive(sim::Place here = sim::Place::here()) { sim::cluster_arrive(here); }
inline void cluster_wait(sim::Place here = sim::Place::here()) { sim::cluster_wait(here); }

inline void make_counter(Counter* counter, sim::Place here = sim::Place::here()) {
  sim::make_counter(counter, here);
}
inline void expect_bytes(Counter* counter, uint32_t bytes, sim::Place here = sim::Place::here()) {
  sim::expect_bytes(counter, bytes, here);
}
inline void wait_bytes(Counter* counter, uint32_t parity, sim::Place here = sim::Place::here()) {
  sim::wait_bytes(counter, parity, here);
}
template <class T>
void store_async(T* p, T value, Counter* counter, unsigned rank,
                 sim::Place here = sim::Place::here()) {
  sim::store_async(p, value, counter, rank, here);
}

inline Words2 load_words(const uint64_t* p, sim::Place here = sim::Place::here()) {
  sim::check_aligned(p, here);
  const uint64_t a = sim::load_word(p);
  return {a, sim::load_word(p + 1)};
}
inline void store_words(uint64_t* p, Words2 w, sim::Place here = sim::Place::here()) {
  sim::check_aligned(p, here);
  sim::store_word(p, w.a);
  sim::store_word(p + 1, w.b);
}
inline void store_word(uint64_t* p, uint64_t word) { sim::store_word(p, word); }
inline void spin_pause(sim::Place here = sim::Place::here()) { sim::spin(here); }

inline uint32_t float_bits(float x) { return sim::float_bits(x); }
inline float bits_float(uint32_t bits) { return sim::bits_float(bits); }
inline float to_float(Bf16 x) { return sim::bf16_float(x.bits); }
inline float to_float(Half x) { return sim::half_float(x.bits); }
template <>
struct Pack<Bf16> {
  static Bf16 one(float x) { return {sim::bf16_bits(x)}; }
  static uint32_t two(float lo, float hi) {
    return sim::bf16_bits(lo) | uint32_t(sim::bf16_bits(hi)) << 16;
  }
};
template <>
struct Pack<Half> {
  static Half one(float x) { return {sim::half_bits(x)}; }
  static uint32_t two(float lo, float hi) {
    return sim::half_bits(lo) | uint32_t(sim::half_bits(hi)) << 16;
  }
};
inline uint32_t to_tf32(float x) { return sim::tf32_bits(x); }

template <class T>
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], T type,
         sim::Place here = sim::Place::here()) {
  sim::mma(c, a, b, type, here);
}

inline float fast_exp(float x) { return std::exp(x); }
inline float fast_divide(float x, float y) { return x / y; }

}  // namespace cuda
}  // namespace fastrnn
