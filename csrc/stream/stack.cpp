#include "stack.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cells/registry.h"
#include "cpu/int8_layout.h"
#include "kernels.h"
#include "memory.h"
#include "other_cells.h"

namespace fastrnn {
namespace stream {
namespace {

constexpr int64_t kMostSize = 1 << 24;  // of any one size: products of them stay in 64 bits

void check(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

// A layer's weights as its kernels have packed them.
struct Layer {
  Shape shape;
  int gates, states;
  LayerKernels kernels;
  Memory packed;
  std::unique_ptr<const OtherCell> other;  // in their place

  int64_t scratch_bytes(int64_t T, int64_t B) const {
    return other ? other->scratch_bytes(T, B) : kernels.scratch_bytes(shape, T, B);
  }
};
using Layers = std::vector<Layer>;

void check_sizes(const LayerSpec& spec, const std::string& where) {
  const int64_t sizes[] = {spec.input, spec.hidden, spec.projected + 1};
  for (const int64_t size : sizes) {
    check(size >= 1 && size <= kMostSize, where + "sizes must lie between 1 and " +
                                              std::to_string(kMostSize) + ", got " +
                                              std::to_string(size));
  }
  check(spec.projected < spec.hidden && (spec.projected > 0) == (spec.w_hr != nullptr),
        where + "a projection must have fewer numbers than units, and weights");
}

// Its place in the list of cells, or after the last: "linear" has that in the tables of kernels.
int find(std::string_view cell) {
  int i = 0;
  while (i < kCellCount && cell != kCells[i].name) ++i;
  return i;
}

const LayerKernels* kernels_of(Weights weights) {
  const StreamKernels& table = stream_kernels();
  switch (weights) {
    case Weights::kFloat32:
      return table.float32;
    case Weights::kBfloat16:
      return table.bfloat16;
    case Weights::kInt8:
      return table.int8;
  }
  throw std::invalid_argument("weights must be float32, bfloat16 or int8");
}

Layer make_other(const LayerSpec& spec, Weights weights, const std::string& where) {
  check(weights == Weights::kFloat32 && !spec.projected,
        where + "a cell of one's own has float32 weights in a stream, and no projection");
  check_sizes(spec, where);
  check(spec.heads >= 1 && spec.hidden % spec.heads == 0, where + "heads must divide the units");
  check(spec.w_ih && (spec.info->recurrent == 0 || spec.w_hh), where + "weights must be given");
  return {{spec.input, spec.hidden, spec.hidden, false},
          spec.info->gates,
          spec.info->states,
          {},
          nullptr,
          std::make_unique<const OtherCell>(spec)};
}

Layer make_layer(const LayerSpec& spec, Weights weights, const std::string& where) {
  if (spec.kernels) return make_other(spec, weights, where);
  check(has_steps(spec.cell), where + "no stream has the cell " + std::string(spec.cell));
  check_sizes(spec, where);
  const int cell = find(spec.cell);
  const bool linear = cell == kCellCount;
  check(weights != Weights::kInt8 || std::max(spec.input, spec.hidden) < kInt8Depth,
        where + "int8 sums take fewer than " + std::to_string(kInt8Depth) + " products");
  const LayerKernels& kernels = kernels_of(weights)[cell];
  const CellInfo* info = linear ? nullptr : &kCells[cell];
  check(!spec.projected || (info && info->projects),
        where + std::string(spec.cell) + " has no projection");
  const bool product = info && info->recurrent > 0;
  check(spec.w_ih && (!product || spec.w_hh), where + "weights must be given");
  const int64_t P = spec.projected ? spec.projected : spec.hidden;
  Layer layer{{spec.input, spec.hidden, P, spec.projected > 0},
              linear ? 1 : info->gates,
              linear ? 0 : info->states,
              kernels,
              nullptr,
              nullptr};
  layer.packed = allocate(kernels.packed_bytes(layer.shape));
  kernels.pack(spec, layer.shape, layer.packed.get());
  return layer;
}

class PackedStack : public Stack {
 public:
  PackedStack(std::shared_ptr<const Layers> layers, int64_t batch)
      : layers_(std::move(layers)), batch_(batch) {
    check(batch >= 1 && batch <= kMostSize, "batch must lie between 1 and " +
                                                std::to_string(kMostSize) + ", got " +
                                                std::to_string(batch));
    int64_t widest = 1, size = 0;  // bytes of a row's gates; floats of all states
    for (const Layer& layer : *layers_) {
      widest = std::max<int64_t>(widest, layer.gates * layer.shape.H * sizeof(float));
      for (int k = 0; k < layer.states; ++k) size += batch * width(layer, k);
    }
    const int64_t rows = std::clamp(kBlockBytes / widest, kLeastRows, kMostRows);
    most_steps_ = std::max<int64_t>(1, rows / batch);
    states_size_ = size;
    states_memory_ = allocate(size * sizeof(float));
    float* at = static_cast<float*>(states_memory_.get());
    for (const Layer& layer : *layers_) {
      first_state_.push_back(int(states_.size()));
      for (int k = 0; k < layer.states; ++k) {
        states_.push_back(at);
        at += batch * width(layer, k);
      }
    }
    states_.push_back(nullptr);  // where a last layer without states has its first
    reset();
    make_room(1);
  }

  std::unique_ptr<Stack> share(int64_t batch) const override {
    return std::make_unique<PackedStack>(layers_, batch);
  }

  void step(const float* x, int64_t T, float* out) override {
    make_room(std::min(T, most_steps_));
    for (int64_t t = 0; t < T; t += most_steps_) {
      const int64_t count = std::min(most_steps_, T - t);
      block(x + t * batch_ * input(), count, out + t * batch_ * output());
    }
  }

  int64_t batch() const override { return batch_; }
  int64_t input() const override { return layers_->front().shape.I; }
  int64_t output() const override { return layers_->back().shape.P; }
  int layers() const override { return int(layers_->size()); }
  int states(int i) const override { return (*layers_)[i].states; }
  int64_t state_size(int i, int k) const override { return width((*layers_)[i], k); }
  float* state(int i, int k) override { return states_[first_state_[i] + k]; }

  void reset() override { memset(states_memory_.get(), 0, states_size_ * sizeof(float)); }
  void reset(int64_t row) override {
    check(row >= 0 && row < batch_, "row must lie between 0 and " + std::to_string(batch_ - 1) +
                                        ", got " + std::to_string(row));
    for (int i = 0; i < layers(); ++i) {
      for (int k = 0; k < states(i); ++k) {
        const int64_t size = state_size(i, k);
        memset(state(i, k) + row * size, 0, size * sizeof(float));
      }
    }
  }

 private:
  // Steps go through all layers in blocks, whose gates stay in cache.
  static constexpr int64_t kBlockBytes = 512 << 10, kLeastRows = 16, kMostRows = 64;

  static int64_t width(const Layer& layer, int k) { return k ? layer.shape.H : layer.shape.P; }

  void make_room(int64_t steps) {
    if (steps <= room_) return;
    int64_t between = 0, scratch = 0;  // outputs of all layers but the last; a layer's own
    for (const Layer& layer : *layers_) {
      between = std::max(between, layer.shape.P);
      scratch = std::max(scratch, layer.scratch_bytes(steps, batch_));
    }
    for (Memory& memory : between_) memory = allocate(between * steps * batch_ * sizeof(float));
    make_scratch(scratch);
    room_ = steps;
  }

  void make_scratch(int64_t bytes) {
    if (bytes <= scratch_bytes_) return;
    scratch_ = allocate(bytes);
    scratch_bytes_ = bytes;
  }

  void block(const float* x, int64_t T, float* out) {
    const size_t last = layers_->size() - 1;
    for (size_t i = 0; i <= last; ++i) {
      const Layer& layer = (*layers_)[i];
      float* to = i == last ? out : static_cast<float*>(between_[i % 2].get());
      float* const* states = states_.data() + first_state_[i];
      if (layer.other) {
        make_scratch(layer.scratch_bytes(T, batch_));  // fewer steps may want more
        layer.other->run(T, batch_, x, to, states, scratch_.get());
      } else {
        layer.kernels.run(
            {layer.shape, layer.packed.get(), T, batch_, x, to, states, scratch_.get()});
      }
      x = to;
    }
  }

  const std::shared_ptr<const Layers> layers_;
  const int64_t batch_;
  int64_t most_steps_, states_size_, room_ = 0, scratch_bytes_ = 0;
  Memory states_memory_, between_[2], scratch_;
  std::vector<float*> states_;
  std::vector<int> first_state_;
};

}  // namespace

bool has_steps(std::string_view cell) {
  const int i = find(cell);
  return (i < kCellCount || cell == "linear") && stream_kernels().float32[i].run;
}

std::unique_ptr<Stack> Stack::make(const std::vector<LayerSpec>& specs, Weights weights,
                                   int64_t batch) {
  check(!specs.empty(), "a stream must have layers");
  auto layers = std::make_shared<Layers>();
  for (const LayerSpec& spec : specs) {
    const std::string where = "layer " + std::to_string(layers->size()) + ": ";
    if (!layers->empty()) {
      const int64_t before = layers->back().shape.P;
      check(spec.input == before, where + "must take the " + std::to_string(before) +
                                      " features of the layer before it, got " +
                                      std::to_string(spec.input));
    }
    layers->push_back(make_layer(spec, weights, where));
  }
  return std::make_unique<PackedStack>(std::move(layers), batch);
}

}  // namespace stream
}  // namespace fastrnn
