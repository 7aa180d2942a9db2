// A step of the forward engine, of a cell whose step is in parts.
#pragma once
#include "cpu/threads/team.h"
#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Of one thread of those that share the units, at a barrier, or that has them all.
template <class A>
struct ForwardTurn {
  int d;
  int64_t t;
  Range rows;
  Sweep sweep;
  const A* gates;  // the projected input of the step's rows
  Barrier* barrier;
  int rank, size;
  bool shared() const { return barrier && size > 1; }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
