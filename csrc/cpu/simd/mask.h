// What a register's numbers are compared, chosen and bounded with. A comparison with NaN is false,
// but for not_equal, as everywhere.
#pragma once
#include "simd.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fastrnn {
namespace FASTRNN_ISA {

// All bits of a lane are set, or none.
template <class T>
struct Mask {
  typename Vec<T>::I lanes;
};

template <class T>
FASTRNN_INLINE Mask<T> less(Vec<T> a, Vec<T> b) {
  return {a.v < b.v};
}
template <class T>
FASTRNN_INLINE Mask<T> less_equal(Vec<T> a, Vec<T> b) {
  return {a.v <= b.v};
}
template <class T>
FASTRNN_INLINE Mask<T> greater(Vec<T> a, Vec<T> b) {
  return {a.v > b.v};
}
template <class T>
FASTRNN_INLINE Mask<T> greater_equal(Vec<T> a, Vec<T> b) {
  return {a.v >= b.v};
}
template <class T>
FASTRNN_INLINE Mask<T> equal(Vec<T> a, Vec<T> b) {
  return {a.v == b.v};
}
template <class T>
FASTRNN_INLINE Mask<T> not_equal(Vec<T> a, Vec<T> b) {
  return {a.v != b.v};
}

template <class T>
FASTRNN_INLINE Mask<T> both(Mask<T> a, Mask<T> b) {
  return {a.lanes & b.lanes};
}
template <class T>
FASTRNN_INLINE Mask<T> either(Mask<T> a, Mask<T> b) {
  return {a.lanes | b.lanes};
}
template <class T>
FASTRNN_INLINE Mask<T> inverse(Mask<T> a) {
  return {~a.lanes};
}

// a where the mask is set, else b.
template <class T>
FASTRNN_INLINE Vec<T> select(Mask<T> mask, Vec<T> a, Vec<T> b) {
  return Vec<T>(typename Vec<T>::N(mask.lanes ? a.v : b.v));
}

// NaN in either operand comes out, as of torch.maximum and torch.minimum.
template <class T>
FASTRNN_INLINE Vec<T> maximum(Vec<T> a, Vec<T> b) {
  using N = typename Vec<T>::N;
  const N larger = a.v > b.v ? a.v : b.v;  // b where one is NaN
  return Vec<T>(N(a.v != a.v ? a.v : larger));
}
template <class T>
FASTRNN_INLINE Vec<T> minimum(Vec<T> a, Vec<T> b) {
  using N = typename Vec<T>::N;
  const N smaller = a.v < b.v ? a.v : b.v;
  return Vec<T>(N(a.v != a.v ? a.v : smaller));
}

template <class T>
FASTRNN_INLINE typename Vec<T>::I sign_bits(typename Vec<T>::N x) {
  return typename Vec<T>::I(x) & typename Vec<T>::I(Vec<T>(T(-0.)).v);
}
template <class T>
FASTRNN_INLINE Vec<T> abs(Vec<T> x) {
  using I = typename Vec<T>::I;
  return Vec<T>(typename Vec<T>::N(I(x.v) ^ sign_bits<T>(x.v)));
}

// Rounded as IEEE asks. (The plain 512-bit intrinsics make g++ 12 warn of an uninitialised
// operand.)
template <class T>
FASTRNN_INLINE Vec<T> sqrt(Vec<T> x) {
  using N = typename Vec<T>::N;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return N(_mm512_maskz_sqrt_ps(__mmask16(-1), __m512(x.v)));
  if constexpr (sizeof(T) == 8) return N(_mm512_maskz_sqrt_pd(__mmask8(-1), __m512d(x.v)));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return N(_mm256_sqrt_ps(__m256(x.v)));
  if constexpr (sizeof(T) == 8) return N(_mm256_sqrt_pd(__m256d(x.v)));
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) return N(_mm_sqrt_ps(__m128(x.v)));
  if constexpr (sizeof(T) == 8) return N(_mm_sqrt_pd(__m128d(x.v)));
#elif defined(__aarch64__)
  if constexpr (sizeof(T) == 4) return N(vsqrtq_f32(float32x4_t(x.v)));
  if constexpr (sizeof(T) == 8) return N(vsqrtq_f64(float64x2_t(x.v)));
#else
  N root;
  for (int i = 0; i < Vec<T>::W; ++i)
    root[i] = sizeof(T) == 4 ? __builtin_sqrtf(x.v[i]) : __builtin_sqrt(x.v[i]);
  return root;
#endif
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
