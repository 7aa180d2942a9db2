// A stack of its own for each CUDA thread, and the switch from one to another.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "sanitizer.h"
#ifndef __x86_64__
#define FASTRNN_SIM_UCONTEXT
#endif
#ifdef FASTRNN_SIM_UCONTEXT
#include <ucontext.h>
#else
// Keeps the callee-saved registers on the stack that is left; a few ns, where swapcontext makes two
// system calls.
extern "C" void fastrnn_sim_switch(void** save, void* load);
asm(".text\n.weak fastrnn_sim_switch\n.type fastrnn_sim_switch,@function\nfastrnn_sim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size fastrnn_sim_switch,.-fastrnn_sim_switch\n");
#endif

namespace fastrnn {
namespace cuda {
namespace sim {

constexpr size_t kStackBytes = kAddressSanitizer || kThreadSanitizer ? 256 << 10 : 64 << 10;

// A flow of control that may be left and entered again.
struct Fiber {
#ifdef FASTRNN_SIM_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
  const void* bottom = nullptr;  // of its stack; the three below are the sanitizers'
  size_t bytes = 0;
  void* fake_stack = nullptr;
  void* tsan = nullptr;
};

#ifdef __SANITIZE_ADDRESS__
inline thread_local Fiber* left = nullptr;  // the fiber that ran before the present one
#endif

// First thing to do on arriving in `me`, from a switch or at its start.
inline void arrived(Fiber& me) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(me.fake_stack, &left->bottom, &left->bytes);
#else
  (void)me;
#endif
}

// `last`: from is never entered again.
inline void switch_fiber(Fiber& from, Fiber& to, bool last = false) {
#ifdef __SANITIZE_ADDRESS__
  left = &from;
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.bottom, to.bytes);
#else
  (void)last;
#endif
#ifdef __SANITIZE_THREAD__
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef FASTRNN_SIM_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  fastrnn_sim_switch(&from.stack_pointer, to.stack_pointer);
#endif
  arrived(from);
}

// Makes `fiber` ready to run entry() on the given stack; entry never returns.
inline void prepare_fiber(Fiber& fiber, char* stack, void (*entry)()) {
  fiber = Fiber();
  fiber.bottom = stack, fiber.bytes = kStackBytes;
  allow(stack, kStackBytes);
#ifdef FASTRNN_SIM_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber.context, entry, 0);
#else
  auto top = (reinterpret_cast<uintptr_t>(stack) + kStackBytes) & ~uintptr_t(15);
  void** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // entry's return address: it has none
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--slot = nullptr;
  fiber.stack_pointer = slot;
#endif
#ifdef __SANITIZE_THREAD__
  fiber.tsan = __tsan_create_fiber(0);
#endif
}

// Stacks that outlive a launch, so that the next one finds them warm.
class Stacks {
 public:
  // A word at the low end tells an overflow afterwards.
  char* get(size_t i) {
    while (stacks_.size() <= i) stacks_.emplace_back(new char[kStackBytes + kColours * kLine]);
    char* stack = stacks_[i].get() + i % kColours * kLine;
    std::memcpy(stack, &kMark, sizeof kMark);
    return stack;
  }
  bool overflown(size_t i) const {
    return std::memcmp(stacks_[i].get() + i % kColours * kLine, &kMark, sizeof kMark) != 0;
  }
  void clear() { stacks_.clear(); }

 private:
  // Tops of stacks at one distance would fight for the same few sets of the cache.
  static constexpr size_t kColours = 64, kLine = 64;
  static constexpr uint64_t kMark = 0x5afe57acc0ffee11;
  std::vector<std::unique_ptr<char[]>> stacks_;
};

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
