#pragma once
#include "math.h"

namespace fastrnn {

// r, z = sigmoid(x + u);  n = tanh(x_n + r u_n);  h' = n + z (h - n)     u = W_hh h + b_hh
// The reset-after form of torch.nn.GRU.
struct Gru {
  static constexpr int kGates = 3, kStates = 1, kSaved = 4;  // saved r z n u_n
  static constexpr bool kSplit = true;                       // dL/dx_n != dL/du_n
  static constexpr int kKeptGate = 1;

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* u, const T* prev, T* next, T* saved) {
    const T r = sigmoid(x[0] + u[0]), z = sigmoid(x[1] + u[1]);
    const T n = tanh(x[2] + r * u[2]);
    next[0] = n + z * (prev[0] - n);
    saved[0] = r, saved[1] = z, saved[2] = n, saved[3] = u[2];
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T*, T* d, T* dx, T* du) {
    const T r = saved[0], z = saved[1], n = saved[2], un = saved[3];
    dx[2] = d[0] * (T(1) - z) * (T(1) - n * n);
    dx[1] = du[1] = d[0] * (prev[0] - n) * z * (T(1) - z);
    dx[0] = du[0] = dx[2] * un * r * (T(1) - r);
    du[2] = dx[2] * r;
    d[0] = d[0] * z;
  }
};

}  // namespace fastrnn
