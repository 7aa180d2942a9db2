// The primitives of device.cuh and launch.cuh, each against plain loops. A check throws.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/kernel/device.cuh"
#include "cuda/kernel/launch.cuh"

namespace fastrnn {
namespace cuda {

inline void expect(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

// The 16-bit formats by their definition.
inline double decode(uint16_t bits, int mantissa, int bias) {
  const int exponents = 15 - mantissa, fraction = bits & ((1 << mantissa) - 1);
  const int exponent = bits >> mantissa & ((1 << exponents) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponents) - 1) return fraction ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - mantissa);
  return sign * std::ldexp(fraction + (1 << mantissa), exponent - bias - mantissa);
}

// All values of the format, and around the middle of each pair of neighbours.
template <class T>
void check_conversions(int mantissa, int bias) {
  for (int i = 0; i < 1 << 16; ++i) {
    const uint16_t bits = uint16_t(i);
    const double value = decode(bits, mantissa, bias);
    const float x = to_float(T{bits});
    const std::string which = " of " + std::to_string(i);
    if (std::isnan(value)) {
      const double back = decode(from_float<T>(x).bits, mantissa, bias);
      expect(std::isnan(x) && std::isnan(back), "NaN" + which);
      continue;
    }
    expect(double(x) == value && std::signbit(x) == (i >> 15), "to_float" + which);
    expect(from_float<T>(x).bits == bits, "from_float" + which);
    if (std::isinf(value)) continue;
    // the next value away from zero; past the largest comes infinity, as if the format went on
    const uint16_t next = uint16_t(i + 1);
    double above = decode(next, mantissa, bias);
    if (std::isinf(above)) above = 2 * value - decode(uint16_t(i - 1), mantissa, bias);
    const float middle = float((value + above) / 2);
    const float toward = std::copysign(INFINITY, middle);
    expect(from_float<T>(middle).bits == (i % 2 ? next : bits), "tie" + which);
    expect(from_float<T>(std::nextafter(middle, toward)).bits == next, "above the tie" + which);
    expect(from_float<T>(std::nextafter(middle, 0.f)).bits == bits, "below the tie" + which);
  }
  const uint16_t infinity = from_float<T>(INFINITY).bits;
  expect(from_float<T>(std::numeric_limits<float>::max()).bits == infinity, "too large");
  const uint32_t high = from_float<T>(-2.f).bits;
  expect(pack2<T>(1.5f, -2.f) == (from_float<T>(1.5f).bits | high << 16), "pack2");
}

inline void check_tf32() {
  std::mt19937 random(2);
  for (int i = 0; i < 200000; ++i) {
    uint32_t bits = random();
    if (i % 4 == 0) bits = (bits & ~0x1fffu) | 0x1000;  // ties
    const float x = bits_float(bits), y = bits_float(to_tf32(x));
    if (std::isnan(x)) {
      expect(std::isnan(y), "NaN as tf32");
      continue;
    }
    if (std::isinf(x) || std::isinf(y)) {
      expect(y == std::copysign(INFINITY, x) && std::fabs(x) > 3.4e38f, "infinite tf32");
      continue;
    }
    expect(!(float_bits(y) & 0x1fff), "tf32 has a mantissa of 10 bits");
    const float down = bits_float(bits & ~0x1fffu);
    const double step = double(bits_float((bits & ~0x1fffu) + 0x2000)) - down;
    const bool up = std::fabs(double(x) - down) >= std::fabs(step) / 2;
    expect(double(y) == (up ? down + step : double(down)), "tf32 to nearest, ties away from zero");
  }
}

template <class T>
struct Element {  // of an mma operand, as a register's part
  static constexpr int kInWord = 2, kColumns = 16;
  static uint32_t bits(float x) { return from_float<T>(x).bits; }
  static float value(float x) { return to_float(from_float<T>(x)); }
};
template <>
struct Element<Tf32> {
  static constexpr int kInWord = 1, kColumns = 8;
  static uint32_t bits(float x) { return to_tf32(x); }
  static float value(float x) { return bits_float(to_tf32(x)); }
};

struct Matrices {
  const float *a, *b;  // [16, K], [K, 8]
  float* c;            // [16, 8] of each warp
};

// Fragments element by element, by the formulas of the PTX manual (a_i, b_i, c_i; row, col).
template <class T>
__global__ void mma_kernel(const __grid_constant__ Matrices m) {
  constexpr int W = Element<T>::kInWord, K = Element<T>::kColumns;
  const int group = int(threadIdx.x) % 32 >> 2, in_group = int(threadIdx.x) % 4;
  uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
  for (int i = 0; i < 4 * W; ++i) {
    const bool upper = W == 2 ? i < 2 || (4 <= i && i < 6) : i == 0 || i == 2;
    const int row = upper ? group : group + 8;
    const int col = W == 2 ? in_group * 2 + (i & 1) + (i < 4 ? 0 : 8) : in_group + (i < 2 ? 0 : 4);
    a[i / W] |= Element<T>::bits(m.a[row * K + col]) << 16 * (i % W);
  }
  for (int i = 0; i < 2 * W; ++i) {
    const int row = W == 2 ? in_group * 2 + (i & 1) + (i < 2 ? 0 : 8) : in_group + (i ? 4 : 0);
    b[i / W] |= Element<T>::bits(m.b[row * 8 + group]) << 16 * (i % W);
  }
  float c[4];
  const auto at = [&](int i) {
    const int row = i < 2 ? group : group + 8, col = in_group * 2 + (i & 1);
    return int(threadIdx.x) / 32 * 128 + row * 8 + col;
  };
  for (int i = 0; i < 4; ++i) c[i] = m.c[at(i)];
  mma(c, a, b, T{});
  mma(c, a, b, T{});
  for (int i = 0; i < 4; ++i) m.c[at(i)] = c[i];
}

template <class T>
void check_mma() {
  constexpr int K = Element<T>::kColumns;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> a(16 * K), b(K * 8), c(2 * 128), expected;
  for (auto* matrix : {&a, &b, &c})
    for (float& x : *matrix) x = normal(random);
  expected = c;
  for (int i = 0; i < 2 * 128; ++i) {
    double sum = 0;
    for (int k = 0; k < K; ++k)
      sum +=
          double(Element<T>::value(a[i % 128 / 8 * K + k])) * Element<T>::value(b[k * 8 + i % 8]);
    expected[i] += float(2 * sum);
  }
  launch(mma_kernel<T>, {1, 64, 0}, Matrices{a.data(), b.data(), c.data()});
  for (int i = 0; i < 2 * 128; ++i)
    expect(std::fabs(c[i] - expected[i]) < 1e-5f, "mma's element " + std::to_string(i));
}

}  // namespace cuda
}  // namespace fastrnn
