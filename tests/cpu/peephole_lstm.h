// An LSTM whose gates see the cell state (Gers and Schmidhuber 2000): three parameters a unit.
#pragma once
#include "cells/math.h"

namespace fastrnn {

// i, f = sigmoid(x + r + p c);  c' = f c + i tanh(x + r);  o = sigmoid(x + r + p c');
// h' = o tanh(c')
struct PeepholeLstm {
  static constexpr int kGates = 4, kStates = 2, kSaved = 4, kParams = 3;
  static constexpr bool kSplit = false;
  static constexpr int kKeptGate = 3;

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, const T* p, T* next,
                                 T* saved) {
    const T i = sigmoid(x[0] + r[0] + p[0] * prev[1]), f = sigmoid(x[1] + r[1] + p[1] * prev[1]);
    const T g = tanh(x[2] + r[2]);
    next[1] = f * prev[1] + i * g;
    const T o = sigmoid(x[3] + r[3] + p[2] * next[1]);
    next[0] = o * tanh(next[1]);
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o;
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T* next, const T* p, T* d,
                                  T* dx, T*, T* dp) {
    const T i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const T tc = tanh(next[1]);
    dx[3] = d[0] * tc * o * (T(1) - o);
    const T dc = d[1] + d[0] * o * (T(1) - tc * tc) + dx[3] * p[2];
    dx[0] = dc * g * i * (T(1) - i);
    dx[1] = dc * prev[1] * f * (T(1) - f);
    dx[2] = dc * i * (T(1) - g * g);
    dp[0] = dx[0] * prev[1], dp[1] = dx[1] * prev[1], dp[2] = dx[3] * next[1];
    d[0] = T(0), d[1] = dc * f + dx[0] * p[0] + dx[1] * p[1];
  }
};

}  // namespace fastrnn
