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

// kExtra of a cell that has some, else 0: values of each unit, row and step that the caller brings.
template <class Cell, class = void>
constexpr int extra = 0;
template <class Cell>
constexpr int extra<Cell, std::void_t<decltype(Cell::kExtra)>> = Cell::kExtra;

// kFeeds of a cell that has one, else 0: the state that the recurrent product multiplies.
template <class Cell, class = void>
constexpr int feeds = 0;
template <class Cell>
constexpr int feeds<Cell, std::void_t<decltype(Cell::kFeeds)>> = Cell::kFeeds;

// kRecurrent of a cell that has one, else kGates: the slots of the recurrent product W_hh h + b_hh,
// r. 0: there is no product, so neither W_hh nor b_hh, and the cell does not look at r. Where there
// are others than kGates, dL/dr is apart from dL/dx, and no gate is kept.
template <class Cell, class = void>
constexpr int recurrent = Cell::kGates;
template <class Cell>
constexpr int recurrent<Cell, std::void_t<decltype(Cell::kRecurrent)>> = Cell::kRecurrent;

// kLate of a cell that has some, else 0: the last of the slots of the recurrent product, which
// multiply what the cell asks for instead of a state. Its step is in two parts then, between which
// there is the product of what all units asked for:
//   ask(x, r, prev, p, e, temp, asked)
//   forward(x, r, prev, p, e, temp, next, saved)    r with the late slots
// temp [kTemps]: what the first leaves of a unit for the second. asked is the last saved value, and
// is not left to the second part to write. Backward gives the gradients of the late slots first,
// and gets that of what was asked for as d[kStates]:
//   late(saved, prev, next, p, e, d, dlate)
//   backward(saved, prev, next, p, e, d, dx, dr, dp, de)
template <class Cell, class = void>
constexpr int late = 0;
template <class Cell>
constexpr int late<Cell, std::void_t<decltype(Cell::kLate)>> = Cell::kLate;

// kProjects of a cell that says so, else false: one more matrix may follow the cell, h = W_hr m
// with the cell's next[0] for m. h may have fewer numbers than the cell has units, so the cell
// looks at neither prev[0] nor, in backward, next[0].
template <class Cell, class = void>
constexpr bool projects = false;
template <class Cell>
constexpr bool projects<Cell, std::void_t<decltype(Cell::kProjects)>> = Cell::kProjects;

// Has the cell kForwardPasses: does it look across the units of a row? Its step is passes over the
// units then, between which sums over all units are taken:
//   forward<kPass>(x, r, prev, p, row, temp, total, next, saved)
//   backward<kPass>(saved, prev, next, p, row, temp, total, d, dx, dr, dp)
// with extra slots e after p, and de after dp.
// total: what is summed of this unit; row: the row values, the same for all units; temp: what a
// pass leaves of the unit for later ones. Right before each pass, once for the row,
//   forward_rows<kPass>(total, units, row)
// makes row values of the sums and the number of units. k..In[k] says which pass writes value k.
// The last kSavedRows of the kSaved values are row values: the first ones of backward.
template <class Cell, class = void>
constexpr bool across = false;
template <class Cell>
constexpr bool across<Cell, std::void_t<decltype(Cell::kForwardPasses)>> = true;

// Is a step not all of it one function of each unit?
template <class Cell>
constexpr bool in_parts = across<Cell> || late<Cell> > 0;

// How many of the kSaved values are kept where gates are recomputed; nothing is recomputed of a
// cell whose step is in parts.
template <class Cell>
constexpr int kept = in_parts<Cell> ? Cell::kSaved : int(kept_gate<Cell> >= 0);

// kHeads of a cell that has it, else false: its units lie in N heads, and W_hh has a block for
// each: [N, kGates*H/N, H/N], a head's gates one after the other. N is the call's business. Means
// of such a cell are over the units of all heads.
template <class Cell, class = void>
constexpr bool heads = false;
template <class Cell>
constexpr bool heads<Cell, std::void_t<decltype(Cell::kHeads)>> = Cell::kHeads;

// kName of a cell that has one: by it ops ask for the cell, not by its name in the list.
template <class Cell, class = void>
constexpr const char* own_name = nullptr;
template <class Cell>
constexpr const char* own_name<Cell, std::void_t<decltype(Cell::kName)>> = Cell::kName;

// Slots of the product, kGates where there is none; those that a step begins with; and, where they
// are not kGates, the more of both.
template <class Cell>
constexpr int hidden_slots = recurrent<Cell> > 0 ? recurrent<Cell> : Cell::kGates;
template <class Cell>
constexpr int early_slots = hidden_slots<Cell> - late<Cell>;
template <class Cell>
constexpr int most_slots = early_slots<Cell> == Cell::kGates  ? 0
                           : early_slots<Cell> > Cell::kGates ? early_slots<Cell>
                                                              : Cell::kGates;
template <class Cell>
constexpr bool slots_fit = recurrent<Cell> == 0 || recurrent<Cell> == Cell::kGates ||
                           (Cell::kSplit && kept_gate<Cell> < 0);

}  // namespace fastrnn
