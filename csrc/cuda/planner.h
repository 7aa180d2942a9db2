// Chooses how a scan runs on a device. No table of measured times exists yet: the choice is made by
// an estimate of the cycles of a step, from published latencies and rates (see planner.cpp).
#pragma once
#include <string>

#include "plan.h"

namespace fastrnn {
namespace cuda {

struct Limits {
  int sms, arch;    // multiprocessors; compute capability as 80, 90
  int64_t shared;   // bytes of shared memory that a block may have
  int max_cluster;  // blocks of a cluster: 1, 8 or 16
};

// What the planner has to know of a step and its products.
struct StepShape {
  int sums, parts;       // kSums, kIn
  int pairs_per_thread;  // units a thread can own, in twos
  bool exact;            // FMAs and accurate exp, no tensor cores
  TileShape near, far;   // of a warp in one block or cluster, on the grid
  bool resident;         // false: there is only the stepwise engine (float64)
};

struct Request {
  StepShape step;
  int B, H, D;
  Limits limits;
};

// engine: "auto", "stepwise", "block", "cluster" or "grid". One that cannot serve by name throws
// std::runtime_error saying why.
Plan make_plan(const Request& request, const std::string& engine);

std::string describe(const Request& request, const Plan& plan);  // JSON
const char* name(Exchange exchange);
double estimated_cycles(const Request& request, const Plan& plan);  // of a step, all batch rows

}  // namespace cuda
}  // namespace fastrnn
