// Packing: matrices as torch keeps them -> the panels of gemm.h.
#pragma once
#include "gemm.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Splits H units of G gates into panels of NU registers of units: columns of a panel are
// [G][nu * W], so that a tile holds all gates of its units. The last panel may be narrower. One
// gate of the weights may be left out.
template <class T>
struct Panels {
  static constexpr int W = Vec<T>::W;
  int64_t H;
  int G, NU, left_out;

  FASTRNN_INLINE Panels(int64_t units, int gates, int left_out = -1)
      : H(units),
        G(gates - (left_out >= 0)),
        NU(G >= kMaxVectors ? 1 : kMaxVectors / G),
        left_out(left_out) {}
  // The weights' row of gate g of the panels, unit 0.
  FASTRNN_INLINE int64_t gate_row(int g) const {
    return (g + (left_out >= 0 && g >= left_out)) * H;
  }
  FASTRNN_INLINE int64_t count() const { return (H + NU * W - 1) / (NU * W); }
  FASTRNN_INLINE int64_t unit(int64_t p) const { return p * NU * W; }
  FASTRNN_INLINE int registers(int64_t p) const {  // of units in panel p
    const int64_t left = (H - unit(p) + W - 1) / W;
    return int(left < NU ? left : NU);
  }
  FASTRNN_INLINE int vectors(int64_t p) const { return G * registers(p); }
  FASTRNN_INLINE int64_t column(int64_t p) const { return p * G * NU * W; }
  FASTRNN_INLINE int64_t width() const { return G * ((H + W - 1) / W) * W; }  // of all panels
};

// Transposes W rows of `cols` <= W numbers, ld apart, into W columns: out[c] = rows[.][c].
template <class T>
FASTRNN_INLINE void transpose(const T* in, int64_t ld, int64_t rows, int64_t cols, T* out,
                              int64_t out_ld) {
  constexpr int W = Vec<T>::W;
  if (rows < W || cols < W) {
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t r = 0; r < W; ++r) out[c * out_ld + r] = r < rows ? in[r * ld + c] : T(0);
    return;
  }
  typename Vec<T>::N a[W], b[W];
  typename Vec<T>::I low, high;  // interleave the halves of two registers
  for (int i = 0; i < W; ++i) {
    low[i] = i / 2 + (i % 2) * W;
    high[i] = W / 2 + i / 2 + (i % 2) * W;
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) a[i] = Vec<T>::load(in + i * ld).v;
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
  for (int i = 0; i < W; ++i) Vec<T>(a[i]).store(out + i * out_ld);
}

// weight [G*H, K] -> panel p [K][vectors*W]: the panel's units of every gate, transposed.
template <class T>
void pack_gates(const Panels<T>& panels, int64_t p, const T* weight, int64_t K, T* out) {
  constexpr int W = Vec<T>::W;
  const int nu = panels.registers(p);
  const int64_t width = panels.vectors(p) * W;
  for (int g = 0; g < panels.G; ++g)
    for (int v = 0; v < nu; ++v) {
      const int64_t unit = panels.unit(p) + v * W;
      const int64_t rows = panels.H - unit < W ? panels.H - unit : W;
      const T* in = weight + (panels.gate_row(g) + unit) * K;
      for (int64_t k = 0; k < K; k += W)
        transpose(in + k, K, rows, K - k < W ? K - k : W, out + k * width + (g * nu + v) * W,
                  width);
    }
}

// One row [G*H] (a bias, a ready projection) in the order of the panels' columns: [width()].
template <class T>
void pack_row(const Panels<T>& panels, int64_t first, int64_t last, const T* row, T* out) {
  constexpr int W = Vec<T>::W;
  for (int64_t p = first; p < last; ++p) {
    const int nu = panels.registers(p);
    T* to = out + panels.column(p) - panels.column(first);
    for (int g = 0; g < panels.G; ++g)
      for (int v = 0; v < nu; ++v) {
        const int64_t unit = panels.unit(p) + v * W;
        Vec<T>::load(row + panels.gate_row(g) + unit, panels.H - unit).store(to + (g * nu + v) * W);
      }
  }
}

// Columns of `count` rows from panels.unit(p) on -> panel [count][vectors*W].
template <class T, class Row>
FASTRNN_INLINE void pack_columns_of(const Panels<T>& panels, int64_t p, Row row, int64_t count,
                                    T* out) {
  constexpr int W = Vec<T>::W;
  const int nv = panels.vectors(p);
  const int64_t first = panels.unit(p);
  for (int64_t k = 0; k < count; ++k) {
    const T* in = row(k) + first;
    for (int v = 0; v < nv; ++v) {
      Vec<T>::load(in + v * W, panels.H - first - v * W).store(out + (k * nv + v) * W);
    }
  }
}
template <class T>
void pack_columns(const Panels<T>& panels, int64_t p, T* const* rows, int64_t count, T* out) {
  pack_columns_of(panels, p, [&](int64_t k) { return rows[k]; }, count, out);
}
template <class T>
void pack_columns(const Panels<T>& panels, int64_t p, const T* matrix, int64_t ld, int64_t count,
                  T* out) {
  pack_columns_of(panels, p, [&](int64_t k) { return matrix + k * ld; }, count, out);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
