// Running a planned scan: the workspace, the stream, the loop of the stepwise engine.
#pragma once
#include "cuda/kernels.h"
#include "op/tensors.h"

namespace fastrnn {
namespace cuda {

// Makes the tensor's device the current one for as long as it lives; the stream to launch on.
class Stream {
 public:
  explicit Stream(const Tensor& on);
  ~Stream();
  Stream(const Stream&) = delete;
  void* handle = nullptr;

 private:
  void* guard_ = nullptr;
};

// w_hh [D, G*H, H], contiguous
void run_resident(const PassKernels& kernels, const Scan& scan, const Plan& plan,
                  const Tensor& w_hh, bool backward, void* stream);

// sizes: rows of each step [T] on the host, falling; null: B
// w_hh [D, G*H, H], contiguous
void run_stepwise(const PassKernels& kernels, const Scan& scan, const int64_t* sizes,
                  const Tensor& w_hh, bool backward, void* stream);

}  // namespace cuda
}  // namespace fastrnn
