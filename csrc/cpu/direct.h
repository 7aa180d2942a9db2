// Products with a weight as torch keeps it, for calls too short to pay for packing (streaming): dot
// products along a weight's row, W units at a time.
#pragma once
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Sums W registers across: number i of the result is the sum of a[i].
template <class T>
FASTRNN_INLINE Vec<T> sum_across(typename Vec<T>::N (&a)[Vec<T>::W]) {
  constexpr int W = Vec<T>::W;
  typename Vec<T>::I low, high;  // interleave the halves of two registers
  for (int i = 0; i < W; ++i) {
    low[i] = i / 2 + (i % 2) * W;
    high[i] = W / 2 + i / 2 + (i % 2) * W;
  }
#pragma GCC unroll 4
  for (int n = W / 2; n > 0; n /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      a[i] = __builtin_shuffle(a[i], a[i + n], low) + __builtin_shuffle(a[i], a[i + n], high);
    }
  }
  return Vec<T>(a[0]);
}

// out[r] = init + rows[r] . weight^T for the columns of panel p, in the panel's order; weight
// [G*H, K]; out rows lie ld apart.
template <class T>
void direct_gemm(const Panels<T>& panels, int64_t p, const T* weight, int64_t K,
                 const T* const* rows, int64_t count, const T* init, T* out, int64_t ld) {
  using V = Vec<T>;
  constexpr int W = V::W;
  const int nu = panels.registers(p);
  const int64_t whole = K / W * W;
  for (int c = 0; c < panels.G * nu; ++c) {
    const int64_t unit = panels.unit(p) + c % nu * W, last = panels.H - 1 - unit;
    const T* w = weight + (panels.gate_row(c / nu) + unit) * K;
    for (int64_t r = 0; r < count; ++r) {
      typename V::N acc[W] = {};
      for (int64_t k = 0; k < whole; k += W) {
        const V x = V::load(rows[r] + k);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) acc[i] += x.v * V::load(w + (i < last ? i : last) * K + k).v;
      }
      if (whole < K) {
        const V x = V::load(rows[r] + whole, K - whole);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) {
          acc[i] += x.v * V::load(w + (i < last ? i : last) * K + whole, K - whole).v;
        }
      }
      (sum_across<T>(acc) + V::load(init + c * W)).store(out + r * ld + c * W);
    }
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
