// The most states that a cell may carry: who knows no cell keeps room for so many.
#pragma once

namespace fastrnn {

constexpr int kMaxStates = 8;

}  // namespace fastrnn
