// Every cell of the list with int8 weights, for inference: float32 in, out and in the cells.
#pragma once
#include "cells/registry.h"
#include "cpu/kernels.h"
#include "forward.h"
#include "int8_weights.h"

#define FASTRNN_INT8_KERNELS(name, ...)                    \
  {Forward<__VA_ARGS__, float, Int8Weights>::run, nullptr, \
   Forward<__VA_ARGS__, float, Int8Weights>::workspace, nullptr},
