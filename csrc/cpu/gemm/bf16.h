// Products of float32 rows with a panel of bfloat16 weights (cpu/int8_layout.h), which are widened
// as they are read: out = sum + bias, every sum in the order of k.
#pragma once
#include "cpu/int8_layout.h"
#include "cpu/simd/simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Some columns of a panel, with a bias each.
struct Bf16Columns {
  const uint16_t* weights;  // a pair of K lies `stride` numbers behind the one before
  int64_t stride, K;
  const float* bias;

  FASTRNN_INLINE Bf16Columns from(int64_t column) const {
    return {weights + kBf16Pair * column, stride, K, bias + column};
  }
};

constexpr int kBf16Rows = kRegisters >= 32 ? 6 : 3, kBf16Columns = 4;
constexpr int kBf16RowColumns = kRegisters >= 32 ? 4 : 8;  // of a tile of one row

// NR rows times NC registers of columns.
template <int NR, int NC>
[[gnu::noinline]] void bf16_tile(const float* const* x, const Bf16Columns& w, float* out,
                                 int64_t ld) {
  using V = Vec<float>;
  typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
  V::N sums[NR][NC];
  for (auto& row : sums) {
    for (int c = 0; c < NC; ++c) row[c] = V::load(w.bias + c * V::W).v;
  }
  const auto add = [&](int64_t k, auto part) __attribute__((always_inline)) {
    V::N rows[NR];
#pragma GCC unroll 8
    for (int r = 0; r < NR; ++r) rows[r] = V(x[r][k]).v;
    const uint16_t* from = w.weights + k / kBf16Pair * w.stride;
#pragma GCC unroll 8
    for (int c = 0; c < NC; ++c) {
      Words pairs;
      memcpy(&pairs, from + c * V::W * kBf16Pair, sizeof pairs);
      const V::N column = V::N(part(pairs));
#pragma GCC unroll 8
      for (int r = 0; r < NR; ++r) sums[r][c] = fused<float>(column, rows[r], sums[r][c]);
    }
  };
  const auto low = [](Words pairs) __attribute__((always_inline)) { return pairs << 16; };
  const auto high = [](Words pairs) __attribute__((always_inline)) { return pairs & 0xffff0000u; };
  int64_t k = 0;
  for (; k + 2 <= w.K; k += 2) {
    add(k, low);
    add(k + 1, high);
  }
  if (k < w.K) add(k, low);
#pragma GCC unroll 8
  for (int r = 0; r < NR; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < NC; ++c) V(sums[r][c]).store(out + r * ld + c * V::W);
  }
}

template <int NC, int NR>
FASTRNN_INLINE void bf16_tiles(int rows, const float* const* x, const Bf16Columns& w, float* out,
                               int64_t ld) {
  if constexpr (NR > 1) {
    if (rows < NR) return bf16_tiles<NC, NR - 1>(rows, x, w, out, ld);
  }
  bf16_tile<NR, NC>(x, w, out, ld);
}

// `count` rows times `left` <= NC registers of columns, in tiles of nearly equal heights.
template <int NC>
FASTRNN_INLINE void bf16_width(int left, const float* const* x, int64_t count, const Bf16Columns& w,
                               float* out, int64_t ld) {
  if constexpr (NC > 1) {
    if (left < NC) return bf16_width<NC - 1>(left, x, count, w, out, ld);
  }
  constexpr int kRows = NC <= kBf16Columns ? kBf16Rows : 1;
  const int64_t tiles = (count + kRows - 1) / kRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = count * i / tiles, end = count * (i + 1) / tiles;
    bf16_tiles<NC, kRows>(int(end - first), x + first, w, out + first * ld, ld);
  }
}

// `count` rows times all nv registers of a panel's columns; rows of out lie ld apart.
inline void bf16_panel(int nv, const float* const* x, int64_t count, const Bf16Columns& w,
                       float* out, int64_t ld) {
  const int most = count == 1 ? kBf16RowColumns : kBf16Columns;
  for (int c = 0; c < nv; c += most) {
    const int left = nv - c < most ? nv - c : most;
    const int64_t column = int64_t(c) * Vec<float>::W;
    bf16_width<kBf16RowColumns>(left, x, count, w.from(column), out + column, ld);
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
