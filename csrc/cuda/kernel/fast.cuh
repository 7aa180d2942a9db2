// The number a cell computes with where products are rounded to 11 bits or fewer anyway: a float
// whose exp, division and tanh are the hardware's approximations.
#pragma once
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

}  // namespace cuda
}  // namespace fastrnn
