// A single gate, which is the kept one: no gate is left to compute again.
#pragma once
#include "cells/math.h"

namespace fastrnn {

// z = sigmoid(x + r);  h' = p + z (h - p)
struct OneGate {
  static constexpr int kGates = 1, kStates = 1, kSaved = 1, kParams = 1;
  static constexpr bool kSplit = false;
  static constexpr int kKeptGate = 0;

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, const T* p, T* next,
                                 T* saved) {
    saved[0] = sigmoid(x[0] + r[0]);
    next[0] = p[0] + saved[0] * (prev[0] - p[0]);
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T*, const T* p, T* d, T* dx,
                                  T*, T* dp) {
    const T z = saved[0];
    dx[0] = d[0] * (prev[0] - p[0]) * z * (T(1) - z);
    dp[0] = d[0] * (T(1) - z);
    d[0] = d[0] * z;
  }
};

}  // namespace fastrnn
