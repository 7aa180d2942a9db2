// The functions that a cell may call besides those of simd.h: exp, expm1, log, log1p and erf, with
// torch's values everywhere, infinities, NaN, denormals and signed zeros too. No branches. Largest
// errors: tests/test_cell_math.py.
#pragma once
#include "mask.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// For each precision: limits beyond which results no longer change, and the coefficients of the
// polynomials, highest power first. Each polynomial has the least largest error on its interval.
template <class T>
struct Terms;
template <>
struct Terms<float> {
  typedef uint32_t U __attribute__((vector_size(kVectorBytes)));  // for shifts that bring in zeros
  static constexpr float kInfinity = __builtin_inff(), kNan = __builtin_nanf("");
  // exp is 0 below the first and infinite above the second; expm1 is -1 below the third.
  static constexpr float kExpZero = -104.f, kExpInfinite = 89.f, kMinusOne = -18.f;
  static constexpr float kTiny = 0x1p-26f;  // below it x is sin, expm1 and log1p of x
  static constexpr float kSmallestNormal = 0x1p-126f;
  static constexpr int32_t kSqrtHalf = 0x3f3504f3;  // its bits
  static constexpr float kErfOne = 4.f;             // erf is 1 from there on

  // (2 atanh(s) - 2 s) / s^3 in s^2, for s = f / (2 + f), sqrt(1/2) <= 1 + f <= sqrt(2)
  static constexpr float kLog[] = {2.33344809e-1f, 2.85506604e-1f, 4.00001234e-1f, 6.66666666e-1f};
  // erf(x) / x - 1 in x^2, |x| <= 1; and -log(1 - erf(x)), x >= 1
  static constexpr float kErfNear[] = {7.88893908e-5f,  -8.02078726e-4f, 5.18952928e-3f,
                                       -2.68544415e-2f, 1.12836001e-1f,  -3.76126271e-1f,
                                       1.28379166e-1f};
  static constexpr float kErfFar[] = {-1.85588173e-4f, 2.93972823e-3f, -2.18057278e-2f,
                                      1.03038067e-1f,  6.38225056e-1f, 1.1270403f,
                                      3.53680532e-4f};
};
template <>
struct Terms<double> {
  typedef uint64_t U __attribute__((vector_size(kVectorBytes)));
  static constexpr double kInfinity = __builtin_inf(), kNan = __builtin_nan("");
  static constexpr double kExpZero = -746., kExpInfinite = 710., kMinusOne = -38.;
  static constexpr double kTiny = 0x1p-55;
  static constexpr double kSmallestNormal = 0x1p-1022;
  static constexpr int64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  static constexpr double kErfOne = 6.;

  static constexpr double kLog[] = {
      1.4620444379702591e-1, 1.5331388534469927e-1, 1.8182899501015491e-1, 2.2222210986435222e-1,
      2.85714286269298e-1,   3.9999999999897272e-1, 6.6666666666666698e-1};
  static constexpr double kErfNear[] = {
      -7.8010625991408027e-10, 1.3722905689729362e-8,  -1.6209158854142052e-7,
      1.6447515344380736e-6,   -1.4924744464755018e-5, 1.2055295309615569e-4,
      -8.5483259893130834e-4,  5.2239776074150075e-3,  -2.6866170643275126e-2,
      1.1283791670945246e-1,   -3.7612638903183546e-1, 1.2837916709551257e-1};
  static constexpr double kErfFar[] = {
      -1.7389515685208612e-11, 6.4057926691639848e-10, -1.0718193641544963e-8,
      1.0635157828147537e-7,   -6.7481068972904591e-7, 2.6078574502885397e-6,
      -3.3645581356736885e-6,  -2.8712688552285774e-5, 2.3225461262992486e-4,
      -9.2275505912060139e-4,  2.1025946596443353e-3,  -5.8804981862259135e-4,
      -1.8862252078668442e-2,  1.0263585786965314e-1,  6.3666828261286229e-1,
      1.1283685425911541,      1.0824870693438678e-6};
};

// Fused by name: what the compiler fuses may differ from one place of a cell to another.
template <class T, int kCount>
FASTRNN_INLINE typename Vec<T>::N polynomial(typename Vec<T>::N x, const T (&terms)[kCount]) {
  typename Vec<T>::N sum = Vec<T>(terms[0]).v;
#pragma GCC unroll 32
  for (int i = 1; i < kCount; ++i) sum = fused<T>(sum, x, Vec<T>(terms[i]).v);
  return sum;
}

// 2^n for a whole n whose power is a normal number.
template <class T>
FASTRNN_INLINE typename Vec<T>::N power_of_two(typename Vec<T>::I n) {
  return typename Vec<T>::N((n + Float<T>::kBias) << Float<T>::kMantissa);
}

// e^x = 2^n e^r as in exp_parts, for |n| of any size that n, a number and an integer, can have.
template <class T>
struct ExpReduced {
  typename Vec<T>::N n, rest;  // rest: e^r - 1
  typename Vec<T>::I whole;
};
template <class T>
FASTRNN_INLINE ExpReduced<T> exp_reduced(typename Vec<T>::N x) {
  using N = typename Vec<T>::N;
  using I = typename Vec<T>::I;
  using F = Float<T>;
  const N round = Vec<T>(F::kRound).v;
  const N rounded = fused<T>(x, Vec<T>(T(1.44269504088896340736)).v, round), n = rounded - round;
  const N r = fused<T>(n, Vec<T>(-F::kLn2Lo).v, fused<T>(n, Vec<T>(-F::kLn2Hi).v, x));
  return {n, fused<T>(r * r, polynomial<T>(r, F::kExp), r), I(rounded) - I(round)};
}

// Multiplied by 2^n in two steps, as 2^n itself may be denormal or infinite where e^x is not.
template <class T>
FASTRNN_INLINE Vec<T> exp(Vec<T> x) {
  using N = typename Vec<T>::N;
  using I = typename Vec<T>::I;
  using F = Float<T>;
  const auto e = exp_reduced<T>(clamp<T>(x.v, Terms<T>::kExpZero, Terms<T>::kExpInfinite));
  const I first = I(N(e.n * T(0.5) + F::kRound)) - I(Vec<T>(F::kRound).v);
  return Vec<T>((e.rest + T(1)) * power_of_two<T>(first) * power_of_two<T>(e.whole - first));
}

// 2^n (e^r - 1) + (2^n - 1), halved until the end, as the largest 2^n is infinite.
template <class T>
FASTRNN_INLINE Vec<T> expm1(Vec<T> x) {
  using C = Terms<T>;
  const auto e = exp_reduced<T>(clamp<T>(x.v, C::kMinusOne, C::kExpInfinite));
  const typename Vec<T>::N half = power_of_two<T>(e.whole - 1);
  const typename Vec<T>::N y = fused<T>(half, e.rest, half - T(0.5));
  return select(less(abs(x), Vec<T>(C::kTiny)), x, Vec<T>(y + y));
}

// u = (1 + f) 2^n with sqrt(1/2) <= 1 + f < sqrt(2), for a normal u > 0.
template <class T>
struct LogParts {
  typename Vec<T>::N n, f;
};
template <class T>
FASTRNN_INLINE LogParts<T> log_parts(typename Vec<T>::N u) {
  using N = typename Vec<T>::N;
  using I = typename Vec<T>::I;
  using F = Float<T>;
  constexpr auto kFromSqrtHalf =
      (decltype(Terms<T>::kSqrtHalf)(F::kBias) << F::kMantissa) - Terms<T>::kSqrtHalf;
  const I n = I(typename Terms<T>::U(I(u) + kFromSqrtHalf) >> F::kMantissa) - F::kBias;
  return {N(I(Vec<T>(F::kRound).v) + n) - F::kRound, N(I(u) - (n << F::kMantissa)) - T(1)};
}
// log((1 + f) 2^n) + small. log(1 + f) = 2 atanh(s) = f - f^2/2 + s (f^2/2 + s^2 R(s^2)).
template <class T>
FASTRNN_INLINE typename Vec<T>::N log_sum(LogParts<T> u, typename Vec<T>::N small) {
  using N = typename Vec<T>::N;
  using F = Float<T>;
  const N s = u.f / (u.f + T(2)), z = s * s, square = u.f * u.f * T(0.5);
  const N rest = fused<T>(z, polynomial<T>(z, Terms<T>::kLog), square);
  const N low = fused<T>(s, rest, fused<T>(u.n, Vec<T>(F::kLn2Lo).v, small));
  return fused<T>(u.n, Vec<T>(F::kLn2Hi).v, u.f - (square - low));
}
// y, the logarithm of u as long as 0 < u < inf; else what it is of u, with x in the place of NaN.
template <class T>
FASTRNN_INLINE Vec<T> log_limits(Vec<T> y, Vec<T> u, Vec<T> x) {
  using C = Terms<T>;
  const Vec<T> zero = Vec<T>(T(0));
  y = select(less(u, Vec<T>(C::kInfinity)), y, x);
  y = select(equal(u, zero), Vec<T>(-C::kInfinity), y);
  return select(less(u, zero), Vec<T>(C::kNan), y);
}

template <class T>
FASTRNN_INLINE Vec<T> log(Vec<T> x) {
  using N = typename Vec<T>::N;
  using F = Float<T>;
  constexpr int kShift = F::kMantissa + 1;
  const auto denormal = x.v < Terms<T>::kSmallestNormal;
  auto u = log_parts<T>(denormal ? N(x.v * T(int64_t(1) << kShift)) : x.v);
  u.n -= denormal ? Vec<T>(T(kShift)).v : N{};
  return log_limits(Vec<T>(log_sum<T>(u, N{})), x, x);
}

// Of u = 1 + x rounded, and of what the rounding lost; near 0, where u is not scaled, f is x
// itself.
template <class T>
FASTRNN_INLINE Vec<T> log1p(Vec<T> x) {
  using N = typename Vec<T>::N;
  const N u = x.v + T(1), added = u - T(1);
  const N lost = (T(1) - (u - added)) + (x.v - added);
  auto parts = log_parts<T>(u);
  const auto near = parts.n == T(0);
  parts.f = near ? x.v : parts.f;
  const Vec<T> y = Vec<T>(log_sum<T>(parts, near ? N{} : N(lost / u)));
  return select(less(abs(x), Vec<T>(Terms<T>::kTiny)), x, log_limits(y, Vec<T>(u), x));
}

// x + x P(x^2) near 0; further away 1 - e^-Q(|x|), with the sign of x.
template <class T>
FASTRNN_INLINE Vec<T> erf(Vec<T> x) {
  using N = typename Vec<T>::N;
  using I = typename Vec<T>::I;
  using C = Terms<T>;
  const Vec<T> a = abs(x);
  const N near = fused<T>(x.v, polynomial<T>(x.v * x.v, C::kErfNear), x.v);
  const N q = polynomial<T>(clamp<T>(a.v, T(0), C::kErfOne), C::kErfFar);
  const auto e = exp_reduced<T>(-q);
  const N power = power_of_two<T>(e.whole);
  const N far = (T(1) - power) - power * e.rest;
  return select(less(a, Vec<T>(T(1))), Vec<T>(near), Vec<T>(N(I(far) | sign_bits<T>(x.v))));
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
