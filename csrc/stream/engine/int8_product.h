// Products with a matrix in int8 (cpu/gemm/int8.h): a scale for each of its rows, and one for each
// row that is multiplied by it, which becomes int8 first. Sums are exact.
#pragma once
#include "cpu/gemm/int8.h"
#include "cpu/gemm/pack.h"
#include "cpu/threads/workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {
namespace stream {

// Of Matrix (product.h) it has all but sums that are added to others.
class Int8Matrix {
 public:
  using Units = Panels<float, kInt8Units>;
  using Rows = Int8Rows;
  static constexpr bool kAdds = false;

  Int8Matrix(Arena& arena, const Units& panels, int64_t K)
      : panels_(panels),
        K_(K),
        packed_(arena.take<int8_t>(panels.width() * int8_quads(K) * kInt8Quad)),
        scale_(arena.take<float>(panels.width())),
        zeros_(arena.take<float>(panels.width())) {}

  void pack(const float* weight) {
    memset(packed_, 0, panels_.width() * int8_quads(K_) * kInt8Quad);
    memset(scale_, 0, panels_.width() * sizeof(float));
    memset(zeros_, 0, panels_.width() * sizeof(float));
    for (int64_t p = 0; p < panels_.count(); ++p) {
      const int64_t nu = panels_.registers(p), columns = panels_.vectors(p) * W;
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t gate = c / (nu * W), unit = panels_.unit(p) + c % (nu * W);
        if (unit >= panels_.H) continue;
        const float* row = weight + (panels_.gate_row(int(gate)) + unit) * K_;
        scale_[panels_.column(p) + c] = pack_row(row, panel(p) + c * kInt8Quad, columns);
      }
    }
  }

  static Rows take_rows(Arena& arena, int64_t count, int64_t widest) {
    return {arena.take<int8_t>(count * Rows::stride(widest)), arena.take<float>(count),
            arena.take<int32_t>(count), 0};
  }
  // Rows that lie ld apart, as multiply() takes them.
  Rows rows(const float* from, int64_t ld, int64_t count, Rows room) const {
    room.ld = Rows::stride(K_);
    for (int64_t r = 0; r < count; ++r) quantize_row(from + r * ld, K_, room + r);
    return room;
  }

  void multiply(const Rows& rows, int64_t count, const float* init, float* out, bool) const {
    for (int64_t p = 0; p < panels_.count(); ++p) {
      const int64_t column = panels_.column(p);
      multiply(p, rows, count, init ? init + column : nullptr, out + column, panels_.width(),
               false);
    }
  }
  void multiply(int64_t p, const Rows& rows, int64_t count, const float* init, float* out,
                int64_t out_ld, bool) const {
    const int nv = panels_.vectors(p);
    const float* bias = init ? init : zeros_ + panels_.column(p);
    int8_panel(
        nv, rows, count,
        {panel(p), int64_t(nv) * kVectorBytes, int8_quads(K_), scale_ + panels_.column(p), bias},
        out, out_ld);
  }

 private:
  static constexpr int W = Vec<float>::W;

  // One row's numbers, quads of them `columns` quads apart; its scale.
  float pack_row(const float* row, int8_t* to, int64_t columns) const {
    float largest = 0;
    bool finite = true;
    for (int64_t k = 0; k < K_; ++k) {
      const float size = row[k] < 0 ? -row[k] : row[k];
      finite &= size < __builtin_inff();
      largest = size > largest ? size : largest;
    }
    if (!finite) return __builtin_nanf("");
    const float scale = largest / 127.f;
    for (int64_t k = 0; k < K_; ++k) {
      const float q = scale > 0 ? __builtin_nearbyintf(row[k] / scale) : 0.f;
      to[k / kInt8Quad * columns * kInt8Quad + k % kInt8Quad] = int8_t(q > 127.f    ? 127.f
                                                                       : q < -127.f ? -127.f
                                                                                    : q);
    }
    return scale;
  }

  FASTRNN_INLINE int8_t* panel(int64_t p) const {
    return packed_ + panels_.column(p) * int8_quads(K_) * kInt8Quad;
  }

  const Units panels_;
  const int64_t K_;
  int8_t* packed_;
  float *scale_, *zeros_;  // [width]
};

}  // namespace stream
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
