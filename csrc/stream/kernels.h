// What a stack asks of an instruction set's code: for each cell and kind of weights four functions.
#pragma once
#include "stack.h"

namespace fastrnn {
namespace stream {

struct Shape {
  int64_t I, H, P;  // P: numbers of h
  bool projected;
};

// T steps of one layer for B rows.
struct Steps {
  Shape shape;
  const void* packed;  // what pack() left
  int64_t T, B;
  const float* input;    // [T, B, I]
  float* output;         // [T, B, P]
  float* const* states;  // before the steps, and after them: [B, P], the others [B, H]
  void* scratch;
};

// Memory is 64-byte aligned everywhere.
struct LayerKernels {
  int64_t (*packed_bytes)(const Shape&);
  void (*pack)(const LayerSpec&, const Shape&, void* packed);
  int64_t (*scratch_bytes)(const Shape&, int64_t T, int64_t B);
  void (*run)(const Steps&);  // all null: there is no such layer
};

struct StreamKernels {
  const char* isa;
  const LayerKernels *float32, *bfloat16, *int8;  // in the order of the cell list, then "linear"
};

// Of the widest instruction set that was built and runs here, or the one that FASTRNN_ISA names.
const StreamKernels& stream_kernels();

}  // namespace stream
}  // namespace fastrnn
