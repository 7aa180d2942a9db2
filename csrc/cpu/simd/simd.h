// One register of numbers, for the instruction set this file is compiled for. Built on the vector
// extension of g++ and clang; each instruction set has a namespace of its own (FASTRNN_ISA), so
// that the same templates compiled under different flags never merge at link time.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define FASTRNN_INLINE inline __attribute__((always_inline))

namespace fastrnn {
namespace FASTRNN_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRegisters = 32;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

// For each precision: the register's types (N numbers, I integers of their size), the layout of the
// IEEE format, and exp's polynomial (Taylor's; |r| <= ln2/2).
template <class T>
struct Float;
template <>
struct Float<float> {
  typedef float N __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef int32_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kLn2Hi = 0.693145752f, kLn2Lo = 1.42860677e-6f;
  static constexpr float kMaxExp = 88.f, kMinExp = -87.f, kZeroExp = -88.f;
  static constexpr int kTerms = 6;
  static constexpr float kExp[kTerms] = {1.f / 5040, 1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, .5f};
};
template <>
struct Float<double> {
  typedef double N __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef int64_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kRound = 6755399441055744.;
  static constexpr double kLn2Hi = 6.93147180369123816490e-01, kLn2Lo = 1.90821492927058770002e-10;
  static constexpr double kMaxExp = 709., kMinExp = -708., kZeroExp = -709.1;
  static constexpr int kTerms = 12;
  static constexpr double kExp[kTerms] = {
      1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
      1. / 5040,       1. / 720,       1. / 120,      1. / 24,      1. / 6,      .5};
};

template <class T>
struct Vec {
  static constexpr int W = kVectorBytes / sizeof(T);
  using N = typename Float<T>::N;
  using I = typename Float<T>::I;
  using Unaligned = typename Float<T>::Unaligned;
  N v;

  Vec() = default;
  FASTRNN_INLINE explicit Vec(T x) : v(x - N{}) {}  // x + 0 would be an addition: -0
  FASTRNN_INLINE Vec(N x) : v(x) {}
  FASTRNN_INLINE static Vec load(const T* p) {
    return Vec(N(*reinterpret_cast<const Unaligned*>(p)));
  }
  FASTRNN_INLINE void store(T* p) const { *reinterpret_cast<Unaligned*>(p) = v; }

  // The first n numbers (n <= W); the rest of the register is zero. Touches no memory past them.
  FASTRNN_INLINE static Vec load(const T* p, int64_t n) {
    if (n >= W) return load(p);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return N(_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p));
    if constexpr (sizeof(T) == 8) return N(_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p));
#endif
    T buffer[W] = {};
    for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
    return load(buffer);
  }
  FASTRNN_INLINE void store(T* p, int64_t n) const {
    if (n >= W) return store(p);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
      return _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), __m512(v));
    if constexpr (sizeof(T) == 8)
      return _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), __m512d(v));
#endif
    T buffer[W];
    store(buffer);
    for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
  }
};

#define FASTRNN_VEC_OP(op)                                \
  template <class T>                                      \
  FASTRNN_INLINE Vec<T> operator op(Vec<T> a, Vec<T> b) { \
    return Vec<T>(a.v op b.v);                            \
  }
FASTRNN_VEC_OP(+)
FASTRNN_VEC_OP(-)
FASTRNN_VEC_OP(*)
FASTRNN_VEC_OP(/)
#undef FASTRNN_VEC_OP
template <class T>
FASTRNN_INLINE Vec<T> operator-(Vec<T> a) {
  return Vec<T>(-a.v);
}

// a * b + c, rounded once wherever the instruction set can. (Left to the compiler, which fuses what
// it meets in one basic block, the last numbers of a row were rounded twice in some tiles only.)
template <class T>
FASTRNN_INLINE typename Vec<T>::N fused(typename Vec<T>::N a, typename Vec<T>::N b,
                                        typename Vec<T>::N c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return _mm512_fmadd_ps(__m512(a), __m512(b), __m512(c));
  } else {
    return _mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c));
  }
#elif defined(__FMA__)
  if constexpr (sizeof(T) == 4) {
    return _mm256_fmadd_ps(__m256(a), __m256(b), __m256(c));
  } else {
    return _mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c));
  }
#else
  return a * b + c;
#endif
}

// Comparisons are written so that NaN passes through, as in torch.
template <class T>
FASTRNN_INLINE Vec<T> relu(Vec<T> x) {
  return Vec<T>(typename Vec<T>::N(x.v < T(0) ? typename Vec<T>::N{} : x.v));
}
template <class T>
FASTRNN_INLINE Vec<T> relu_backward(Vec<T> d, Vec<T> y) {
  return Vec<T>(typename Vec<T>::N(y.v <= T(0) ? typename Vec<T>::N{} : d.v));
}
template <class T>
FASTRNN_INLINE Vec<T> heaviside(Vec<T> x) {
  return Vec<T>(typename Vec<T>::N(x.v <= T(0) ? typename Vec<T>::N{} : Vec<T>(T(1)).v));
}

// x between two limits. NaN passes through: of two operands, min and max return the second then.
// (Compiled from comparisons, it is a comparison and a masked move each. The plain 512-bit
// intrinsics make g++ 12 warn of an uninitialised operand.)
template <class T>
FASTRNN_INLINE typename Vec<T>::N clamp(typename Vec<T>::N x, T least, T most) {
  const typename Vec<T>::N low = Vec<T>(least).v, high = Vec<T>(most).v;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    x = _mm512_maskz_min_ps(__mmask16(-1), __m512(high), __m512(x));
    return _mm512_maskz_max_ps(__mmask16(-1), __m512(low), __m512(x));
  } else {
    x = _mm512_maskz_min_pd(__mmask8(-1), __m512d(high), __m512d(x));
    return _mm512_maskz_max_pd(__mmask8(-1), __m512d(low), __m512d(x));
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    return _mm256_max_ps(__m256(low), _mm256_min_ps(__m256(high), __m256(x)));
  } else {
    return _mm256_max_pd(__m256d(low), _mm256_min_pd(__m256d(high), __m256d(x)));
  }
#else
  x = x > high ? high : x;
  return x < low ? low : x;
#endif
}

// exp(x) = 2^n e^r = scale + scale * (e^r - 1), |r| <= ln2/2 (Cody and Waite's reduction), for x
// from `least` to `most`. Keeping e^r - 1 apart is what saves tanh from cancellation near 0.
template <class T>
struct ExpParts {
  typename Vec<T>::N scale, rest;
};
template <class T>
FASTRNN_INLINE ExpParts<T> exp_parts(typename Vec<T>::N x, T least, T most) {
  using N = typename Vec<T>::N;
  using I = typename Vec<T>::I;
  using F = Float<T>;
  x = clamp<T>(x, least, most);
  const N rounded = x * T(1.44269504088896340736) + F::kRound;
  const N n = rounded - F::kRound;
  const N r = (x - n * F::kLn2Hi) - n * F::kLn2Lo, r2 = r * r;
  static_assert(F::kTerms % 2 == 0, "terms are taken in pairs, for half the latency");
  N p = r * F::kExp[0] + F::kExp[1];
#pragma GCC unroll 16
  for (int i = 2; i < F::kTerms; i += 2) p = p * r2 + (r * F::kExp[i] + F::kExp[i + 1]);
  const I bits = I(rounded) - I(Vec<T>(F::kRound).v) + F::kBias;
  return {N(bits << F::kMantissa), r2 * p + r};
}
// e^x / (1 + e^x), exactly 0 far below, as torch's is (0 * inf is NaN): there 2^n is no number any
// more, but 0.
template <class T>
FASTRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  const auto e = exp_parts<T>(x.v, Float<T>::kZeroExp, Float<T>::kMaxExp);
  const typename Vec<T>::N y = e.scale * e.rest + e.scale;
  return Vec<T>(y / (y + T(1)));
}
// tanh(x) = expm1(2x) / (expm1(2x) + 2); it is 1 to the last bit from 2x = 40 on.
template <class T>
FASTRNN_INLINE Vec<T> tanh(Vec<T> x) {
  const auto e = exp_parts<T>(x.v + x.v, Float<T>::kMinExp, T(40));
  const typename Vec<T>::N m = e.scale * e.rest + (e.scale - T(1));
  return Vec<T>(m / (m + T(2)));
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
