// Matrix products on packed panels, the only hot loops besides the cells.
//
// A panel holds NV registers of columns for every k: [K][NV*W], so that one k step is NV loads and,
// for each row, one broadcast and NV FMAs. A tile of MR rows by NV registers stays in registers for
// all of K. Every tile adds in the order of k, so a row's result does not depend on its neighbours.
// Where two numbers share a lane (number.h), a step takes two k: panels are [lanes(K)][NV*W].
#pragma once
#include "cpu/simd/number.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr int kMaxVectors = 4;  // registers a panel is wide; more only for cells of more gates
// Rows of a tile that fit the register file beside NV panel registers, a broadcast and, for halves
// of lanes, a mask.
template <class T>
constexpr int max_rows(int nv) {
  if (kRegisters == 32) return nv == 4 ? 6 : 8;
  if (Product<T>::kPasses == 2) return nv == 4 ? 2 : nv == 3 ? 3 : nv == 2 ? 5 : 8;
  return nv == 4 ? 3 : nv == 3 ? 4 : nv == 2 ? 6 : 8;
}
constexpr int kGroupRows = 48;  // rows whose tiles share one pass over a panel
// k steps summed before they are added to the rest: the rounding error of a long sum stays that of
// a short one, and a panel's steps stay in L1 or L2 between tiles.
constexpr int64_t kBlockK = 256;

// A's rows by pointer: rows of a scan lie where time, ragged lengths and resets put them.
template <class T, int MR>
struct RowPointers {
  const T* p[MR];
  FASTRNN_INLINE explicit RowPointers(const T* const* rows, int64_t k) {
    for (int r = 0; r < MR; ++r) p[r] = rows[r] + k;
  }
  FASTRNN_INLINE const T* at(int r, int64_t step) const { return p[r] + step * Storage<T>::kPair; }
};
// A^T as it lies, k outermost: the gate gradients of a weight gradient.
template <class T, int MR>
struct Transposed {
  const Lane<T>* p;
  int64_t stride;
  FASTRNN_INLINE const Lane<T>* at(int r, int64_t step) const { return p + step * stride + r; }
};

// acc[r][c] += one pass over the products of one step; columns of panel as in tile().
template <class T, int kPass, int MR, int NV, int C, class A>
FASTRNN_INLINE void multiply_add(typename Product<T>::N (&acc)[MR][C], const A& a, int64_t step,
                                 const Lane<T>* panel, int64_t panel_step) {
  using P = Product<T>;
  typename P::N w[C];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
    const Lane<T>* from = panel + (c / NV) * panel_step + (c % NV) * Vec<Lane<T>>::W;
    w[c] = P::template part<kPass>(Vec<Lane<T>>::load(from).v);
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) {
    const typename P::N b = P::template part<kPass>(P::broadcast(a.at(r, step)));
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) P::add(acc[r][c], b, w[c]);
  }
}

// out[r][0:NV*W] (+)= init + sum_k A[r][k] panel[k] over whole lanes of k; init [NV*W] or null;
// panel rows lie panel_ld apart. NP neighbouring panels lie panel_step apart: one row needs them to
// hide the FMA's latency.
template <class T, int MR, int NV, int NP, class A>
FASTRNN_INLINE void tile(const A& a, int64_t K, const Lane<T>* panel, int64_t panel_ld,
                         int64_t panel_step, const Sum<T>* init, Sum<T>* out, int64_t ld,
                         bool accumulate) {
  using V = Vec<Sum<T>>;
  constexpr int W = V::W, C = NV * NP;
  typename V::N acc[MR][C];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[r][c] = init ? V::load(init + c * W).v : typename V::N{};
  for (int64_t step = 0; step < K / Storage<T>::kPair; ++step) {
    const Lane<T>* at = panel + step * panel_ld;
    multiply_add<T, 0, MR, NV, C>(acc, a, step, at, panel_step);
    if constexpr (Product<T>::kPasses == 2) {
      multiply_add<T, 1, MR, NV, C>(acc, a, step, at, panel_step);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      Sum<T>* to = out + r * ld + c * W;
      if (accumulate) acc[r][c] += V::load(to).v;
      V(acc[r][c]).store(to);
    }
}

template <class T>
using TileRows = void (*)(const T* const* rows, int64_t k0, int64_t K, const Lane<T>* panel,
                          int64_t panel_ld, const Sum<T>* init, Sum<T>* out, int64_t ld,
                          bool accumulate);
template <class T, int MR, int NV>
void tile_rows(const T* const* rows, int64_t k0, int64_t K, const Lane<T>* panel, int64_t panel_ld,
               const Sum<T>* init, Sum<T>* out, int64_t ld, bool accumulate) {
  tile<T, MR, NV, 1>(RowPointers<T, MR>(rows, k0), K, panel, panel_ld, 0, init, out, ld,
                     accumulate);
}
// a and panel: [lanes(K)] rows, a's `stride` lanes apart.
template <class T, int MR, int NV>
void tile_transposed(const Lane<T>* a, int64_t stride, int64_t K, const Lane<T>* panel,
                     Sum<T>* out) {
  constexpr int P = Storage<T>::kPair, C = NV * Vec<Sum<T>>::W;
  K = lanes<T>(K) * P;
  for (int64_t k = 0; k == 0 || k < K; k += kBlockK) {
    const int64_t count = K - k < kBlockK ? K - k : kBlockK;
    tile<T, MR, NV, 1>(Transposed<T, MR>{a + k / P * stride, stride}, count, panel + k / P * C, C,
                       0, static_cast<const Sum<T>*>(nullptr), out, C, k > 0);
  }
}

// out[r][0:width] += the product of the last of K numbers where it has a lane of its own.
template <class T>
FASTRNN_INLINE void add_last(const T* const* rows, int64_t count, int64_t K, const Lane<T>* panel,
                             int64_t panel_ld, int64_t width, Sum<T>* out, int64_t ld) {
  if constexpr (Storage<T>::kPair == 2) {
    using V = Vec<Sum<T>>;
    if (K % 2 == 0) return;
    for (int64_t r = 0; r < count; ++r) {
      // in the low half, which the first pass takes
      const auto a = Product<T>::template part<0>(Product<T>::broadcast_last(rows[r] + K - 1));
      for (int64_t c = 0; c < width; c += V::W) {
        const auto w = V::load(panel + K / 2 * panel_ld + c).v;
        typename V::N sum = V::load(out + r * ld + c).v;
        Product<T>::add(sum, a, Product<T>::template part<0>(w));
        V(sum).store(out + r * ld + c);
      }
    }
  }
}

template <class T>
constexpr int fitting(int rows, int nv) {
  return rows <= max_rows<T>(nv) ? rows : 1;
}
template <class T, int NV>
FASTRNN_INLINE TileRows<T> pick_tile(int rows) {
  static constexpr TileRows<T> table[] = {
      tile_rows<T, 1, NV>,
      tile_rows<T, 2, NV>,
      tile_rows<T, fitting<T>(3, NV), NV>,
      tile_rows<T, fitting<T>(4, NV), NV>,
      tile_rows<T, fitting<T>(5, NV), NV>,
      tile_rows<T, fitting<T>(6, NV), NV>,
      tile_rows<T, fitting<T>(7, NV), NV>,
      tile_rows<T, fitting<T>(8, NV), NV>,
  };
  return table[rows - 1];
}

// One row against NP neighbouring panels of NV registers, panel_step apart; init and out [NP*NV*W].
template <class T, int NV, int NP>
void row_panels(const T* row, int64_t K, const Lane<T>* panel, int64_t panel_step,
                const Sum<T>* init, Sum<T>* out) {
  constexpr int C = NV * Vec<Sum<T>>::W;
  for (int64_t k = 0; k == 0 || k < K; k += kBlockK) {
    const int64_t kn = K - k < kBlockK ? K - k : kBlockK;
    tile<T, 1, NV, NP>(RowPointers<T, 1>(&row, k), kn, panel + k / Storage<T>::kPair * C, C,
                       panel_step, k == 0 ? init : nullptr, out, 0, k > 0);
  }
  for (int64_t p = 0; p < NP; ++p) {
    add_last(&row, 1, K, panel + p * panel_step, C, C, out + p * C, 0);
  }
}

// The same for `count` panels, two at a time: a single panel of kMaxVectors has too few
// accumulators to hide the FMA's latency. Narrow ones go by fours. back: from the last panels on.
template <class T, int NV>
void row_gemm(const T* row, int64_t K, const Lane<T>* panel, int64_t panel_step, int64_t count,
              const Sum<T>* init, Sum<T>* out, bool back) {
  constexpr int C = NV * Vec<Sum<T>>::W;
  constexpr int kTogether = NV > kMaxVectors ? 1 : NV > kMaxVectors / 2 ? 2 : 4;
  const int64_t turns = (count + kTogether - 1) / kTogether;
  for (int64_t i = 0; i < turns; ++i) {
    const int64_t p = kTogether * (back ? turns - 1 - i : i);
    if (p + kTogether <= count) {
      row_panels<T, NV, kTogether>(row, K, panel + p * panel_step, panel_step, init + p * C,
                                   out + p * C);
      continue;
    }
    for (int64_t q = p; q < count; ++q) {
      row_panels<T, NV, 1>(row, K, panel + q * panel_step, panel_step, init + q * C, out + q * C);
    }
  }
}

// out[r][0:NV*W] = init + rows[r] . panel for `count` rows; panel rows lie panel_ld apart, out's
// ld.
template <class T, int NV>
void panel_gemm(const T* const* rows, int64_t count, int64_t K, const Lane<T>* panel,
                int64_t panel_ld, const Sum<T>* init, Sum<T>* out, int64_t ld) {
  const int64_t tiles = (count + max_rows<T>(NV) - 1) / max_rows<T>(NV);
  for (int64_t k0 = 0; k0 == 0 || k0 < K; k0 += kBlockK) {
    const int64_t kn = K - k0 < kBlockK ? K - k0 : kBlockK;
    const Lane<T>* at = panel + k0 / Storage<T>::kPair * panel_ld;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t r0 = count * i / tiles, r1 = count * (i + 1) / tiles;
      pick_tile<T, NV>(int(r1 - r0))(rows + r0, k0, kn, at, panel_ld, k0 == 0 ? init : nullptr,
                                     out + r0 * ld, ld, k0 > 0);
    }
  }
  add_last(rows, count, K, panel, panel_ld, NV * Vec<Sum<T>>::W, out, ld);
}
// The same for a panel wider than kMaxVectors, in parts that are even.
template <class T>
[[gnu::noinline]] void wide_panel_gemm(int nv, const T* const* rows, int64_t count, int64_t K,
                                       const Lane<T>* panel, int64_t panel_ld, const Sum<T>* init,
                                       Sum<T>* out, int64_t ld) {
  constexpr int W = Vec<Sum<T>>::W;
  static constexpr decltype(&panel_gemm<T, 1>) kGemms[] = {panel_gemm<T, 1>, panel_gemm<T, 2>,
                                                           panel_gemm<T, 3>, panel_gemm<T, 4>};
  const int parts = (nv + kMaxVectors - 1) / kMaxVectors;
  for (int i = 0; i < parts; ++i) {
    const int first = nv * i / parts, some = nv * (i + 1) / parts - first;
    const Sum<T>* from = init ? init + first * W : nullptr;
    kGemms[some - 1](rows, count, K, panel + first * W, panel_ld, from, out + first * W, ld);
  }
}
template <class T>
FASTRNN_INLINE void panel_gemm(int nv, const T* const* rows, int64_t count, int64_t K,
                               const Lane<T>* panel, int64_t panel_ld, const Sum<T>* init,
                               Sum<T>* out, int64_t ld) {
  switch (nv) {
    case 1:
      return panel_gemm<T, 1>(rows, count, K, panel, panel_ld, init, out, ld);
    case 2:
      return panel_gemm<T, 2>(rows, count, K, panel, panel_ld, init, out, ld);
    case 3:
      return panel_gemm<T, 3>(rows, count, K, panel, panel_ld, init, out, ld);
    case 4:
      return panel_gemm<T, 4>(rows, count, K, panel, panel_ld, init, out, ld);
    default:
      return wide_panel_gemm<T>(nv, rows, count, K, panel, panel_ld, init, out, ld);
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
