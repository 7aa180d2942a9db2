// Every cell of the list for inference, with weights that are fewer bits than the rest, which is
// float32: in, out and in the cells.
#pragma once
#include "bf16_weights.h"
#include "cells/registry.h"
#include "cpu/kernels.h"
#include "forward.h"
#include "int8_weights.h"

#define FASTRNN_INFERENCE_KERNELS(name, ...)                   \
  {Forward<__VA_ARGS__, float, FASTRNN_WEIGHTS>::run, nullptr, \
   Forward<__VA_ARGS__, float, FASTRNN_WEIGHTS>::workspace, nullptr},
