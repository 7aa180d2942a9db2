// What tests/test_cuda_simulator.py runs:
//   simulator_cases list                        the checks and the pairs kernel/bug there are
//   simulator_cases check NAME SEED             one of the primitives' checks
//   simulator_cases kernel NAME BUG SEED COUNT  a kernel of this folder in COUNT orders
// Prints a line for each run: "ok", or what went wrong.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "block_kernel.h"
#include "cluster_kernel.h"
#include "grid_kernel.h"
#include "launch_checks.h"

using namespace fastrnn::cuda;

namespace {

struct Case {
  const char* name;
  void (*kernel)(Params);
  Launch launch;
  int units, batch;
  double tolerance;
  std::vector<std::pair<const char*, Bug>> bugs;
};

#define BUG(name) {#name, Bug::name}
const Case kCases[] = {
    {"block",
     block_kernel,
     {1, 96, 2 * 96 * 4},
     96,
     1,
     0,
     {BUG(none), BUG(one_slot), BUG(no_barrier), BUG(early_exit), BUG(divergent),
      BUG(skipped_barrier), BUG(past_end), BUG(half_shuffle)}},
    {"cluster",
     cluster_kernel,
     {4, 64, 2 * 8 * 128 * 2, 4},
     128,
     8,
     0.05,
     {BUG(none), BUG(one_slot), BUG(no_start), BUG(read_early), BUG(store_late), BUG(fragment),
      BUG(early_exit), BUG(arrive_twice), BUG(wait_twice), BUG(wrong_rank), BUG(rank_left_out)}},
    {"counting",
     counting_kernel,
     {4, 64, 2 * 8 * 128 * 2 + 16, 4},
     128,
     8,
     0.05,
     {BUG(none), BUG(one_slot), BUG(no_start), BUG(fragment), BUG(early_exit), BUG(too_few_bytes),
      BUG(too_many_bytes), BUG(wrong_parity)}},
    {"grid",
     grid_kernel,
     {4, 64, 512 * 4, 1, true},
     512,
     1,
     0,
     {BUG(none), BUG(one_slot), BUG(no_barrier), BUG(early_exit), BUG(no_tag), BUG(half_tag),
      BUG(unpublished), BUG(flag), BUG(plain_data)}},
};
#undef BUG

constexpr int kSteps = 6;

struct Data {
  std::vector<float> x, expected;
  std::vector<Bf16> w;
};

// The kernels' scans in plain loops.
Data make_data(const Case& c) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int n = c.units, size = n * c.batch;
  Data d;
  d.x.resize(size_t(kSteps) * size), d.expected = d.x, d.w.resize(size_t(n) * n);
  for (float& x : d.x) x = normal(random);
  for (Bf16& w : d.w) w = from_float<Bf16>(normal(random) * .7f / std::sqrt(float(n)));
  std::vector<float> h(size, 0.f);
  for (int t = 0; t < kSteps; ++t) {
    float* out = d.expected.data() + t * size;
    const float* x = d.x.data() + t * size;
    for (int i = 0; i < size; ++i) {
      const int b = i / n, j = i % n;
      if (c.batch == 1) {
        out[i] = mix(h.data(), j, n == 96 ? 33 : 97, n, x[i]);
        continue;
      }
      double sum = x[i];
      for (int k = 0; k < n; ++k)
        sum += double(to_float(d.w[j * n + k])) * to_float(from_float<Bf16>(h[b * n + k]));
      out[i] = float(sum);
    }
    h.assign(out, out + size);
  }
  return d;
}

std::string run_case(const Case& c, Bug bug, unsigned seed) {
  static const Data d = make_data(c);
  std::vector<float> out(d.expected.size(), NAN);
  std::vector<Words2> words(c.units + 16, Words2{0, 0});
  fastrnn_sim_configure(seed, 16, 90, 232448);
  try {
    launch(c.kernel, c.launch, {d.x.data(), d.w.data(), out.data(), &words[0].a, kSteps, bug});
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  for (size_t i = 0; i < out.size(); ++i)
    if (!(std::fabs(out[i] - d.expected[i]) <= c.tolerance))
      return "wrong value: " + std::to_string(out[i]) + ", not " + std::to_string(d.expected[i]);
  return "ok";
}

int list() {
  for (const auto& check : kChecks) std::printf("check %s\n", check.name);
  for (const Case& c : kCases)
    for (const auto& bug : c.bugs) std::printf("%s %s\n", c.name, bug.first);
  return 0;
}

int check(const std::string& name, unsigned seed) {
  for (const auto& check : kChecks) {
    if (name != check.name) continue;
    fastrnn_sim_configure(seed, 16, 90, 232448);
    check.run();
    std::puts("ok");
    return 0;
  }
  throw std::runtime_error("no check " + name);
}

int kernel(const std::string& name, const std::string& bug, unsigned seed, unsigned count) {
  for (const Case& c : kCases)
    for (const auto& [label, which] : c.bugs)
      if (name == c.name && bug == label) {
        for (unsigned i = 0; i < count; ++i) std::puts(run_case(c, which, seed + i).c_str());
        return 0;
      }
  throw std::runtime_error("no kernel " + name + " with bug " + bug);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const auto number = [argv](int i) { return unsigned(std::atoi(argv[i])); };
  try {
    if (what == "list") return list();
    if (what == "check" && argc == 4) return check(argv[2], number(3));
    if (what == "kernel" && argc == 6) return kernel(argv[2], argv[3], number(4), number(5));
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
  std::puts("usage: see the head of simulator_cases.cpp");
  return 2;
}
