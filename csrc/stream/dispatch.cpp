#include "cpu/isas.h"
#include "kernels.h"

namespace fastrnn {

#define FASTRNN_DECLARE(isa)                          \
  namespace isa {                                     \
  extern const stream::LayerKernels float32_steps[];  \
  extern const stream::LayerKernels bfloat16_steps[]; \
  extern const stream::LayerKernels int8_steps[];     \
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
#undef FASTRNN_DECLARE

namespace stream {
namespace {

constexpr StreamKernels built[] = {
    // narrowest first
    {"base", base::float32_steps, base::bfloat16_steps, base::int8_steps},
#ifdef FASTRNN_HAVE_AVX2
    {"avx2", avx2::float32_steps, avx2::bfloat16_steps, avx2::int8_steps},
#endif
#ifdef FASTRNN_HAVE_AVX512
    {"avx512", avx512::float32_steps, avx512::bfloat16_steps, avx512::int8_steps},
#endif
#ifdef FASTRNN_HAVE_AVX512VNNI  // its instructions are of use to int8 alone
    {"avx512vnni", avx512::float32_steps, avx512::bfloat16_steps, avx512vnni::int8_steps},
#endif
#ifdef FASTRNN_HAVE_AVX512BF16  // of use to nothing: products of its pairs would round the inputs
    {"avx512bf16", avx512::float32_steps, avx512::bfloat16_steps, avx512vnni::int8_steps},
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
