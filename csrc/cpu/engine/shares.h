// How the threads of a call share the rows or the units of a scan.
#pragma once
#include "cpu/params.h"
#include "cpu/threads/range.h"
#include "gate_weights.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Do `size` threads share the units of W_hh [weight_bytes], in `panels`, at a barrier a step,
// rather than the B batch rows? That takes W_hh through each thread's cache in part only, and is
// even where the rows are not.
inline bool share_units(int64_t B, int64_t panels, int64_t weight_bytes, int size) {
  constexpr int64_t kLeast = 32 << 10, kCache = 1 << 20;  // a thread's share, at least; L2
  constexpr int64_t kFewRows = 8;  // of a thread, whose sums wait for the weights
  if (size == 1 || B < size) return size > 1;
  if (panels < size || weight_bytes < size * kLeast) return false;
  const auto uneven = [size](int64_t n) {
    return double((n + size - 1) / size * size) / double(n);
  };
  const bool large = weight_bytes >= kCache && B < size * kFewRows;
  return uneven(panels) * (large ? 0.9 : 1.05) < uneven(B);
}

// The bytes of the weights that a step of a direction goes through; slots: of its recurrent
// product.
inline int64_t step_bytes(const ScanParams& s, int slots, int64_t number) {
  return (slots + s.projected()) * s.H * (s.P / s.heads) * number;
}

// The same for a forward walk: in few steps there are few barriers, and each weight is read and
// packed by one thread only. most: batch rows that a thread walks through time together.
inline bool share_forward_units(const ScanParams& s, int64_t panels, int64_t most,
                                int64_t weight_bytes, int size) {
  if (s.T <= kFewSteps) return s.B < size || (s.B <= most && panels >= size);
  return share_units(s.B, panels, weight_bytes, size);
}

// The batch rows of part i when `parts` threads share them by work: the rows' lengths fall.
inline Range row_part(const ScanParams& s, int64_t i, int64_t parts) {
  if (!s.batch_sizes) return part(s.B, i, parts);
  int64_t bounds[2], work = 0, row = 0;
  for (int side = 0; side < 2; ++side) {
    const int64_t goal = s.N * (i + side) / parts;
    for (int64_t steps = s.T; row < s.B && work < goal; ++row) {
      while (steps > 0 && s.batch_sizes[steps - 1] <= row) --steps;  // the row's length
      work += steps;
    }
    bounds[side] = i + side == parts ? s.B : row;
  }
  return {bounds[0], bounds[1]};
}

// The same of a chunk of the rows.
inline Range row_part_of(const ScanParams& s, Range rows, int64_t i, int64_t parts) {
  if (rows.begin == 0 && rows.end == s.B) return row_part(s, i, parts);
  const Range mine = part(rows.end - rows.begin, i, parts);
  return {rows.begin + mine.begin, rows.begin + mine.end};
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
