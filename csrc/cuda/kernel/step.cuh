// What one unit of one batch row does at one step, forward and backward: the cell between its loads
// and its stores. Engines differ in who holds which weights and how values travel; they share this.
//
// A step multiplies an operand [rows, kIn * H] that all units of the step before have published
// with weights to kSums sums a unit:
//   forward   h W_hh^T      kIn = 1, kSums = G     publishes h'
//   backward  d(gates) W_hh kIn = G, kSums = 1     publishes dL/dr
#pragma once
#include "cells/registry.h"
#include "cuda/scan.h"
#include "numbers.cuh"

namespace fastrnn {
namespace cuda {

// Where an element is: unit u of batch row b in direction d; n its row, before that of the step it
// comes from in scan order (-1: the initial state), which backward asks for.
struct Place {
  int d, b, u;
  int64_t n, before;
  bool reset;
};

// Whether a walk meets the steps in falling order of time.
FASTRNN_DEVICE bool falls(const Scan& s, int d, bool backward) {
  return (s.reverse || d == 1) != backward;
}
// When step number i of a walk over `steps` of them is.
FASTRNN_DEVICE int64_t time_of(const Scan& s, int d, bool backward, int64_t i, int64_t steps) {
  return falls(s, d, backward) ? steps - 1 - i : i;
}
FASTRNN_DEVICE int64_t length(const Scan& s, int b) { return s.lengths ? s.lengths[b] : s.T; }
FASTRNN_DEVICE int64_t row_offset(const Scan& s, int64_t t) {
  return s.offsets ? s.offsets[t] : t * s.B;
}

// The cell's own parameters of two units. Values of 2 bytes are loaded with the step's others and
// wait in registers, two in each; of wider ones a register holds one, and they are read in the
// step.
template <class T, int P>
struct Parameters {
  static constexpr bool kAhead = sizeof(T) == 2;
  Two<T> ahead[kAhead ? P : 1];

  FASTRNN_DEVICE static const T* from(const Scan& s, const Place& p, int k) {
    return static_cast<const T*>(s.params) + (int64_t(p.d) * P + k) * s.H + p.u;
  }
  FASTRNN_DEVICE void load_params(const Scan& s, const Place& p, int count, bool aligned) {
    for (int k = 0; kAhead && k < P; ++k) {
      ahead[k] = Two<T>::load(from(s, p, k), count, aligned);
    }
  }
  // Of unit p, which is number i of those loaded.
  template <class V>
  FASTRNN_DEVICE void read_params(const Scan& s, const Place& p, int i, V (&values)[P]) const {
    for (int k = 0; k < P; ++k) values[k] = V(to_float(kAhead ? ahead[k].at(i) : *from(s, p, k)));
  }
};
template <class T>
struct Parameters<T, 0> {
  FASTRNN_DEVICE void load_params(const Scan&, const Place&, int, bool) {}
};

template <class Cell, class Numbers>
struct ForwardStep {
  using T = typename Numbers::T;
  using A = typename Numbers::A;
  using V = typename Numbers::V;
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved;
  static constexpr int P = params<Cell>;
  static_assert(!across<Cell>, "the CUDA kernels have no cell that looks across a row's units");
  static constexpr int kSums = G, kIn = 1, kCarried = S, kLoads = G + P;
  static constexpr bool kBackward = false, kSplit = Cell::kSplit;
  // b_hh, too, waits in registers where two values share one; else it is read in the step.
  static constexpr bool kBiasAhead = sizeof(T) == 2;
  struct Loaded : Parameters<T, P> {
    Two<T> x[G], bias[kBiasAhead ? G : 1];
  };
  struct Stored {  // what a unit leaves in device memory
    T h, kept[K + S];
  };

  // Index in one direction's W_hh of the weight from operand (i, j) to sum s of unit u.
  FASTRNN_DEVICE static int64_t weight(int64_t H, int s, int64_t u, int, int64_t j) {
    return (s * H + u) * H + j;
  }

  FASTRNN_DEVICE static void begin(const Scan& s, int d, int b, int u, A (&carry)[S],
                                   A (&published)[1]) {
    for (int k = 0; k < S; ++k) {
      carry[k] = to_float(static_cast<const T*>(s.state0[k])[(int64_t(d) * s.B + b) * s.H + u]);
    }
    published[0] = carry[0];
  }

  // What `count` units from p on need; aligned: both lie in one word.
  FASTRNN_DEVICE static Loaded load(const Scan& s, const Place& p, int count, bool aligned) {
    const T* x = static_cast<const T*>(s.gx) + (p.n * s.D + p.d) * G * s.H + p.u;
    Loaded l;
    for (int g = 0; g < G; ++g) {
      l.x[g] = Two<T>::load(x + int64_t(g) * s.H, count, aligned);
      if (kBiasAhead && s.b_hh) l.bias[g] = Two<T>::load(bias_at(s, p, g), count, aligned);
    }
    l.load_params(s, p, count, aligned);
    return l;
  }

  FASTRNN_DEVICE static const T* bias_at(const Scan& s, const Place& p, int g) {
    return static_cast<const T*>(s.b_hh) + (int64_t(p.d) * G + g) * s.H + p.u;
  }
  FASTRNN_DEVICE static A bias(const Scan& s, const Place& p, const Loaded& l, int g, int i) {
    if (!s.b_hh) return A(0);
    return to_float(kBiasAhead ? l.bias[g].at(i) : *bias_at(s, p, g));
  }

  // Unit p, which is number i of those loaded.
  FASTRNN_DEVICE static void run(const Scan& s, const Place& p, const Loaded& l, int i,
                                 const A (&sums)[kSums], A (&carry)[S], A (&published)[1],
                                 Stored& stored) {
    V x[G], r[G], prev[S], next[S], kept[K + 1];
    for (int g = 0; g < G; ++g) {
      x[g] = V(to_float(l.x[g].at(i)));
      r[g] = V((p.reset ? A(0) : sums[g]) + bias(s, p, l, g, i));
    }
    for (int k = 0; k < S; ++k) prev[k] = V(p.reset ? A(0) : carry[k]);
    if constexpr (P > 0) {
      V params[P];
      l.read_params(s, p, i, params);
      Cell::forward(x, r, prev, params, next, kept);
    } else {
      Cell::forward(x, r, prev, next, kept);
    }
    for (int k = 0; k < S; ++k) carry[k] = raw<A>(next[k]);
    published[0] = carry[0];
    stored.h = rounded<T>(carry[0]);
    for (int k = 0; k < K; ++k) stored.kept[k] = rounded<T>(raw<A>(kept[k]));
    for (int k = 1; k < S; ++k) stored.kept[K + k - 1] = rounded<T>(carry[k]);
  }

  FASTRNN_DEVICE static void store(const Scan& s, const Place& p, const Stored& stored) {
    static_cast<T*>(s.output)[(p.n * s.D + p.d) * s.H + p.u] = stored.h;
    if (!s.saved) return;
    T* saved = static_cast<T*>(s.saved) + (p.d * s.N + p.n) * (K + S - 1) * s.H + p.u;
    for (int k = 0; k < K + S - 1; ++k) saved[int64_t(k) * s.H] = stored.kept[k];
  }

  // A row that takes no part keeps its state.
  FASTRNN_DEVICE static void idle(bool, const A (&)[kSums], A (&carry)[S], A (&published)[1]) {
    published[0] = carry[0];
  }

  FASTRNN_DEVICE static void finish(const Scan& s, int d, int b, int u, const A (&)[kSums],
                                    const A (&carry)[S]) {
    for (int k = 0; k < S; ++k) {
      static_cast<T*>(s.state_n[k])[(int64_t(d) * s.B + b) * s.H + u] = rounded<T>(carry[k]);
    }
  }
};

template <class Cell, class Numbers>
struct BackwardStep {
  using T = typename Numbers::T;
  using A = typename Numbers::A;
  using V = typename Numbers::V;
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved;
  static constexpr int P = params<Cell>;
  // carried after the states' gradients: those of the parameters, summed over the row's steps
  static constexpr int kSums = 1, kIn = G, kCarried = S + P, kLoads = K + 2 * S + 1 + P;
  static constexpr bool kBackward = true, kSplit = Cell::kSplit;
  struct Loaded : Parameters<T, P> {
    Two<T> kept[K + 1], prev[S], next[S], d_output;
  };
  struct Stored {
    T dx[G], dr[G];
  };

  FASTRNN_DEVICE static int64_t weight(int64_t H, int, int64_t u, int i, int64_t j) {
    return (i * H + u) * H + j;  // each gate's matrix transposed
  }

  FASTRNN_DEVICE static void begin(const Scan& s, int d, int b, int u, A (&carry)[kCarried],
                                   A (&published)[G]) {
    for (int k = 0; k < S; ++k) {
      carry[k] = to_float(static_cast<const T*>(s.d_state_n[k])[(int64_t(d) * s.B + b) * s.H + u]);
    }
    for (int k = S; k < kCarried; ++k) carry[k] = A(0);
    for (int g = 0; g < G; ++g) published[g] = A(0);
  }

  // State k after row n of a step; before the first one, the initial state.
  FASTRNN_DEVICE static const T* state(const Scan& s, const Place& p, int64_t n, int k) {
    if (n < 0) return static_cast<const T*>(s.state0[k]) + (int64_t(p.d) * s.B + p.b) * s.H + p.u;
    if (k == 0) return static_cast<const T*>(s.output) + (n * s.D + p.d) * s.H + p.u;
    return saved(s, p, n) + int64_t(K + k - 1) * s.H;
  }
  FASTRNN_DEVICE static const T* saved(const Scan& s, const Place& p, int64_t n) {
    return static_cast<const T*>(s.saved) + (p.d * s.N + n) * (K + S - 1) * s.H + p.u;
  }

  FASTRNN_DEVICE static Loaded load(const Scan& s, const Place& p, int count, bool aligned) {
    const auto two = [=](const T* from) { return Two<T>::load(from, count, aligned); };
    Loaded l;
    for (int k = 0; k < K; ++k) l.kept[k] = two(saved(s, p, p.n) + int64_t(k) * s.H);
    for (int k = 0; k < S; ++k) {
      l.prev[k] = two(state(s, p, p.before, k));
      l.next[k] = two(state(s, p, p.n, k));
    }
    l.d_output = two(static_cast<const T*>(s.d_output) + (p.n * s.D + p.d) * s.H + p.u);
    l.load_params(s, p, count, aligned);
    return l;
  }

  FASTRNN_DEVICE static void run(const Scan& s, const Place& p, const Loaded& l, int i,
                                 const A (&sums)[1], A (&carry)[kCarried], A (&published)[G],
                                 Stored& stored) {
    V kept[K + 1], prev[S], next[S], d[S], dx[G], dr[G];
    for (int k = 0; k < K; ++k) kept[k] = V(to_float(l.kept[k].at(i)));
    for (int k = 0; k < S; ++k) {
      prev[k] = V(p.reset ? A(0) : A(to_float(l.prev[k].at(i))));
      next[k] = V(to_float(l.next[k].at(i)));
      d[k] = V(carry[k]);
    }
    d[0] = V(carry[0] + sums[0] + A(to_float(l.d_output.at(i))));
    if constexpr (P > 0) {
      V params[P], d_params[P];
      l.read_params(s, p, i, params);
      Cell::backward(kept, prev, next, params, d, dx, dr, d_params);
      for (int k = 0; k < P; ++k) carry[S + k] = carry[S + k] + raw<A>(d_params[k]);
    } else {
      Cell::backward(kept, prev, next, d, dx, dr);
    }
    for (int k = 0; k < S; ++k) carry[k] = p.reset ? A(0) : raw<A>(d[k]);
    for (int g = 0; g < G; ++g) {
      const A r = raw<A>(Cell::kSplit ? dr[g] : dx[g]);
      stored.dx[g] = rounded<T>(raw<A>(dx[g]));
      if (Cell::kSplit) stored.dr[g] = rounded<T>(r);
      published[g] = p.reset ? A(0) : r;
    }
  }

  FASTRNN_DEVICE static void store(const Scan& s, const Place& p, const Stored& stored) {
    const int64_t at = (p.n * s.D + p.d) * G * s.H + p.u;
    for (int g = 0; g < G; ++g) {
      static_cast<T*>(s.dx)[at + int64_t(g) * s.H] = stored.dx[g];
      if (Cell::kSplit) static_cast<T*>(s.dr)[at + int64_t(g) * s.H] = stored.dr[g];
    }
  }

  // left: the row took part in the step before, which sends its last sums back.
  FASTRNN_DEVICE static void idle(bool left, const A (&sums)[1], A (&carry)[kCarried],
                                  A (&published)[G]) {
    if (left) carry[0] = carry[0] + sums[0];
    for (int g = 0; g < G; ++g) published[g] = A(0);
  }

  // The sums that the first step's gates send back belong to the initial state.
  FASTRNN_DEVICE static void finish(const Scan& s, int d, int b, int u, const A (&sums)[1],
                                    const A (&carry)[kCarried]) {
    for (int k = 0; k < S; ++k) {
      const A value = k == 0 ? carry[0] + sums[0] : carry[k];
      static_cast<T*>(s.d_state0[k])[(int64_t(d) * s.B + b) * s.H + u] = rounded<T>(value);
    }
    for (int k = 0; k < P; ++k) {
      const int64_t line = (int64_t(d) * s.B + b) * P + k;
      static_cast<A*>(s.d_params)[line * s.H + u] = carry[S + k];
    }
  }
};

}  // namespace cuda
}  // namespace fastrnn
