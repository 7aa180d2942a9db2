// A stack of layers that runs a step or a few at a time: its weights are packed once, its states
// stay inside. The object behind fastrnn.Stream and the C interface; no torch, no Python.
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace fastrnn {

struct CellInfo;
struct CellKernels;

namespace stream {

// How matrices are kept and read. Inputs, biases, cells and states are float32 always, and so are
// sums, but for int8: there a matrix has a scale for each row, inputs become int8 row by row, and
// sums are exact.
enum class Weights { kFloat32, kBfloat16, kInt8 };

// One layer as torch.nn keeps it; all of it is copied.
struct LayerSpec {
  std::string_view cell;        // "rnn_tanh", "rnn_relu", "rnn_identity", "lstm", "gru"; "linear"
  int64_t input = 0;            // I
  int64_t hidden = 0;           // H; of "linear" its features out
  const float* w_ih = nullptr;  // [G*H, I]; of "linear" its weight [H, I]
  const float* w_hh = nullptr;  // [G*H, P]; null of "linear"
  const float* b_ih = nullptr;  // [G*H] or null
  const float* b_hh = nullptr;  // [G*H] or null
  int64_t projected = 0;        // P where there is w_hr (LSTM's proj_size), else 0: P is H
  const float* w_hr = nullptr;  // [P, H] or null

  // Of a cell without steps of its own: the engine that runs it, in float32 alone. Its numbers of
  // gates, states and so on are what `info` says, w_ih [G*H, I], w_hh [R*H, H], in heads [heads,
  // G*H/heads, H/heads].
  const CellKernels* kernels = nullptr;
  const CellInfo* info = nullptr;
  const float* params = nullptr;  // [.., H] or null
  int64_t heads = 1;
};

// Has the cell steps of its own, so that a spec of it needs no kernels?
bool has_steps(std::string_view cell);

// Threads may run separate stacks at the same time, and never one.
class Stack {
 public:
  virtual ~Stack() = default;

  // `batch` rows that all begin with states of zeros. Throws std::invalid_argument for layers that
  // do not fit, std::bad_alloc, and std::runtime_error for a FASTRNN_ISA that does not run here.
  static std::unique_ptr<Stack> make(const std::vector<LayerSpec>& layers, Weights weights,
                                     int64_t batch);
  // Rows of their own over the same packed weights, which are freed with the last of their stacks.
  virtual std::unique_ptr<Stack> share(int64_t batch) const = 0;

  // x [T, batch, input] -> out [T, batch, output]; the states are those after it then. x and out
  // may not overlap. Allocates no memory, but the first time that T is larger than before.
  virtual void step(const float* x, int64_t T, float* out) = 0;

  virtual int64_t batch() const = 0;
  virtual int64_t input() const = 0;   // I of the first layer
  virtual int64_t output() const = 0;  // P or H of the last one
  virtual int layers() const = 0;
  // Layer i has states(i) of them, 0 of "linear"; state k is [batch, state_size(i, k)], h first.
  // What state() points to may be read and written between steps.
  virtual int states(int i) const = 0;
  virtual int64_t state_size(int i, int k) const = 0;
  virtual float* state(int i, int k) = 0;

  virtual void reset() = 0;             // all states are zeros then
  virtual void reset(int64_t row) = 0;  // those of one batch row
};

// The instruction set that stacks run on: "base", "avx2" or "avx512".
const char* stream_isa();

}  // namespace stream
}  // namespace fastrnn
