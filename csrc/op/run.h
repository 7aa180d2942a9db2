// A layer handed to its kernels, with the threads and the memory for one scan.
#pragma once
#include "layer.h"

namespace fastrnn {

// like: a tensor with the dtype and device of what the layer reads; weight_size: bytes of a number
// of a weight. Throws std::runtime_error where there are no kernels, and when a signal came.
void run(Layer& layer, const Tensor& like, int64_t weight_size, bool backward);

}  // namespace fastrnn
