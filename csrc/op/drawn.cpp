// fastrnn::drawn_masks: drawn extra slots as a tensor [N, E*H], of N times and rows, for all who do
// not draw them in a kernel.
#include "drawn.h"

namespace fastrnn {
namespace {

template <class T>
void draw_line(const Draws& draws, int slots, int64_t H, uint64_t time, uint32_t row, T* to) {
  for (int k = 0; k < slots; ++k, to += H) {
    const DrawnMask& mask = draws.mask[k];
    const T below(mask.below), other(mask.other);
    uint32_t key[2];
    draw_key(draws, mask.each_step ? time : kEveryStep, row, k / 2, key);
    for (int64_t j = 0; j < H; ++j) {
      const uint32_t word = draw_word(uint32_t(j), key);
      to[j] = (k % 2 == 0 ? word & 0xffffu : word >> 16) < mask.bound ? below : other;
    }
  }
}

struct Bfloat16 {
  uint16_t bits;
  explicit Bfloat16(double x) {  // to nearest, ties to even
    const float narrow = float(x);
    uint32_t word;
    memcpy(&word, &narrow, sizeof word);
    bits = uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
  }
};

Tensor drawn_masks(const Tensor& drawn, int64_t slots, int64_t hidden, const Tensor& times,
                   const Tensor& rows) {
  for (const Tensor* t : {&times, &rows}) {
    FASTRNN_CHECK(t->is_cpu() && t->scalar_type() == ScalarType::Long && t->dim() == 1 &&
                      t->size(0) == times.size(0),
                  "times and rows must be int64 CPU tensors [N] both");
  }
  FASTRNN_CHECK(drawn.is_cpu() && drawn.dim() == 1 && slots >= 0 && hidden >= 0,
                "drawn must be a CPU tensor of one axis");
  const int64_t more = drawn.size(0) - DrawnSlots::size(slots), B = more > 0 ? more / 4 : 0;
  const DrawnSlots read(drawn, int(slots), B);
  const Tensor time = as_contiguous(times), row = as_contiguous(rows);
  const int64_t lines = time.size(0), width = slots * hidden;
  Tensor masks = allocate(drawn, {lines, width});
  const auto* t = static_cast<const int64_t*>(time.data_ptr());
  const auto* b = static_cast<const int64_t*>(row.data_ptr());
  for (int64_t i = 0; i < lines; ++i) {
    FASTRNN_CHECK(
        !read.draws.rows || (b[i] >= 0 && b[i] < B),
        "rows must be from 0 to " + std::to_string(B - 1) + ", got " + std::to_string(b[i]));
    const uint32_t id = read.draws.rows ? read.draws.rows[b[i]] : uint32_t(b[i]);
    const auto line = [&](auto* to) {
      draw_line(read.draws, int(slots), hidden, uint64_t(t[i]), id, to + i * width);
    };
    if (drawn.scalar_type() == ScalarType::Double) {
      line(static_cast<double*>(masks.data_ptr()));
    } else if (drawn.scalar_type() == ScalarType::Float) {
      line(static_cast<float*>(masks.data_ptr()));
    } else {
      line(static_cast<Bfloat16*>(masks.data_ptr()));
    }
  }
  return masks;
}

}  // namespace
}  // namespace fastrnn

STABLE_TORCH_LIBRARY_FRAGMENT(fastrnn, m) {
  m.def("drawn_masks(Tensor drawn, int slots, int hidden, Tensor times, Tensor rows) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("drawn_masks", TORCH_BOX(&fastrnn::drawn_masks));
}
