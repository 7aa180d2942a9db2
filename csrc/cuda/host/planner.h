// Lays a scan out on a device, for the engine that is asked for or, by "auto", the one with the
// least estimated cycles a step. Where engines were measured, fastrnn/gpu/engines.py asks for the
// fastest one by name.
#pragma once
#include <string>

#include "cuda/kernels.h"

namespace fastrnn {
namespace cuda {

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
