// Weights in int8 with a scale for each column. What is multiplied by them becomes int8 first, a
// row at a time.
#pragma once
#include "cpu/gemm/int8.h"
#include "packed_weights.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct Int8 {
  using Number = int8_t;
  using Rows = Int8Rows;
  using Scratch = Int8Rows;
  static constexpr int kLane = kInt8Quad;
  static constexpr int kVectors = 2;  // a scale and a bias

  static Scratch take_scratch(Arena& arena, const ScanParams& s, int64_t block, int64_t most) {
    const int64_t input = block * Int8Rows::stride(s.I), hidden = most * Int8Rows::stride(s.P);
    const int64_t rows = block > most ? block : most;
    Scratch w{};
    w.q = arena.take<int8_t>(input > hidden ? input : hidden);
    w.scale = arena.take<float>(rows);
    w.sum = arena.take<int32_t>(rows);
    return w;
  }
  static Rows rows(const float* const* rows, int64_t count, int64_t K, Scratch w) {
    w.ld = Int8Rows::stride(K);
    for (int64_t r = 0; r < count; ++r) quantize_row(rows[r], K, w + r);
    return w;
  }
  static void multiply(int nv, const int8_t* panel, int64_t K, const float* scale, int64_t width,
                       const Rows& x, int64_t count, float* out, int64_t ld) {
    const int64_t stride = int64_t(nv) * kVectorBytes;
    int8_panel(nv, x, count, {panel, stride, int8_quads(K), scale, scale + width}, out, ld);
  }
};
using Int8Weights = PackedWeights<Int8>;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
