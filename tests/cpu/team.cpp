// Teams on pools that do not run all parts at once, as a torch without OpenMP may have. Prints each
// case; hangs where a team waits for members that never come.
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#define FASTRNN_ISA test
#include "cpu/threads/range.h"
#include "cpu/threads/team.h"

using Parts = void (*)(int64_t begin, int64_t end, void* ctx);

// All parts one after the other, on the caller.
static void in_turn(int64_t n, Parts fn, void* ctx) {
  for (int64_t i = 0; i < n; ++i) fn(i, i + 1, ctx);
}
// All parts as one, as inside of a parallel region.
static void as_one(int64_t n, Parts fn, void* ctx) { fn(0, n, ctx); }
// At once.
static void threads(int64_t n, Parts fn, void* ctx) {
  std::vector<std::thread> others;
  for (int64_t i = 1; i < n; ++i) others.emplace_back(fn, i, i + 1, ctx);
  fn(0, 1, ctx);
  for (auto& t : others) t.join();
}

// One worker for all callers: it may be waiting in one team while the other one waits for it.
class Queue {
 public:
  Queue() : worker_([this] { work(); }) {}
  ~Queue() {
    push({});
    worker_.join();
  }
  void run(int64_t n, Parts fn, void* ctx) {
    int64_t left = n - 1;
    for (int64_t i = 1; i < n; ++i) {
      push([=, &left] {
        fn(i, i + 1, ctx);
        std::lock_guard<std::mutex> lock(mutex_);
        --left;
        changed_.notify_all();
      });
    }
    fn(0, 1, ctx);
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return left == 0; });
  }

 private:
  void push(std::function<void()> task) {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  void work() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return !tasks_.empty(); });
      const auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      if (!task) return;
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::thread worker_;
};
static Queue queue;
static void queued(int64_t n, Parts fn, void* ctx) { queue.run(n, fn, ctx); }

// A pipeline of steps, each of which reads what all members wrote in the one before.
struct Work {
  static constexpr int64_t kUnits = 24, kSteps = 200;
  int64_t now[2][kUnits] = {};
  int members[2] = {};  // smallest and largest size that a member was told

  void operator()(int rank, int size, fastrnn::test::Barrier& barrier) {
    if (rank == 0) members[0] = members[1] = size;
    barrier.wait(size);
    if (members[0] != size) members[1] = -1;
    const auto mine = fastrnn::test::part(kUnits, rank, size);
    for (int64_t step = 0; step < kSteps; ++step) {
      const int64_t* from = now[step % 2];
      for (int64_t u = mine.begin; u < mine.end; ++u) {
        now[(step + 1) % 2][u] = (from[u] + 3 * from[(u + 1) % kUnits] + u + step) % 1000003;
      }
      barrier.wait(size);
    }
  }
};

static bool same(fastrnn::ParallelFor pool, int wanted, int callers) {
  Work alone;
  fastrnn::test::Team<Work>::run(as_one, 1, alone);
  std::vector<Work> works(callers);
  std::vector<std::thread> calls;
  for (Work& work : works) {
    calls.emplace_back([&work, pool, wanted] {
      for (int i = 0; i < 5; ++i) {
        work = Work();
        fastrnn::test::Team<Work>::run(pool, wanted, work);
      }
    });
  }
  for (auto& t : calls) t.join();
  bool equal = true;
  for (const Work& work : works) {
    equal &= work.members[0] >= 1 && work.members[0] <= wanted && work.members[1] != -1;
    for (int64_t u = 0; u < Work::kUnits; ++u) equal &= work.now[0][u] == alone.now[0][u];
  }
  return equal;
}

int main() {
  const struct {
    const char* name;
    fastrnn::ParallelFor pool;
  } pools[] = {{"in turn", in_turn}, {"as one", as_one}, {"threads", threads}, {"queued", queued}};
  bool right = true;
  for (const auto& p : pools) {
    for (const int callers : {1, 3}) {
      const bool ok = same(p.pool, 3, callers);
      std::printf("%s, %d callers: %s\n", p.name, callers, ok ? "same" : "DIFFERENT");
      right &= ok;
    }
  }
  return right ? 0 : 1;
}
