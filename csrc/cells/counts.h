// The most states that a cell may carry: who knows no cell keeps room for so many.
#pragma once

namespace fastrnn {

constexpr int kMaxStates = 2;

}  // namespace fastrnn
