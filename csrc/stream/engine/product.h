// Products of float32 rows with a matrix in panels: as cpu/gemm/gemm.h has them, but that the
// matrix may be kept in bfloat16, whose halves of a lane are widened before they are multiplied.
#pragma once
#include "cpu/gemm/pack.h"
#include "cpu/threads/workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace stream {

using N = Vec<float>::N;
constexpr int W = Vec<float>::W;

// Rows of a tile that fit the register file beside four registers of a panel.
template <class T>
constexpr int kTileRows = kRegisters == 32         ? 6
                          : Storage<T>::kPair == 1 ? 3
                                                   : 2;

// Where a tile reads and writes: `rows` lie ld apart, panel rows panel_ld, and neighbouring panels
// panel_step; out rows out_ld.
struct Tile {
  const float* rows;
  int64_t ld, K;
  const float* panel;
  int64_t panel_ld, panel_step;
  const float* init;  // [columns] or null
  float* out;
  int64_t out_ld;
  bool add;  // to what is in out
};

template <class T, int kPass, int MR, int NV, int C>
FASTRNN_INLINE void multiply_add(N (&acc)[MR][C], const float* rows, int64_t ld, const float* panel,
                                 int64_t panel_step) {
  N w[C];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
    const float* from = panel + (c / NV) * panel_step + (c % NV) * W;
    if constexpr (Storage<T>::kPair == 1) {
      w[c] = Vec<float>::load(from).v;
    } else {
      w[c] = Product<T>::template part<kPass>(Vec<float>::load(from).v);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) {
    const N a = Vec<float>(rows[r * ld]).v;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[r][c] = fused<float>(a, w[c], acc[r][c]);
  }
}

// out[r] (+)= init + rows[r] . panel, NP neighbouring panels of NV registers at once. Sums in the
// order of k, so that a row's result hangs on no other row; cut as in cpu/gemm/gemm.h.
template <class T, int MR, int NV, int NP>
void tile(const Tile& t) {
  constexpr int C = NV * NP, kPair = Storage<T>::kPair;
  const int64_t ld = t.ld, panel_ld = t.panel_ld, panel_step = t.panel_step;
  for (int64_t k0 = 0; k0 == 0 || k0 < t.K; k0 += kBlockK) {
    const int64_t count = t.K - k0 < kBlockK ? t.K - k0 : kBlockK;
    const float *rows = t.rows + k0, *panel = t.panel + k0 / kPair * panel_ld;
    N acc[MR][C];
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        acc[r][c] = t.init && k0 == 0 ? Vec<float>::load(t.init + c * W).v : N{};
      }
    for (int64_t k = 0; k + kPair <= count; k += kPair) {
      multiply_add<T, 0, MR, NV>(acc, rows + k, ld, panel, panel_step);
      if constexpr (kPair == 2)
        multiply_add<T, 1, MR, NV>(acc, rows + k + 1, ld, panel, panel_step);
      panel += panel_ld;
    }
    if (count % kPair) multiply_add<T, 0, MR, NV>(acc, rows + count - 1, ld, panel, panel_step);
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        float* to = t.out + r * t.out_ld + c * W;
        if (t.add || k0 > 0) acc[r][c] += Vec<float>::load(to).v;
        Vec<float>(acc[r][c]).store(to);
      }
  }
}

template <class T>
constexpr int fitting_rows(int rows) {
  return rows <= kTileRows<T> ? rows : 1;
}
// The same for any number of rows of one panel.
template <class T, int NV>
void panel_rows(Tile t, int64_t count) {
  using Tiles = void (*)(const Tile&);
  static constexpr Tiles kTiles[] = {
      tile<T, 1, NV, 1>,
      tile<T, 2, NV, 1>,
      tile<T, fitting_rows<T>(3), NV, 1>,
      tile<T, fitting_rows<T>(4), NV, 1>,
      tile<T, fitting_rows<T>(5), NV, 1>,
      tile<T, fitting_rows<T>(6), NV, 1>,
  };
  const int64_t tiles = (count + kTileRows<T> - 1) / kTileRows<T>;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t r = count * i / tiles, some = count * (i + 1) / tiles - r;
    Tile part = t;
    part.rows += r * t.ld, part.out += r * t.out_ld;
    kTiles[some - 1](part);
  }
}
template <class T>
void panel_rows(int nv, const Tile& t, int64_t count) {
  switch (nv) {
    case 1:
      return panel_rows<T, 1>(t, count);
    case 2:
      return panel_rows<T, 2>(t, count);
    case 3:
      return panel_rows<T, 3>(t, count);
    default:
      return panel_rows<T, 4>(t, count);
  }
}

// Rows that lie ld apart.
struct FloatRows {
  const float* first;
  int64_t ld;
  FASTRNN_INLINE FloatRows operator+(int64_t rows) const { return {first + rows * ld, ld}; }
};

// A matrix [G*H, K] in the panels of its units, each with all gates: at most kMaxVectors registers.
// kVectors: how wide all panels are but the last.
template <class T, int kVectors>
class Matrix {
 public:
  using Units = Panels<float>;
  using Rows = FloatRows;
  static constexpr bool kAdds = true;  // sums to others

  Matrix(Arena& arena, const Panels<float>& panels, int64_t K)
      : panels_(panels), K_(K), packed_(arena.take<float>(lanes<T>(K) * panels.width())) {}

  void pack(const float* weight) {
    for (int64_t p = 0; p < panels_.count(); ++p) {
      const int nu = panels_.registers(p), nv = panels_.vectors(p);
      for (int c = 0; c < nv; ++c) {
        const int64_t unit = panels_.unit(p) + c % nu * W, left = panels_.H - unit;
        const float* from = weight + (panels_.gate_row(c / nu) + unit) * K_;
        for (int64_t k = 0; k < K_; k += kPair) {
          T low[W], high[W];
          column(from + k, left, low);
          column(from + k + kPair - 1, k + kPair <= K_ ? left : 0, high);
          interleave(low, high, W).store(panel(p) + (k / kPair * nv + c) * W);
        }
      }
    }
  }

  static Rows take_rows(Arena&, int64_t, int64_t) { return {}; }
  // Rows as multiply() takes them; room is for those that become something else.
  FASTRNN_INLINE Rows rows(const float* from, int64_t ld, int64_t, Rows) const {
    return {from, ld};
  }

  // out[r] [width] (+)= init + rows[r] . matrix^T for `count` rows; out's rows are the panels'
  // width apart. init [width] or null.
  void multiply(const Rows& rows, int64_t count, const float* init, float* out, bool add) const {
    if (count == 1) return multiply_row(rows.first, init, out, add);
    for (int64_t p = 0; p < panels_.count(); ++p) {
      const int64_t column = panels_.column(p);
      const float* from = init ? init + column : nullptr;
      multiply(p, rows, count, from, out + column, panels_.width(), add);
    }
  }

  // The same for the columns of panel p; out's rows lie out_ld apart.
  FASTRNN_INLINE void multiply(int64_t p, const Rows& rows, int64_t count, const float* init,
                               float* out, int64_t out_ld, bool add) const {
    const int nv = panels_.vectors(p);
    panel_rows<T>(nv, {rows.first, rows.ld, K_, panel(p), nv * W, 0, init, out, out_ld, add},
                  count);
  }

 private:
  static constexpr int kPair = Storage<T>::kPair;

  // Two panels at a time: one has too few sums to hide the FMA's latency.
  void multiply_row(const float* row, const float* init, float* out, bool add) const {
    constexpr int C = kVectors * W;
    const int64_t panels = panels_.count();
    const bool narrow = panels_.vectors(panels - 1) < kVectors;
    const int64_t wide = panels - narrow, step = lanes<T>(K_) * C;
    int64_t p = 0;
    Tile t{row, 0, K_, packed_, C, step, init, out, 0, add};
    for (; p + 2 <= wide; p += 2) {
      tile<T, 1, kVectors, 2>(t);
      t.panel += 2 * step, t.out += 2 * C;
      if (init) t.init += 2 * C;
    }
    for (; p < panels; ++p) {
      multiply(p, {row, 0}, 1, init ? init + p * C : nullptr, out + p * C, 0, add);
    }
  }

  // One number of each of W neighbouring rows, of which `left` are there; zeros for the others.
  FASTRNN_INLINE void column(const float* from, int64_t left, T* to) const {
    float numbers[W] = {};
    for (int64_t i = 0; i < W && i < left; ++i) numbers[i] = from[i * K_];
    write(Vec<float>::load(numbers), to, W);
  }

  FASTRNN_INLINE float* panel(int64_t p) const {
    return packed_ + lanes<T>(K_) * panels_.column(p);
  }

  const Panels<float> panels_;
  const int64_t K_;
  float* packed_;
};

}  // namespace stream
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
