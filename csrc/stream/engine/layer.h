// T steps of one layer whose weights are packed: first the products with the input for all of
// them, then the steps. One thread does it all.
#pragma once
#include "cells/math.h"
#include "cells/traits.h"
#include "int8_product.h"
#include "product.h"
#include "stream/kernels.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace stream {

using ::fastrnn::stream::LayerKernels;
using ::fastrnn::stream::LayerSpec;
using ::fastrnn::stream::Shape;
using ::fastrnn::stream::Steps;

// "linear": a cell without states, and so without a recurrent product.
struct Linear {
  static constexpr int kGates = 1, kStates = 0, kSaved = 0, kRecurrent = 0;
  static constexpr bool kSplit = false;
  template <class V>
  FASTRNN_HD static void forward(const V* x, const V*, const V*, V* next, V*) {
    next[0] = x[0];
  }
};

// Cells that this engine runs. Of the others each says by a trait what it needs besides.
template <class Cell>
constexpr bool streams =
    !in_parts<Cell> && !heads<Cell> && extra<Cell> == 0 && params<Cell> == 0 && feeds<Cell> == 0 &&
    Cell::kGates <= kMaxVectors && (recurrent<Cell> == 0 || recurrent<Cell> == Cell::kGates);

// How a matrix is kept: in T, float, Bf16 or int8_t. kVectors: how wide its panels are.
template <class T, int kVectors>
struct Kept {
  using Matrix = stream::Matrix<T, kVectors>;
};
template <int kVectors>
struct Kept<int8_t, kVectors> {
  using Matrix = Int8Matrix;
};

template <class Cell, class T>
class Layer {
 public:
  static int64_t packed_bytes(const Shape& shape) { return Layer(shape, nullptr).arena_.used(); }

  static void pack(const LayerSpec& spec, const Shape& shape, void* packed) {
    Layer layer(shape, packed);
    layer.w_ih_.pack(spec.w_ih);
    layer.pack_bias(spec.b_ih, layer.b_ih_, false);
    if constexpr (kProduct) {
      layer.w_hh_.pack(spec.w_hh);
      layer.pack_bias(spec.b_hh, kApart ? layer.b_hh_ : layer.b_ih_, !kApart);
    }
    if (shape.projected) layer.w_hr_.pack(spec.w_hr);
  }

  static int64_t scratch_bytes(const Shape& shape, int64_t T_, int64_t B) {
    return Layer(shape, nullptr).scratch(nullptr, T_, B).bytes;
  }

  static void run(const Steps& s) {
    const Layer layer(s.shape, const_cast<void*>(s.packed));
    layer.walk(s, layer.scratch(s.scratch, s.T, s.B));
  }

 private:
  static constexpr int G = Cell::kGates, S = Cell::kStates;
  static constexpr bool kProduct = recurrent<Cell> > 0;
  static constexpr int kVectors = G * Panels<float>::together(G);
  using Gates = typename Kept<T, kVectors>::Matrix;
  using Outs = typename Kept<T, kMaxVectors>::Matrix;
  using Units = typename Gates::Units;
  using Rows = typename Gates::Rows;
  // Are the two products kept apart, as the cell looks at more than their sum?
  static constexpr bool kApart = kProduct && (Cell::kSplit || !Gates::kAdds);
  static constexpr int64_t kGroup = kGroupRows;
  using V = Vec<float>;

  struct Scratch {
    float *gates, *sums, *unprojected, *padded;
    Rows rows, outs;  // what is multiplied, where it is to become something else first
    int64_t bytes;
  };

  Layer(const Shape& shape, void* packed)
      : shape_(shape),
        panels_(shape.H, G),
        outs_(shape.projected ? shape.P : 0, 1),
        arena_(packed),
        w_ih_(arena_, panels_, shape.I),
        w_hh_(arena_, panels_, kProduct ? shape.P : 0),
        w_hr_(arena_, outs_, shape.projected ? shape.H : 0),
        b_ih_(arena_.take<float>(panels_.width())),
        b_hh_(arena_.take<float>(kApart ? panels_.width() : 0)) {}

  // gates: of all steps, [T*B, width]; sums: of the recurrent product of a row, or of a panel's
  // rows; unprojected: a step's [B, H], projected [B, width of W_hr's panels].
  Scratch scratch(void* memory, int64_t steps, int64_t B) const {
    Arena arena(memory);
    Scratch s;
    s.gates = arena.take<float>(steps * B * panels_.width());
    const int64_t panel = kGroup * panels_.most_vectors() * W;
    s.sums = arena.take<float>(panels_.width() > panel ? panels_.width() : panel);
    s.unprojected = arena.take<float>(shape_.projected ? B * shape_.H : 0);
    s.padded = arena.take<float>(shape_.projected ? B * outs_.width() : 0);
    const int64_t widest = shape_.I > shape_.P ? shape_.I : shape_.P;
    s.rows = Gates::take_rows(arena, steps * B, widest);
    s.outs = Outs::take_rows(arena, shape_.projected ? B : 0, shape_.H);
    s.bytes = arena.used();
    return s;
  }

  void pack_bias(const float* bias, float* to, bool add) {
    for (int64_t p = 0; p < panels_.count(); ++p) {
      const int nu = panels_.registers(p);
      for (int c = 0; c < panels_.vectors(p); ++c) {
        const int64_t unit = panels_.unit(p) + c % nu * W;
        float* at = to + panels_.column(p) + c * W;
        const int64_t left = shape_.H - unit;
        V sum = bias && left > 0 ? V::load(bias + c / nu * shape_.H + unit, left) : V(0.f);
        if (add) sum = sum + V::load(at);
        sum.store(at);
      }
    }
  }

  void walk(const Steps& s, const Scratch& w) const {
    const int64_t B = s.B, width = panels_.width(), P = shape_.P;
    const Rows x = w_ih_.rows(s.input, shape_.I, s.T * B, w.rows);
    w_ih_.multiply(x, s.T * B, b_ih_, w.gates, false);
    const float* h = S > 0 ? s.states[0] : nullptr;
    for (int64_t t = 0; t < s.T; ++t) {
      float* gates = w.gates + t * B * width;
      float* output = s.output + t * B * P;
      float* cells_to = shape_.projected ? w.unprojected : output;
      const Rows fed = kProduct ? w_hh_.rows(h, P, B, w.rows) : Rows{};
      if (B == 1) {
        row_step(gates, fed, h, cells_to, s.states, w.sums);
      } else {
        rows_step(gates, B, fed, h, cells_to, s.states, w.sums);
      }
      if (shape_.projected) project(w, B, output);
      h = output;
    }
    if constexpr (S > 0) memcpy(s.states[0], h, B * P * sizeof(float));
  }

  // fed: what W_hh multiplies, which is h.
  void row_step(float* gates, const Rows& fed, const float* h, float* out, float* const* states,
                float* sums) const {
    if constexpr (kApart) {
      w_hh_.multiply(fed, 1, b_hh_, sums, false);
    } else if constexpr (kProduct) {
      w_hh_.multiply(fed, 1, nullptr, gates, true);
    }
    for (int64_t p = 0; p < panels_.count(); ++p) {
      const int64_t column = panels_.column(p);
      cells(p, 0, 1, gates + column, 0, sums + column, 0, h, out, states);
    }
  }

  void rows_step(float* gates, int64_t B, const Rows& fed, const float* h, float* out,
                 float* const* states, float* sums) const {
    const int64_t width = panels_.width();
    for (int64_t p = 0; p < panels_.count(); ++p) {
      const int64_t column = panels_.column(p), sums_ld = panels_.vectors(p) * W;
      for (int64_t b = 0; b < B; b += kGroup) {
        const int64_t count = B - b < kGroup ? B - b : kGroup;
        float* x = gates + b * width + column;
        if constexpr (kApart) {
          w_hh_.multiply(p, fed + b, count, b_hh_ + column, sums, sums_ld, false);
        } else if constexpr (kProduct) {
          w_hh_.multiply(p, fed + b, count, nullptr, x, width, true);
        }
        cells(p, b, count, x, width, sums, sums_ld, h, out, states);
      }
    }
  }

  // The cell on the units of panel p, for `count` rows from batch row b on. h and out: of row 0.
  FASTRNN_INLINE void cells(int64_t p, int64_t b, int64_t count, const float* x, int64_t x_ld,
                            const float* r, int64_t r_ld, const float* h, float* out,
                            float* const* states) const {
    const int nu = panels_.registers(p);
    const int64_t H = shape_.H;
    float* carried[S + 1];
    for (int k = 1; k < S; ++k) carried[k] = states[k] + b * H;
    h += b * H, out += b * H;  // of a cell that projects, h is not looked at
    for (int v = 0; v < nu; ++v) {
      const int64_t j = panels_.unit(p) + v * W, left = H - j;
      if (left <= 0) break;  // registers may come some at a time
      for (int64_t i = 0; i < count; ++i) {
        V xs[G], rs[G], prev[S + 1], next[S + 1], keep[Cell::kSaved + 1];
        for (int g = 0; g < G; ++g) {
          xs[g] = V::load(x + i * x_ld + (g * nu + v) * W);
          rs[g] = kApart ? V::load(r + i * r_ld + (g * nu + v) * W) : V(0.f);
        }
        if constexpr (S > 0 && !projects<Cell>) prev[0] = V::load(h + i * H + j, left);
        for (int k = 1; k < S; ++k) prev[k] = V::load(carried[k] + i * H + j, left);
        Cell::forward(xs, rs, prev, next, keep);
        next[0].store(out + i * H + j, left);
        for (int k = 1; k < S; ++k) next[k].store(carried[k] + i * H + j, left);
      }
    }
  }

  // output [B, P] = W_hr m
  void project(const Scratch& w, int64_t B, float* output) const {
    const auto m = w_hr_.rows(w.unprojected, shape_.H, B, w.outs);
    w_hr_.multiply(m, B, nullptr, w.padded, false);
    for (int64_t b = 0; b < B; ++b) {
      memcpy(output + b * shape_.P, w.padded + b * outs_.width(), shape_.P * sizeof(float));
    }
  }

  const Shape shape_;
  const Units panels_, outs_;  // of the gates, and of W_hr's rows
  Arena arena_;
  Gates w_ih_, w_hh_;
  Outs w_hr_;
  float *b_ih_, *b_hh_;  // where the cell looks at sums alone, those of the biases
};

template <class Cell, class T>
constexpr LayerKernels layer_kernels() {
  if constexpr (streams<Cell>) {
    using L = Layer<Cell, T>;
    return {L::packed_bytes, L::pack, L::scratch_bytes, L::run};
  } else {
    return {};
  }
}

}  // namespace stream
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
