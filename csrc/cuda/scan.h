// What crosses from the op to a CUDA engine: device pointers and sizes; no torch. One layer, its
// directions side by side, around whole-sequence GEMMs that the caller does.
#pragma once
#include <cstdint>

#include "cells/counts.h"

namespace fastrnn {
namespace cuda {

// Row (t, b) of N valid rows has the index offsets[t] + b (dense: t * B + b). Tensors contiguous.
struct Scan {
  int64_t T, N;
  int B, H, D;
  bool reverse;                       // D = 1: the one direction is the reverse one
  const int64_t* offsets;             // [T], or null: dense
  const int64_t* lengths;             // [B], falling, or null: T steps each
  const bool* resets;                 // [N] or null
  const void* w_hh;                   // [D, G*H, H]
  const void* b_hh;                   // [D, G*H] or null
  const void* params;                 // [D, P, H], or null: the cell has none
  const void* gx;                     // [N, D*G*H], forward
  const void* state0[kMaxStates];     // [D, B, H]
  void* state_n[kMaxStates];          // [D, B, H], written by forward
  void* output;                       // [N, D*H], written by forward
  void* saved;                        // [D, N, K+S-1, H], or null: nothing is saved
  const void* d_output;               // [N, D*H], backward from here on
  const void* d_state_n[kMaxStates];  // [D, B, H]
  void* d_state0[kMaxStates];         // [D, B, H]
  void* dx;                           // [N, D*G*H]: dL/dgx
  void* dr;                           // [N, D*G*H]: dL/d(W_hh h + b_hh), or null: the same as dx
  void* d_params;                     // [D, B, P, H] float or double: each batch row's share
};

// One launch of the stepwise engine.
struct Stepwise {
  Scan scan;
  int64_t step, steps;  // of `steps` in the order of the walk; -1: begin; steps: finish
  void* operand;        // [D, B, kIn*H] what the step before published
  const void* sums;     // [D, B, kSums*H] operand . weights
  void* carry;          // [D, B, H, kCarried] in the precision of sums
};

}  // namespace cuda
}  // namespace fastrnn
