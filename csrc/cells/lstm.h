#pragma once
#include "math.h"

namespace fastrnn {

// i, f, o = sigmoid(x + r);  g = tanh(x + r);  c' = f c + i g;  h' = o tanh(c')   (torch.nn.LSTM)
struct Lstm {
  static constexpr int kGates = 4, kStates = 2, kSaved = 4;  // states h c; saved i f g o
  static constexpr bool kSplit = false;                      // dL/dx == dL/dr
  static constexpr int kKeptGate = 3;
  static constexpr bool kProjects = true;  // torch.nn's proj_size (Sak et al. 2014)

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T* prev, T* next, T* saved) {
    const T i = sigmoid(x[0] + r[0]), f = sigmoid(x[1] + r[1]);
    const T g = tanh(x[2] + r[2]), o = sigmoid(x[3] + r[3]);
    next[1] = f * prev[1] + i * g;
    next[0] = o * tanh(next[1]);
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o;
  }

  template <class T>
  FASTRNN_HD static void backward(const T* saved, const T* prev, const T* next, T* d, T* dx, T*) {
    const T i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const T tc = tanh(next[1]);  // recomputed: cheaper than a trip to memory
    const T dc = d[1] + d[0] * o * (T(1) - tc * tc);
    dx[0] = dc * g * i * (T(1) - i);
    dx[1] = dc * prev[1] * f * (T(1) - f);
    dx[2] = dc * i * (T(1) - g * g);
    dx[3] = d[0] * tc * o * (T(1) - o);
    d[0] = T(0), d[1] = dc * f;
  }
};

}  // namespace fastrnn
