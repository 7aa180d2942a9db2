// Packing: matrices as torch keeps them -> the panels of gemm.h.
#pragma once
#include "cpu/threads/range.h"
#include "gemm.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Splits H units of G gates into panels of NU registers of units: columns of a panel are
// [G][nu * W], so that a tile holds all gates of its units. The last panel may be narrower. One
// gate of the weights may be left out. Panels of other gates have the same units where both are
// made for the `most` gates of the two. Registers come kPer at a time, for kUnits units.
template <class T, int kUnits = Vec<T>::W>
struct Panels {
  static constexpr int W = Vec<T>::W, kPer = kUnits / W;
  int64_t H;
  int G, NU, left_out;

  FASTRNN_INLINE Panels(int64_t units, int gates, int left_out = -1, int most = 0)
      : H(units),
        G(gates - (left_out >= 0)),
        NU(together(most > G ? most : G) * kPer),
        left_out(left_out) {}
  static constexpr int together(int gates) {  // of a single gate that is left out there is none
    return gates > 0 && gates < kMaxVectors ? kMaxVectors / gates : 1;
  }
  // Which of the weights' gates gate g of the panels is, and the row of its unit 0.
  FASTRNN_INLINE int64_t gate(int g) const { return g + (left_out >= 0 && g >= left_out); }
  FASTRNN_INLINE int64_t gate_row(int g) const { return gate(g) * H; }
  FASTRNN_INLINE int gates() const { return G + (left_out >= 0); }  // of the weights
  FASTRNN_INLINE int64_t count() const { return (H + NU * W - 1) / (NU * W); }
  FASTRNN_INLINE int64_t unit(int64_t p) const { return p * NU * W; }
  FASTRNN_INLINE int64_t end(int64_t) const { return H; }  // of the units that follow unit(p)
  FASTRNN_INLINE Range units(Range panels) const {
    const int64_t begin = unit(panels.begin), end = unit(panels.end);
    return {begin < H ? begin : H, end < H ? end : H};
  }
  FASTRNN_INLINE int registers(int64_t p) const {  // of units in panel p
    const int64_t left = (H - unit(p) + kUnits - 1) / kUnits * kPer;
    return int(left < NU ? left : NU);
  }
  FASTRNN_INLINE int vectors(int64_t p) const { return G * registers(p); }
  FASTRNN_INLINE int most_vectors() const { return G * NU; }
  FASTRNN_INLINE int64_t column(int64_t p) const { return p * G * NU * W; }
  FASTRNN_INLINE int64_t columns(Range panels) const {
    return (panels.end == count() ? width() : column(panels.end)) - column(panels.begin);
  }
  FASTRNN_INLINE int64_t width() const {
    return G * ((H + kUnits - 1) / kUnits) * kUnits;
  }  // of all panels
};

// Transposes W rows of `left` numbers, ld apart, or their first W lanes, into columns:
// out[c] [W] = rows[.][c]. Of fewer rows the rest is zeros.
template <class T>
FASTRNN_INLINE void transpose(const T* in, int64_t ld, int64_t rows, int64_t left, Lane<T>* out,
                              int64_t out_ld) {
  using V = Vec<Lane<T>>;
  constexpr int W = V::W, P = Storage<T>::kPair;
  constexpr int64_t kAhead = 4 * W * P;  // the hardware prefetches along fewer rows than W
  typename V::N a[W], b[W];
  typename V::I low, high;  // interleave the halves of two registers
  for (int i = 0; i < W; ++i) {
    low[i] = i / 2 + (i % 2) * W;
    high[i] = W / 2 + i / 2 + (i % 2) * W;
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (left > kAhead) __builtin_prefetch(in + i * ld + kAhead);
    a[i] = i < rows ? Product<T>::load(in + i * ld, left) : typename V::N{};
  }
#pragma GCC unroll 4
  for (int stage = 1; stage < W; stage *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < W / 2; ++i) {
      b[2 * i] = __builtin_shuffle(a[i], a[i + W / 2], low);
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + W / 2], high);
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) a[i] = b[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (i * P < left) V(a[i]).store(out + i * out_ld);
  }
}

// weight [G*H, K] -> panel p [lanes(K)][vectors*W]: the panel's units of every gate, transposed.
template <class T, class P>
void pack_gates(const P& panels, int64_t p, const T* weight, int64_t K, Lane<T>* out) {
  constexpr int W = Vec<Lane<T>>::W, kPair = Storage<T>::kPair;
  const int nu = panels.registers(p);
  const int64_t width = panels.vectors(p) * W;
  for (int g = 0; g < panels.G; ++g)
    for (int v = 0; v < nu; ++v) {
      const int64_t unit = panels.unit(p) + v * W;
      const int64_t left = panels.end(p) - unit, rows = left < W ? left : W;
      const T* in = weight + (panels.gate_row(g) + unit) * K;
      for (int64_t k = 0; k < K; k += W * kPair)
        transpose(in + k, K, rows, K - k, out + k / kPair * width + (g * nu + v) * W, width);
    }
}

// One row [G*H] (a bias, a ready projection) in the order of the panels' columns: [width()].
template <class T, class P>
void pack_row(const P& panels, int64_t first, int64_t last, const T* row, Sum<T>* out) {
  constexpr int W = Vec<Sum<T>>::W;
  for (int64_t p = first; p < last; ++p) {
    const int nu = panels.registers(p);
    Sum<T>* to = out + panels.column(p) - panels.column(first);
    for (int g = 0; g < panels.G; ++g)
      for (int v = 0; v < nu; ++v) {
        const int64_t unit = panels.unit(p) + v * W;
        read(row + panels.gate_row(g) + unit, panels.end(p) - unit).store(to + (g * nu + v) * W);
      }
  }
}

// Columns of `count` rows from panels.unit(p) on -> panel [lanes(count)][vectors*W]. A last row
// without a neighbour shares its lanes with zeros.
template <class T, class Row>
FASTRNN_INLINE void pack_columns_of(const Panels<Sum<T>>& panels, int64_t p, Row row, int64_t count,
                                    Lane<T>* out) {
  constexpr int W = Vec<Lane<T>>::W, P = Storage<T>::kPair;
  const int nv = panels.vectors(p);
  const int64_t first = panels.unit(p);
  for (int64_t k = 0; k < count; k += P) {
    const T *low = row(k) + first, *high = k + P <= count ? row(k + P - 1) + first : low;
    for (int v = 0; v < nv; ++v) {
      Lane<T>* to = out + (k / P * nv + v) * W;
      const int64_t left = panels.H - first - v * W;
      if (k + P <= count) {
        interleave(low + v * W, high + v * W, left).store(to);
      } else {
        alone(low + v * W, left).store(to);
      }
    }
  }
}
template <class T>
void pack_columns(const Panels<Sum<T>>& panels, int64_t p, T* const* rows, int64_t count,
                  Lane<T>* out) {
  pack_columns_of<T>(panels, p, [&](int64_t k) { return rows[k]; }, count, out);
}
template <class T>
void pack_columns(const Panels<Sum<T>>& panels, int64_t p, const T* matrix, int64_t ld,
                  int64_t count, Lane<T>* out) {
  pack_columns_of<T>(panels, p, [&](int64_t k) { return matrix + k * ld; }, count, out);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
