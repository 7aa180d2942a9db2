#include "run.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "pace.h"
#include "python.h"
#include "quota.h"

namespace fastrnn {
namespace {

void parallel_for(int64_t n, void (*fn)(int64_t, int64_t, void*), void* ctx) {
  FASTRNN_SHIM(torch_parallel_for(0, n, 1, fn, ctx));
}

// torch's, but no more than the quota of a container allows to run at once.
int64_t usable_threads() {
  static const int quota = cpu_quota("/sys/fs/cgroup");
  const int64_t threads = torch::stable::get_num_threads();
  return quota > 0 ? std::min<int64_t>(threads, quota) : threads;
}

int64_t nanoseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// Does a call take all of its threads on a busy machine too?
bool steady_threads() {
  const char* const said = std::getenv("FASTRNN_STEADY_THREADS");
  const std::string_view value = said ? said : "";
  FASTRNN_CHECK(value.empty() || value == "0" || value == "1",
                "FASTRNN_STEADY_THREADS must be 0 or 1, got '" + std::string(value) + "'");
  return value == "1";
}

// Runs an engine; the pace learns how its threads got on. False: interrupted.
bool scan(const ScanParams& s, bool (*engine)(const ScanParams&), Pace& pace) {
  if (s.threads == 1) return engine(s);
  const int64_t start = nanoseconds();
  const bool done = engine(s);
  const int64_t end = nanoseconds();
  pace.note(s.threads, end, end - start, *s.waited);
  return done;
}

// Threads that the work is worth: rows are split among them, or units where rows are too few, which
// costs a barrier a step and so needs a step long enough. A second thread begins 2-20 us late, with
// its cache empty: less work than 8 Mflop was rarely faster on two
// (in int8, thrice as much).
int team_size(const ScanParams& s, const CellInfo& cell, int64_t weight_size, bool backward) {
  const double flops_per_thread = weight_size == 1 ? 24e6 : 8e6;
  constexpr int64_t kBytesToSplit = 256 << 10;
  constexpr int64_t kColumns = 16;  // of a weight, that a cell without a product takes as long as
  const bool product = cell.recurrent > 0;
  const int64_t depth = s.P / s.heads;
  const int64_t recurrent = product ? cell.recurrent * depth : cell.gates * kColumns;
  const double flops =
      2. * s.N * s.directions * s.H * (cell.gates * s.I + recurrent + s.projected() * s.P);
  const int64_t available = usable_threads();
  int64_t threads = std::min<int64_t>(available, 1 + int64_t(flops / flops_per_thread));
  // units that do not meet in a product wait for no barrier
  const bool alone = !product || (cell.heads && s.heads >= available);
  const bool by_units = alone || recurrent * s.H * weight_size >= kBytesToSplit;
  const bool apart = !backward && s.directions == 2;  // each direction has half of the threads
  if (!by_units) threads = std::min(threads, s.B * (apart ? 2 : 1));
  if (apart && threads > 1) threads -= threads % 2;
  return int(std::max<int64_t>(threads, 1));
}

}  // namespace

void run(Layer& layer, const Tensor& like, int64_t weight_size, bool backward) {
  ScanParams& s = layer.params;
  if (s.H == 0 || s.B == 0) return;  // every result is empty, or zeros already
  FASTRNN_CHECK(layer.cell.kernels,
                std::string("the CPU kernels take float32, float64 and bfloat16, got ") +
                    torch::headeronly::toString(like.scalar_type()));
  const CellKernels& kernels = *layer.cell.kernels;
  static Pace pace;
  s.threads = team_size(s, layer.info(), weight_size, backward);
  static const bool steady = steady_threads();
  if (s.threads > 1 && !steady) s.threads = pace.threads(s.threads, nanoseconds());
  int64_t waited = 0;
  s.waited = &waited;
  s.parallel = parallel_for;
  s.interrupted = interrupted;
  const int64_t bytes = backward ? kernels.backward_workspace(s) : kernels.forward_workspace(s);
  const auto engine = backward ? kernels.backward : kernels.forward;
  alignas(64) char few[64 << 10];  // a step of one row is over in less time than malloc takes
  if (bytes <= int64_t(sizeof(few))) {
    s.workspace = few;
    FASTRNN_CHECK(scan(s, engine, pace), kInterrupted);
    return;
  }
  Tensor workspace = allocate(like, {bytes / int64_t(like.element_size()) + 1}, true);
  s.workspace = workspace.data_ptr();
  FASTRNN_CHECK(scan(s, engine, pace), kInterrupted);
}

}  // namespace fastrnn
