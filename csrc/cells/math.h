// Scalar maths a cell may use. Vector types bring their own (csrc/cpu/simd/), found by argument
// lookup.
#pragma once
#include <cmath>

#ifdef __CUDACC__
#define FASTRNN_HD __host__ __device__ __forceinline__
#else
#define FASTRNN_HD inline __attribute__((always_inline))
#endif

namespace fastrnn {

FASTRNN_HD float exp(float x) { return ::expf(x); }
FASTRNN_HD double exp(double x) { return ::exp(x); }
FASTRNN_HD float tanh(float x) { return ::tanhf(x); }
FASTRNN_HD double tanh(double x) { return ::tanh(x); }
FASTRNN_HD float expm1(float x) { return ::expm1f(x); }
FASTRNN_HD double expm1(double x) { return ::expm1(x); }
FASTRNN_HD float log(float x) { return ::logf(x); }
FASTRNN_HD double log(double x) { return ::log(x); }
FASTRNN_HD float log1p(float x) { return ::log1pf(x); }
FASTRNN_HD double log1p(double x) { return ::log1p(x); }
FASTRNN_HD float sin(float x) { return ::sinf(x); }
FASTRNN_HD double sin(double x) { return ::sin(x); }
FASTRNN_HD float cos(float x) { return ::cosf(x); }
FASTRNN_HD double cos(double x) { return ::cos(x); }
FASTRNN_HD float erf(float x) { return ::erff(x); }
FASTRNN_HD double erf(double x) { return ::erf(x); }
FASTRNN_HD float sqrt(float x) { return ::sqrtf(x); }
FASTRNN_HD double sqrt(double x) { return ::sqrt(x); }
FASTRNN_HD float abs(float x) { return ::fabsf(x); }
FASTRNN_HD double abs(double x) { return ::fabs(x); }

// max(x, 0) that lets NaN through, as torch.relu does.
FASTRNN_HD float relu(float x) { return x < 0.f ? 0.f : x; }
FASTRNN_HD double relu(double x) { return x < 0. ? 0. : x; }

// d where relu's value y is above 0 or NaN, else 0 whatever d is, as torch.relu's gradient.
FASTRNN_HD float relu_backward(float d, float y) { return y <= 0.f ? 0.f : d; }
FASTRNN_HD double relu_backward(double d, double y) { return y <= 0. ? 0. : d; }

// 0 where x <= 0, else 1, of NaN too: the gradient of torch.relu passes there.
FASTRNN_HD float heaviside(float x) { return x <= 0.f ? 0.f : 1.f; }
FASTRNN_HD double heaviside(double x) { return x <= 0. ? 0. : 1.; }

template <class T>
FASTRNN_HD T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

// NaN in either operand comes out, as of torch.maximum and torch.minimum.
template <class T>
FASTRNN_HD T maximum(T a, T b) {
  return a > b || a != a ? a : b;
}
template <class T>
FASTRNN_HD T minimum(T a, T b) {
  return a < b || a != a ? a : b;
}

// Comparisons give a mask, which for one number is a bool.
template <class T>
FASTRNN_HD bool less(T a, T b) {
  return a < b;
}
template <class T>
FASTRNN_HD bool less_equal(T a, T b) {
  return a <= b;
}
template <class T>
FASTRNN_HD bool greater(T a, T b) {
  return a > b;
}
template <class T>
FASTRNN_HD bool greater_equal(T a, T b) {
  return a >= b;
}
template <class T>
FASTRNN_HD bool equal(T a, T b) {
  return a == b;
}
template <class T>
FASTRNN_HD bool not_equal(T a, T b) {
  return a != b;
}

FASTRNN_HD bool both(bool a, bool b) { return a && b; }
FASTRNN_HD bool either(bool a, bool b) { return a || b; }
FASTRNN_HD bool inverse(bool a) { return !a; }

// a where the mask is set, else b.
template <class T>
FASTRNN_HD T select(bool mask, T a, T b) {
  return mask ? a : b;
}

}  // namespace fastrnn
