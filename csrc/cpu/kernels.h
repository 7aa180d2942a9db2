// The CPU engine as the op sees it: a table of functions for each cell and dtype, in the widest
// instruction set that was built and runs here (or in the one that FASTRNN_ISA names).
#pragma once
#include <string_view>

#include "params.h"

namespace fastrnn {

struct CellKernels {
  bool (*forward)(const ScanParams&);  // false: interrupted, and what was written is of no use
  bool (*backward)(const ScanParams&);
  int64_t (*forward_workspace)(const ScanParams&);  // bytes that forward needs, 64-byte aligned
  int64_t (*backward_workspace)(const ScanParams&);
};

struct CpuKernels {
  const char* isa;
  const CellKernels *float32, *float64, *bfloat16;  // in the order of the cell list
  const CellKernels *int8, *bf16_weights;           // with float32 for all else; forward alone
};

const CpuKernels& cpu_kernels();
const char* cpu_isas_built();         // comma-separated
bool cpu_runs(std::string_view isa);  // is it one of those, and does it run here?

}  // namespace fastrnn
