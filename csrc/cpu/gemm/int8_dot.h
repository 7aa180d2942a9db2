// Exact sums of four int8 products in each int32 lane of a register, by what the instruction set
// has: weights [lanes][4] times four numbers of a row.
#pragma once
#include "cpu/simd/simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

FASTRNN_INLINE int32_t four_bytes(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return four;
}

// kRows: of a tile; kColumns: registers of one, and of a single row's kRowColumns.
#if defined(__AVX512VNNI__)
// vpdpbusd multiplies an unsigned by a signed number: weights have 128 added, which sums() takes
// away again, 128 times the sum of the row.
struct Int8Dot {
  static constexpr int kRows = 6, kColumns = 4, kRowColumns = 4;
  using Sums = Vec<float>::I;
  using Weights = __m512i;
  using Row = __m512i;
  static constexpr Sums zero() { return Sums{}; }
  FASTRNN_INLINE static Weights load(const int8_t* p) {
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(int32_t(0x80808080)));
  }
  FASTRNN_INLINE static Row row(const int8_t* q) { return _mm512_set1_epi32(four_bytes(q)); }
  FASTRNN_INLINE static void add(Sums& sums, Weights w, Row x) {
    sums = Sums(_mm512_dpbusd_epi32(__m512i(sums), w, x));
  }
  FASTRNN_INLINE static Sums sums(Sums sums, int32_t of_row) { return sums - 128 * of_row; }
};
#elif defined(__AVX512BW__)
// vpmaddubsw adds two products in int16, which hold |x| w of numbers up to 127; the sign of x goes
// to w.
struct Int8Dot {
  static constexpr int kRows = 5, kColumns = 4, kRowColumns = 4;
  using Sums = Vec<float>::I;
  using Weights = __m512i;
  struct Row {
    __m512i absolute;
    __mmask64 negative;
  };
  static constexpr Sums zero() { return Sums{}; }
  FASTRNN_INLINE static Weights load(const int8_t* p) { return _mm512_loadu_si512(p); }
  FASTRNN_INLINE static Row row(const int8_t* q) {
    const __m512i x = _mm512_set1_epi32(four_bytes(q));
    return {_mm512_abs_epi8(x), _mm512_movepi8_mask(x)};
  }
  FASTRNN_INLINE static void add(Sums& sums, Weights w, Row x) {
    const __m512i w_signed = _mm512_mask_sub_epi8(w, x.negative, _mm512_setzero_si512(), w);
    const __m512i pairs = _mm512_maddubs_epi16(x.absolute, w_signed);
    sums += Sums(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  FASTRNN_INLINE static Sums sums(Sums sums, int32_t) { return sums; }
};
#elif defined(__AVX2__)
struct Int8Dot {
  static constexpr int kRows = 2, kColumns = 4, kRowColumns = 8;
  using Sums = Vec<float>::I;
  using Weights = __m256i;
  struct Row {
    __m256i absolute, x;
  };
  static constexpr Sums zero() { return Sums{}; }
  FASTRNN_INLINE static Weights load(const int8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  FASTRNN_INLINE static Row row(const int8_t* q) {
    const __m256i x = _mm256_set1_epi32(four_bytes(q));
    return {_mm256_abs_epi8(x), x};
  }
  FASTRNN_INLINE static void add(Sums& sums, Weights w, Row x) {
    const __m256i pairs = _mm256_maddubs_epi16(x.absolute, _mm256_sign_epi8(w, x.x));
    sums += Sums(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  FASTRNN_INLINE static Sums sums(Sums sums, int32_t) { return sums; }
};
#else
// Bytes at even places, then those at odd ones: two products fit into an int16.
struct Int8Dot {
  static constexpr int kRows = 2, kColumns = 4, kRowColumns = 4;
  typedef int16_t Halves __attribute__((vector_size(kVectorBytes)));
  using Sums = Vec<float>::I;
  struct Pair {
    Halves even, odd;
  };
  using Weights = Pair;
  using Row = Pair;
  static constexpr Sums zero() { return Sums{}; }
  FASTRNN_INLINE static Pair split(Halves bytes) { return {(bytes << 8) >> 8, bytes >> 8}; }
  FASTRNN_INLINE static Weights load(const int8_t* p) {
    Halves bytes;
    memcpy(&bytes, p, sizeof bytes);
    return split(bytes);
  }
  FASTRNN_INLINE static Row row(const int8_t* q) { return split(Halves(Sums{} + four_bytes(q))); }
  FASTRNN_INLINE static void add(Sums& sums, Weights w, Row x) {
    const Sums pairs = Sums(w.even * x.even + w.odd * x.odd);
    sums += ((pairs << 16) >> 16) + (pairs >> 16);
  }
  FASTRNN_INLINE static Sums sums(Sums sums, int32_t) { return sums; }
};
#endif

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
