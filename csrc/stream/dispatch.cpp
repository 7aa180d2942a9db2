#include "cpu/isas.h"
#include "kernels.h"

namespace fastrnn {

#define FASTRNN_DECLARE(isa)                          \
  namespace isa {                                     \
  extern const stream::LayerKernels float32_steps[];  \
  extern const stream::LayerKernels bfloat16_steps[]; \
  }
FASTRNN_DECLARE(base)
#ifdef FASTRNN_HAVE_AVX2
FASTRNN_DECLARE(avx2)
#endif
#ifdef FASTRNN_HAVE_AVX512
FASTRNN_DECLARE(avx512)
#endif
#undef FASTRNN_DECLARE

namespace stream {
namespace {

constexpr StreamKernels built[] = {
    // narrowest first
    {"base", base::float32_steps, base::bfloat16_steps},
#ifdef FASTRNN_HAVE_AVX2
    {"avx2", avx2::float32_steps, avx2::bfloat16_steps},
#endif
#ifdef FASTRNN_HAVE_AVX512
    {"avx512", avx512::float32_steps, avx512::bfloat16_steps},
#endif
#ifdef FASTRNN_HAVE_AVX512VNNI  // of no use to these
    {"avx512vnni", avx512::float32_steps, avx512::bfloat16_steps},
#endif
#ifdef FASTRNN_HAVE_AVX512BF16  // products of its pairs would round the inputs
    {"avx512bf16", avx512::float32_steps, avx512::bfloat16_steps},
#endif
};

}  // namespace

const StreamKernels& stream_kernels() {
  static const StreamKernels& kernels = pick_isa(built);
  return kernels;
}

const char* stream_isa() { return stream_kernels().isa; }

}  // namespace stream
}  // namespace fastrnn
