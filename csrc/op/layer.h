// A layer's tensors, checked, as the ScanParams of an engine.
#pragma once
#include <memory>
#include <string_view>

#include "cells.h"
#include "drawn.h"
#include "tensors.h"

namespace fastrnn {

// Bit mask of the op's argument `directions`.
constexpr int64_t kForward = 1, kReverse = 2;

enum Weight { kWih, kWhh, kBih, kBhh, kParams, kWhr, kExtra };
constexpr int kWeightKinds = 7;

// Weights that a layer reads in the form in which its kernels multiply by them.
struct Quantized {
  const Tensors& weights;  // of all layers, for each direction: scales (of each column of W_ih,
                           // then its bias; of W_hh, likewise; of bfloat16 biases alone), W_ih and
                           // W_hh in panels of int8 or bfloat16
  const Tensors& state;    // S tensors [L*D, B, H], or none: zeros
  int64_t layer, hidden;   // which of the layers this is; H
};

class Layer {
 public:
  // stacked: all states have H columns, the last of which mean nothing where h has P.
  // Tensors as fastrnn::forward takes them (see ops.cpp); throws std::runtime_error on bad ones.
  Layer(std::string_view cell, const Tensor& input, const Tensors& weights, const Tensors& state,
        const MaybeTensor& batch_sizes, const MaybeTensor& resets, int64_t directions, bool project,
        bool stacked = false);

  // Likewise, as fastrnn::quantized takes them (quantized.cpp).
  Layer(std::string_view cell, const Tensor& input, const Quantized& quantized,
        const MaybeTensor& batch_sizes, const MaybeTensor& resets, int64_t directions);

  ScanParams params{};
  KnownCell cell;
  // Of input [T, B, I], with batch_sizes its rows' lengths [B], or packed [N, I], with batch_sizes
  // [T]; or a single step [B, I] with states [B, H] and D = 1.
  bool packed, single;
  bool project;       // weights have W_ih; else the input is the ready projection
  bool bias;          // weights have biases
  bool projected;     // weights have W_hr
  int per_direction;  // weights of one direction

  int64_t H() const { return params.H; }
  const CellInfo& info() const { return *cell.info; }
  bool product() const { return info().recurrent > 0; }  // has the cell W_hh, and b_hh perhaps?
  // [T, B, columns] or [N, columns], as the input is; zeros past the rows' lengths.
  Tensor like_input(int64_t columns) const;
  // The rows of what is saved, of which the first N are used.
  int64_t lines() const { return params.order ? params.T * params.B : params.N; }
  // State k: [D, B, H], or [B, H] of a single step; the first has P for H.
  Tensor like_state(const Tensor& like, int k) const;
  // Zeros where no row has a step, as the next one.
  Tensor like_weight(const Tensor& weight, Weight kind) const;
  void zero_past(Tensor& t) const;  // of [.., T, B, columns], the rows' lengths
  // If no kernel will write it, as it does not where slots are drawn.
  Tensor zeroed(Tensor t, bool unwritten = false) const;
  void check_state(const char* name, const Tensor& state, int k) const;
  // What weight i of the op's list is.
  Weight kind(size_t i) const {
    const int place = int(i) % per_direction, own = info().extra > 0;
    if (own && place == per_direction - 1) return kExtra;
    if (info().params > 0 && place == per_direction - 1 - own) return kParams;
    if (projected && place == per_direction - 1 - own - (info().params > 0)) return kWhr;
    if (!product()) return place == 0 ? kWih : kBih;
    return project ? Weight(place) : place == 0 ? kWhh : kBhh;
  }
  // Values a unit and step leaves for backward.
  int stored(bool partial) const {
    return (partial ? info().kept : info().saved) + info().states - 1 + projected;
  }

 private:
  void read_sizes(const Tensors& weights, int64_t directions, bool stacked);
  void read_rows(const MaybeTensor& batch_sizes, const Tensors& state);
  void read_lengths(const Tensor& lengths);
  void read_resets(const MaybeTensor& resets);
  void read_extra(int d, const Tensor& extra);
  void read_direction(int d, bool reverse, const Tensors& weights, const Tensors& state);
  void read_quantized(int d, bool reverse, const Quantized& quantized);
  const void* keep(const Tensor& t);  // its data, contiguous for as long as this and t live

  Tensor input_;
  Tensors kept_;
  std::vector<int64_t> step_begin_, batch_sizes_, order_;
  std::vector<char> resets_;              // [N], where they come as [T, B]
  std::unique_ptr<DrawnSlots> drawn_[2];  // of each direction, where its extra slots are drawn
};

}  // namespace fastrnn
