// What csrc/op/pace.h and csrc/op/quota.h answer, and what a team tells of its late threads. Prints
// what is wrong.
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#define FASTRNN_ISA test
#include "cpu/threads/team.h"
#include "op/pace.h"
#include "op/quota.h"

static int wrong = 0;
#define EXPECT(what)                                          \
  do {                                                        \
    if (!(what)) ++wrong, std::printf("not so: %s\n", #what); \
  } while (0)

static constexpr int64_t ms = 1'000'000;

static void pace() {
  fastrnn::Pace calm;  // hiccups that later calls make up for
  for (int64_t i = 0; i < 1000; ++i) {
    calm.note(2, i * ms, ms, i % 20 == 0 ? 900'000 : 0);
    EXPECT(calm.threads(2, i * ms) == 2);
  }

  fastrnn::Pace busy;  // calls of 4 ms, 3 of which one thread waits for the other: alone it takes 2
  int64_t now = 0;
  for (int i = 0; i < 2; ++i) busy.note(2, now += 4 * ms, 4 * ms, 3 * ms);
  EXPECT(busy.threads(2, now) == 2);
  busy.note(2, now += 4 * ms, 4 * ms, 3 * ms);
  EXPECT(busy.threads(2, now) == 1 && busy.threads(8, now + 49 * ms) == 1);
  EXPECT(busy.threads(2, now + 51 * ms) == 2);
  int64_t rest = 50 * ms;
  for (int tries = 0; tries < 4; ++tries) {  // each time it rests for longer
    now += rest;
    for (int i = 0; i < 2; ++i) busy.note(2, now += 4 * ms, 4 * ms, 3 * ms);
    rest *= 2;
    EXPECT(busy.threads(2, now + rest - ms) == 1 && busy.threads(2, now + rest + ms) == 2);
  }
  now += rest;
  for (int i = 0; i < 10; ++i) busy.note(2, now += ms, ms, 0);  // calm again
  EXPECT(busy.threads(2, now) == 2);
  for (int i = 0; i < 3; ++i) busy.note(2, now += 4 * ms, 4 * ms, 3 * ms);
  EXPECT(busy.threads(2, now + 49 * ms) == 1 && busy.threads(2, now + 51 * ms) == 2);

  fastrnn::Pace slow;  // a call that lost a second: the next try is ten seconds away
  slow.note(2, 0, 2000 * ms, 1500 * ms);
  EXPECT(slow.threads(2, 9'900 * ms) == 1 && slow.threads(2, 10'100 * ms) == 2);
  fastrnn::Pace one;
  one.note(1, 0, 2000 * ms, 1500 * ms);
  EXPECT(one.threads(2, 1) == 2);
  fastrnn::Pace four;  // three wait 5 of 8 ms for the fourth: alone it takes 12
  four.note(4, 0, 8 * ms, 15 * ms);
  EXPECT(four.threads(4, 1) == 4);
  four.note(4, 0, 8 * ms, 24 * ms);
  EXPECT(four.threads(4, 1) == 1);
}

static void quota(const std::string& folder) {
  const auto write = [&](const char* name, const char* text) {
    std::ofstream(folder + name) << text;
    return fastrnn::cpu_quota(folder);
  };
  EXPECT(fastrnn::cpu_quota(folder) == 0);
  EXPECT(write("/cpu.max", "max 100000\n") == 0);
  EXPECT(write("/cpu.max", "200000 100000\n") == 2);
  EXPECT(write("/cpu.max", "150000 100000\n") == 2);
  EXPECT(write("/cpu.max", "5000 100000\n") == 1);
  EXPECT(write("/cpu.max", "nonsense") == 0);
  EXPECT(write("/cpu/cpu.cfs_quota_us", "300000\n") == 0);
  EXPECT(write("/cpu/cpu.cfs_period_us", "100000\n") == 3);
  EXPECT(write("/cpu/cpu.cfs_quota_us", "-1\n") == 0);
}

struct Late {
  void operator()(int rank, int size, fastrnn::test::Barrier& barrier) {
    if (rank == 0 && size > 1) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    barrier.wait(size);
  }
};
static void two(int64_t, void (*fn)(int64_t, int64_t, void*), void* ctx) {
  std::thread other(fn, 1, 2, ctx);
  fn(0, 1, ctx);
  other.join();
}

int main(int, char** arguments) {
  pace();
  quota(arguments[1]);
  Late late;
  const int64_t waited = fastrnn::test::Team<Late>::run(two, 2, late);
  EXPECT(waited > 20 * ms && waited < 1000 * ms);
  EXPECT(fastrnn::test::Team<Late>::run(two, 1, late) == 0);
  return wrong;
}
