// Equal parts of what threads share.
#pragma once
#include <cstdint>

namespace fastrnn {
namespace FASTRNN_ISA {

// Part `i` of `parts` of [0, n), in order, sizes differing by at most one.
struct Range {
  int64_t begin, end;
};
inline __attribute__((always_inline)) Range part(int64_t n, int64_t i, int64_t parts) {
  return {n * i / parts, n * (i + 1) / parts};
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
