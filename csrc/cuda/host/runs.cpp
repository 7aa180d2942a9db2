#include "runs.h"

#include <algorithm>
#include <array>

#ifndef FASTRNN_SIM
// Weak, so that the library also loads beside a torch without CUDA, which lacks them.
extern "C" {
__attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);
__attribute__((weak)) AOTITorchError aoti_torch_create_cuda_guard(int32_t, CUDAGuardHandle*);
__attribute__((weak)) AOTITorchError aoti_torch_delete_cuda_guard(CUDAGuardHandle);
}
#endif

namespace fastrnn {
namespace cuda {

#ifdef FASTRNN_SIM
Stream::Stream(const Tensor&) {}
Stream::~Stream() {}
#else
Stream::Stream(const Tensor& on) {
  const int32_t device = on.get_device();
  CUDAGuardHandle guard;
  FASTRNN_SHIM(aoti_torch_create_cuda_guard(device, &guard));
  guard_ = guard;
  FASTRNN_SHIM(aoti_torch_get_current_cuda_stream(device, &handle));
}
Stream::~Stream() { aoti_torch_delete_cuda_guard(static_cast<CUDAGuardHandle>(guard_)); }
#endif

namespace {

Tensor view(const Tensor& t, const int64_t (&sizes)[3], const int64_t (&strides)[3]) {
  AtenTensorHandle handle = nullptr;
  FASTRNN_SHIM(aoti_torch__reinterpret_tensor(t.get(), 3, sizes, strides, 0, &handle));
  return Tensor(handle);
}

// A view [D, rows, columns] of the first rows of a contiguous tensor [D, B, columns].
Tensor first_rows(const Tensor& t, int64_t rows) {
  const int64_t sizes[] = {t.size(0), rows, t.size(2)};
  const int64_t strides[] = {t.stride(0), t.stride(1), t.stride(2)};
  return view(t, sizes, strides);
}

Tensor transposed(const Tensor& t) {
  const int64_t sizes[] = {t.size(0), t.size(2), t.size(1)};
  const int64_t strides[] = {t.stride(0), t.stride(2), t.stride(1)};
  return view(t, sizes, strides);
}

// Each gate's matrix of w_hh [D, G*H, H] transposed: the weights of backward's sums lie together.
Tensor gates_transposed(const Tensor& w_hh) {
  const int64_t H = w_hh.size(2), gates = w_hh.size(0) * w_hh.size(1) / H;
  return torch::stable::contiguous(view(w_hh, {gates, H, H}, {H * H, 1, H}));
}

// out = a . b over the directions, by the vendor's BLAS.
void bmm(const Tensor& a, const Tensor& b, const Tensor& out) {
  std::array<StableIValue, 3> stack{torch::stable::detail::from(a), torch::stable::detail::from(b),
                                    torch::stable::detail::from(out)};
  FASTRNN_SHIM(aoti_torch_call_dispatcher("aten::bmm", "out", stack.data()));
  torch::stable::detail::to<Tensor>(stack[0]);  // an owned handle of `out`
}

// Rows whose sums step i of the walk needs, in any direction: those that take part, and in backward
// those that took part in the step before and now leave.
int64_t rows_of(const Scan& s, const int64_t* sizes, int64_t i, bool backward) {
  if (!sizes) return s.B;
  int64_t rows = 0;
  for (int d = 0; d < s.D; ++d) {
    const bool falls = (s.reverse || d == 1) != backward;
    rows = std::max(rows, sizes[falls ? s.T - 1 - i : i]);
    if (backward && !falls && i > 0) rows = std::max(rows, sizes[i - 1]);
  }
  return rows;
}

}  // namespace

void run_resident(const PassKernels& kernels, const Scan& scan, const Plan& plan,
                  const Tensor& w_hh, bool backward, void* stream) {
  Resident resident{scan, plan, nullptr};
  const Tensor weights = backward ? gates_transposed(w_hh) : w_hh;
  resident.scan.w_hh = weights.data_ptr();
  Tensor workspace;
  if (plan.workspace > 0) {
    workspace = allocate(w_hh, {plan.workspace / int64_t(w_hh.element_size())});
    FASTRNN_SHIM(aoti_torch_zero_(workspace.get()));
    resident.workspace = workspace.data_ptr();
  }
  kernels.resident(resident, stream);
}

void run_stepwise(const PassKernels& kernels, const Scan& scan, const int64_t* sizes,
                  const Tensor& w_hh, bool backward, void* stream) {
  const StepShape& shape = kernels.shape;
  const int64_t D = scan.D, B = scan.B, H = scan.H;
  Tensor operand = allocate(w_hh, {D, B, shape.parts * H});
  Tensor sums = allocate(w_hh, {D, B, shape.sums * H});
  const int64_t wide = std::max<int64_t>(4 / int64_t(w_hh.element_size()), 1);  // float or double
  Tensor carry = allocate(w_hh, {D, B, H, kernels.carried * wide});
  const Tensor weights = backward ? w_hh : transposed(w_hh);
  Stepwise w{scan, -1, scan.T, operand.data_ptr(), sums.data_ptr(), carry.data_ptr()};
  kernels.step(w, stream);
  for (w.step = 0; w.step < scan.T; ++w.step) {
    const int64_t rows = rows_of(scan, sizes, w.step, backward);
    bmm(first_rows(operand, rows), weights, first_rows(sums, rows));
    kernels.step(w, stream);
  }
  if (backward) bmm(operand, weights, sums);  // what the first step sends to the initial state
  kernels.step(w, stream);
}

}  // namespace cuda
}  // namespace fastrnn
