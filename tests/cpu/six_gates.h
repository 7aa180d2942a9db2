// More gates than a panel is wide, dL/dr apart from dL/dx, and a kept gate.
#pragma once
#include "cells/math.h"

namespace fastrnn {

// n = tanh(x + reset r);  g = tanh(x + p r);  c' = f c + i g;  h' = n + z (h - n) + p c'
struct SixGates {
  static constexpr int kGates = 6, kStates = 2, kSaved = 8, kParams = 2;
  static constexpr bool kSplit = true;
  static constexpr int kKeptGate = 1;

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, const T* p, T* next,
                                 T* saved) {
    const T reset = sigmoid(x[0] + r[0]), z = sigmoid(x[1] + r[1]);
    const T n = tanh(x[2] + reset * r[2]), g = tanh(x[5] + p[0] * r[5]);
    const T f = sigmoid(x[3] + r[3]), i = sigmoid(x[4] + r[4]);
    next[1] = f * prev[1] + i * g;
    next[0] = n + z * (prev[0] - n) + p[1] * next[1];
    saved[0] = reset, saved[1] = z, saved[2] = n, saved[3] = f, saved[4] = i, saved[5] = g;
    saved[6] = r[2], saved[7] = r[5];
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T* next, const T* p, T* d,
                                  T* dx, T* dr, T* dp) {
    const T reset = saved[0], z = saved[1], n = saved[2], f = saved[3], i = saved[4], g = saved[5];
    const T dc = d[1] + d[0] * p[1];
    dx[2] = d[0] * (T(1) - z) * (T(1) - n * n);
    dx[5] = dc * i * (T(1) - g * g);
    dx[0] = dr[0] = dx[2] * saved[6] * reset * (T(1) - reset);
    dx[1] = dr[1] = d[0] * (prev[0] - n) * z * (T(1) - z);
    dx[3] = dr[3] = dc * prev[1] * f * (T(1) - f);
    dx[4] = dr[4] = dc * g * i * (T(1) - i);
    dr[2] = dx[2] * reset, dr[5] = dx[5] * p[0];
    dp[0] = dx[5] * saved[7], dp[1] = d[0] * next[1];
    d[0] = d[0] * z, d[1] = dc * f;
  }
};

}  // namespace fastrnn
