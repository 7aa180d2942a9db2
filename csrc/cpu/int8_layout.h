// How a weight matrix [slots*H, K] lies in memory in int8: the same on all machines, and what a
// file of such weights holds. Four neighbours along K of each of 16 units are 64 bytes, what
// vpdpbusd takes at once. A panel has some units of all slots: [K/4][slots][units/16][16][4]. Units
// past H and numbers past K are zeros.
#pragma once
#include <cstdint>

namespace fastrnn {

constexpr int kInt8Units = 16, kInt8Quad = 4;
constexpr int kBf16Pair = 2;  // bfloat16 weights lie likewise, two neighbours of K in 32 bits

constexpr int64_t int8_quads(int64_t K) { return (K + kInt8Quad - 1) / kInt8Quad; }
// Columns that H units of some slots take: a scale and a bias each, in the panels' order.
constexpr int64_t int8_columns(int64_t slots, int64_t H) {
  return slots * ((H + kInt8Units - 1) / kInt8Units) * kInt8Units;
}
constexpr int64_t int8_bytes(int64_t slots, int64_t H, int64_t K) {
  return int8_columns(slots, H) * int8_quads(K) * kInt8Quad;
}
constexpr int64_t bf16_numbers(int64_t slots, int64_t H, int64_t K) {
  return int8_columns(slots, H) * ((K + kBf16Pair - 1) / kBf16Pair) * kBf16Pair;
}
// From K numbers on an exact sum would not fit into an int32.
constexpr int64_t kInt8Depth = 130000;

}  // namespace fastrnn
