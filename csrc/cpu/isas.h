// Which instruction sets run on this CPU, and which of those that a table has code for is taken.
#pragma once
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fastrnn {

inline bool isa_runs_here(std::string_view isa) {
  if (isa == "base") return true;
#if defined(__x86_64__)
  if (isa == "avx2") {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (isa == "avx512") return avx512;
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (isa == "avx512vnni") return vnni;
  if (isa == "avx512bf16") return vnni && __builtin_cpu_supports("avx512bf16");
#endif
  return false;
}

// Of entries with a member `isa`, narrowest first: the widest that runs here, or the one that
// FASTRNN_ISA names.
template <class Entry, int kCount>
const Entry& pick_isa(const Entry (&built)[kCount]) {
  const char* wanted = std::getenv("FASTRNN_ISA");
  const Entry* best = nullptr;
  std::string here;
  for (const Entry& entry : built) {
    if (!isa_runs_here(entry.isa)) continue;
    here += (here.empty() ? "" : ",") + std::string(entry.isa);
    if (!wanted || !*wanted || std::string_view(wanted) == entry.isa) best = &entry;
  }
  if (!best) {
    throw std::runtime_error("FASTRNN_ISA must be one of " + here + " on this CPU, got " + wanted);
  }
  return *best;
}

}  // namespace fastrnn
