// Where the rows of a scan lie: time step t of batch row b, for every layout the op accepts.
#pragma once
#include "cpu/params.h"
#include "cpu/simd/number.h"
#include "cpu/threads/range.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// The steps first .. last of a backward walk in direction d, of some batch rows: `count` in all.
struct BlockRows {
  int d;
  int64_t first, last, count;
  Range rows;
};

// The order in which a step goes through the panels of W_hh. Steps take turns in direction: the
// panels that one reads last are still in cache, and are the first ones of the next.
struct Sweep {
  Range panels;
  bool back;
  Sweep(Range panels, int64_t step) : panels(panels), back(step % 2 == 1) {}
  int64_t count() const { return panels.end - panels.begin; }
  int64_t at(int64_t i) const { return back ? panels.end - 1 - i : panels.begin + i; }
};

// Numbers `units` of a state, to another precision or the same.
template <class From, class To>
void copy(const From* from, To* to, Range units) {
  for (int64_t j = units.begin; j < units.end; j += Vec<Sum<From>>::W) {
    write(read(from + j, units.end - j), to + j, units.end - j);
  }
}

template <class T>
struct Rows {
  const ScanParams& s;

  // The i-th step of a walk from the direction's first step on, or from its last.
  FASTRNN_INLINE int64_t time(int d, int64_t i) const { return s.dir[d].reverse ? s.T - 1 - i : i; }
  FASTRNN_INLINE int64_t time_backward(int d, int64_t i) const { return time(d, s.T - 1 - i); }

  // How many of these batch rows step t has: they are the first ones.
  FASTRNN_INLINE int64_t active(int64_t t, Range rows) const {
    const int64_t end = s.rows(t) < rows.end ? s.rows(t) : rows.end;
    return end > rows.begin ? end - rows.begin : 0;
  }
  // The step before (t, b) in the direction's order, or -1 where state0 comes before.
  FASTRNN_INLINE int64_t before(int d, int64_t t, int64_t b) const {
    if (!s.dir[d].reverse) return t - 1;
    return t + 1 < s.T && b < s.rows(t + 1) ? t + 1 : -1;
  }
  // f(place in the block, t, b) for every row of a block, in its order.
  template <class F>
  void each(const BlockRows& block, F f) const {
    int64_t at = 0;
    for (int64_t i = block.first; i < block.last; ++i) {
      const int64_t t = time_backward(block.d, i), count = active(t, block.rows);
      for (int64_t b = 0; b < count; ++b) f(at++, t, block.rows.begin + b);
    }
  }
  // Where (t, b) lies in a tensor of the caller's, with its strides.
  FASTRNN_INLINE int64_t place(int64_t t, int64_t b, int64_t stride_t, int64_t stride_b) const {
    if (!s.step_begin) return t * stride_t + b * stride_b;
    if (!s.order) return (s.step_begin[t] + b) * stride_b;
    return t * stride_t + s.order[b] * stride_b;
  }
  FASTRNN_INLINE const T* input(int64_t t, int64_t b) const {
    return static_cast<const T*>(s.input) + place(t, b, s.input_t, s.input_b);
  }
  // [E*H]: the extra slots of (t, b), and where their gradient goes.
  FASTRNN_INLINE const T* extra(int d, int64_t t, int64_t b) const {
    const Direction& dir = s.dir[d];
    return static_cast<const T*>(dir.extra) + place(t, b, dir.extra_t, dir.extra_b);
  }
  FASTRNN_INLINE T* d_extra(int d, int64_t t, int64_t b, int64_t width) const {
    return static_cast<T*>(s.dir[d].d_extra) + place(t, b, s.B * width, width);
  }
  // [P]: dL/dh of the output; zeros [P] where there is none.
  FASTRNN_INLINE const T* d_output(int d, int64_t t, int64_t b, const T* zeros) const {
    if (!s.d_output) return zeros;
    return static_cast<const T*>(s.d_output) + place(t, b, s.d_output_t, s.d_output_b) + d * s.P;
  }
  FASTRNN_INLINE T* output(int d, int64_t t, int64_t b) const {
    const int64_t width = s.directions * s.P;
    return static_cast<T*>(s.output) + place(t, b, s.B * width, width) + d * s.P;
  }
  FASTRNN_INLINE bool reset(int64_t t, int64_t b) const {
    return s.resets && s.resets[s.row(t) + b];
  }
  // [P]: the hidden state that (t, b) started from; zeros [P] where it was reset.
  FASTRNN_INLINE const T* hidden_before(int d, int64_t t, int64_t b, const T* zeros) const {
    if (reset(t, b)) return zeros;
    const int64_t from = before(d, t, b);
    return from < 0 ? initial(d, 0, b, zeros) : output(d, from, b);
  }
  // State k that batch row b begins with; zeros where none was given.
  FASTRNN_INLINE const T* initial(int d, int k, int64_t b, const T* zeros) const {
    const void* given = s.dir[d].state0[k];
    return given ? state(given, k, b) : zeros;
  }
  // State k of one direction and batch row in a tensor [D, B, state_row(k)] given by its
  // direction's pointer.
  FASTRNN_INLINE const T* state(const void* states, int k, int64_t b) const {
    return static_cast<const T*>(states) + (s.order ? s.order[b] : b) * s.state_row(k);
  }
  FASTRNN_INLINE T* state(void* states, int k, int64_t b) const {
    return static_cast<T*>(states) + (s.order ? s.order[b] : b) * s.state_row(k);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
