// The recurrent product of a block and step: sums = weights . operand, the weights held for all
// steps in registers, what does not fit there in shared memory. A warp owns a tile of weight rows
// and a share of the columns, and leaves partial sums [column_warps][rows][sums] for the cells.
#pragma once
#include "cuda/plan.h"
#include "step.cuh"

namespace fastrnn {
namespace cuda {

// Where a block's weights come from: row m is sum m / units of unit first + m % units, column c is
// operand column c % padded of part c / padded. Zero outside the layer. Units and padded are
// multiples of 16, so 16 rows, or 16 columns, from a multiple of 16 on have one sum, or one part.
template <class Step>
struct Weights {
  using T = typename Step::T;
  const T* w;  // one direction's W_hh [G*H, H]; for backward each gate's [H, H] transposed
  const Plan& plan;
  int H, first;

  struct Row {
    int sum, unit;
    bool inside;
  };
  struct Column {
    int part, j;
  };
  FASTRNN_DEVICE Row row(int m) const {
    return {m / plan.units, first + m % plan.units, m < plan.sums};
  }
  FASTRNN_DEVICE Column column(int c) const { return {c / plan.padded, c % plan.padded}; }
  // Whether columns can be read 16 bytes at a time: rows of W begin at multiples of that.
  FASTRNN_DEVICE bool whole() const { return H % (16 / int(sizeof(T))) == 0; }
  // 16 bytes of weights from column c on to row m + k; only where whole().
  FASTRNN_DEVICE uint4 run(Row m, int k, Column c) const {
    const int u = m.unit + k;
    if (!m.inside || u >= H || c.part >= Step::kIn || c.j >= H) return {0, 0, 0, 0};
    return *reinterpret_cast<const uint4*>(w + Step::weight(H, m.sum, u, c.part, c.j));
  }
  // The weight from column c + i to row m + k.
  FASTRNN_DEVICE T at(Row m, int k, Column c, int i) const {
    const int u = m.unit + k, j = c.j + i;
    const bool inside = m.inside && u < H && c.part < Step::kIn && j < H;
    return inside ? w[Step::weight(H, m.sum, u, c.part, j)] : from_float<T>(0.f);
  }
};

// Tensor cores. Fragments of m16n8k16 (2-byte values) or m16n8k8 (tf32): lane 4g+q holds rows g and
// g + 8. The order of the columns inside a sum is free, so a lane takes its columns from one run of
// 16 bytes, which is two mma tiles' worth, and reads the operand 16 bytes at a time.
template <class Step, class Math, int kRowTiles, int kFragments>
struct MmaProduct {
  using T = typename Step::T;
  static constexpr bool kTf32 = sizeof(T) == 4;
  static constexpr int kRuns = kFragments / kRowTiles;  // of columns, in registers
  static constexpr int kRun = 16 / sizeof(T);           // values of a lane's run
  static constexpr int kBlock = 4 * kRun;               // columns of a run, all lanes
  static constexpr TileShape kTile{16 * kRowTiles, kRuns * kBlock, kBlock, int(sizeof(T))};
  static constexpr int kChains = kRowTiles < 3 ? 4 / kRowTiles : 1;  // sums in flight a row tile

  struct alignas(16) Fragment {  // both mma tiles of a run
    uint32_t a[2][4];
  };
  Fragment held_[kRowTiles][kRuns];
  uint4* extra_;  // [run][row tile][mma tile][lane] of this warp: lanes side by side, a whole
                  // Fragment each would meet in the banks
  int row_, run_, runs_;

  using Row = typename Weights<Step>::Row;
  // As the tensor has it: tf32 is not rounded yet.
  template <bool kWhole>
  FASTRNN_DEVICE static Fragment fragment(const Weights<Step>& w, const Row& row, int run) {
    const auto column = w.column(run * kBlock + int(threadIdx.x) % 4 * kRun);
    if constexpr (kWhole) {
      const uint4 a = w.run(row, 0, column), b = w.run(row, 8, column);
      return {{{a.x, b.x, a.y, b.y}, {a.z, b.z, a.w, b.w}}};
    } else {
      Fragment f;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        // register r of tile t: row + 8 * (r % 2), half r / 2 of the tile
        const int t = i / 4, r = i % 4, at = (2 * t + r / 2) * kRun / 4;
        if constexpr (kTf32) {
          f.a[t][r] = float_bits(w.at(row, r % 2 * 8, column, at));
        } else {
          const T lo = w.at(row, r % 2 * 8, column, at), hi = w.at(row, r % 2 * 8, column, at + 1);
          f.a[t][r] = uint32_t(lo.bits) | uint32_t(hi.bits) << 16;
        }
      }
      return f;
    }
  }

  // The part of this warp; extra: the block's shared memory for weights.
  FASTRNN_DEVICE void load(const Weights<Step>& w, unsigned char* extra) {
    const Plan& p = w.plan;
    const int warp = int(threadIdx.x) / 32, most = p.warp_columns / kBlock;
    row_ = warp % p.row_warps * kTile.rows;
    run_ = warp / p.row_warps * most;
    runs_ = p.columns / kBlock - run_ < most ? p.columns / kBlock - run_ : most;
    extra_ = reinterpret_cast<uint4*>(extra) + warp * (p.extra / kBlock) * kRowTiles * 64 +
             threadIdx.x % 32;
    if (warp >= p.row_warps * p.column_warps) return;
    if (w.whole()) {
      fill<true>(w);
    } else {
      fill<false>(w);
    }
    if constexpr (kTf32) {  // after all loads, or each would wait for the one before it
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int r = 0; r < kRuns; ++r) round(held_[m][r]);
      }
    }
  }

  // partial: this warp's share [rows][sums_row] of the partial sums.
  FASTRNN_DEVICE void run(const Plan& p, const unsigned char* operand, float* partial) const {
    const int lane = int(threadIdx.x) % 32;
    const unsigned char* mine = operand + lane / 4 * p.operand_row + (run_ * 4 + lane % 4) * 16;
    for (int b = 0; b < p.rows; b += kBatchTile) {
      const uint4* h = reinterpret_cast<const uint4*>(mine + int64_t(b) * p.operand_row);
      float c[kChains][kRowTiles][4] = {};
#pragma unroll
      for (int r = 0; r < kRuns; ++r) {
        if (r < runs_) {
          const uint4 x = h[r * 4];
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) multiply(c[r % kChains][m], held_[m][r], x);
        }
      }
#pragma unroll 1
      for (int r = kRuns; r < runs_; ++r) {
        const uint4* from = extra_ + (r - kRuns) * kRowTiles * 64;
        const uint4 x = h[r * 4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          const uint4 a = from[m * 64], b = from[m * 64 + 32];
          multiply(c[0][m], {{{a.x, a.y, a.z, a.w}, {b.x, b.y, b.z, b.w}}}, x);
        }
      }
      // c[i]: weight row g + 8 * (i / 2), batch row 2q + i % 2
      float* out = partial + (b + lane % 4 * 2) * p.sums_row + row_ + lane / 4;
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        if (row_ + m * 16 >= p.sums) continue;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float sum = c[0][m][i];
          for (int chain = 1; chain < kChains; ++chain) sum += c[chain][m][i];
          out[i % 2 * p.sums_row + m * 16 + i / 2 * 8] = sum;
        }
      }
    }
  }

 private:
  template <bool kWhole>
  FASTRNN_DEVICE void fill(const Weights<Step>& w) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      Row row = w.row(row_ + m * 16);
      row.unit += threadIdx.x % 32 / 4;
#pragma unroll
      for (int r = 0; r < kRuns; ++r) {
        held_[m][r] = fragment<kWhole>(w, row, run_ + r);
        // The loads of single values would all come first, and need more registers than there are.
        if constexpr (!kWhole) __syncwarp();
      }
      for (int r = kRuns; r < runs_; ++r) {
        Fragment f = fragment<kWhole>(w, row, run_ + r);
        if constexpr (kTf32) round(f);
        uint4* to = extra_ + ((r - kRuns) * kRowTiles + m) * 64;
        for (int t = 0; t < 2; ++t) to[t * 32] = {f.a[t][0], f.a[t][1], f.a[t][2], f.a[t][3]};
      }
    }
  }
  // To tf32, as operand values are when published.
  FASTRNN_DEVICE static void round(Fragment& f) {
#pragma unroll
    for (int i = 0; i < 8; ++i) f.a[i / 4][i % 4] = to_tf32(bits_float(f.a[i / 4][i % 4]));
  }
  FASTRNN_DEVICE static void multiply(float (&c)[4], const Fragment& f, uint4 x) {
    const uint32_t first[2] = {x.x, x.y}, second[2] = {x.z, x.w};
    mma(c, f.a[0], first, Math{});
    mma(c, f.a[1], second, Math{});
  }
};

// Exact float32 by FMAs: a lane owns one weight row, and reads the operand of a batch row four
// columns at a time, the same address in all lanes.
template <class Step, int kQuads>
struct FmaProduct {
  static constexpr TileShape kTile{32, 4 * kQuads, 4, 4};
  static constexpr bool kTf32 = false;

  float4 held_[kQuads];
  float4* extra_;  // [quad][lane] of this warp
  int row_, quad_, quads_;

  using Row = typename Weights<Step>::Row;
  template <bool kWhole>
  FASTRNN_DEVICE static float4 quad(const Weights<Step>& w, const Row& row, int q) {
    const auto c = w.column(q * 4);
    if constexpr (kWhole) {
      const uint4 run = w.run(row, 0, c);
      return {bits_float(run.x), bits_float(run.y), bits_float(run.z), bits_float(run.w)};
    }
    return {w.at(row, 0, c, 0), w.at(row, 0, c, 1), w.at(row, 0, c, 2), w.at(row, 0, c, 3)};
  }

  FASTRNN_DEVICE void load(const Weights<Step>& w, unsigned char* extra) {
    const Plan& p = w.plan;
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    row_ = warp % p.row_warps * kTile.rows;
    quad_ = warp / p.row_warps * (p.warp_columns / 4);
    quads_ =
        p.columns / 4 - quad_ < p.warp_columns / 4 ? p.columns / 4 - quad_ : p.warp_columns / 4;
    extra_ = reinterpret_cast<float4*>(extra) + warp * (p.extra / 4) * 32 + lane;
    if (warp >= p.row_warps * p.column_warps) return;
    const Row row = w.row(row_ + lane);
    if (w.whole()) {
      fill<true>(w, row);
    } else {
      fill<false>(w, row);
    }
  }

  FASTRNN_DEVICE void run(const Plan& p, const unsigned char* operand, float* partial) const {
    const int lane = int(threadIdx.x) % 32;
    for (int b = 0; b < p.rows; b += kBatchTile) {
      const unsigned char* h = operand + int64_t(b) * p.operand_row + quad_ * 16;
      float sums[kBatchTile] = {};
#pragma unroll
      for (int i = 0; i < kQuads; ++i) {
        if (i < quads_) multiply(sums, h + i * 16, p.operand_row, held_[i]);
      }
      for (int i = kQuads; i < quads_; ++i) {
        multiply(sums, h + i * 16, p.operand_row, extra_[(i - kQuads) * 32]);
      }
      if (row_ + lane >= p.sums) continue;
#pragma unroll
      for (int i = 0; i < kBatchTile; ++i) partial[(b + i) * p.sums_row + row_ + lane] = sums[i];
    }
  }

 private:
  template <bool kWhole>
  FASTRNN_DEVICE void fill(const Weights<Step>& w, const Row& row) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) held_[i] = quad<kWhole>(w, row, quad_ + i);
    for (int i = kQuads; i < quads_; ++i) {
      extra_[(i - kQuads) * 32] = quad<kWhole>(w, row, quad_ + i);
    }
  }
  FASTRNN_DEVICE static void multiply(float (&sums)[kBatchTile], const unsigned char* h, int row,
                                      float4 w) {
#pragma unroll
    for (int i = 0; i < kBatchTile; ++i) {
      const float4 x = *reinterpret_cast<const float4*>(h + i * row);
      sums[i] += w.x * x.x + w.y * x.y + w.z * x.z + w.w * x.w;
    }
  }
};

}  // namespace cuda
}  // namespace fastrnn
