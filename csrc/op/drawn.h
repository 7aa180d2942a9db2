// Extra slots that are masks drawn from a counter, as `fastrnn/drawn.py` writes them: numbers from
// 0 to 255 in a tensor of the input's dtype, which holds them all.
#pragma once
#include <string>
#include <vector>

#include "cpu/params.h"
#include "tensors.h"

namespace fastrnn {

class DrawnSlots {
 public:
  // drawn: [8 + 11*E], or [8 + 11*E + 4*B] with the number of each batch row.
  DrawnSlots(const Tensor& drawn, int slots, int64_t B) {
    const int64_t least = size(slots), given = drawn.size(0);
    FASTRNN_CHECK(slots <= kMaxDrawn && (given == least || given == least + 4 * B),
                  "drawn extra slots must be " + std::to_string(least) + " numbers, or " +
                      std::to_string(least + 4 * B) + ", got " + std::to_string(given));
    read(as_contiguous(drawn));
    draws.seed[0] = uint32_t(whole(0, 4)), draws.seed[1] = uint32_t(whole(4, 4));
    for (int k = 0; k < slots; ++k) read_mask(k);
    for (int64_t b = 0; given > least && b < B; ++b) {
      rows_.push_back(uint32_t(whole(least + 4 * b, 4)));
    }
    draws.rows = rows_.empty() ? nullptr : rows_.data();
  }
  DrawnSlots(const DrawnSlots&) = delete;

  // Numbers without those of the rows.
  static int64_t size(int64_t slots) { return kSeed + slots * kSlot; }

  Draws draws{};

 private:
  static constexpr int64_t kSeed = 8, kSlot = 11;
  enum { kZoneout, kDropout, kDropoutEachStep };

  void read_mask(int k) {
    const int64_t at = kSeed + k * kSlot;
    const int kind = int(bytes_[at]);
    FASTRNN_CHECK(kind <= kDropoutEachStep,
                  "a drawn slot must be of kind 0, 1 or 2, got " + std::to_string(kind));
    double rate = 0;
    for (int i = 7; i >= 0; --i) rate = (rate + bytes_[at + 3 + i]) / 256;
    DrawnMask& mask = draws.mask[k];
    mask.bound = uint32_t(whole(at + 1, 2));
    mask.below = kind == kZoneout ? 1 : 0;
    mask.other = kind == kZoneout ? 0 : 1 / (1 - rate);
    mask.each_step = kind != kDropout;
  }

  // Little-endian.
  uint64_t whole(int64_t at, int count) const {
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; --i) value = value << 8 | bytes_[at + i];
    return value;
  }

  void read(const Tensor& drawn) {
    bytes_.resize(drawn.size(0));
    const void* data = drawn.data_ptr();
    for (size_t i = 0; i < bytes_.size(); ++i) {
      double number;
      if (drawn.scalar_type() == ScalarType::Double) {
        number = static_cast<const double*>(data)[i];
      } else if (drawn.scalar_type() == ScalarType::Float) {
        number = static_cast<const float*>(data)[i];
      } else {  // bfloat16: the upper half of a float
        const uint32_t bits = uint32_t(static_cast<const uint16_t*>(data)[i]) << 16;
        float wide;
        memcpy(&wide, &bits, sizeof wide);
        number = wide;
      }
      FASTRNN_CHECK(
          number >= 0 && number <= 255 && number == int(number),
          "drawn extra slots must be whole numbers from 0 to 255, got " + std::to_string(number));
      bytes_[i] = uint8_t(number);
    }
  }

  std::vector<uint8_t> bytes_;
  std::vector<uint32_t> rows_;
};

}  // namespace fastrnn
