// What a policy may say of its cell, and what holds where it does not.
#pragma once
#include <type_traits>

namespace fastrnn {

// kKeptGate of a cell that has one, else -1: where gates are recomputed for backward, this gate's
// value, saved[kKeptGate], is kept all the same, which saves its share of the products. No other
// saved value may depend on the gate.
template <class Cell, class = void>
constexpr int kept_gate = -1;
template <class Cell>
constexpr int kept_gate<Cell, std::void_t<decltype(Cell::kKeptGate)>> = Cell::kKeptGate;

// kParams of a cell that has some, else 0: vectors over the units that are learned, beside weights
// and biases, and that the cell reads at every step.
template <class Cell, class = void>
constexpr int params = 0;
template <class Cell>
constexpr int params<Cell, std::void_t<decltype(Cell::kParams)>> = Cell::kParams;

// kRecurrent of a cell that has one, else kGates: the slots of the recurrent product W_hh h + b_hh,
// r. 0: there is no product, so neither W_hh nor b_hh, and the cell does not look at r.
template <class Cell, class = void>
constexpr int recurrent = Cell::kGates;
template <class Cell>
constexpr int recurrent<Cell, std::void_t<decltype(Cell::kRecurrent)>> = Cell::kRecurrent;

// kProjects of a cell that says so, else false: one more matrix may follow the cell, h = W_hr m
// with the cell's next[0] for m. h may have fewer numbers than the cell has units, so the cell
// looks at neither prev[0] nor, in backward, next[0].
template <class Cell, class = void>
constexpr bool projects = false;
template <class Cell>
constexpr bool projects<Cell, std::void_t<decltype(Cell::kProjects)>> = Cell::kProjects;

// kName of a cell that has one: by it ops ask for the cell, not by its name in the list.
template <class Cell, class = void>
constexpr const char* own_name = nullptr;
template <class Cell>
constexpr const char* own_name<Cell, std::void_t<decltype(Cell::kName)>> = Cell::kName;

}  // namespace fastrnn
