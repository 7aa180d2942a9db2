// The numbers of a step: what a dtype is computed, summed and stored as, and how two neighbouring
// units' values are loaded.
#pragma once
#include <type_traits>

#include "fast.cuh"

namespace fastrnn {
namespace cuda {

// How numbers of a dtype are multiplied, summed and put through a cell.
template <class Value, class Storage, class Sum = float>
struct Numbers {
  using V = Value;    // the cell's arithmetic
  using T = Storage;  // in tensors
  using A = Sum;      // sums and carried states
};
using ExactNumbers = Numbers<float, float>;
using DoubleNumbers = Numbers<double, double, double>;
using Tf32Numbers = Numbers<Fast, float>;
using Bf16Numbers = Numbers<Fast, Bf16>;
using HalfNumbers = Numbers<Fast, Half>;

template <class A>
FASTRNN_DEVICE A raw(Fast x) {
  return x.v;
}
template <class A>
FASTRNN_DEVICE A raw(float x) {
  return x;
}
template <class A>
FASTRNN_DEVICE A raw(double x) {
  return x;
}

template <class T, class A>
FASTRNN_DEVICE T rounded(A x) {
  if constexpr (std::is_same<T, A>::value) {
    return x;
  } else {
    return from_float<T>(x);
  }
}

// Values of two neighbouring units as they are loaded: a word for 2-byte types, so that they wait
// for their use in one register.
template <class T, bool = sizeof(T) == 2>
struct Two {
  T v[2];
  FASTRNN_DEVICE static Two load(const T* p, int count, bool) {
    return {{p[0], count > 1 ? p[1] : p[0]}};
  }
  FASTRNN_DEVICE T at(int i) const { return v[i]; }
};
template <class T>
struct Two<T, true> {
  uint32_t word;
  FASTRNN_DEVICE static Two load(const T* p, int count, bool aligned) {
    if (aligned) return {*reinterpret_cast<const uint32_t*>(p)};
    return {uint32_t(p[0].bits) | uint32_t(count > 1 ? p[1].bits : 0) << 16};
  }
  FASTRNN_DEVICE T at(int i) const { return {uint16_t(word >> 16 * i)}; }
};

}  // namespace cuda
}  // namespace fastrnn
