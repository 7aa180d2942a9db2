// How the numbers of a scan are stored, multiplied and summed. float and double are what they are
// everywhere. bfloat16 is stored and multiplied, and summed in float32: two neighbours along the
// summed axis share a 32-bit lane, as vdpbf16ps wants them; where that is missing, the lane's
// halves are widened to float32 and multiplied one after the other.
#pragma once
#include "simd.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct Bf16 {
  uint16_t bits;
};

// Sum: the type of sums, cells and carried states. A lane of an operand has a Sum's size and holds
// kPair numbers; where that is two, it is moved as bits and never computed with.
template <class T>
struct Storage {
  using Sum = T;
  static constexpr int kPair = 1;
};
template <>
struct Storage<Bf16> {
  using Sum = float;
  static constexpr int kPair = 2;
};
template <class T>
using Sum = typename Storage<T>::Sum;
template <class T>
using Lane = Sum<T>;

// Lanes that `count` numbers of the summed axis take.
template <class T>
constexpr int64_t lanes(int64_t count) {
  return (count + Storage<T>::kPair - 1) / Storage<T>::kPair;
}

// The first n numbers at p (n <= W) as a register of sums, and back; nothing past them is touched.
template <class T>
FASTRNN_INLINE Vec<T> read(const T* p, int64_t n) {
  return Vec<T>::load(p, n);
}
template <class T>
FASTRNN_INLINE void write(Vec<T> x, T* p, int64_t n) {
  x.store(p, n);
}

constexpr int kFloats = kVectorBytes / 4;
typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
typedef uint16_t UnalignedHalves
    __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef uint32_t UnalignedWords __attribute__((vector_size(kVectorBytes), aligned(2), may_alias));

FASTRNN_INLINE Words widen(const Bf16* p, int64_t n) {
  if (n >= kFloats) {
    return __builtin_convertvector(Halves(*reinterpret_cast<const UnalignedHalves*>(p)), Words);
  }
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const Halves halves = Halves(_mm256_maskz_loadu_epi16(__mmask16((1u << n) - 1), p));
  return __builtin_convertvector(halves, Words);
#else
  Words words = {};
  for (int64_t i = 0; i < n; ++i) words[i] = p[i].bits;
  return words;
#endif
}
FASTRNN_INLINE Vec<float> read(const Bf16* p, int64_t n) {
  return Vec<float>(Vec<float>::N(widen(p, n) << 16));
}
// Rounds to nearest, ties to even; NaN stays NaN.
FASTRNN_INLINE void write(Vec<float> x, Bf16* p, int64_t n) {
  const Words bits = Words(x.v);
  Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  rounded = x.v != x.v ? Words{} + 0x7fc0 : rounded;
  const Halves halves = __builtin_convertvector(rounded, Halves);
  if (n >= kFloats) {
    *reinterpret_cast<UnalignedHalves*>(p) = halves;
    return;
  }
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1), __m256i(halves));
#else
  for (int64_t i = 0; i < n; ++i) p[i].bits = halves[i];
#endif
}

// The lane of the n >= 1 numbers that are left at p.
template <class T>
FASTRNN_INLINE Lane<T> lane(const T* p, int64_t n) {
  if constexpr (Storage<T>::kPair == 1) {
    return *p;
  } else {
    const uint32_t bits = p[0].bits | (n > 1 ? uint32_t(p[1].bits) << 16 : 0);
    float lane;
    memcpy(&lane, &bits, sizeof lane);
    return lane;
  }
}
// Lanes of neighbours along the summed axis: the first n numbers at each of two places; and of
// numbers without a neighbour.
template <class T>
FASTRNN_INLINE Vec<Lane<T>> interleave(const T* low, const T* high, int64_t n) {
  if constexpr (Storage<T>::kPair == 1) {
    return Vec<T>::load(low, n);
  } else {
    return Vec<float>(Vec<float>::N(widen(low, n) | (widen(high, n) << 16)));
  }
}
template <class T>
FASTRNN_INLINE Vec<Lane<T>> alone(const T* low, int64_t n) {
  if constexpr (Storage<T>::kPair == 1) {
    return Vec<T>::load(low, n);
  } else {
    return Vec<float>(Vec<float>::N(widen(low, n)));
  }
}

// Products of lanes. In each of kPasses passes the part()s of two operands are multiplied and
// added.
template <class T>
struct Product {
  using N = typename Vec<T>::N;
  static constexpr int kPasses = 1;
  FASTRNN_INLINE static N load(const T* p, int64_t n) { return Vec<T>::load(p, n).v; }
  FASTRNN_INLINE static N broadcast(const T* p) { return Vec<T>(*p).v; }
  template <int>
  FASTRNN_INLINE static N part(N x) {
    return x;
  }
  FASTRNN_INLINE static void add(N& sum, N a, N b) { sum = fused<T>(a, b, sum); }
};

template <>
struct Product<Bf16> {
  using N = typename Vec<float>::N;

  // The first n numbers at p (n <= 2 W); the rest of the register is zero.
  FASTRNN_INLINE static N load(const Bf16* p, int64_t n) {
    if (n >= 2 * kFloats) return N(Words(*reinterpret_cast<const UnalignedWords*>(p)));
#if defined(__AVX512BW__)
    return N(_mm512_maskz_loadu_epi16(__mmask32((uint64_t(1) << n) - 1), p));
#else
    Words words = {};
    memcpy(&words, p, n * sizeof(Bf16));
    return N(words);
#endif
  }
  FASTRNN_INLINE static N broadcast(const Bf16* p) {  // a pair
    uint32_t pair;
    memcpy(&pair, p, sizeof pair);
    return N(Words{} + pair);
  }
  FASTRNN_INLINE static N broadcast(const float* lane) {
    return broadcast(reinterpret_cast<const Bf16*>(lane));
  }
  FASTRNN_INLINE static N broadcast_last(const Bf16* p) {  // a number without a neighbour
    return N(Words{} + p->bits);
  }

#if defined(__AVX512BF16__)
  static constexpr int kPasses = 1;
  template <int>
  FASTRNN_INLINE static N part(N x) {
    return x;
  }
  FASTRNN_INLINE static void add(N& sum, N a, N b) {
    sum = N(_mm512_dpbf16_ps(__m512(sum), __m512bh(a), __m512bh(b)));
  }
#else
  static constexpr int kPasses = 2;
  template <int kPass>
  FASTRNN_INLINE static N part(N x) {
    return kPass == 0 ? N(Words(x) << 16) : N(Words(x) & 0xffff0000u);
  }
  FASTRNN_INLINE static void add(N& sum, N a, N b) { sum = fused<float>(a, b, sum); }
#endif
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
