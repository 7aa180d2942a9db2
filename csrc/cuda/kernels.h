// The CUDA engines as the op sees them: for each cell, pass and kind of numbers, what the planner
// has to know and functions that launch.
#pragma once
#include "device_limits.h"
#include "plan.h"
#include "scan.h"

namespace fastrnn {
namespace cuda {

// What the planner has to know of a step and its products.
struct StepShape {
  int sums, parts;       // kSums, kIn
  int pairs_per_thread;  // units a thread can own, in twos
  bool exact;            // FMAs and accurate exp, no tensor cores
  TileShape near, far;   // of a warp in one block or cluster, on the grid
  bool resident;         // false: there is only the stepwise engine (float64)
};

struct PassKernels {
  StepShape shape;
  int carried;  // values a unit carries from step to step
  bool split;   // dL/dx != dL/dr
  void (*step)(const Stepwise&, void* stream);
  void (*resident)(const Resident&, void* stream);  // null: only step
};

// In the order of the cell list.
extern const PassKernels float32_forward[], float32_backward[], tf32_forward[], tf32_backward[],
    bfloat16_forward[], bfloat16_backward[], float16_forward[], float16_backward[],
    float64_forward[], float64_backward[];

Limits current_limits();

}  // namespace cuda
}  // namespace fastrnn
