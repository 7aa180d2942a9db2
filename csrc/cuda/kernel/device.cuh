// What kernels use of the GPU: the only file that knows whether they run on one or, compiled by g++
// with FASTRNN_SIM, in the simulator of sim/. Beside the names below kernels have CUDA's threadIdx,
// blockIdx, blockDim, gridDim, __syncthreads, __syncwarp, __shfl*_sync, __ballot_sync, __ldg.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/device_limits.h"

namespace fastrnn {
namespace cuda {

// How numbers are stored; all arithmetic is on float or double.
struct Bf16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};
struct Tf32 {};  // names mma's operands that are floats rounded by to_tf32

struct Words2 {
  uint64_t a, b;
};

struct alignas(8) Counter {  // in shared memory, of bytes stored there; see make_counter
  uint64_t opaque;
};

template <class T>
struct Pack;  // two T in a word: see pack2

}  // namespace cuda
}  // namespace fastrnn

#ifdef FASTRNN_SIM
#define FASTRNN_DEVICE inline
#include "sim/device.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define FASTRNN_DEVICE __device__ __forceinline__

namespace fastrnn {
namespace cuda {

// The block's dynamic shared memory, 128-byte aligned.
FASTRNN_DEVICE unsigned char* shared_bytes() {
  extern __shared__ __align__(128) unsigned char fastrnn_shared[];
  return fastrnn_shared;
}
template <class T>
FASTRNN_DEVICE T* shared_memory() {
  return reinterpret_cast<T*>(shared_bytes());
}

// Clusters of blocks that reach into each other's shared memory: sm_90 and newer. For older GPUs
// the code compiles to a trap, and the planner never picks it.
#ifdef __CUDA_ARCH__
constexpr bool kHasClusters = __CUDA_ARCH__ >= 10 * kClusterArch;
#else
constexpr bool kHasClusters = true;
#endif
#define FASTRNN_PTX_86 (__CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1208)

FASTRNN_DEVICE unsigned cluster_rank() {
  unsigned rank = 0;
  if constexpr (kHasClusters)
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  else
    __trap();
  return rank;
}
FASTRNN_DEVICE unsigned cluster_size() {
  unsigned size = 1;
  if constexpr (kHasClusters)
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  else
    __trap();
  return size;
}
// What block `rank` of the cluster has at the shared address p of this block.
template <class T>
FASTRNN_DEVICE T* cluster_map(T* p, unsigned rank) {
  T* there = p;
  if constexpr (kHasClusters)
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(p), "r"(rank));
  else
    __trap();
  return there;
}
// The cluster's barrier in two halves: what a thread did before it arrived is seen by all that have
// waited. Every thread does both, in turn.
FASTRNN_DEVICE void cluster_arrive() {
  if constexpr (kHasClusters)
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
  else
    __trap();
}
FASTRNN_DEVICE void cluster_wait() {
  if constexpr (kHasClusters)
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
  else
    __trap();
}

// Values that blocks of a cluster send each other without a fence, which cluster_arrive needs and
// which waits for all that the block has written to global memory. The receiver counts bytes, a
// phase at a time: one of its threads says how many to expect, every reader waits for the phase's
// parity, 0 at first. The next phase of a counter may begin when all have waited for this one.
FASTRNN_DEVICE uint32_t shared_address(const void* p) {
  return uint32_t(__cvta_generic_to_shared(p));
}
// By one thread of the block, before the cluster's first barrier.
FASTRNN_DEVICE void make_counter(Counter* counter) {
  if constexpr (kHasClusters)
    asm volatile(
        "mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;" ::"r"(
            shared_address(counter))
        : "memory");
  else
    __trap();
}
FASTRNN_DEVICE void expect_bytes(Counter* counter, uint32_t bytes) {
  if constexpr (kHasClusters)
    asm volatile("mbarrier.arrive.expect_tx.relaxed.cta.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(counter)),
                 "r"(bytes)
                 : "memory");
  else
    __trap();
}
FASTRNN_DEVICE void wait_bytes(Counter* counter, uint32_t parity) {
  if constexpr (!kHasClusters) {
    __trap();
  } else {
    for (uint32_t done = 0; !done;)
      asm volatile(
          "{\n.reg .pred p;\n"
#if FASTRNN_PTX_86
          "mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 p, [%1], %2;\n"
#else
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
#endif
          "selp.u32 %0, 1, 0, p;\n}"
          : "=r"(done)
          : "r"(shared_address(counter)), "r"(parity)
          : "memory");
#if FASTRNN_PTX_86  // of shared memory alone: an acquire of everything would drop the L1 cache
    asm volatile("fence.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory");
#endif
  }
}
// Stores 4 or 8 bytes where block `rank` has what this block has at p, and counts them there.
template <class T>
FASTRNN_DEVICE void store_async(T* p, T value, Counter* counter, unsigned rank) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "store_async moves one or two words");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  if constexpr (!kHasClusters) {
    __trap();
  } else {
    uint32_t to, count;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_address(p)), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(count)
        : "r"(shared_address(counter)), "r"(rank));
    if constexpr (sizeof(T) == 4)
      asm volatile(
          "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to),
          "r"(uint32_t(bits)), "r"(count)
          : "memory");
    else
      asm volatile(
          "st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(to),
          "l"(bits), "r"(count)
          : "memory");
  }
}

// Words in global memory that blocks exchange, 16-byte aligned. Each is read and written whole; the
// two are no unit, and nothing else is ordered by them.
FASTRNN_DEVICE Words2 load_words(const uint64_t* p) {
  Words2 w;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(w.a), "=l"(w.b)
               : "l"(__cvta_generic_to_global(p))
               : "memory");
  return w;
}
FASTRNN_DEVICE void store_words(uint64_t* p, Words2 w) {
  asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)),
               "l"(w.a), "l"(w.b)
               : "memory");
}
FASTRNN_DEVICE void store_word(uint64_t* p, uint64_t word) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "l"(word)
               : "memory");
}
// The body of every wait loop. The load's own way to the L2 cache is pause enough.
FASTRNN_DEVICE void spin_pause() {}

FASTRNN_DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
FASTRNN_DEVICE float bits_float(uint32_t bits) { return __uint_as_float(bits); }
FASTRNN_DEVICE float to_float(Bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
FASTRNN_DEVICE float to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }

template <>
struct Pack<Bf16> {
  FASTRNN_DEVICE static Bf16 one(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }
  FASTRNN_DEVICE static uint32_t two(float lo, float hi) {
    uint32_t word;  // the instruction names the high half first
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(hi), "f"(lo));
    return word;
  }
};
template <>
struct Pack<Half> {
  FASTRNN_DEVICE static Half one(float x) { return {__half_as_ushort(__float2half_rn(x))}; }
  FASTRNN_DEVICE static uint32_t two(float lo, float hi) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(hi), "f"(lo));
    return word;
  }
};

// To nearest, ties away from zero.
FASTRNN_DEVICE uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// c += a b by a warp: [16, 8] += [16, 16] [16, 8], or [16, 8] [8, 8] for tf32. Lane 4 g + t holds
//   c[i]: row g + 8 (i / 2), column 2 t + i % 2
//   a[i]: row g + 8 (i % 2), columns 2 t + 8 (i / 2) and the next; tf32: column t + 4 (i / 2)
//   b[i]: rows 2 t + 8 i and the next; tf32: row t + 4 i; column g
FASTRNN_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Bf16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
FASTRNN_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
FASTRNN_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Tf32) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// e^x to 2 + |1.173 x| units in the last place.
FASTRNN_DEVICE float fast_exp(float x) { return __expf(x); }
// x / y to 2 units in the last place; 0 where |y| > 2^126 and x is finite.
FASTRNN_DEVICE float fast_divide(float x, float y) { return __fdividef(x, y); }

}  // namespace cuda
}  // namespace fastrnn
#endif

namespace fastrnn {
namespace cuda {

template <>
struct Pack<float> {
  FASTRNN_DEVICE static float one(float x) { return x; }
};
template <>
struct Pack<double> {
  FASTRNN_DEVICE static double one(float x) { return x; }
};

FASTRNN_DEVICE float to_float(float x) { return x; }
FASTRNN_DEVICE double to_float(double x) { return x; }

// T from a float: to nearest even, NaN stays NaN, too large becomes infinite.
template <class T>
FASTRNN_DEVICE T from_float(float x) {
  return Pack<T>::one(x);
}
// Two values in a word, lo in the low half, as mma's operands want them.
template <class T>
FASTRNN_DEVICE uint32_t pack2(float lo, float hi) {
  return Pack<T>::two(lo, hi);
}

}  // namespace cuda
}  // namespace fastrnn
