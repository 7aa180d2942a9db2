// Every cell of the list, for one dtype: included by one small file per dtype, so that they compile
// in parallel.
#pragma once
#include "backward.h"
#include "cells/registry.h"
#include "cpu/kernels.h"
#include "forward.h"

#define FASTRNN_CELL_KERNELS(name, ...)                                                 \
  {Forward<__VA_ARGS__, FASTRNN_DTYPE>::run, Backward<__VA_ARGS__, FASTRNN_DTYPE>::run, \
   Forward<__VA_ARGS__, FASTRNN_DTYPE>::workspace,                                      \
   Backward<__VA_ARGS__, FASTRNN_DTYPE>::workspace},
