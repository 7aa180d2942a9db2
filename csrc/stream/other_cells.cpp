#include "other_cells.h"

#include <cstring>
#include <stdexcept>

namespace fastrnn {
namespace stream {
namespace {

int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

OtherCell::OtherCell(const LayerSpec& spec)
    : kernels_(*spec.kernels),
      info_(*spec.info),
      I_(spec.input),
      H_(spec.hidden),
      heads_(spec.heads) {
  if (info_.extra > 0) {
    throw std::invalid_argument("a cell with extra slots has no stream, which brings none");
  }
  const int64_t product = info_.recurrent * H_;
  const float* const given[] = {spec.w_ih, spec.w_hh, spec.b_ih, spec.b_hh, spec.params};
  const int64_t sizes[] = {info_.gates * H_ * I_, product * H_ / heads_, info_.gates * H_, product,
                           info_.params * H_};
  const float** const places[] = {&w_ih_, &w_hh_, &b_ih_, &b_hh_, &params_};
  int64_t bytes = 0;
  for (const int64_t size : sizes) bytes += whole_lines(size * sizeof(float));
  weights_ = allocate(bytes);
  char* at = static_cast<char*>(weights_.get());
  for (int i = 0; i < 5; ++i) {
    *places[i] = nullptr;
    if (!given[i] || sizes[i] == 0) continue;
    memcpy(at, given[i], sizes[i] * sizeof(float));
    *places[i] = reinterpret_cast<const float*>(at);
    at += whole_lines(sizes[i] * sizeof(float));
  }
}

int64_t OtherCell::fed_size(int64_t T, int64_t B) const {
  return info_.feeds > 0 ? T * B * (info_.kept + info_.states - 1) * H_ : 0;
}

ScanParams OtherCell::params(int64_t T, int64_t B) const {
  ScanParams s{};
  s.T = T, s.B = B, s.I = I_, s.H = s.P = s.P_row = H_, s.N = T * B;
  s.heads = heads_;
  s.partial = true;
  s.input_t = B * I_, s.input_b = I_;
  s.directions = s.threads = 1;
  Direction& d = s.dir[0];
  d.w_ih = w_ih_, d.w_hh = w_hh_, d.b_ih = b_ih_, d.b_hh = b_hh_, d.params = params_;
  return s;
}

int64_t OtherCell::scratch_bytes(int64_t T, int64_t B) const {
  return whole_lines(kernels_.forward_workspace(params(T, B))) +
         int64_t(sizeof(float)) * (states_size(B) + fed_size(T, B));
}

void OtherCell::run(int64_t T, int64_t B, const float* input, float* output, float* const* states,
                    void* scratch) const {
  ScanParams s = params(T, B);
  const int64_t workspace = whole_lines(kernels_.forward_workspace(s));
  float* after = reinterpret_cast<float*>(static_cast<char*>(scratch) + workspace);
  int64_t waited = 0;
  s.input = input, s.output = output, s.workspace = scratch, s.waited = &waited;
  Direction& d = s.dir[0];
  if (info_.feeds > 0) d.saved = after + states_size(B);
  for (int k = 0; k < info_.states; ++k) {
    d.state0[k] = states[k];
    d.state_n[k] = after + k * B * H_;  // apart: a step reads a state where units have written it
  }
  kernels_.forward(s);
  for (int k = 0; k < info_.states; ++k) {
    memcpy(states[k], d.state_n[k], B * H_ * sizeof(float));
  }
}

}  // namespace stream
}  // namespace fastrnn
