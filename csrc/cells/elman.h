#pragma once
#include "math.h"

namespace fastrnn {

// h' = act(x + r)        x = W_ih x_t + b_ih,  r = W_hh h + b_hh       (torch.nn.RNN)
template <class Act>
struct Elman {
  static constexpr int kGates = 1, kStates = 1, kSaved = 0;
  static constexpr bool kSplit = false;  // dL/dx == dL/dr

  template <class T>
  FASTRNN_HD static void forward(const T* x, const T* r, const T*, T* next, T*) {
    next[0] = Act::value(x[0] + r[0]);
  }

  template <class T>
  FASTRNN_HD static void backward(const T*, const T*, const T* next, T* d, T* dx, T*) {
    dx[0] = Act::backward(d[0], next[0]);
    d[0] = T(0);
  }
};

// The gradient d times the slope, a function of the activation's value y: h' is all that it needs.
struct Tanh {
  template <class T>
  FASTRNN_HD static T value(T a) {
    return tanh(a);
  }
  template <class T>
  FASTRNN_HD static T backward(T d, T y) {
    return d * (T(1) - y * y);
  }
};

struct Relu {
  template <class T>
  FASTRNN_HD static T value(T a) {
    return relu(a);
  }
  template <class T>
  FASTRNN_HD static T backward(T d, T y) {
    return relu_backward(d, y);
  }
};

struct Identity {
  template <class T>
  FASTRNN_HD static T value(T a) {
    return a;
  }
  template <class T>
  FASTRNN_HD static T backward(T d, T) {
    return d;
  }
};

}  // namespace fastrnn
