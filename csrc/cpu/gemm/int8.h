// Products of int8 rows with a panel of int8 weights (cpu/int8_layout.h), as float32:
// out = sum * (scale of the row * scale of the column) + bias.
#pragma once
#include "cpu/int8_layout.h"
#include "int8_dot.h"
#include "int8_rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Some columns of a panel, with a scale and a bias each.
struct Int8Columns {
  const int8_t* weights;  // a quad of K lies `stride` bytes behind the one before
  int64_t stride, quads;
  const float *scale, *bias;

  FASTRNN_INLINE Int8Columns from(int64_t column) const {
    return {weights + column * kInt8Quad, stride, quads, scale + column, bias + column};
  }
};

// NR rows times NC registers of columns, the quads of K shared by NS sums.
template <int NR, int NC, int NS>
FASTRNN_INLINE void int8_tile(const Int8Rows& x, const Int8Columns& w, float* out, int64_t ld) {
  using V = Vec<float>;
  using Dot = Int8Dot;
  typename Dot::Sums sums[NS][NR][NC];
  for (auto& part : sums)
    for (auto& row : part)
      for (auto& sum : row) sum = Dot::zero();
  const auto step = [&](int64_t k, auto& into) __attribute__((always_inline)) {
    typename Dot::Row rows[NR];
#pragma GCC unroll 8
    for (int r = 0; r < NR; ++r) rows[r] = Dot::row(x.q + r * x.ld + k * kInt8Quad);
    const int8_t* from = w.weights + k * w.stride;
#pragma GCC unroll 8
    for (int c = 0; c < NC; ++c) {
      const typename Dot::Weights column = Dot::load(from + c * kVectorBytes);
#pragma GCC unroll 8
      for (int r = 0; r < NR; ++r) Dot::add(into[r][c], column, rows[r]);
    }
  };
  int64_t k = 0;
  for (; k + NS <= w.quads; k += NS) {
#pragma GCC unroll 4
    for (int s = 0; s < NS; ++s) step(k + s, sums[s]);
  }
  if (NS > 1) {
    for (; k < w.quads; ++k) step(k, sums[0]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < NR; ++r) {
    const V scale(x.scale[r]);
#pragma GCC unroll 8
    for (int c = 0; c < NC; ++c) {
      typename Dot::Sums sum = sums[0][r][c];
#pragma GCC unroll 4
      for (int s = 1; s < NS; ++s) sum += sums[s][r][c];
      sum = Dot::sums(sum, x.sum[r]);
      const V column = V::load(w.scale + c * V::W) * scale;
      const V bias = V::load(w.bias + c * V::W);
      V(fused<float>(__builtin_convertvector(sum, V::N), column.v, bias.v))
          .store(out + r * ld + c * V::W);
    }
  }
}

template <int NR, int NC>
[[gnu::noinline]] void int8_tile_of(const Int8Rows& x, const Int8Columns& w, float* out,
                                    int64_t ld) {
  constexpr int kSums = NR * NC * 4 <= kRegisters ? 2 : 1;  // where they would wait for each other
  int8_tile<NR, NC, kSums>(x, w, out, ld);
}

// `count` rows times NC registers of columns, tiles of nearly equal heights one after the other.
template <int NC, int NR>
FASTRNN_INLINE void int8_tiles(int rows, const Int8Rows& x, const Int8Columns& w, float* out,
                               int64_t ld) {
  if constexpr (NR > 1) {
    if (rows < NR) return int8_tiles<NC, NR - 1>(rows, x, w, out, ld);
  }
  int8_tile_of<NR, NC>(x, w, out, ld);
}
template <int NC>
void int8_columns_of(const Int8Rows& x, int64_t count, const Int8Columns& w, float* out,
                     int64_t ld) {
  constexpr int kRows = NC <= Int8Dot::kColumns ? Int8Dot::kRows : 1;
  const int64_t tiles = (count + kRows - 1) / kRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = count * i / tiles, end = count * (i + 1) / tiles;
    int8_tiles<NC, kRows>(int(end - first), x + first, w, out + first * ld, ld);
  }
}

template <int NC>
FASTRNN_INLINE void int8_width(int left, const Int8Rows& x, int64_t count, const Int8Columns& w,
                               float* out, int64_t ld) {
  if constexpr (NC > 1) {
    if (left < NC) return int8_width<NC - 1>(left, x, count, w, out, ld);
  }
  int8_columns_of<NC>(x, count, w, out, ld);
}

// `count` rows times all nv registers of a panel's columns; rows of out lie ld apart.
inline void int8_panel(int nv, const Int8Rows& x, int64_t count, const Int8Columns& w, float* out,
                       int64_t ld) {
  const int most = count == 1 ? Int8Dot::kRowColumns : Int8Dot::kColumns;
  for (int c = 0; c < nv; c += most) {
    const int left = nv - c < most ? nv - c : most;
    const int64_t column = int64_t(c) * Vec<float>::W;
    int8_width<Int8Dot::kRowColumns>(left, x, count, w.from(column), out + column, ld);
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
