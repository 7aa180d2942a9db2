// A cell compiled by itself, at run time: what the shared library of one cell, dtype and
// instruction set tells. cpu/engine/library.h makes one; the op load_cell takes it.
#pragma once
#include "kernels.h"

namespace fastrnn {

// Another number wherever ScanParams, CellKernels or CellLibrary becomes another.
constexpr int kCellLibraryVersion = 8;

struct CellLibrary {
  int version;       // first, whatever changes: kCellLibraryVersion
  const char* name;  // what the ops call the cell
  int gates, states, saved, kept, params, recurrent, extra, feeds;
  bool heads;
  const char* dtype;  // "float32", "float64", "bfloat16"
  const char* isa;    // whose instructions are in it
  CellKernels kernels;
};

}  // namespace fastrnn

// The one function that the library exports.
extern "C" __attribute__((visibility("default"))) const fastrnn::CellLibrary* fastrnn_cell();
