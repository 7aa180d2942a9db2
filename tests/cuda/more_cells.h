// The cells of the simulator's second library, instead of the package's: what those lack.
// Parameters of a cell's own, many states, names that are no identifiers.
#pragma once
#include "cells/math.h"

namespace fastrnn {

// i, f = sigmoid(x + r + p c);  g = tanh(x + r);  c' = f c + i g;  o = sigmoid(x + r + p_o c')
// h' = o tanh(c')          https://www.jmlr.org/papers/v3/gers02a.html
struct Peephole {
  static constexpr const char* kName = "peephole@0123456789abcdef";
  static constexpr int kGates = 4, kStates = 2, kSaved = 4, kParams = 3;  // saved i f g o; p i f o
  static constexpr bool kSplit = false;

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
    const T i = saved[0], f = saved[1], g = saved[2], o = saved[3], tc = tanh(next[1]);
    dx[3] = d[0] * tc * o * (T(1) - o);
    const T dc = d[1] + d[0] * o * (T(1) - tc * tc) + dx[3] * p[2];
    dx[0] = dc * g * i * (T(1) - i);
    dx[1] = dc * prev[1] * f * (T(1) - f);
    dx[2] = dc * i * (T(1) - g * g);
    dp[0] = dx[0] * prev[1], dp[1] = dx[1] * prev[1], dp[2] = dx[3] * next[1];
    d[0] = T(0), d[1] = dc * f + dx[0] * p[0] + dx[1] * p[1];
  }
};

// z = sigmoid(x_z + r_z);  n = tanh(x_n + z r_n);  s_0 = n;  s_k' = z s_k + p (1 - z) s_(k-1)'
// h' = n + the last s': S - 1 averages, each of the one before.
template <int S, int P>
struct Cascade {
  static constexpr int kGates = 2, kStates = S, kSaved = 3, kParams = P;  // saved z n r_n
  static constexpr bool kSplit = true;                                    // dL/dr_n = z dL/dx_n

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, const T* p, T* next,
                                 T* saved) {
    const T z = sigmoid(x[0] + r[0]), n = tanh(x[1] + z * r[1]);
    T before = n;
    for (int k = 1; k < S; ++k) {
      before = next[k] = z * prev[k] + scale(p) * (T(1) - z) * before;
    }
    next[0] = n + before;
    saved[0] = z, saved[1] = n, saved[2] = r[1];
  }
  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, T* next, T* saved) {
    forward(x, r, prev, static_cast<const T*>(nullptr), next, saved);
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T* next, const T* p, T* d,
                                  T* dx, T* dr, T* dp) {
    const T z = saved[0], n = saved[1], far = T(1) - z;
    const T dh = d[0];
    T back = dh, dz = T(0), d_scale = T(0);  // back: of s_k', from all that follows
    for (int k = S - 1; k > 0; --k) {
      const T ds = d[k] + back, before = k > 1 ? next[k - 1] : n;
      dz = dz + ds * (prev[k] - scale(p) * before);
      d_scale = d_scale + ds * far * before;
      back = ds * scale(p) * far;
      d[k] = ds * z;
    }
    dx[1] = (dh + back) * (T(1) - n * n);
    dr[1] = dx[1] * z;
    dx[0] = dr[0] = (dz + dx[1] * saved[2]) * z * far;
    d[0] = T(0);
    if constexpr (P > 0) dp[0] = d_scale;
  }
  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T* next, T* d, T* dx,
                                  T* dr) {
    backward(saved, prev, next, static_cast<const T*>(nullptr), d, dx, dr,
             static_cast<T*>(nullptr));
  }

  template <class T>
  FASTRNN_HD static T scale(const T* p) {
    if constexpr (P > 0) return p[0];
    return T(1);
  }
};

}  // namespace fastrnn

#define FASTRNN_CELLS(F)     \
  F(peephole, Peephole)      \
  F(cascade4, Cascade<4, 0>) \
  F(cascade8, Cascade<8, 1>)
