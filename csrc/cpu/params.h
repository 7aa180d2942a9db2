// What crosses from the op to an engine: plain pointers, sizes and strides; no torch.
#pragma once
#include <cstdint>

#include "cells/counts.h"
#include "draws.h"

namespace fastrnn {

// One direction of a layer. All tensors contiguous, of the scan's dtype.
struct Direction {
  bool reverse;
  const void* w_ih;                   // [G*H, I]; null: the input is the ready projection
  const void* w_hh;                   // [R*H, P], in heads [heads, G*H/heads, H/heads]; null: the
                                      // cell has no recurrent product
  const void* b_ih;                   // [G*H] or null
  const void* b_hh;                   // [R*H] or null
  const void* w_hr;                   // [P, H]; null: h is what the cell gives, P is H
  const void* params;                 // [.., H]; null: the cell has none
  const void* extra;                  // rows [E*H], as the input's; null: the cell has none, or
  const Draws* draws;                 // they are drawn; null: they are not
  int64_t extra_t, extra_b;           // their strides
  const void* state0[kMaxStates];     // [B, H], the first [B, P_row]; null: zeros
  void* state_n[kMaxStates];          // likewise, written by forward
  void* saved;                        // [N, K+S-1, H], see engine/saved.h; null: nothing
  const void* d_state_n[kMaxStates];  // as the states; null: zeros
  void* d_state0[kMaxStates];         // likewise, all of them or null: not wanted
  void *d_w_ih, *d_w_hh, *d_w_hr;     // as the weights; null: not wanted
  void *d_b_ih, *d_b_hh;              // as the biases, likewise
  void* d_params;                     // [.., H], likewise
  void* d_extra;                      // [N, E*H], with an order [T, B, E*H], likewise
};

// Runs fn(begin, end, ctx) over a partition of [0, n), a part a thread, best at the same time.
using ParallelFor = void (*)(int64_t n, void (*fn)(int64_t begin, int64_t end, void* ctx),
                             void* ctx);

// A layer of one or two directions over T steps. Row (t, b) of N valid rows has the index
// step_begin[t] + b; a step has batch_sizes[t] rows, falling with t. With an order, b counts the
// rows by falling length, and (t, b) of what the caller reads or gives is at time t of his batch
// row order[b]: in input, output, states and their gradients, which are not packed then.
struct ScanParams {
  int64_t T, B, I, H, N;
  int64_t P;                   // numbers of h: H, or fewer where directions have w_hr
  int64_t P_row;               // from one h to the next in states and their gradients
  int64_t heads = 1;           // of the units, each with its block of W_hh
  const int64_t* batch_sizes;  // [T] or null: B rows a step
  const int64_t* step_begin;   // [T] or null: t * B
  const int64_t* order;        // [B] or null: the caller's own; only with batch_sizes
  const bool* resets;          // [N] or null
  bool partial;                // saved leaves out what backward is to recompute
  const void* input;           // row (t, b) at input + t*input_t + b*input_b, or packed
  int64_t input_t, input_b;    // strides in elements; packed rows: step_begin[t]*input_b
  void* output;                // [N, D*P], with an order [T, B, D*P]
  const void* d_output;        // rows as the input's, with strides of its own; null: zeros
  int64_t d_output_t, d_output_b;
  void* d_input;   // [N, I], with an order [T, B, I]; or null: not wanted
  int directions;  // D
  Direction dir[2];
  void* workspace;
  int threads;
  ParallelFor parallel;
  int64_t* waited;  // ns that threads waited for late ones, all together; written at the end
  // Asked by the calling thread between blocks of steps: is the call to end, its work undone? Null:
  // never.
  bool (*interrupted)();

  __attribute__((always_inline)) bool projected() const { return dir[0].w_hr != nullptr; }
  // From one batch row to the next of a state k.
  __attribute__((always_inline)) int64_t state_row(int k) const { return k == 0 ? P_row : H; }
  __attribute__((always_inline)) int64_t rows(int64_t t) const {
    return batch_sizes ? batch_sizes[t] : B;
  }
  __attribute__((always_inline)) int64_t row(int64_t t) const {
    return step_begin ? step_begin[t] : t * B;
  }
};

}  // namespace fastrnn
