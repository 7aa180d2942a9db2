#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace fastrnn {

#define FASTRNN_DECLARE(isa)                   \
  namespace isa {                              \
  extern const CellKernels float32_kernels[];  \
  extern const CellKernels float64_kernels[];  \
  extern const CellKernels bfloat16_kernels[]; \
  }
FASTRNN_DECLARE(base)
#ifdef FASTRNN_HAVE_AVX2
FASTRNN_DECLARE(avx2)
#endif
#ifdef FASTRNN_HAVE_AVX512
FASTRNN_DECLARE(avx512)
#endif
#ifdef FASTRNN_HAVE_AVX512BF16
FASTRNN_DECLARE(avx512bf16)
#endif
#undef FASTRNN_DECLARE

namespace {

struct Built {
  CpuKernels kernels;
  bool runs_here;
};

#ifdef FASTRNN_HAVE_AVX512
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}
#endif

const Built built[] = {
    // narrowest first
    {{"base", base::float32_kernels, base::float64_kernels, base::bfloat16_kernels}, true},
#ifdef FASTRNN_HAVE_AVX2
    {{"avx2", avx2::float32_kernels, avx2::float64_kernels, avx2::bfloat16_kernels},
     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2")},
#endif
#ifdef FASTRNN_HAVE_AVX512
    {{"avx512", avx512::float32_kernels, avx512::float64_kernels, avx512::bfloat16_kernels},
     has_avx512()},
#endif
#ifdef FASTRNN_HAVE_AVX512BF16  // its instructions are of use to bfloat16 alone
    {{"avx512bf16", avx512::float32_kernels, avx512::float64_kernels, avx512bf16::bfloat16_kernels},
     has_avx512() && __builtin_cpu_supports("avx512bf16")},
#endif
};

const CpuKernels& pick() {
  const char* wanted = std::getenv("FASTRNN_ISA");
  const Built* best = nullptr;
  for (const Built& b : built) {
    if (b.runs_here && (!wanted || !*wanted || std::string(wanted) == b.kernels.isa)) best = &b;
  }
  if (!best) {
    std::string here;
    for (const Built& b : built) {
      if (b.runs_here) here += (here.empty() ? "" : ",") + std::string(b.kernels.isa);
    }
    throw std::runtime_error("FASTRNN_ISA must be one of " + here + " on this CPU, got " + wanted);
  }
  return best->kernels;
}

}  // namespace

const CpuKernels& cpu_kernels() {
  static const CpuKernels& kernels = pick();
  return kernels;
}

bool cpu_runs(std::string_view isa) {
  for (const Built& b : built) {
    if (isa == b.kernels.isa) return b.runs_here;
  }
  return false;
}

const char* cpu_isas_built() {
  static const std::string names = [] {
    std::string list;
    for (const Built& b : built) list += (list.empty() ? "" : ",") + std::string(b.kernels.isa);
    return list;
  }();
  return names.c_str();
}

}  // namespace fastrnn
