// Four states a unit, in the manner of sLSTM: memory, its normalizer, and a slow mean of what comes
// in. More values are kept than a row has gate gradients.
#pragma once
#include "cells/math.h"

namespace fastrnn {

// c' = f c + i z;  n' = f n + i;  m' = p m + (1 - p) z;  h' = o c' / (1 + n' n') + m'
struct FourStates {
  static constexpr int kGates = 4, kStates = 4, kSaved = 5, kParams = 1;  // saved i f z o, c'/..
  static constexpr bool kSplit = false;

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, const T* p, T* next,
                                 T* saved) {
    const T i = sigmoid(x[0] + r[0]), f = sigmoid(x[1] + r[1]);
    const T z = tanh(x[2] + r[2]), o = sigmoid(x[3] + r[3]);
    next[1] = f * prev[1] + i * z;
    next[2] = f * prev[2] + i;
    next[3] = p[0] * prev[3] + (T(1) - p[0]) * z;
    const T y = next[1] / (T(1) + next[2] * next[2]);
    next[0] = o * y + next[3];
    saved[0] = i, saved[1] = f, saved[2] = z, saved[3] = o, saved[4] = y;
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T* next, const T* p, T* d,
                                  T* dx, T*, T* dp) {
    const T i = saved[0], f = saved[1], z = saved[2], o = saved[3], y = saved[4];
    const T dy = d[0] * o / (T(1) + next[2] * next[2]);
    const T dc = d[1] + dy, dn = d[2] - dy * y * T(2) * next[2], dm = d[3] + d[0];
    dx[0] = (dc * z + dn) * i * (T(1) - i);
    dx[1] = (dc * prev[1] + dn * prev[2]) * f * (T(1) - f);
    dx[2] = (dc * i + dm * (T(1) - p[0])) * (T(1) - z * z);
    dx[3] = d[0] * y * o * (T(1) - o);
    dp[0] = dm * (prev[3] - z);
    d[0] = T(0), d[1] = dc * f, d[2] = dn * f, d[3] = dm * p[0];
  }
};

}  // namespace fastrnn
