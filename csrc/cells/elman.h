#pragma once
#include "../common/math.h"

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
    dx[0] = d[0] * Act::slope(next[0]);
    d[0] = T(0);
  }
};

// Slopes are functions of the activation's value, so h' is all that backward needs.
struct Tanh {
  template <class T>
  FASTRNN_HD static T value(T a) {
    return tanh(a);
  }
  template <class T>
  FASTRNN_HD static T slope(T y) {
    return T(1) - y * y;
  }
};

struct Relu {
  template <class T>
  FASTRNN_HD static T value(T a) {
    return relu(a);
  }
  template <class T>
  FASTRNN_HD static T slope(T y) {
    return heaviside(y);
  }
};

struct Identity {
  template <class T>
  FASTRNN_HD static T value(T a) {
    return a;
  }
  template <class T>
  FASTRNN_HD static T slope(T) {
    return T(1);
  }
};

}  // namespace fastrnn
