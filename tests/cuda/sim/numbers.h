// The 16-bit formats and tf32 in plain integer arithmetic, as the GPU's conversions round them.
#pragma once
#include <cstdint>
#include <cstring>

namespace fastrnn {
namespace cuda {
namespace sim {

inline uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float bits_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
// Drops the low `bits` of x, to nearest, ties to even.
inline uint32_t shift_even(uint32_t x, int bits) {
  return (x + (1u << (bits - 1)) - 1 + (x >> bits & 1)) >> bits;
}

inline uint16_t bf16_bits(float x) {
  if (x != x) return 0x7fff;
  return uint16_t(shift_even(float_bits(x), 16));
}
inline float bf16_float(uint16_t bits) { return bits_float(uint32_t(bits) << 16); }

inline uint16_t half_bits(float x) {
  if (x != x) return 0x7fff;
  const uint32_t sign = float_bits(x) >> 16 & 0x8000, magnitude = float_bits(x) & 0x7fffffff;
  if (magnitude >= float_bits(65520.f)) return uint16_t(sign | 0x7c00);
  // Below the smallest normal number the sum with 1/2, whose last bit is half's smallest step,
  // makes the processor round.
  if (magnitude < float_bits(6.103515625e-05f))
    return uint16_t(sign | (float_bits(bits_float(magnitude) + .5f) - float_bits(.5f)));
  return uint16_t(sign | shift_even(magnitude - (112u << 23), 13));
}
inline float half_float(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, magnitude = uint32_t(bits & 0x7fff) << 13;
  if (magnitude >= 0x7c00u << 13) return bits_float(sign | 0x7f800000 | magnitude);
  // As a float the magnitude is 2^112 too small, subnormal numbers included.
  return bits_float(sign | float_bits(bits_float(magnitude) * 5.192296858534828e33f));
}

// To nearest, ties away from zero; the 13 bits below the format's last are zero.
inline uint32_t tf32_bits(float x) {
  if (x != x) return 0x7fffffff;
  const uint32_t bits = float_bits(x);
  return (bits & 0x7fffffff) == 0x7f800000 ? bits : (bits + 0x1000) & ~0x1fffu;
}

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
