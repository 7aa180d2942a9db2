// sin and cos. Quarter turns are taken off x in double, for float too, which leaves the results
// right to the last bit or two up to |x| = 1e8. Further out they are
// numbers between -1 and 1, but not those of x any more (torch's are).
#pragma once
#include "exp_log.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// sin(r) = r + r^3 kSin(r^2), cos(r) = 1 - r^2/2 + r^4 kCos(r^2), |r| <= pi/4; highest power first
template <class T>
struct SineTerms;
template <>
struct SineTerms<float> {
  static constexpr float kSin[] = {2.72493863e-6f, -1.98400827e-4f, 8.33333187e-3f,
                                   -1.66666667e-1f};
  static constexpr float kCos[] = {2.45475354e-5f, -1.38883013e-3f, 4.16666647e-2f};
};
template <>
struct SineTerms<double> {
  static constexpr double kSin[] = {1.5917861404517843e-10, -2.5051128143036781e-8,
                                    2.7557316084892747e-6,  -1.9841269836724794e-4,
                                    8.3333333333309264e-3,  -1.6666666666666665e-1};
  static constexpr double kCos[] = {-1.1382463938632359e-11, 2.0876143938641053e-9,
                                    -2.7557317260607262e-7,  2.480158729874439e-5,
                                    -1.3888888888887383e-3,  4.1666666666666665e-2};
  // pi/2 in parts of 27 bits, so that up to 2^26 times one of them is exact, and the rest
  static constexpr double kQuarter[] = {0x1.921fb54p+0, 0x1.10b461p-30, 0x1.a62633p-58,
                                        0x1.45c06e0e68948p-86};
};

// x = r + quarters pi/2, |r| <= pi/4. Of quarters, the last two bits count.
template <class T>
struct Turned {
  typename Vec<T>::N r;
  typename Vec<T>::I quarters;
};

FASTRNN_INLINE Turned<double> turned_back(typename Vec<double>::N x) {
  using N = typename Vec<double>::N;
  const N round = Vec<double>(Float<double>::kRound).v;
  const N rounded = fused<double>(x, Vec<double>(0.63661977236758134308).v, round);
  const N n = rounded - round;
  N r = x, lost = {};  // what rounding took off r: nothing where r nearly cancels
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const N part = Vec<double>(-SineTerms<double>::kQuarter[i]).v;
    const N next = fused<double>(n, part, r);
    lost += fused<double>(n, part, r - next);
    r = next;
  }
  r += fused<double>(n, Vec<double>(-SineTerms<double>::kQuarter[3]).v, lost);
  return {r, typename Vec<double>::I(rounded)};
}

typedef float HalfFloats __attribute__((vector_size(kVectorBytes / 2)));

FASTRNN_INLINE Turned<float> turned_back(typename Vec<float>::N x) {
  using N = typename Vec<double>::N;
  using I = typename Vec<double>::I;
  const N round = Vec<double>(Float<double>::kRound).v;
  HalfFloats halves[2], r[2], quarters[2];
  memcpy(halves, &x, sizeof x);
  for (int i = 0; i < 2; ++i) {
    const auto turned = turned_back(__builtin_convertvector(halves[i], N));
    const N number = N((turned.quarters & 3) | I(round)) - round;  // 0 to 3
    r[i] = __builtin_convertvector(turned.r, HalfFloats);
    quarters[i] = __builtin_convertvector(number, HalfFloats);
  }
  typename Vec<float>::N r_all, quarters_all;
  memcpy(&r_all, r, sizeof r);
  memcpy(&quarters_all, quarters, sizeof quarters);
  return {r_all, typename Vec<float>::I(quarters_all + Float<float>::kRound)};
}

// sin(r + (quarters + ahead) pi/2)
template <class T>
FASTRNN_INLINE typename Vec<T>::N sine(Turned<T> x, int ahead) {
  using N = typename Vec<T>::N;
  using I = typename Vec<T>::I;
  using C = SineTerms<T>;
  const N r = clamp<T>(x.r, T(-0.786), T(0.786)), z = r * r, half = z * T(0.5);
  const N sin = fused<T>(r * z, polynomial<T>(z, C::kSin), r);
  const N above = T(1) - half, lost = (T(1) - above) - half;
  const N cos = above + fused<T>(z * z, polynomial<T>(z, C::kCos), lost);
  const I quarters = x.quarters + ahead;
  const N y = (quarters & 1) != 0 ? cos : sin;
  return N(I(y) ^ ((quarters & 2) << int(8 * sizeof(T) - 2)));
}

template <class T>
FASTRNN_INLINE Vec<T> sin(Vec<T> x) {
  const Vec<T> y = Vec<T>(sine<T>(turned_back(x.v), 0));
  return select(less(abs(x), Vec<T>(Terms<T>::kTiny)), x, y);
}
template <class T>
FASTRNN_INLINE Vec<T> cos(Vec<T> x) {
  return Vec<T>(sine<T>(turned_back(x.v), 1));
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
