// Threads, warps, blocks, clusters and launches: that they are what CUDA says. A check throws.
#pragma once
#include "checks.h"

namespace fastrnn {
namespace cuda {

struct Numbers {
  int* out;
};

// Every lane against what the shuffles of CUDA's manual give.
__global__ void warp_kernel(const __grid_constant__ Numbers p) {
  const int lane = int(threadIdx.x) % 32, value = int(threadIdx.x) * 3;
  const int first = value - 3 * lane;
  bool good = __shfl_sync(~0u, value, 5) == first + 15;
  good &= __shfl_xor_sync(~0u, value, 6) == first + 3 * (lane ^ 6);
  good &= __shfl_down_sync(~0u, double(value), 4) == (lane < 28 ? value + 12 : value);
  good &= __shfl_up_sync(~0u, value, 4) == (lane < 4 ? value : value - 12);
  good &= __ballot_sync(~0u, lane % 3 == 0) == 0x49249249;
  good &= __any_sync(~0u, lane == 7) && !__all_sync(~0u, lane == 7) && __all_sync(~0u, 1);
  int* shared = shared_memory<int>() + threadIdx.x - lane;
  for (int i = 1; i < 4; ++i) {
    shared[lane] = i * lane;
    __syncwarp();
    good &= shared[(lane + 9) % 32] == i * ((lane + 9) % 32);
    __syncwarp();
  }
  p.out[blockIdx.x * blockDim.x + threadIdx.x] = good;
}
inline void check_warps() {
  std::vector<int> out(2 * 96);
  launch(warp_kernel, {2, 96, 96 * 4}, Numbers{out.data()});
  expect(std::count(out.begin(), out.end(), 1) == 2 * 96, "shuffles and votes");
}

// Each block of a cluster reads the ranks that the others have written down, then writes into
// theirs; the work between arrive and wait touches its own only.
__global__ void ranks_kernel(const __grid_constant__ Numbers p) {
  int* shared = shared_memory<int>();  // [0, 32): own; [32, 64): of the block before
  const unsigned rank = cluster_rank(), next = (rank + 1) % cluster_size();
  shared[threadIdx.x] = int(blockIdx.x * 100 + rank * 10 + threadIdx.x);
  cluster_arrive();
  const int own = shared[threadIdx.x];
  cluster_wait();
  const int theirs = cluster_map(shared, next)[threadIdx.x];
  cluster_map(shared + 32, next)[threadIdx.x] = own;
  cluster_arrive();
  cluster_wait();
  const int before = shared[32 + threadIdx.x], thread = int(threadIdx.x);
  const int first = int(blockIdx.x - rank),
            back = int((rank + cluster_size() - 1) % cluster_size());
  const bool good = theirs == (first + int(next)) * 100 + int(next) * 10 + thread &&
                    before == (first + back) * 100 + back * 10 + thread;
  p.out[blockIdx.x * blockDim.x + threadIdx.x] = good;
}
inline void check_clusters() {
  std::vector<int> out(12 * 32);
  launch(ranks_kernel, {12, 32, 256, 4}, Numbers{out.data()});
  expect(std::count(out.begin(), out.end(), 1) == 12 * 32, "reads and writes in a cluster");
}

struct Ball {
  uint64_t* words;
  int rounds;
};
// Two blocks send a number to and fro.
__global__ void ball_kernel(const __grid_constant__ Ball p) {
  if (threadIdx.x) return;
  for (uint64_t i = 1; i <= uint64_t(p.rounds); ++i) {
    if (i % 2 == blockIdx.x) {
      store_words(p.words, {i, ~i});
    } else {
      Words2 w = load_words(p.words);
      while (w.a < i || w.b != ~w.a) {
        spin_pause();
        w = load_words(p.words);
      }
    }
  }
}
inline void check_words() {
  std::vector<Words2> words(1, Words2{0, ~uint64_t(0)});
  launch(ball_kernel, {2, 32, 0, 1, true}, Ball{&words[0].a, 50});
  expect(words[0].a == 50 && words[0].b == ~uint64_t(50), "words that two blocks exchange");
}

__global__ void index_kernel(const __grid_constant__ Numbers p) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  p.out[block * blockDim.x + threadIdx.x] += int(block);
}
inline void check_grid() {  // far more blocks than run at a time
  const dim3 grid(50, 7, 3);
  std::vector<int> out(50 * 7 * 3 * 32);
  launch(index_kernel, {grid, 32, 0}, Numbers{out.data()});
  for (size_t i = 0; i < out.size(); ++i) expect(out[i] == int(i / 32), "every block once");
}

template <class P>
void expect_error(void (*kernel)(P), const Launch& l, const P& params, const char* message) {
  try {
    launch(kernel, l, params);
  } catch (const std::runtime_error& error) {
    expect(std::string(error.what()).find(message) != std::string::npos, error.what());
    return;
  }
  throw std::runtime_error(std::string("ran, and should not: ") + message);
}
inline void check_refusals() {
  const auto refused = [](const Launch& l, const char* message) {
    std::vector<int> out(4096);
    expect_error(index_kernel, l, Numbers{out.data()}, message);
  };
  fastrnn_sim_configure(0, 4, 90, 200 << 10);
  refused({8, 32, 201 << 10}, "shared memory");
  refused({5, 32, 150 << 10, 1, true}, "too many blocks in cooperative launch");
  refused({5, 32, 0, 2}, "multiple");
  refused({32, 32, 0, 32}, "cluster size");
  refused({1, 2048, 0}, "threads");
  refused({0, 32, 0}, "empty grid");
  fastrnn_sim_configure(0, 4, 80, 160 << 10);
  refused({2, 32, 0, 2}, "cluster size");
  std::vector<Words2> words(1, Words2{0, ~uint64_t(0)});
  expect_error(ball_kernel, {2, 32, 0}, Ball{&words[0].a, 50}, "only in a cooperative launch");
}
inline void check_limits() {
  fastrnn_sim_configure(0, 4, 90, 200 << 10);
  expect(device_limits().sms == 4 && device_limits().max_cluster == 16, "limits of sm_90");
  expect(max_blocks(index_kernel, {1, 1024, 0}) == 8, "threads limit the blocks");
  expect(max_blocks(index_kernel, {1, 64, 150 << 10}) == 4, "shared memory limits the blocks");
  expect(max_blocks(index_kernel, {1, 64, 150 << 10, 3}) == 3, "whole clusters");
  fastrnn_sim_configure(0, 4, 80, 160 << 10);
  expect(device_limits().max_cluster == 1 && device_limits().shared == 160 << 10,
         "limits of sm_80");
}

inline void check_bf16() { check_conversions<Bf16>(7, 127); }
inline void check_half() { check_conversions<Half>(10, 15); }

const struct {
  const char* name;
  void (*run)();
} kChecks[] = {
    {"bf16", check_bf16},          {"half", check_half},          {"tf32", check_tf32},
    {"mma_bf16", check_mma<Bf16>}, {"mma_half", check_mma<Half>}, {"mma_tf32", check_mma<Tf32>},
    {"warps", check_warps},        {"clusters", check_clusters},  {"words", check_words},
    {"grid", check_grid},          {"limits", check_limits},      {"refusals", check_refusals},
};

}  // namespace cuda
}  // namespace fastrnn
