// The light GRU by hand.
#pragma once
#include "cells/math.h"

namespace fastrnn {

// z = sigmoid(x_z + r_z);  n = relu(x_n + r_n);  h' = n + z (h - n)
struct LightGru {
  static constexpr int kGates = 2, kStates = 1, kSaved = 2;  // saved z n
  static constexpr bool kSplit = false;                      // dL/dx == dL/dr

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, T* next, T* saved) {
    const T z = sigmoid(x[0] + r[0]), n = relu(x[1] + r[1]);
    next[0] = n + z * (prev[0] - n);
    saved[0] = z, saved[1] = n;
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T*, T* d, T* dx, T*) {
    const T z = saved[0], n = saved[1];
    dx[0] = d[0] * (prev[0] - n) * z * (T(1) - z);
    dx[1] = d[0] * (T(1) - z) * heaviside(n);
    d[0] = d[0] * z;
  }
};

}  // namespace fastrnn

#define FASTRNN_EXTRA_CELL_LIST(F) F(light_gru, LightGru)
