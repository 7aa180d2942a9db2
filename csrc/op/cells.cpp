#include "cells.h"

#include <dlfcn.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "python.h"

namespace fastrnn {
namespace {

constexpr const char* kDtypes[] = {"float32", "float64", "bfloat16", "int8", "bf16_weights"};
// Of weights alone: an input's dtype does not choose these.
constexpr int kInt8 = 3, kBf16Weights = 4;
constexpr int kDtypeCount = sizeof(kDtypes) / sizeof(kDtypes[0]);

// Its place in kDtypes, or -1.
int place(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return 0;
    case ScalarType::Double:
      return 1;
    case ScalarType::BFloat16:
      return 2;
    default:
      return -1;
  }
}
int place(std::string_view dtype) {
  for (int i = 0; i < kDtypeCount; ++i) {
    if (dtype == kDtypes[i]) return i;
  }
  return -1;
}

// Those that were loaded, the latest first: readers take no lock, as nothing ever leaves the list.
struct Loaded {
  std::string name;
  CellInfo info;
  std::atomic<const CellKernels*> kernels[kDtypeCount];  // in libraries that stay open
  Loaded* next;
};
std::atomic<Loaded*> newest{nullptr};
std::mutex loading;

Loaded* find_loaded(std::string_view name) {
  Loaded* cell = newest.load(std::memory_order_acquire);
  while (cell && cell->name != name) cell = cell->next;
  return cell;
}

int find_listed(std::string_view name) {
  int i = 0;
  while (i < kCellCount && name != kCells[i].name) ++i;
  return i;
}

// Without an info where the name is not known.
KnownCell look_up(std::string_view name, int dtype) {
  const int i = find_listed(name);
  if (i < kCellCount) {
    const CpuKernels& k = cpu_kernels();
    const CellKernels* tables[] = {k.float32, k.float64, k.bfloat16, k.int8, k.bf16_weights};
    return {&kCells[i], dtype < 0 ? nullptr : tables[dtype] + i};
  }
  Loaded* cell = find_loaded(name);
  if (!cell) return {nullptr, nullptr};
  return {&cell->info, dtype < 0 ? nullptr : cell->kernels[dtype].load(std::memory_order_acquire)};
}

bool same_counts(const CellInfo& a, const CellInfo& b) {
  return a.gates == b.gates && a.states == b.states && a.saved == b.saved && a.kept == b.kept &&
         a.params == b.params && a.recurrent == b.recurrent && a.extra == b.extra &&
         a.feeds == b.feeds;
}

void check_library(const CellLibrary& library, const std::string& where) {
  FASTRNN_CHECK(library.version == kCellLibraryVersion,
                where + " must have version " + std::to_string(kCellLibraryVersion) + ", got " +
                    std::to_string(library.version) + ": compile the cell again");
  FASTRNN_CHECK(cpu_runs(library.isa),
                where + " is compiled for " + library.isa + ", which does not run here");
  FASTRNN_CHECK(place(library.dtype) >= 0, where + " has kernels for " + library.dtype);
  FASTRNN_CHECK(find_listed(library.name) == kCellCount,
                where + " has another cell " + library.name + " than this build's own");
}

void remember(const CellLibrary& library, const std::string& where) {
  const std::lock_guard<std::mutex> lock(loading);
  const CellInfo counts{nullptr,       library.gates,  library.states,    library.saved,
                        library.kept,  library.params, library.recurrent, library.extra,
                        library.feeds, false,          library.heads};
  Loaded* cell = find_loaded(library.name);
  FASTRNN_CHECK(!cell || same_counts(cell->info, counts),
                where + " has another cell " + library.name + " than the one loaded before");
  if (cell) {
    cell->kernels[place(library.dtype)].store(&library.kernels, std::memory_order_release);
    return;
  }
  cell = new Loaded{library.name, counts, {}, newest.load(std::memory_order_relaxed)};
  cell->info.name = cell->name.c_str();
  cell->kernels[place(library.dtype)].store(&library.kernels, std::memory_order_relaxed);
  newest.store(cell, std::memory_order_release);
}

// i: its place in kDtypes, or -1; dtype: for what it says where there are no kernels.
KnownCell known(std::string_view name, int i, const char* dtype) {
  KnownCell cell = look_up(name, i);
  if (cell.kernels || (cell.info && i < 0)) return cell;
  if (i >= 0) {
    provide(name, kDtypes[i]);
    cell = look_up(name, i);
  }
  if (!cell.info) find_cell(name);  // says which there are
  FASTRNN_CHECK(cell.kernels, "cell " + std::string(name) + " has no CPU kernels for " + dtype);
  return cell;
}

}  // namespace

KnownCell known_cell(std::string_view name, ScalarType dtype) {
  return known(name, place(dtype), torch::headeronly::toString(dtype));
}
KnownCell known_inference_cell(std::string_view name, ScalarType weights) {
  if (weights == ScalarType::Char) return known(name, kInt8, "int8 weights");
  FASTRNN_CHECK(
      weights == ScalarType::BFloat16,
      std::string("weights must be int8 or bfloat16, got ") + torch::headeronly::toString(weights));
  return known(name, kBf16Weights, "bfloat16 weights");
}

void load_cell(const std::string& path) {
  const std::string where = "the cell library " + path;
  const std::unique_ptr<void, int (*)(void*)> handle(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL),
                                                     dlclose);
  FASTRNN_CHECK(handle, where + " cannot be loaded: " + dlerror());
  const auto tell = reinterpret_cast<const CellLibrary* (*)()>(dlsym(handle.get(), "fastrnn_cell"));
  FASTRNN_CHECK(tell, where + " has no function fastrnn_cell");
  const CellLibrary& library = *tell();
  check_library(library, where);
  remember(library, where);
  dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // once more: it stays
}

}  // namespace fastrnn
