// Products with a weight as torch keeps it, for calls too short to pay for packing (streaming): dot
// products along a weight's rows. A tile of MR rows by NU units stays in registers for all of K;
// every sum has the same order whatever the tile, so a row's result does not depend on the others.
#pragma once
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr int kDirectRows = kRegisters == 32 ? 6 : 3;  // of a tile of four units

// a and b hold n sums of W / n numbers each: sums their halves, n sums interleaved with n.
template <class T>
FASTRNN_INLINE typename Vec<T>::N fold(typename Vec<T>::N a, typename Vec<T>::N b) {
  constexpr int W = Vec<T>::W;
  typename Vec<T>::I low, high;  // interleave the halves of two registers
  for (int i = 0; i < W; ++i) {
    low[i] = i / 2 + (i % 2) * W;
    high[i] = W / 2 + i / 2 + (i % 2) * W;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}
// Folds n registers into one, n a power of two: register i meets i + n/2, and so on.
template <class T, int n>
FASTRNN_INLINE typename Vec<T>::N fold_all(typename Vec<T>::N* a) {
#pragma GCC unroll 4
  for (int half = n / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) a[i] = fold<T>(a[i], a[i + half]);
  }
  return a[0];
}

// W units, whose rows of the weight lie K apart; past the last unit, that one stands in.
template <class T>
struct UnitRows {
  const T* first;
  int64_t K, last;
  FASTRNN_INLINE const T* row(int64_t i) const { return first + (i < last ? i : last) * K; }
};

// partial[r * W/NU] = the sums of units t, t + W/NU, .. folded into one register, for MR rows.
template <class T, int MR, int NU>
FASTRNN_INLINE void direct_tile(const UnitRows<T>& units, int t, const T* const* rows,
                                typename Vec<T>::N* partial) {
  using V = Vec<T>;
  constexpr int W = V::W, kTiles = W / NU;
  const int64_t K = units.K, whole = K / W * W;
  const T *w[NU], *x[MR];
  typename V::N acc[MR][NU] = {};
  for (int j = 0; j < NU; ++j) w[j] = units.row(t + j * kTiles);
  for (int r = 0; r < MR; ++r) x[r] = rows[r];
  for (int64_t k = 0; k < whole; k += W) {
    typename V::N xs[MR];
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) xs[r] = V::load(x[r] + k).v;
#pragma GCC unroll 8
    for (int j = 0; j < NU; ++j) {
      const typename V::N ws = V::load(w[j] + k).v;
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) Product<T>::add(acc[r][j], xs[r], ws);
    }
  }
  if (whole < K) {
#pragma GCC unroll 8
    for (int j = 0; j < NU; ++j) {
      const typename V::N ws = V::load(w[j] + whole, K - whole).v;
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) {
        Product<T>::add(acc[r][j], V::load(x[r] + whole, K - whole).v, ws);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) partial[r * kTiles] = fold_all<T, NU>(acc[r]);
}

// out[r] [W] = init + rows[r] . units for MR rows; out rows lie ld apart.
template <class T, int MR>
void direct_rows(const UnitRows<T>& units, const T* const* rows, const T* init, T* out,
                 int64_t ld) {
  using V = Vec<T>;
  constexpr int kWide = MR == 1 ? 8 : 4;  // chains enough to hide the FMA's latency
  constexpr int NU = V::W < kWide ? V::W : kWide, kTiles = V::W / NU;
  typename V::N partial[MR * kTiles];
#pragma GCC unroll 1
  for (int t = 0; t < kTiles; ++t) direct_tile<T, MR, NU>(units, t, rows, partial + t);
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) {
    (V(fold_all<T, kTiles>(partial + r * kTiles)) + V::load(init)).store(out + r * ld);
  }
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

// direct_gemm() for numbers that are multiplied in pairs.
template <class T, class P>
void direct_pairs(const P& panels, int64_t p, const T* weight, int64_t K, const T* const* rows,
                  int64_t count, const Sum<T>* init, Sum<T>* out, int64_t ld) {
  using V = Vec<Sum<T>>;
  constexpr int W = V::W, kNumbers = W * Storage<T>::kPair;
  const int nu = panels.registers(p);
  for (int c = 0; c < panels.G * nu; ++c) {
    const int64_t unit = panels.unit(p) + c % nu * W, last = panels.end(p) - 1 - unit;
    const T* w = weight + (panels.gate_row(c / nu) + unit) * K;
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
      (V(fold_all<Sum<T>, W>(acc)) + V::load(init + c * W)).store(out + r * ld + c * W);
    }
  }
}

// out[r] = init + rows[r] . weight^T for the columns of panel p, in the panel's order; weight
// [G*H, K]; out rows lie ld apart.
template <class T, class P>
void direct_gemm(const P& panels, int64_t p, const T* weight, int64_t K, const T* const* rows,
                 int64_t count, const Sum<T>* init, Sum<T>* out, int64_t ld) {
  if constexpr (Storage<T>::kPair > 1) {
    return direct_pairs(panels, p, weight, K, rows, count, init, out, ld);
  } else {
    constexpr int W = Vec<T>::W;
    const int nu = panels.registers(p);
    const int64_t tiles = (count + kDirectRows - 1) / kDirectRows;
    for (int c = 0; c < panels.G * nu; ++c) {
      const int64_t unit = panels.unit(p) + c % nu * W;
      const UnitRows<T> units{weight + (panels.gate_row(c / nu) + unit) * K, K,
                              panels.end(p) - 1 - unit};
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t r = count * i / tiles, some = count * (i + 1) / tiles - r;
        T* to = out + r * ld + c * W;
        switch (some) {
          case 1:
            direct_rows<T, 1>(units, rows + r, init + c * W, to, ld);
            break;
          case 2:
            direct_rows<T, 2>(units, rows + r, init + c * W, to, ld);
            break;
          case 3:
            direct_rows<T, 3>(units, rows + r, init + c * W, to, ld);
            break;
          case 4:
            direct_rows<T, 4>(units, rows + r, init + c * W, to, ld);
            break;
          case 5:
            direct_rows<T, 5>(units, rows + r, init + c * W, to, ld);
            break;
          default:
            direct_rows<T, 6>(units, rows + r, init + c * W, to, ld);
        }
      }
    }
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
