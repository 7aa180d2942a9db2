// Rows of float32 as int8 numbers, each row with a scale of its own.
#pragma once
#include "cpu/simd/simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// x = scale * q, |q| <= 127, with scale = max|x| / 127. A row that has an infinity or NaN has the
// scale NaN, and so has all that is multiplied by it.
struct Int8Rows {
  int8_t* q;     // [rows][ld], zeros past the row's numbers
  float* scale;  // [rows]
  int32_t* sum;  // [rows]: of q
  int64_t ld;    // a multiple of kAlign

  static constexpr int64_t kAlign = 16;  // whole registers are stored
  static constexpr int64_t stride(int64_t K) { return (K + kAlign - 1) / kAlign * kAlign; }
  FASTRNN_INLINE Int8Rows operator+(int64_t rows) const {
    return {q + rows * ld, scale + rows, sum + rows, ld};
  }
};

// x [K] -> the first of the rows.
inline void quantize_row(const float* x, int64_t K, const Int8Rows& to) {
  using V = Vec<float>;
  using I = V::I;
  typedef int8_t Bytes __attribute__((vector_size(V::W)));
  constexpr int32_t kInfinity = 0x7f800000;
  constexpr float kLeast = 1e-30f;  // whose inverse is a number still
  I most = {};  // of |x|, by its bits: they rise with it, and those of NaN are above all
  for (int64_t k = 0; k < K; k += V::W) {
    const I bits = I(V::load(x + k, K - k).v) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  int32_t lanes[V::W], bits = 0;
  memcpy(lanes, &most, sizeof lanes);
  for (int l = 0; l < V::W; ++l) bits = lanes[l] > bits ? lanes[l] : bits;
  float largest;
  memcpy(&largest, &bits, sizeof largest);
  const bool finite = bits < kInfinity, zero = largest < kLeast;
  *to.scale = finite ? (zero ? 0.f : largest / 127.f) : __builtin_nanf("");
  const V inverse(finite && !zero ? 127.f / largest : 0.f), round(Float<float>::kRound);
  I sums = {};
  for (int64_t k = 0; k < K; k += V::W) {
    const V::N rounded = V::load(x + k, K - k).v * inverse.v + round.v;
    const I q = I(rounded) - I(round.v);
    sums += q;
    const Bytes bytes = __builtin_convertvector(q, Bytes);
    memcpy(to.q + k, &bytes, sizeof bytes);
  }
  memcpy(lanes, &sums, sizeof lanes);
  int32_t sum = 0;
  for (int l = 0; l < V::W; ++l) sum += lanes[l];
  *to.sum = sum;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
