// The functions that a cell may call, over arrays: of registers for one instruction set, or,
// without FASTRNN_ISA, of single numbers. Called unqualified on a type that only a template knows,
// as cells call them.
#include <cstdint>

#include "cells/math.h"
#ifdef FASTRNN_ISA
#include "cpu/simd/functions.h"
#endif

namespace fastrnn {

#ifdef FASTRNN_ISA
template <class T>
using Number = FASTRNN_ISA::Vec<T>;
template <class T>
constexpr int kWidth = Number<T>::W;
template <class T>
FASTRNN_HD Number<T> load(const T* p) {
  return Number<T>::load(p);
}
template <class T>
FASTRNN_HD void store(Number<T> x, T* p) {
  x.store(p);
}
#else
template <class T>
using Number = T;
template <class T>
constexpr int kWidth = 1;
template <class T>
FASTRNN_HD T load(const T* p) {
  return *p;
}
template <class T>
FASTRNN_HD void store(T x, T* p) {
  *p = x;
}
#endif

// f of n numbers (a multiple of kWidth) at a and b; c is left to functions that need a third.
template <class T, class F>
FASTRNN_HD void each(F f, const T* a, const T* b, const T* c, T* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth<T>) {
    store<T>(f(load<T>(a + i), load<T>(b + i), load<T>(c + i)), out + i);
  }
}

#define FASTRNN_EXPORT(T, name, expression)                                                       \
  extern "C" void name##T(const T* pa, const T* pb, const T* pc, T* out, int64_t n) {             \
    each<T>([](auto a, auto b, auto c) { return (void)b, (void)c, expression; }, pa, pb, pc, out, \
            n);                                                                                   \
  }
#define FASTRNN_FUNCTION(name, ...)          \
  FASTRNN_EXPORT(float, name, (__VA_ARGS__)) \
  FASTRNN_EXPORT(double, name, (__VA_ARGS__))

FASTRNN_FUNCTION(abs_, abs(a))
FASTRNN_FUNCTION(sqrt_, sqrt(a))
FASTRNN_FUNCTION(exp_, exp(a))
FASTRNN_FUNCTION(expm1_, expm1(a))
FASTRNN_FUNCTION(log_, log(a))
FASTRNN_FUNCTION(log1p_, log1p(a))
FASTRNN_FUNCTION(sigmoid_, sigmoid(a))
FASTRNN_FUNCTION(tanh_, tanh(a))
FASTRNN_FUNCTION(sin_, sin(a))
FASTRNN_FUNCTION(cos_, cos(a))
FASTRNN_FUNCTION(erf_, erf(a))
FASTRNN_FUNCTION(maximum_, maximum(a, b))
FASTRNN_FUNCTION(minimum_, minimum(a, b))
FASTRNN_FUNCTION(less_, select(less(a, b), c, -c))
FASTRNN_FUNCTION(less_equal_, select(less_equal(a, b), c, -c))
FASTRNN_FUNCTION(greater_, select(greater(a, b), c, -c))
FASTRNN_FUNCTION(greater_equal_, select(greater_equal(a, b), c, -c))
FASTRNN_FUNCTION(equal_, select(equal(a, b), c, -c))
FASTRNN_FUNCTION(not_equal_, select(not_equal(a, b), c, -c))
FASTRNN_FUNCTION(both_, select(both(less(a, b), less(b, c)), a, c))
FASTRNN_FUNCTION(either_, select(either(less(a, b), less(b, c)), a, c))
FASTRNN_FUNCTION(inverse_, select(inverse(less(a, b)), a, b))

}  // namespace fastrnn
