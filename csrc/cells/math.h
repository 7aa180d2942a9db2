// Scalar maths a cell may use. Vector types bring their own exp and tanh, found by argument lookup.
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

}  // namespace fastrnn
