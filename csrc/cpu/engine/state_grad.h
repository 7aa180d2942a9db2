// dL/dh of the initial states: what the first step passes on directly, and its gate gradients
// times W_hh. Knows no cell.
#pragma once
#include "cpu/gemm/matrix.h"
#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// M: Matrix, or HeadMatrix.
template <class T, class M>
struct HiddenStateGrad {
  using A = Sum<T>;
  static constexpr int W = Vec<A>::W;
  const ScanParams& s;
  const M& w_hh;

  // To `to` [B, P], for some batch rows and the columns of some panels of W_hh. next: the first
  // step's gate gradients of each of the rows; carry [rows, P]: what is passed on directly.
  void run(Range rows, Range panels, const T* const* next, const A* carry, void* to, int rank,
           A* tile) const {
    const int64_t count = rows.end - rows.begin;
    if (w_hh.streams(count)) return row(rows.begin, w_hh.panels.units(panels), *next, carry, to);
    const Rows<T> place{s};
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      const Lane<T>* panel = w_hh.panel(p, rank);
      for (int64_t r = 0; r < count; r += kGroupRows) {
        const int64_t some = count - r < kGroupRows ? count - r : kGroupRows;
        w_hh.multiply(p, panel, next + r, some, tile);
        for (int64_t i = 0; i < some; ++i) {
          T* out = place.state(to, 0, rows.begin + r + i);
          for (int v = 0; v < w_hh.panels.registers(p); ++v) {
            const int64_t j = w_hh.panels.unit(p) + v * W, left = w_hh.panels.end(p) - j;
            const Vec<A> sum = Vec<A>::load(carry + (r + i) * s.P + j, left) +
                               Vec<A>::load(tile + (i * w_hh.panels.vectors(p) + v) * W);
            write(sum, out + j, left);
          }
        }
      }
    }
  }

 private:
  void row(int64_t b, Range units, const T* next, const A* carry, void* to) const {
    T* out = Rows<T>{s}.state(to, 0, b);
    w_hh.stream(next, out, units);
    for (int64_t j = units.begin; j < units.end; j += W) {
      const int64_t left = units.end - j;
      write(Vec<A>::load(carry + j, left) + read(out + j, left), out + j, left);
    }
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
