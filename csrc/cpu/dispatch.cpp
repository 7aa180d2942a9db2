#include <string>

#include "isas.h"
#include "kernels.h"

namespace fastrnn {

#define FASTRNN_DECLARE(isa)                       \
  namespace isa {                                  \
  extern const CellKernels float32_kernels[];      \
  extern const CellKernels float64_kernels[];      \
  extern const CellKernels bfloat16_kernels[];     \
  extern const CellKernels int8_kernels[];         \
  extern const CellKernels bf16_weights_kernels[]; \
  }
FASTRNN_DECLARE(base)
#ifdef FASTRNN_HAVE_AVX2
FASTRNN_DECLARE(avx2)
#endif
#ifdef FASTRNN_HAVE_AVX512
FASTRNN_DECLARE(avx512)
#endif
#ifdef FASTRNN_HAVE_AVX512VNNI
FASTRNN_DECLARE(avx512vnni)
#endif
#ifdef FASTRNN_HAVE_AVX512BF16
FASTRNN_DECLARE(avx512bf16)
#endif
#undef FASTRNN_DECLARE

namespace {

constexpr CpuKernels built[] = {
    // narrowest first
    {"base", base::float32_kernels, base::float64_kernels, base::bfloat16_kernels,
     base::int8_kernels, base::bf16_weights_kernels},
#ifdef FASTRNN_HAVE_AVX2
    {"avx2", avx2::float32_kernels, avx2::float64_kernels, avx2::bfloat16_kernels,
     avx2::int8_kernels, avx2::bf16_weights_kernels},
#endif
#ifdef FASTRNN_HAVE_AVX512
    {"avx512", avx512::float32_kernels, avx512::float64_kernels, avx512::bfloat16_kernels,
     avx512::int8_kernels, avx512::bf16_weights_kernels},
#endif
#ifdef FASTRNN_HAVE_AVX512VNNI  // its instructions are of use to int8 alone
    {"avx512vnni", avx512::float32_kernels, avx512::float64_kernels, avx512::bfloat16_kernels,
     avx512vnni::int8_kernels, avx512::bf16_weights_kernels},
#endif
#ifdef FASTRNN_HAVE_AVX512BF16  // to bfloat16 alone; such a CPU has AVX512-VNNI too
    {"avx512bf16", avx512::float32_kernels, avx512::float64_kernels, avx512bf16::bfloat16_kernels,
     avx512vnni::int8_kernels, avx512::bf16_weights_kernels},
#endif
};

}  // namespace

const CpuKernels& cpu_kernels() {
  static const CpuKernels& kernels = pick_isa(built);
  return kernels;
}

bool cpu_runs(std::string_view isa) {
  for (const CpuKernels& kernels : built) {
    if (isa == kernels.isa) return isa_runs_here(isa);
  }
  return false;
}

const char* cpu_isas_built() {
  static const std::string names = [] {
    std::string list;
    for (const CpuKernels& kernels : built) {
      list += (list.empty() ? "" : ",") + std::string(kernels.isa);
    }
    return list;
  }();
  return names.c_str();
}

}  // namespace fastrnn
