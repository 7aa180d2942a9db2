// The whole source of a compiled cell's library, but the cell:
//
//   #include "cell.h"  // its policy
//   #define FASTRNN_CELL ::fastrnn::LightGru
//   #define FASTRNN_CELL_NAME "light_gru"
//   #include "cpu/engine/library.h"
//
// compiled with -DFASTRNN_ISA=avx2, that instruction set's flags and -DFASTRNN_DTYPE=float, double,
// Bf16, or, for a cell with int8 weights, which has no backward, Int8. Two sources, linked
// together, compile at the same time: one defines FASTRNN_CELL_FORWARD before it includes this, the
// other FASTRNN_CELL_BACKWARD.
#pragma once
#if !defined(FASTRNN_CELL_FORWARD) && !defined(FASTRNN_CELL_BACKWARD)
#define FASTRNN_CELL_FORWARD
#define FASTRNN_CELL_BACKWARD
#endif
#include "cells/counts.h"
#include "cpu/library.h"
#ifdef FASTRNN_CELL_FORWARD
#include "bf16_weights.h"
#include "forward.h"
#include "int8_weights.h"
#endif
#ifdef FASTRNN_CELL_BACKWARD
#include "backward.h"
#endif

namespace fastrnn {
namespace FASTRNN_ISA {

bool compiled_forward(const ScanParams& s);
bool compiled_backward(const ScanParams& s);
int64_t compiled_forward_workspace(const ScanParams& s);
int64_t compiled_backward_workspace(const ScanParams& s);

#ifdef FASTRNN_CELL_BACKWARD
using CompiledBackward = Backward<FASTRNN_CELL, FASTRNN_DTYPE>;
bool compiled_backward(const ScanParams& s) { return CompiledBackward::run(s); }
int64_t compiled_backward_workspace(const ScanParams& s) { return CompiledBackward::workspace(s); }
#endif

#ifdef FASTRNN_CELL_FORWARD
template <class T>
struct ForwardOf {
  using Type = Forward<FASTRNN_CELL, T>;
};
template <>
struct ForwardOf<Int8> {
  using Type = Forward<FASTRNN_CELL, float, Int8Weights>;
};
template <>
struct ForwardOf<WeightsInBf16> {
  using Type = Forward<FASTRNN_CELL, float, Bf16Weights>;
};
using CompiledForward = typename ForwardOf<FASTRNN_DTYPE>::Type;
bool compiled_forward(const ScanParams& s) { return CompiledForward::run(s); }
int64_t compiled_forward_workspace(const ScanParams& s) { return CompiledForward::workspace(s); }

static_assert(FASTRNN_CELL::kStates <= kMaxStates, "the cell has more states than kMaxStates");
static_assert(slots_fit<FASTRNN_CELL>, "the cell has slots of r that do not fit its gates");

constexpr const char* dtype_name(float) { return "float32"; }
constexpr const char* dtype_name(double) { return "float64"; }
constexpr const char* dtype_name(Bf16) { return "bfloat16"; }
constexpr const char* dtype_name(Int8) { return "int8"; }
constexpr const char* dtype_name(WeightsInBf16) { return "bf16_weights"; }
constexpr bool kForwardAlone =
    std::is_same_v<FASTRNN_DTYPE, Int8> || std::is_same_v<FASTRNN_DTYPE, WeightsInBf16>;

#define FASTRNN_TEXT_OF(word) #word
#define FASTRNN_TEXT(macro) FASTRNN_TEXT_OF(macro)
constexpr CellLibrary kCompiledCell{
    kCellLibraryVersion,
    FASTRNN_CELL_NAME,
    FASTRNN_CELL::kGates,
    FASTRNN_CELL::kStates,
    FASTRNN_CELL::kSaved,
    kept<FASTRNN_CELL>,
    params<FASTRNN_CELL>,
    recurrent<FASTRNN_CELL>,
    extra<FASTRNN_CELL>,
    feeds<FASTRNN_CELL>,
    heads<FASTRNN_CELL>,
    dtype_name(FASTRNN_DTYPE()),
    FASTRNN_TEXT(FASTRNN_ISA),
    {compiled_forward, kForwardAlone ? nullptr : compiled_backward, compiled_forward_workspace,
     kForwardAlone ? nullptr : compiled_backward_workspace},
};
#undef FASTRNN_TEXT
#undef FASTRNN_TEXT_OF
#endif

}  // namespace FASTRNN_ISA
}  // namespace fastrnn

#ifdef FASTRNN_CELL_FORWARD
const fastrnn::CellLibrary* fastrnn_cell() { return &fastrnn::FASTRNN_ISA::kCompiledCell; }
#endif
