// Every cell of the list for inference, with weights that are fewer bits than the rest, which is
// float32: in, out and in the cells.
#pragma once
#include "bf16_weights.h"
#include "cells/registry.h"
#include "cpu/kernels.h"
#include "forward.h"
#include "int8_weights.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// None for a cell whose products or slots such weights have no form for.
template <class Cell, class Weights>
constexpr CellKernels inference_kernels() {
  if constexpr (heads<Cell> || late<Cell> > 0 || extra<Cell> > 0 || feeds<Cell> > 0) {
    return {};
  } else {
    using Engine = Forward<Cell, float, Weights>;
    return {Engine::run, nullptr, Engine::workspace, nullptr};
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn

#define FASTRNN_INFERENCE_KERNELS(name, ...) inference_kernels<__VA_ARGS__, FASTRNN_WEIGHTS>(),
