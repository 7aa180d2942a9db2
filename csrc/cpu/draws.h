// Masks drawn from a counter instead of read: fastrnn/drawn.py says of what, and has the same in
// torch. Inlined everywhere, as files are compiled for several instruction sets.
#pragma once
#include <cstdint>
#include <cstring>

#include "cells/counts.h"

namespace fastrnn {

constexpr int kMaxDrawn = kMaxStates + 1;
struct DrawnMask {
  uint32_t bound;       // of 16 bits
  double below, other;  // the mask's number where they are below the bound, and where not
  bool each_step;       // else the same in every step
};
// The extra slots of one direction.
struct Draws {
  uint32_t seed[2];
  DrawnMask mask[kMaxDrawn];
  const uint32_t* rows;  // [B]: the number that a batch row counts with; null: its place
};
constexpr uint64_t kEveryStep = ~uint64_t(0);  // time of masks that are the same in every step

// Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011).
__attribute__((always_inline)) inline void draw_key(const Draws& draws, uint64_t time, uint32_t row,
                                                    uint32_t word, uint32_t* key) {
  uint32_t a = uint32_t(time), b = row, c = word, d = uint32_t(time >> 32);
  uint32_t k = draws.seed[0], m = draws.seed[1];
  for (int i = 0; i < 10; ++i, k += 0x9E3779B9u, m += 0xBB67AE85u) {
    const uint64_t left = uint64_t(0xD2511F53u) * a, right = uint64_t(0xCD9E8D57u) * c;
    a = uint32_t(right >> 32) ^ b ^ k, b = uint32_t(right);
    c = uint32_t(left >> 32) ^ d ^ m, d = uint32_t(left);
  }
  key[0] = a, key[1] = b;
}

// triple32 (Wellons, github.com/skeeto/hash-prospector) of unit + key[0], with key[1] between its
// first two rounds: of one unit, or of a vector of them.
template <class U>
__attribute__((always_inline)) inline U draw_word(U unit, const uint32_t* key) {
  U x = unit + key[0];
  x = ((x ^ (x >> 17)) * 0xed5ad4bbu) ^ key[1];
  x = (x ^ (x >> 11)) * 0xac4c1b51u;
  x = (x ^ (x >> 15)) * 0x31848babu;
  return x ^ (x >> 14);
}

}  // namespace fastrnn
