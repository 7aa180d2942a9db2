#include "planner.h"

#include <algorithm>
#include <stdexcept>

namespace fastrnn {
namespace cuda {
namespace {

int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Cycles of one multiprocessor at about 1.7 GHz. Estimates: sm_90 latencies as published (shared
// memory 29, L2 260, another block's shared memory 180 cycles), rates of mma.sync and of the
// shared memory's 128 bytes a cycle.
constexpr double kBlockBarrier = 40, kClusterExchange = 300, kGridExchange = 1300;
constexpr double kStepwise = 8500;  // two launches and a library's GEMM for a few rows
constexpr double kLibraryMmaFlops = 180e3, kLibraryFmaFlops = 25e3;  // a cycle, whole device
constexpr double kCellInstructions = 60, kExactCellInstructions = 180, kLoadLatency = 200;

double exchange_cycles(const Plan& p, const StepShape& step, int element) {
  const double values = double(p.rows) * step.parts;
  switch (p.exchange) {
    case Exchange::kBlock:
      return 0;
    case Exchange::kCluster:  // a copy of each value into every block's shared memory
      return kClusterExchange + values * p.units * p.blocks * element / 32;
    default:  // every block reads all values from L2, each with its tag
      return kGridExchange + values * p.padded * element * 2 / 48;
  }
}

double product_cycles(const Plan& p, const StepShape& step, const TileShape& tile) {
  const double warps = p.row_warps * p.column_warps, batch_tiles = p.rows / kBatchTile;
  const double blocks = double(p.warp_columns) / tile.column_block;
  const double weights = extra_bytes(p, tile) / 128.;
  const double sums = 2. * sums_bytes(p) / 128;
  if (step.exact) return batch_tiles * (warps * blocks * kBatchTile * 1.5 + weights) + sums;
  const double mma = 2. * tile.rows / 16 * blocks;  // of a warp, a batch tile
  const double chain = 2 * blocks * 33 / (tile.rows < 48 ? 64 / tile.rows : 1);
  const double operand = warps * blocks * 4;
  return batch_tiles * (std::max({warps * mma * 2, operand, chain / 2}) + weights) + chain / 2 +
         sums;
}

double cell_cycles(const Plan& p, const StepShape& step) {
  const double instructions = step.exact ? kExactCellInstructions : kCellInstructions;
  return kLoadLatency / 4 + double(p.units) * p.rows / 128 * instructions +
         instructions * 2;  // the latency of one element
}

// How many blocks of a group's kind run at once. A cluster stays inside one of the device's
// partitions, which have 16 to 18 multiprocessors and need not divide: on an H100 with 132 there is
// room for 15 clusters of 8, and for about 7 of 16.
int room(const Plan& p, const Limits& limits) {
  const bool large = p.exchange == Exchange::kCluster && p.blocks > 4;
  return large ? limits.sms * 8 / 9 : limits.sms;
}

const TileShape& tile_of(const StepShape& step, Exchange exchange) {
  return exchange == Exchange::kGrid ? step.far : step.near;
}

int64_t shared_bytes(const Plan& p, const TileShape& tile) {
  return sums_offset(p) + sums_bytes(p) + extra_bytes(p, tile);
}

// Fills in everything that follows from the exchange, the blocks of a group and its batch rows.
// False: it does not fit.
bool lay_out(Plan& p, const Request& r) {
  const TileShape& tile = tile_of(r.step, p.exchange);
  p.units = int(up(parts_of(r.H, p.blocks), 16));
  p.blocks = int(parts_of(r.H, p.units));
  p.padded = p.blocks * p.units;
  p.sums = r.step.sums * p.units;
  p.columns = int(up(int64_t(r.step.parts) * p.padded, tile.column_block));
  p.row_warps = int(parts_of(p.sums, tile.rows));
  const int most_warps = kMaxThreads / 32;
  if (p.row_warps > most_warps) return false;
  const int64_t share = parts_of(p.columns, most_warps / p.row_warps);
  p.warp_columns = int(up(share, tile.column_block));
  p.column_warps = int(parts_of(p.columns, p.warp_columns));
  p.extra = std::max(0, p.warp_columns - tile.columns);
  const int64_t pairs = int64_t(p.units) * p.rows / 2;
  const int64_t cell_threads = parts_of(pairs, r.step.pairs_per_thread);
  if (cell_threads > kMaxThreads) return false;
  const int64_t product_threads = int64_t(p.row_warps) * p.column_warps * 32;
  const int64_t quick = std::min<int64_t>(pairs, kMaxThreads);  // a pair a thread
  p.threads = int(up(std::max({product_threads, cell_threads, quick}), 32));
  const int64_t row = int64_t(p.columns) * tile.element;
  p.operand_row = int(up(row, 128) + (up(row, 128) - row >= 64 ? -64 : 64));
  p.sums_row = int(up(p.sums, 32) + 4);
  p.shared = shared_bytes(p, tile);
  if (p.shared > r.limits.shared) return false;
  const int at_once = room(p, r.limits) / p.blocks / r.D;
  if (at_once < 1) return false;
  p.groups = int(std::min<int64_t>(at_once, parts_of(r.B, p.rows)));
  const int64_t words = int64_t(r.step.parts) * p.padded * tile.element / 4;
  p.workspace = p.exchange == Exchange::kGrid ? r.D * p.groups * 2 * p.rows * words * 8 : 0;
  return true;
}

// The best plan with this exchange among the sizes of a group; false if none fits.
bool best_with(Exchange exchange, const Request& r, Plan& best) {
  const int most = exchange == Exchange::kBlock     ? 1
                   : exchange == Exchange::kCluster ? r.limits.max_cluster
                                                    : r.limits.sms / r.D;
  const int least = exchange == Exchange::kBlock ? 1 : 2;
  bool found = false;
  double least_cycles = 0;
  for (int blocks = least; blocks <= most; ++blocks) {
    if (exchange == Exchange::kCluster && blocks & (blocks - 1)) continue;
    for (int rows = kBatchTile; rows <= 64; rows *= 2) {
      if (rows > kBatchTile && rows / 2 >= r.B) break;
      Plan p{};
      p.exchange = exchange, p.blocks = blocks, p.rows = rows;
      if (!lay_out(p, r) || p.blocks < least) continue;
      const double cycles = estimated_cycles(r, p);
      if (found && cycles >= least_cycles) continue;
      found = true, least_cycles = cycles, best = p;
    }
  }
  return found;
}

std::string capability(int arch) {
  return std::to_string(arch / 10) + "." + std::to_string(arch % 10);
}

std::string why_not(Exchange exchange, const Request& r) {
  const std::string sizes = "H=" + std::to_string(r.H) + ", B=" + std::to_string(r.B);
  if (!r.step.resident) return "float64 runs step by step only";
  if (exchange == Exchange::kCluster && r.limits.max_cluster < 2) {
    return "clusters need compute capability " + capability(kClusterArch) + ", this device has " +
           capability(r.limits.arch);
  }
  if (exchange != Exchange::kBlock && r.H <= 16) {
    return "a block takes 16 units at least, and " + sizes + " has no more";
  }
  return "the recurrent weights do not fit on the chip for " + sizes;
}

}  // namespace

const char* name(Exchange exchange) {
  constexpr const char* kNames[] = {"stepwise", "block", "cluster", "grid"};
  return kNames[int(exchange)];
}

double estimated_cycles(const Request& r, const Plan& p) {
  if (p.exchange == Exchange::kStepwise) {
    const double flops = 2. * r.step.sums * r.step.parts * r.H * r.H * r.B * r.D;
    return kStepwise * r.D + flops / (r.step.exact ? kLibraryFmaFlops : kLibraryMmaFlops);
  }
  const TileShape& tile = tile_of(r.step, p.exchange);
  const double step = 2 * kBlockBarrier + exchange_cycles(p, r.step, tile.element) +
                      product_cycles(p, r.step, tile) + cell_cycles(p, r.step);
  return step * double(parts_of(parts_of(r.B, p.rows), p.groups));
}

Plan make_plan(const Request& r, const std::string& engine) {
  Plan best{};  // stepwise
  double least = engine == "auto" || engine == "stepwise" ? estimated_cycles(r, best) : -1;
  bool known = engine == "auto" || engine == "stepwise";
  for (Exchange exchange : {Exchange::kBlock, Exchange::kCluster, Exchange::kGrid}) {
    const bool asked = engine == name(exchange);
    known |= asked;
    Plan p{};
    if (engine != "auto" && !asked) continue;
    if (!r.step.resident || !best_with(exchange, r, p)) {
      if (asked) {
        throw std::runtime_error("engine " + engine + " cannot serve: " + why_not(exchange, r));
      }
      continue;
    }
    const double cycles = estimated_cycles(r, p);
    if (least >= 0 && cycles >= least) continue;
    least = cycles, best = p;
  }
  if (!known) {
    throw std::runtime_error("engine must be one of auto, stepwise, block, cluster, grid, got " +
                             engine);
  }
  return best;
}

std::string describe(const Request& r, const Plan& p) {
  const auto number = [](const char* name, int64_t n) {
    return std::string(", \"") + name + "\": " + std::to_string(n);
  };
  const std::string head = std::string("{\"engine\": \"") + name(p.exchange) + "\", \"why\": \"";
  if (p.exchange == Exchange::kStepwise) {
    return head + (r.step.resident ? "a GEMM and a kernel a step" : "float64") + "\"}";
  }
  const int64_t registers = int64_t(p.warp_columns - p.extra) * 100 / p.warp_columns;
  return head + std::to_string(registers) +
         "% of the recurrent weights in registers, the rest in " + "shared memory\"" +
         number("blocks", p.blocks) + number("groups", p.groups) + number("units", p.units) +
         number("rows", p.rows) + number("threads", p.threads) + number("shared", p.shared) +
         number("cycles", int64_t(estimated_cycles(r, p))) + "}";
}

}  // namespace cuda
}  // namespace fastrnn
