// How a resident scan is laid out on a device: which blocks own which units and batch rows, what a
// warp multiplies, and what lies where in shared memory. Plain numbers, made by
// host/planner.cpp and read by the kernel.
#pragma once
#include "cells/math.h"
#include "scan.h"

namespace fastrnn {
namespace cuda {

enum class Exchange { kStepwise, kBlock, kCluster, kGrid };

// What one warp holds of the weights in registers: a tile of rows (sums) x columns (operand). 128
// registers a thread at most, fewer where the exchange needs some too.
struct TileShape {
  int rows, columns;
  int column_block;  // columns come in multiples of this: 64 bytes for mma, 16 for FMAs
  int element;       // bytes of an operand value
};
constexpr int kMaxThreads = 256;
constexpr int kBatchTile = 8;  // rows of a group come in multiples of this: the N of an mma

struct Plan {
  Exchange exchange;
  int blocks;         // of a group; together they own all units of some batch rows
  int groups;         // that run at once, of each direction
  int units;          // of a block, a multiple of 16
  int rows;           // batch rows of a group, a multiple of kBatchTile
  int threads;        // of a block
  int padded;         // operand columns of one of kIn parts: blocks * units, zeros from H on
  int sums;           // weight rows of a block: kSums * units
  int columns;        // operand columns: kIn * padded, and zeros to a whole column_block
  int row_warps;      // warps side by side over the weight rows
  int column_warps;   // warps that split the columns
  int warp_columns;   // columns of one of those
  int extra;          // of them, columns whose weights lie in shared memory
  int operand_row;    // bytes from one row of the operand to the next
  int sums_row;       // floats from one batch row of the partial sums to the next
  int64_t shared;     // bytes of shared memory of a block
  int64_t workspace;  // bytes of device memory, zeroed before the launch (kGrid)
};

// One launch of the resident engine.
struct Resident {
  Scan scan;
  Plan plan;
  void* workspace;  // of plan.workspace bytes, zeroed
};

// Shared memory of a block: a header for ClusterExchange's counters, slots of the operand, used in
// turn, the partial sums, the weights that registers do not hold. In bytes:
constexpr int kHeader = 128;
FASTRNN_HD constexpr int64_t operand_bytes(const Plan& p) {
  return int64_t(p.rows) * p.operand_row;
}
// Values that come through the L2 cache are copied to one slot when all warps have read it.
FASTRNN_HD constexpr int64_t operands_bytes(const Plan& p) {
  return (p.exchange == Exchange::kGrid ? 1 : 2) * operand_bytes(p);
}
FASTRNN_HD constexpr int64_t sums_offset(const Plan& p) { return kHeader + operands_bytes(p); }
FASTRNN_HD constexpr int64_t sums_bytes(const Plan& p) {
  return int64_t(p.column_warps) * p.rows * p.sums_row * 4;
}
FASTRNN_HD constexpr int64_t extra_bytes(const Plan& p, const TileShape& tile) {
  return int64_t(p.row_warps) * p.column_warps * tile.rows * p.extra * tile.element;
}

}  // namespace cuda
}  // namespace fastrnn
