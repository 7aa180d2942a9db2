// The forward engine: T steps of any cell. A thread owns some batch rows, all units, and walks all
// steps with no barrier; or, with fewer rows than threads, all rows and some units, with a barrier
// a step. Time goes in blocks: the block's input projection first, then its steps, so that the
// projection never leaves the cache.
#pragma once
#include "direct.h"
#include "rows.h"
#include "workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class Forward {
 public:
  static int64_t workspace(const ScanParams& s) { return Forward(s, nullptr).bytes_; }

  static void run(const ScanParams& s) {
    Forward self(s, s.workspace);
    Team<Forward>::run(s.parallel, s.threads, self);
  }

  void operator()(int rank, int size, Barrier& barrier) {
    for (int64_t i = rank; i < s_.directions * panels_.count(); i += size) {
      pack(int(i / panels_.count()), i % panels_.count());
    }
    barrier.wait(size);
    for (int d = 0; d < s_.directions; ++d) {
      if (s_.B >= size) {
        const Range rows = row_part(s_, rank, size);
        for (int64_t b = rows.begin; b < rows.end; b += kMaxRows) {
          const Range chunk{b, rows.end - b < kMaxRows ? rows.end : b + kMaxRows};
          walk(d, chunk, {0, panels_.count()}, scratch_[rank], nullptr, 1);
        }
      } else {
        walk(d, {0, s_.B}, part(panels_.count(), rank, size), scratch_[rank], &barrier, size);
      }
    }
  }

 private:
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved;
  static constexpr int kStored = K + S - 1;  // values a unit and step leaves for backward
  using A = Sum<T>;
  static constexpr int W = Vec<A>::W;
  // Carried states live in the final states' memory, and h in the output: where those are rounded,
  // in memory of their own.
  static constexpr bool kRounded = Storage<T>::kPair > 1;
  static constexpr int kFirstCarried = kRounded ? 0 : 1;
  static constexpr int64_t kMaxRows = 192;           // rows a thread walks through time together
  static constexpr int64_t kBlockBytes = 512 << 10;  // of projected input
  static constexpr int64_t kDirectSteps = 4;         // up to here packing weights does not pay

  struct Weights {  // packed; panel p of w_ih lies at column(p) * lanes(I), and so on
    Lane<T>*w_ih, *w_hh;
    A *b_ih, *b_hh;
  };
  struct Scratch {  // one thread's
    A* gates;       // projected input of a block [rows][columns of the thread's panels]
    A* recurrent;   // r = W_hh h + b_hh of one group of rows and one panel, or one row and all
                    // panels
    A* zeros;       // [H]; as T it is zeros too
    A* carried;     // kRounded: [S][rows, H]
    const T **input, **h, **h_in;  // rows by pointer: of the block; of the previous and this step
    Range rows;                    // of the batch
  };

  Forward(const ScanParams& s, void* memory)
      : s_(s), rows_{s}, panels_(s.H, G), direct_(s.T <= kDirectSteps) {
    const int64_t row_bytes = panels_.width() * sizeof(A);
    block_rows_ = kBlockBytes / row_bytes < 48 ? 48 : kBlockBytes / row_bytes;
    if (block_rows_ > s.T * s.B) block_rows_ = s.T * s.B;
    const int64_t most = s.B < kMaxRows ? s.B : kMaxRows;
    if (block_rows_ < most) block_rows_ = most;
    Arena arena(memory);
    for (int d = 0; d < s.directions; ++d) {
      const int64_t width = panels_.width();
      weights_[d] = {arena.take<Lane<T>>(!direct_ && s.dir[d].w_ih ? width * lanes<T>(s.I) : 0),
                     arena.take<Lane<T>>(direct_ ? 0 : width * lanes<T>(s.H)), arena.take<A>(width),
                     arena.take<A>(width)};
    }
    scratch_ = arena.take<Scratch>(s.threads);
    for (int i = 0; i < s.threads; ++i) {
      const int64_t tile = kGroupRows * kMaxVectors * W;
      Scratch w{arena.take<A>(block_rows_ * panels_.width()),
                arena.take<A>(tile > panels_.width() ? tile : panels_.width()),
                arena.take<A>(s.H),
                arena.take<A>(kRounded ? S * most * s.H : 0),
                arena.take<const T*>(block_rows_),
                arena.take<const T*>(most),
                arena.take<const T*>(most),
                {0, 0}};
      if (memory) scratch_[i] = w;
    }
    bytes_ = arena.used();
  }

  void pack(int d, int64_t p) {
    const Direction& dir = s_.dir[d];
    const Weights& w = weights_[d];
    const int64_t column = panels_.column(p), columns = panels_.vectors(p) * W;
    if (!direct_ && dir.w_ih) {
      pack_gates(panels_, p, static_cast<const T*>(dir.w_ih), s_.I,
                 w.w_ih + column * lanes<T>(s_.I));
    }
    if (!direct_) {
      pack_gates(panels_, p, static_cast<const T*>(dir.w_hh), s_.H,
                 w.w_hh + column * lanes<T>(s_.H));
    }
    pack_bias(p, dir.b_ih, w.b_ih + column, columns);
    pack_bias(p, dir.b_hh, w.b_hh + column, columns);
  }
  void pack_bias(int64_t p, const void* bias, A* out, int64_t columns) {
    if (bias) {
      pack_row(panels_, p, p + 1, static_cast<const T*>(bias), out);
    } else {
      memset(out, 0, columns * sizeof(A));
    }
  }

  // What one thread does in direction d: `rows` of the batch, the units of `panels`.
  void walk(int d, Range rows, Range panels, Scratch& w, Barrier* barrier, int size) {
    const Direction& dir = s_.dir[d];
    const int64_t start = panels_.unit(panels.begin), first = start < s_.H ? start : s_.H;
    const int64_t last = panels_.unit(panels.end) < s_.H ? panels_.unit(panels.end) : s_.H;
    memset(w.zeros, 0, s_.H * sizeof(A));
    w.rows = rows;
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      w.h[b - rows.begin] = rows_.state(dir.state0[0], b);
      for (int k = kFirstCarried; k < S; ++k) {
        copy(rows_.state(dir.state0[k], b), carried(d, k, b, w), {first, last});
      }
    }
    for (int64_t step = 0; step < s_.T;) {
      const int64_t begin = step;
      int64_t count = 0;
      for (; step < s_.T; ++step) {
        const int64_t t = rows_.time(d, step), active = rows_.active(t, rows);
        if (count > 0 && count + active > block_rows_) break;
        for (int64_t b = 0; b < active; ++b) w.input[count++] = rows_.input(t, rows.begin + b);
      }
      project(d, count, panels, w);
      const A* gates = w.gates;
      for (int64_t i = begin; i < step; ++i) {
        const int64_t t = rows_.time(d, i);
        time_step(d, t, rows, panels, gates, w);
        gates += rows_.active(t, rows) * columns(panels);
        if (barrier) barrier->wait(size);
      }
    }
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      memcpy(rows_.state(dir.state_n[0], b) + first, w.h[b - rows.begin] + first,
             (last - first) * sizeof(T));
      for (int k = 1; kRounded && k < S; ++k) {
        copy(carried(d, k, b, w), rows_.state(dir.state_n[k], b), {first, last});
      }
    }
  }

  // State k of batch row b between its steps.
  A* carried(int d, int k, int64_t b, const Scratch& w) const {
    if constexpr (kRounded)
      return w.carried + (k * (w.rows.end - w.rows.begin) + b - w.rows.begin) * s_.H;
    else
      return rows_.state(s_.dir[d].state_n[k], b);
  }

  int64_t columns(Range panels) const {
    const int64_t end =
        panels.end == panels_.count() ? panels_.width() : panels_.column(panels.end);
    return end - panels_.column(panels.begin);
  }
  // gates[row] = W_ih x + b_ih for the block's rows, in the order of the panels' columns.
  void project(int d, int64_t count, Range panels, Scratch& w) {
    const int64_t ld = columns(panels);
    for (int64_t p = panels.begin; s_.dir[d].w_ih && p < panels.end; ++p) {
      const int64_t column = panels_.column(p);
      A* out = w.gates + column - panels_.column(panels.begin);
      if (direct_) {
        direct_gemm(panels_, p, static_cast<const T*>(s_.dir[d].w_ih), s_.I, w.input, count,
                    weights_[d].b_ih + column, out, ld);
      } else {
        panel_gemm(panels_.vectors(p), w.input, count, s_.I,
                   weights_[d].w_ih + column * lanes<T>(s_.I), panels_.vectors(p) * W,
                   weights_[d].b_ih + column, out, ld);
      }
    }
    for (int64_t r = 0; !s_.dir[d].w_ih && r < count; ++r) {
      pack_row(panels_, panels.begin, panels.end, w.input[r], w.gates + r * ld);
    }
  }

  void time_step(int d, int64_t t, Range rows, Range panels, const A* gates, Scratch& w) {
    const int64_t active = rows_.active(t, rows), n = s_.row(t) + rows.begin, ld = columns(panels);
    for (int64_t b = 0; b < active; ++b) {
      w.h_in[b] = s_.resets && s_.resets[n + b] ? reinterpret_cast<const T*>(w.zeros) : w.h[b];
    }
    const int64_t origin = panels_.column(panels.begin);
    const bool by_row = active == 1 && !direct_;
    if (by_row) {
      recur_row(d, panels, w);
      for (int64_t p = panels.begin; p < panels.end; ++p) {
        const int64_t column = panels_.column(p) - origin;
        apply(d, n, rows.begin, 1, p, gates + column, ld, w.recurrent + column, 0, w, w.h_in);
      }
    }
    for (int64_t p = panels.begin; !by_row && p < panels.end; ++p) {
      const int64_t column = panels_.column(p), width = panels_.vectors(p) * W;
      for (int64_t r = 0; r < active; r += kGroupRows) {
        const int64_t count = active - r < kGroupRows ? active - r : kGroupRows;
        recur(d, p, w.h_in + r, count, w.recurrent, width);
        apply(d, n + r, rows.begin + r, count, p, gates + r * ld + column - origin, ld, w.recurrent,
              width, w, w.h_in + r);
      }
    }
    for (int64_t b = 0; b < active; ++b) w.h[b] = rows_.output(d, n + b);
  }

  // r = W_hh h + b_hh for one row and all of the thread's panels.
  void recur_row(int d, Range panels, Scratch& w) {
    constexpr int NU = G >= kMaxVectors ? 1 : kMaxVectors / G, NV = G * NU;
    const int64_t origin = panels_.column(panels.begin);
    const int64_t end = panels_.registers(panels.end - 1) == NU ? panels.end : panels.end - 1;
    if (panels.end == panels.begin) return;
    row_gemm<T, NV>(w.h_in[0], s_.H, weights_[d].w_hh + origin * lanes<T>(s_.H),
                    int64_t(NV * W) * lanes<T>(s_.H), end - panels.begin, weights_[d].b_hh + origin,
                    w.recurrent);
    if (end < panels.end) {
      recur(d, end, w.h_in, 1, w.recurrent + panels_.column(end) - origin, 0);
    }
  }

  // r = W_hh h + b_hh for some rows and panel p; out rows lie ld apart.
  void recur(int d, int64_t p, const T* const* h, int64_t count, A* out, int64_t ld) {
    const int64_t column = panels_.column(p);
    const A* bias = weights_[d].b_hh + column;
    if (direct_) {
      direct_gemm(panels_, p, static_cast<const T*>(s_.dir[d].w_hh), s_.H, h, count, bias, out, ld);
    } else {
      panel_gemm(panels_.vectors(p), h, count, s_.H, weights_[d].w_hh + column * lanes<T>(s_.H),
                 panels_.vectors(p) * W, bias, out, ld);
    }
  }

  void apply(int d, int64_t n, int64_t b, int64_t count, int64_t p, const A* x, int64_t x_ld,
             const A* r, int64_t r_ld, Scratch& w, const T* const* h) {
    if (s_.dir[d].saved) {
      cells<true>(d, n, b, count, p, x, x_ld, r, r_ld, w, h);
    } else {
      cells<false>(d, n, b, count, p, x, x_ld, r, r_ld, w, h);
    }
  }

  // The cell on the units of panel p, for `count` rows of a step from row index n, batch row b on.
  template <bool kSave>
  [[gnu::noinline]] void cells(int d, int64_t n, int64_t b, int64_t count, int64_t p, const A* x,
                               int64_t x_ld, const A* r, int64_t r_ld, Scratch& w,
                               const T* const* h) {
    using V = Vec<A>;
    const Direction& dir = s_.dir[d];
    const int nu = panels_.registers(p);
    for (int64_t i = 0; i < count; ++i) {
      const bool reset = s_.resets && s_.resets[n + i];
      T* out = rows_.output(d, n + i);
      T* saved = static_cast<T*>(dir.saved) + (kSave ? (n + i) * kStored * s_.H : 0);
      for (int v = 0; v < nu; ++v) {
        const int64_t j = panels_.unit(p) + v * W, left = s_.H - j;
        V xs[G], rs[G], prev[S], next[S], keep[K + 1];
        for (int g = 0; g < G; ++g) {
          xs[g] = V::load(x + i * x_ld + (g * nu + v) * W);
          rs[g] = V::load(r + i * r_ld + (g * nu + v) * W);
        }
        if (!kRounded) prev[0] = read(h[i] + j, left);
        for (int k = kFirstCarried; k < S; ++k) {
          prev[k] = V::load((reset ? w.zeros : carried(d, k, b + i, w)) + j, left);
        }
        Cell::forward(xs, rs, prev, next, keep);
        write(next[0], out + j, left);
        for (int k = kFirstCarried; k < S; ++k) next[k].store(carried(d, k, b + i, w) + j, left);
        for (int k = 1; kSave && k < S; ++k) write(next[k], saved + (K + k - 1) * s_.H + j, left);
        for (int k = 0; kSave && k < K; ++k) write(keep[k], saved + k * s_.H + j, left);
      }
    }
  }

  const ScanParams& s_;
  const Rows<T> rows_;
  const Panels<Sum<T>> panels_;
  const bool direct_;  // weights are used as they lie
  int64_t block_rows_ = 0, bytes_ = 0;
  Weights weights_[2];
  Scratch* scratch_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
