// The cells that the CPU ops know, with their kernels: those of the list, and those compiled by
// themselves, which come while the process runs.
#pragma once
#include <string>
#include <string_view>

#include "cell.h"
#include "cpu/library.h"
#include "tensors.h"

namespace fastrnn {

struct KnownCell {
  const CellInfo* info;
  const CellKernels* kernels;  // null: of a dtype that no CPU kernels take
};

// A cell that has not come yet, or not for that dtype, is asked of Python, which may compile it.
// Throws std::runtime_error where it does not come then.
KnownCell known_cell(std::string_view name, ScalarType dtype);
// Of weights of that dtype, int8 or bfloat16, where rows, states and cells are float32.
KnownCell known_inference_cell(std::string_view name, ScalarType weights);

// From now on a library's cell is known, for its dtype. Throws std::runtime_error for one that this
// process cannot use.
void load_cell(const std::string& path);

}  // namespace fastrnn
