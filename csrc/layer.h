// A layer's tensors, checked, as the ScanParams of an engine.
#pragma once
#include <optional>
#include <string_view>

#include "common/params.h"
#include "common/registry.h"
#include "tensors.h"

namespace fastrnn {

using Tensors = std::vector<Tensor>;

// Bit mask of the op's argument `directions`.
constexpr int64_t kForward = 1, kReverse = 2;

class Layer {
 public:
  // Tensors as fastrnn::forward takes them (see ops.cpp); throws std::runtime_error on bad ones.
  Layer(std::string_view cell, const Tensor& input, const Tensors& weights, const Tensors& state,
        const std::optional<Tensor>& batch_sizes, const std::optional<Tensor>& resets,
        int64_t directions, bool project);

  ScanParams params{};
  int cell;           // index in the cell list
  bool packed, bias;  // input is [N, I] rather than [T, B, I]; weights have biases
  int per_direction;  // weights of one direction

  int64_t H() const { return params.H; }
  const CellInfo& info() const { return kCells[cell]; }
  // [T, B, columns] or [N, columns], as the input is.
  Tensor like_input(int64_t columns) const;
  // Values a unit and step leaves for backward.
  int stored(bool partial) const {
    return (partial ? info().kept : info().saved) + info().states - 1;
  }

 private:
  void read_sizes(const Tensors& weights, int64_t directions, bool project);
  void read_rows(const std::optional<Tensor>& batch_sizes, const Tensors& state);
  void read_resets(const std::optional<Tensor>& resets);
  void read_direction(int d, bool reverse, const Tensors& weights, const Tensors& state,
                      bool project);
  const void* keep(const Tensor& t);  // its data, contiguous for as long as this and t live

  Tensor input_;
  Tensors kept_;
  std::vector<int64_t> step_begin_;
};

}  // namespace fastrnn
