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

// sums[i] += x . w[i] over one register of lanes, n numbers of each; w's rows lie ld apart, and the
// last of them stands in for those that are missing.
template <class T, int kPass>
FASTRNN_INLINE void add_products(typename Product<T>::N (&sums)[Vec<Sum<T>>::W], const T* x,
                                 const T* w, int64_t ld, int64_t last, int64_t n) {
  using P = Product<T>;
  const typename P::N a = P::template part<kPass>(P::load(x, n));
#pragma GCC unroll 16
  for (int i = 0; i < Vec<Sum<T>>::W; ++i) {
    P::add(sums[i], a, P::template part<kPass>(P::load(w + (i < last ? i : last) * ld, n)));
  }
}

// out[r] = init + rows[r] . weight^T for the columns of panel p, in the panel's order; weight
// [G*H, K]; out rows lie ld apart.
template <class T>
void direct_gemm(const Panels<Sum<T>>& panels, int64_t p, const T* weight, int64_t K,
                 const T* const* rows, int64_t count, const Sum<T>* init, Sum<T>* out, int64_t ld) {
  using V = Vec<Sum<T>>;
  constexpr int W = V::W, kNumbers = W * Storage<T>::kPair;
  const int nu = panels.registers(p);
  for (int c = 0; c < panels.G * nu; ++c) {
    const int64_t unit = panels.unit(p) + c % nu * W, last = panels.H - 1 - unit;
    const T* w = weight + (c / nu * panels.H + unit) * K;
    for (int64_t r = 0; r < count; ++r) {
      typename V::N acc[W] = {};
      int64_t k = 0;
      for (; k + kNumbers <= K; k += kNumbers) {
        add_products<T, 0>(acc, rows[r] + k, w + k, K, last, kNumbers);
        if constexpr (Product<T>::kPasses == 2) {
          add_products<T, 1>(acc, rows[r] + k, w + k, K, last, kNumbers);
        }
      }
      if (k < K) {
        add_products<T, 0>(acc, rows[r] + k, w + k, K, last, K - k);
        if constexpr (Product<T>::kPasses == 2) {
          add_products<T, 1>(acc, rows[r] + k, w + k, K, last, K - k);
        }
      }
      (sum_across<Sum<T>>(acc) + V::load(init + c * W)).store(out + r * ld + c * W);
    }
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
