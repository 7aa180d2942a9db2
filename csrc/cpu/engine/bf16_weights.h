// Weights in bfloat16, widened when they are read, of float32 rows and sums.
#pragma once
#include "cpu/gemm/bf16.h"
#include "packed_weights.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct WeightsInBf16 {
  using Number = uint16_t;
  using Rows = const float* const*;
  struct Scratch {};
  static constexpr int kLane = kBf16Pair;
  static constexpr int kVectors = 1;  // a bias

  static Scratch take_scratch(Arena&, const ScanParams&, int64_t, int64_t) { return {}; }
  static Rows rows(Rows x, int64_t, int64_t, Scratch) { return x; }
  static void multiply(int nv, const uint16_t* panel, int64_t K, const float* bias, int64_t, Rows x,
                       int64_t count, float* out, int64_t ld) {
    const int64_t stride = int64_t(nv) * Vec<float>::W * kBf16Pair;
    bf16_panel(nv, x, count, {panel, stride, K, bias}, out, ld);
  }
};
using Bf16Weights = PackedWeights<WeightsInBf16>;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
