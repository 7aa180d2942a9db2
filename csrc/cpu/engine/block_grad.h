// What a block of steps gives while its gate gradients are in cache: the input's gradient, and its
// share of the weights' gradients. Knows no cell.
#pragma once
#include "cpu/gemm/matrix.h"
#include "cpu/threads/team.h"
#include "rows.h"
#include "weight_grad.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// The gate gradients of a block [count, ld].
template <class T>
struct Block : BlockRows {
  const T *d_x, *d_r;  // dL/dx and dL/dr; with heads, d_r has the gates of each head together
  bool start, end;     // the first, the last block of its direction
};

// What of a cell the weights' gradients hang on: the columns G*H of x and R*H of r, and the state
// that the product multiplies. But for 0, which is the output, it is vector `place` of the `width`
// vectors [H] that forward has saved of a row. The last `late` columns of r multiplied vector
// `asked` of them.
struct Products {
  int64_t x, r;
  int fed, place, width;
  int64_t late = 0;
  int asked = 0;
};

// The rows of a block of G gates, at most. Blocks are the order in which a weight's gradient is
// summed: threads have no say in it, so that its bits are the same for any number of them.
template <class T>
int64_t block_rows(const ScanParams& s, int gates) {
  constexpr int64_t kBytes = 8 << 20, kLeast = 384, kMost = 1024;  // bytes of gate gradients
  int64_t rows = kBytes / int64_t(gates * s.H * sizeof(T));
  rows = rows < kLeast ? kLeast : rows > kMost ? kMost : rows;
  const int64_t all = s.T > 0 ? s.T * s.B : s.B;  // states pass through no steps in chunks, too
  return rows < all ? rows : all;
}

template <class T>
class BlockGrad {
 public:
  // most: rows of a block, at most; several: may a direction have more blocks than one?
  // direct_steps: up to here packing weights does not pay.
  BlockGrad(Arena& arena, const ScanParams& s, Products products, int64_t most, bool several,
            int64_t direct_steps)
      : s_(s),
        rows_{s},
        products_(products),
        ld_(WeightGrad<T>::row_length(products.x)),
        hidden_(s.P / s.heads, 1),
        w_ih_(arena, products.x, s.d_input && s.dir[0].w_ih ? s.I : 0,
              packing(s, products.x, several, direct_steps), s.threads),
        weight_grad_(arena, products.x, most, widest(s)),
        hidden_weight_grad_(products.r == products.x || products.r == 0
                                ? weight_grad_
                                : WeightGrad<T>(arena, products.r, most, widest(s))) {
    const bool sums = Storage<T>::kPair > 1 && several;
    const int64_t sizes[] = {products.x * s.I, products.r * hidden_.H, products.x, products.r};
    for (int i = 0; i < 4; ++i) sums_[i] = arena.take<Sum<T>>(sums ? sizes[i] : 0);
    pointers_ = arena.take<T*>(s.threads * most);
    most_ = most;
  }

  // Before the first block of a direction; all ranks must meet after it.
  void set(int d, int rank, int size) {
    if (s_.d_input && s_.dir[d].w_ih) {
      w_ih_.set(static_cast<const T*>(s_.dir[d].w_ih), rank, size);
    }
  }

  // All ranks together, once the block's gate gradients are written. zeros: [P]; tile: memory of a
  // row group.
  void run(const Block<T>& block, const T* zeros, Sum<T>* tile, int rank, int size,
           Barrier& barrier) {
    const Direction& dir = s_.dir[block.d];
    input_grad(block, tile, rank, size);
    if (dir.d_b_ih) {
      weight_grad_.add_bias(block.d_x, block.count, gradient(block, dir.d_b_ih, 2), rank, size);
    }
    if (dir.d_b_hh) hidden_bias_grad(block, gradient(block, dir.d_b_hh, 3), rank, size);
    if (dir.d_w_hh) {
      hidden_grad(block, zeros, rank, size, barrier);
      barrier.wait(size);
    }
    if (!dir.d_w_ih) return;
    T* const* x = pointers(block, rank, [&](int64_t t, int64_t b) { return rows_.input(t, b); });
    if (block.d_x != block.d_r || !dir.d_w_hh) {
      weight_grad_.pair(block.d_x, block.count, rank, size);
    }
    weight_grad(weight_grad_, block.count, Panels<Sum<T>>(s_.I, 1), x, block.d_x,
                gradient(block, dir.d_w_ih, 0), rank, size, barrier);
  }

 private:
  // The bias has a gate's units together, whatever the heads.
  void hidden_bias_grad(const Block<T>& block, const Gradient<T>& d_bias, int rank, int size) {
    if (s_.heads == 1) {
      return hidden_weight_grad_.add_bias(block.d_r, block.count, d_bias, rank, size);
    }
    const int64_t own = hidden_.H, gates = products_.r / s_.H;
    for (int64_t i = 0; i < gates * s_.heads; ++i) {
      const int64_t head = i / gates, gate = i % gates;
      column_sums(block.d_r + i * own, ld_, own, block.count, d_bias.from(gate * s_.H + head * own),
                  rank, size);
    }
  }

  // A head after the other: of its gates, by its units of h.
  void hidden_grad(const Block<T>& block, const T* zeros, int rank, int size, Barrier& barrier) {
    T* const* h = pointers(block, rank, [&](int64_t t, int64_t b) {
      return products_.fed > 0 ? fed_before(block.d, t, b, zeros)
                               : rows_.hidden_before(block.d, t, b, zeros);
    });
    bool any = false;  // is there a row whose h is not zeros?
    for (int64_t i = 0; i < block.count && !any; ++i) any = h[i] != zeros;
    hidden_weight_grad_.pair(block.d_r, block.count, rank, size);
    const Gradient<T> d_weight = gradient(block, s_.dir[block.d].d_w_hh, 1);
    const int64_t own = hidden_.H, gates = (products_.r - products_.late) / s_.heads;
    for (int64_t i = 0; i < s_.heads; ++i) {
      if (i > 0) barrier.wait(size);  // the columns of the head before are still in use
      WeightGrad<T> of_head = hidden_weight_grad_.of_gates(i * gates, gates);
      weight_grad(of_head, any ? block.count : 0, hidden_, h, block.d_r + i * gates,
                  d_weight.from(i * gates * own), rank, size, barrier);
      T** rows = pointers_ + rank * most_;
      for (int64_t b = 0; i + 1 < s_.heads && b < block.count; ++b) rows[b] += own;
    }
    if (products_.late == 0) return;
    barrier.wait(size);  // likewise
    T* const* asked = pointers(block, rank, [&](int64_t t, int64_t b) {
      return saved(block.d, s_.row(t) + b, products_.asked);
    });
    WeightGrad<T> of_late = hidden_weight_grad_.of_gates(gates, products_.late);
    weight_grad(of_late, block.count, hidden_, asked, block.d_r + gates, d_weight.from(gates * own),
                rank, size, barrier);
  }

  // [H]: a vector of what forward has saved of row n.
  const T* saved(int d, int64_t n, int place) const {
    return static_cast<const T*>(s_.dir[d].saved) + (n * products_.width + place) * s_.H;
  }

  // [H]: what the product of (t, b) multiplied, where it is not the output.
  const T* fed_before(int d, int64_t t, int64_t b, const T* zeros) const {
    if (rows_.reset(t, b)) return zeros;
    const int64_t from = rows_.before(d, t, b);
    if (from < 0) return rows_.initial(d, products_.fed, b, zeros);
    return saved(d, s_.row(from) + b, products_.place);
  }

  // The most columns of a weight that has a gradient.
  static int64_t widest(const ScanParams& s) {
    const int64_t hidden = s.dir[0].w_hh ? s.P / s.heads : 0;
    return s.dir[0].w_ih && s.I > hidden ? s.I : hidden;
  }

  // A block that stays the only one takes each panel of a large W_ih once.
  static Packing packing(const ScanParams& s, int64_t gates, bool several, int64_t direct_steps) {
    constexpr int64_t kLarge = 1 << 20;
    if (s.T <= direct_steps) return Packing::kInPlace;
    const bool large = gates * s.I * int64_t(sizeof(T)) >= kLarge * s.threads;
    return large && !several ? Packing::kPanelwise : Packing::kWhole;
  }

  Gradient<T> gradient(const Block<T>& block, void* out, int index) const {
    T* to = static_cast<T*>(out);
    if constexpr (Storage<T>::kPair == 1)
      return {to, to, block.start, block.end};
    else
      return {to, sums_[index], block.start, block.end};
  }

  static void weight_grad(WeightGrad<T>& grad, int64_t count, const Panels<Sum<T>>& panels,
                          T* const* x, const T* d_gates, const Gradient<T>& d_weight, int rank,
                          int size, Barrier& barrier) {
    if (count <= WeightGrad<T>::kFewRows) {
      return grad.add_few(panels, x, d_gates, count, d_weight, rank, size);
    }
    grad.pack(panels, x, count, rank, size);
    barrier.wait(size);
    grad.add(panels, d_gates, count, d_weight, rank, size);
  }

  // f(t, b) for every row of the block, in its order.
  template <class F>
  T* const* pointers(const Block<T>& block, int rank, F f) {
    T** list = pointers_ + rank * most_;
    rows_.each(block,
               [&](int64_t at, int64_t t, int64_t b) { list[at] = const_cast<T*>(f(t, b)); });
    return list;
  }

  // Gate gradients times W_ih, or they themselves where the projection was given.
  void input_grad(const Block<T>& block, Sum<T>* tile, int rank, int size) {
    if (!s_.d_input) return;
    T* const* to = pointers(block, rank, [&](int64_t t, int64_t b) {
      return static_cast<T*>(s_.d_input) + rows_.place(t, b, s_.B * s_.I, s_.I);
    });
    if (s_.dir[block.d].w_ih) {  // the directions come one after the other
      w_ih_.multiply_rows(block.d_x, ld_, to, block.count, block.d > 0, tile, rank, size);
    } else {
      const Range mine = part(block.count, rank, size);
      for (int64_t i = mine.begin; i < mine.end; ++i) {
        memcpy(to[i], block.d_x + i * ld_, s_.I * sizeof(T));
      }
    }
  }

  const ScanParams& s_;
  const Rows<T> rows_;
  const Products products_;
  const int64_t ld_;             // numbers from one row of gate gradients to the next
  const Panels<Sum<T>> hidden_;  // of the columns of W_hh, or of a head's block
  Matrix<T> w_ih_;
  WeightGrad<T> weight_grad_, hidden_weight_grad_;
  Sum<T>* sums_[4];  // of the gradients of w_ih, w_hh, b_ih, b_hh, over blocks
  T** pointers_;
  int64_t most_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
