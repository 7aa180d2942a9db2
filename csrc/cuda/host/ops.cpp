// The private ops of the CUDA engines: the scan of a layer over ready projections, forward and
// backward. Whole-sequence GEMMs are the caller's; so are resets, offsets and lengths on the
// device.
#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "op/cell.h"
#include "op/tensors.h"
#include "planner.h"
#include "runs.h"

namespace fastrnn {
namespace cuda {
namespace {

std::string text(StringHandle handle) { return std::string(Text(handle).view()); }

const PassKernels& kernels_for(int cell, bool backward, const std::string& dtype, bool tf32) {
  const auto pick = [&](const PassKernels* f, const PassKernels* b) -> const PassKernels& {
    return (backward ? b : f)[cell];
  };
  if (dtype == "float32" && tf32) return pick(tf32_forward, tf32_backward);
  if (dtype == "float32") return pick(float32_forward, float32_backward);
  if (dtype == "bfloat16") return pick(bfloat16_forward, bfloat16_backward);
  if (dtype == "float16") return pick(float16_forward, float16_backward);
  if (dtype == "float64") return pick(float64_forward, float64_backward);
  throw std::runtime_error("the CUDA kernels take float32, bfloat16, float16 and float64, got " +
                           dtype);
}

std::string dtype_name(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Half:
      return "float16";
    case ScalarType::Double:
      return "float64";
    default:
      return torch::headeronly::toString(dtype);
  }
}

// What both ops are given, checked, as a Scan.
struct Call {
  Call(const std::string& cell_name, const Tensor& rows, const Tensor& w_hh,
       const MaybeTensor& params, const Tensors& state, const MaybeTensor& batch_sizes,
       const MaybeTensor& offsets, const MaybeTensor& lengths, const MaybeTensor& resets,
       int64_t directions)
      : cell(find_cell(cell_name)), info(kCells[cell]), like(w_hh) {
    STD_TORCH_CHECK(directions >= 1 && directions <= 3, "directions must be 1, 2 or 3, got ",
                    directions);
    STD_TORCH_CHECK(int(state.size()) == info.states && state[0].dim() == 3, "state must be ",
                    info.states, " tensors [D, B, H]");
    STD_TORCH_CHECK(batch_sizes.has_value() == offsets.has_value() &&
                        batch_sizes.has_value() == lengths.has_value(),
                    "batch_sizes, offsets and lengths come together");
    scan.D = directions == 3 ? 2 : 1;
    scan.reverse = directions == 2;
    scan.B = int(state[0].size(1)), scan.H = int(state[0].size(2));
    scan.N = rows.size(0);
    scan.T = batch_sizes ? batch_sizes->size(0) : scan.N / std::max(scan.B, 1);
    check_shape("w_hh", w_hh, {scan.D, int64_t(info.gates) * scan.H, scan.H});
    scan.w_hh = keep("w_hh", w_hh);
    STD_TORCH_CHECK(params.has_value() == (info.params > 0), "params must be ",
                    info.params ? "there" : "None", ": the cell ", info.name, " has ", info.params);
    if (params) {
      check_shape("params", *params, {scan.D, info.params, scan.H});
      scan.params = keep("params", *params);
    }
    for (int k = 0; k < info.states; ++k) {
      check_shape("state", state[k], {scan.D, scan.B, scan.H});
      scan.state0[k] = keep("state", state[k]);
    }
    if (offsets) {
      check_shape("offsets", *offsets, {scan.T});
      check_shape("lengths", *lengths, {scan.B});
      scan.offsets = static_cast<const int64_t*>(data(*offsets));
      scan.lengths = static_cast<const int64_t*>(data(*lengths));
      sizes = static_cast<const int64_t*>(batch_sizes->data_ptr());
    }
    if (resets) {
      check_shape("resets", *resets, {scan.N});
      scan.resets = static_cast<const bool*>(data(*resets));
    }
  }

  // Its data for as long as this lives: contiguous, and from an address that kernels may load
  // words from (a view can begin anywhere).
  const void* data(const Tensor& t) {
    Tensor whole = as_contiguous(t);
    if (reinterpret_cast<uintptr_t>(whole.data_ptr()) % 16) whole = torch::stable::clone(whole);
    kept.push_back(whole);
    return whole.data_ptr();
  }
  const void* keep(const char* name, const Tensor& t) {
    STD_TORCH_CHECK(t.scalar_type() == like.scalar_type(), name, " must have w_hh's dtype");
    return data(t);
  }
  Tensor new_state() const { return allocate(like, {scan.D, scan.B, scan.H}); }
  // Each batch row's share of the gradient of the parameters, in the precision of sums.
  Tensor new_shares() const {
    if (!info.params) return allocate(like, {0});
    const bool wide = like.scalar_type() == ScalarType::Double;
    return torch::stable::new_empty(like, {scan.D, scan.B, info.params, scan.H},
                                    wide ? ScalarType::Double : ScalarType::Float);
  }
  int64_t stored() const { return info.saved + info.states - 1; }

  int cell;
  const CellInfo& info;
  Tensor like;
  Scan scan{};
  const int64_t* sizes = nullptr;  // rows of each step, on the host; null: B
  Tensors kept;
};

// make_plan tries some hundred layouts, which takes longer than a launch: each size is planned
// once.
Plan planned(const PassKernels& kernels, const Scan& s, const std::string& engine) {
  using Key = std::tuple<const PassKernels*, int, int, int, int, int, int64_t, int, std::string>;
  constexpr size_t kMost = 10000;  // sizes that a process remembers
  static std::mutex mutex;
  static std::map<Key, Plan> known;
  const Limits l = current_limits();
  const Key key{&kernels, s.B, s.H, s.D, l.sms, l.arch, l.shared, l.max_cluster, engine};
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  if (known.size() >= kMost) known.clear();
  return known[key] = make_plan({kernels.shape, s.B, s.H, s.D, l}, engine);
}

void run(const Call& call, bool backward, bool tf32, const std::string& engine) {
  const std::string dtype = dtype_name(call.like.scalar_type());
  const PassKernels& kernels = kernels_for(call.cell, backward, dtype, tf32);
  const Stream stream(call.like);
  const Scan& s = call.scan;
  const Plan plan = planned(kernels, s, engine);
  if (plan.exchange == Exchange::kStepwise) {
    run_stepwise(kernels, s, call.sizes, call.kept[0], backward, stream.handle);
  } else {
    run_resident(kernels, s, plan, call.kept[0], backward, stream.handle);
  }
}

std::tuple<Tensor, Tensors, Tensor> scan_forward(StringHandle cell, Tensor gx, Tensor w_hh,
                                                 MaybeTensor b_hh, MaybeTensor params,
                                                 Tensors state, MaybeTensor batch_sizes,
                                                 MaybeTensor offsets, MaybeTensor lengths,
                                                 MaybeTensor resets, int64_t directions, bool save,
                                                 bool tf32, StringHandle engine) {
  const std::string name = text(cell), wanted = text(engine);
  Call call(name, gx, w_hh, params, state, batch_sizes, offsets, lengths, resets, directions);
  Scan& s = call.scan;
  const int64_t gates = int64_t(call.info.gates) * s.H;
  check_shape("gx", gx, {s.N, s.D * gates});
  s.gx = call.keep("gx", gx);
  if (b_hh) {
    check_shape("b_hh", *b_hh, {s.D, gates});
    s.b_hh = call.keep("b_hh", *b_hh);
  }
  Tensor output = allocate(gx, {s.N, int64_t(s.D) * s.H});
  Tensor saved = save ? allocate(gx, {s.D, s.N, call.stored(), s.H}) : allocate(gx, {0});
  Tensors final;
  for (int k = 0; k < call.info.states; ++k) {
    final.push_back(call.new_state());
    s.state_n[k] = final[k].data_ptr();
  }
  s.output = output.data_ptr();
  s.saved = save ? saved.data_ptr() : nullptr;
  run(call, false, tf32, wanted);
  return {output, final, saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensors> scan_backward(
    StringHandle cell, Tensor grad_output, Tensors grad_final, Tensor w_hh, MaybeTensor params,
    Tensors state, Tensor output, Tensor saved, MaybeTensor batch_sizes, MaybeTensor offsets,
    MaybeTensor lengths, MaybeTensor resets, int64_t directions, bool tf32, StringHandle engine) {
  const std::string name = text(cell), wanted = text(engine);
  Call call(name, grad_output, w_hh, params, state, batch_sizes, offsets, lengths, resets,
            directions);
  Scan& s = call.scan;
  check_shape("grad_output", grad_output, {s.N, int64_t(s.D) * s.H});
  check_shape("output", output, {s.N, int64_t(s.D) * s.H});
  check_shape("saved", saved, {s.D, s.N, call.stored(), s.H});
  s.d_output = call.keep("grad_output", grad_output);
  s.output = const_cast<void*>(call.keep("output", output));
  s.saved = const_cast<void*>(call.keep("saved", saved));
  const std::string dtype = dtype_name(w_hh.scalar_type());
  const bool split = kernels_for(call.cell, true, dtype, tf32).split;
  const int64_t columns = int64_t(s.D) * call.info.gates * s.H;
  Tensor dx = allocate(w_hh, {s.N, columns});
  Tensor dr = split ? allocate(w_hh, {s.N, columns}) : allocate(w_hh, {0});
  s.dx = dx.data_ptr();
  s.dr = split ? dr.data_ptr() : nullptr;
  Tensors grad_state;
  for (int k = 0; k < call.info.states; ++k) {
    check_shape("grad_final", grad_final[k], {s.D, s.B, s.H});
    s.d_state_n[k] = call.keep("grad_final", grad_final[k]);
    grad_state.push_back(call.new_state());
    s.d_state0[k] = grad_state[k].data_ptr();
  }
  Tensor shares = call.new_shares();
  s.d_params = shares.data_ptr();
  run(call, true, tf32, wanted);
  return {dx, dr, shares, grad_state};
}

// JSON: what the planner makes of a scan on a device with these limits.
std::string scan_plan(StringHandle cell, bool backward, int64_t B, int64_t H, int64_t D,
                      StringHandle dtype, bool tf32, StringHandle engine, int64_t sms, int64_t arch,
                      int64_t shared) {
  const std::string name = text(cell), numbers = text(dtype), wanted = text(engine);
  const PassKernels& kernels = kernels_for(find_cell(name), backward, numbers, tf32);
  const Limits limits{int(sms), int(arch), shared, max_cluster(int(arch))};
  const Request request{kernels.shape, int(B), int(H), int(D), limits};
  return describe(request, make_plan(request, wanted));
}

}  // namespace
}  // namespace cuda
}  // namespace fastrnn

#ifdef FASTRNN_SIM
#define FASTRNN_DEFINE STABLE_TORCH_LIBRARY
#ifndef FASTRNN_LIBRARY  // a second library of a process has ops of its own
#define FASTRNN_LIBRARY fastrnn_sim
#endif
#define FASTRNN_DEVICE_KEY CPU
#else
#define FASTRNN_DEFINE STABLE_TORCH_LIBRARY_FRAGMENT
#define FASTRNN_LIBRARY fastrnn
#define FASTRNN_DEVICE_KEY CUDA
#endif

FASTRNN_DEFINE(FASTRNN_LIBRARY, m) {
  m.def(
      "scan_forward(str cell, Tensor gx, Tensor w_hh, Tensor? b_hh, Tensor? params, "
      "Tensor[] state, Tensor? batch_sizes, Tensor? offsets, Tensor? lengths, Tensor? resets, "
      "int directions, bool save, bool tf32, str engine) -> (Tensor, Tensor[], Tensor)");
  m.def(
      "scan_backward(str cell, Tensor grad_output, Tensor[] grad_final, Tensor w_hh, "
      "Tensor? params, Tensor[] state, Tensor output, Tensor saved, Tensor? batch_sizes, "
      "Tensor? offsets, Tensor? lengths, Tensor? resets, int directions, bool tf32, str engine) "
      "-> (Tensor, Tensor, Tensor, Tensor[])");
  m.def(
      "scan_plan(str cell, bool backward, int B, int H, int D, str dtype, bool tf32, str engine, "
      "int sms, int arch, int shared) -> str");
}

STABLE_TORCH_LIBRARY_IMPL(FASTRNN_LIBRARY, FASTRNN_DEVICE_KEY, m) {
  m.impl("scan_forward", TORCH_BOX(&fastrnn::cuda::scan_forward));
  m.impl("scan_backward", TORCH_BOX(&fastrnn::cuda::scan_backward));
}

STABLE_TORCH_LIBRARY_IMPL(FASTRNN_LIBRARY, CompositeExplicitAutograd, m) {
  m.impl("scan_plan", TORCH_BOX(&fastrnn::cuda::scan_plan));
}
