// A layer of a cell that has no steps of its own here: the engine of whole layers (cpu/kernels.h)
// runs it, which packs what it wants packed at each call.
#pragma once
#include "cells/registry.h"
#include "cpu/kernels.h"
#include "memory.h"
#include "stack.h"

namespace fastrnn {
namespace stream {

class OtherCell {
 public:
  // Copies the weights. Throws std::invalid_argument for a cell with extra slots.
  explicit OtherCell(const LayerSpec& spec);

  int64_t scratch_bytes(int64_t T, int64_t B) const;
  // As Steps of kernels.h.
  void run(int64_t T, int64_t B, const float* input, float* output, float* const* states,
           void* scratch) const;

 private:
  ScanParams params(int64_t T, int64_t B) const;
  // Where in scratch which comes after the engine's workspace: final states, what a fed state is
  // read of.
  int64_t states_size(int64_t B) const { return info_.states * B * H_; }
  int64_t fed_size(int64_t T, int64_t B) const;

  const CellKernels kernels_;
  const CellInfo info_;
  const int64_t I_, H_, heads_;
  Memory weights_;
  const float *w_ih_, *w_hh_, *b_ih_, *b_hh_, *params_;  // in it, or null
};

}  // namespace stream
}  // namespace fastrnn
