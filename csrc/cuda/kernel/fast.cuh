// The number a cell computes with where products are rounded to 11 bits or fewer anyway: a float
// whose exp, division and tanh are the hardware's approximations.
#pragma once
#include "cells/math.h"
#include "device.cuh"

namespace fastrnn {
namespace cuda {

struct Fast {
  float v;
  FASTRNN_DEVICE Fast() {}
  FASTRNN_DEVICE Fast(float x) : v(x) {}
};

FASTRNN_DEVICE Fast operator+(Fast a, Fast b) { return a.v + b.v; }
FASTRNN_DEVICE Fast operator-(Fast a, Fast b) { return a.v - b.v; }
FASTRNN_DEVICE Fast operator*(Fast a, Fast b) { return a.v * b.v; }
FASTRNN_DEVICE Fast operator/(Fast a, Fast b) { return fast_divide(a.v, b.v); }
FASTRNN_DEVICE Fast operator-(Fast a) { return -a.v; }
FASTRNN_DEVICE bool operator<(Fast a, Fast b) { return a.v < b.v; }
FASTRNN_DEVICE bool operator<=(Fast a, Fast b) { return a.v <= b.v; }
FASTRNN_DEVICE bool operator>(Fast a, Fast b) { return a.v > b.v; }
FASTRNN_DEVICE bool operator>=(Fast a, Fast b) { return a.v >= b.v; }
FASTRNN_DEVICE bool operator==(Fast a, Fast b) { return a.v == b.v; }
FASTRNN_DEVICE bool operator!=(Fast a, Fast b) { return a.v != b.v; }

// Relative error 2^-22 for |x| < 10, growing with |x|.
FASTRNN_DEVICE Fast exp(Fast x) { return fast_exp(x.v); }

// Relative error below 2^-20: a series near 0, where 1 - e^-2|x| would cancel.
FASTRNN_DEVICE Fast tanh(Fast x) {
  const float a = x.v < 0.f ? -x.v : x.v, s = x.v * x.v;
  const float e = fast_exp(-2.f * a), far = fast_divide(1.f - e, 1.f + e);
  const float near = x.v + x.v * s * (-1.f / 3 + s * (2.f / 15 + s * (-17.f / 315)));
  return a < 0.25f ? near : x.v < 0.f ? -far : far == far ? far : x.v;
}

FASTRNN_DEVICE Fast relu(Fast x) { return x.v < 0.f ? 0.f : x.v; }
FASTRNN_DEVICE Fast relu_backward(Fast d, Fast y) { return y.v <= 0.f ? 0.f : d.v; }
FASTRNN_DEVICE Fast heaviside(Fast x) { return x.v <= 0.f ? 0.f : 1.f; }

// Absolute error below 4e-6 for |x| < 100, growing with |x|: half turns are taken off in two parts,
// then a series. The library's sin, for any x, keeps a table on the stack.
FASTRNN_DEVICE Fast sin(Fast x) {
  const float turns = ::rintf(x.v * 0.318309886f), half = 0.5f * turns;
  const float a = (x.v - turns * 3.140625f) - turns * 9.67653589793e-4f, s = a * a;
  const float even =
      a +
      a * s * (-1.f / 6 + s * (1.f / 120 + s * (-1.f / 5040 + s * (1.f / 362880 - s / 39916800))));
  return half == ::floorf(half) ? even : -even;
}
FASTRNN_DEVICE Fast cos(Fast x) { return sin(Fast(x.v + 1.57079633f)); }

// The rest is rare in cells, and short enough as it is.
FASTRNN_DEVICE Fast expm1(Fast x) { return fastrnn::expm1(x.v); }
FASTRNN_DEVICE Fast log(Fast x) { return fastrnn::log(x.v); }
FASTRNN_DEVICE Fast log1p(Fast x) { return fastrnn::log1p(x.v); }
FASTRNN_DEVICE Fast erf(Fast x) { return fastrnn::erf(x.v); }
FASTRNN_DEVICE Fast sqrt(Fast x) { return fastrnn::sqrt(x.v); }
FASTRNN_DEVICE Fast abs(Fast x) { return fastrnn::abs(x.v); }

}  // namespace cuda
}  // namespace fastrnn
