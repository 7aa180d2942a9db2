// A cell of the list by its name.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>

#include "cells/registry.h"

namespace fastrnn {

inline int find_cell(std::string_view name) {
  for (int i = 0; i < kCellCount; ++i) {
    if (name == kCells[i].name) return i;
  }
  std::string known;
  for (const CellInfo& c : kCells) known += std::string(known.empty() ? "" : ", ") + c.name;
  throw std::runtime_error("cell must be one of " + known + ", got " + std::string(name));
}

}  // namespace fastrnn
