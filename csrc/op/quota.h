// The processors that a container may use: a share of the time of all, which no count of CPUs
// tells.
#pragma once
#include <cmath>
#include <cstdio>
#include <string>

namespace fastrnn {

// Of the cgroup whose files lie in `folder` (version 2, or the cpu controller of version 1): the
// processors that its quota is worth, rounded up; 0 for none.
inline int cpu_quota(const std::string& folder) {
  double quota = 0, period = 0;
  const auto read = [&](const char* name, const char* format, auto*... numbers) {
    FILE* const file = std::fopen((folder + name).c_str(), "r");
    const int found = file ? std::fscanf(file, format, numbers...) : 0;
    if (file) std::fclose(file);
    return found == int(sizeof...(numbers));
  };
  const bool limited = read("/cpu.max", "%lf %lf", &quota, &period) ||
                       (read("/cpu/cpu.cfs_quota_us", "%lf", &quota) &&
                        read("/cpu/cpu.cfs_period_us", "%lf", &period));
  return limited && quota > 0 && period > 0 ? int(std::ceil(quota / period)) : 0;
}

}  // namespace fastrnn
