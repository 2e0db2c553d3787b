// longjmp between stacks is what its checks are there to refuse.
#undef _FORTIFY_SOURCE

#include "cuda_host/fiber.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace grapnel::cuda_host {
namespace {

/// Thrown where an abandoned fiber paused.
struct Abandoned {};

/// Where a stack stands that another runs instead of.
struct Context {
  ucontext_t whole{};
#if defined(__SANITIZE_ADDRESS__)
  // _longjmp would make AddressSanitizer forget the variables of the stack it leaves.
  void leave_for(Context& other) {
    swapcontext(&whole, &other.whole);
  }
#else
  // swapcontext would make two system calls each time, for signal masks that are all the same.
  jmp_buf place{};
  bool has_place = false;
  void leave_for(Context& other) {
    has_place = true;
    if (_setjmp(place) != 0) return;
    if (other.has_place) _longjmp(other.place, 1);
    setcontext(&other.whole);
  }
#endif
};

}  // namespace

class Fiber::Stack {
 public:
  Stack() : memory_(new std::byte[kBytes]) {
    // Tops that lie a power of two apart would share a few lines of the caches.
    static thread_local std::size_t made = 0;
    const std::size_t unused = made++ * 13 * 64 % (16 * 1024);
    bytes_ = kBytes - unused;
    getcontext(&inside_.whole);
    inside_.whole.uc_stack.ss_sp = memory_.get();
    inside_.whole.uc_stack.ss_size = bytes_;
    const auto self = reinterpret_cast<std::uintptr_t>(this);  // makecontext passes ints
    makecontext(&inside_.whole, reinterpret_cast<void (*)()>(&Stack::enter), 2, static_cast<unsigned>(self),
                static_cast<unsigned>(self >> 32));
  }

  void resume(Fiber& fiber) {
    fiber_ = &fiber;
    start_switch(&outside_fake_, memory_.get(), bytes_);
    outside_.leave_for(inside_);
    finish_switch(outside_fake_, nullptr, nullptr);
  }
  void pause() {
    start_switch(&inside_fake_, outside_stack_, outside_bytes_);
    inside_.leave_for(outside_);
    finish_switch(inside_fake_, &outside_stack_, &outside_bytes_);
  }

 private:
  static constexpr std::size_t kBytes = 128 * 1024;

  static void enter(unsigned low, unsigned high) {
    auto* self = reinterpret_cast<Stack*>(static_cast<std::uintptr_t>(high) << 32 | low);
    self->finish_switch(nullptr, &self->outside_stack_, &self->outside_bytes_);
    for (;;) {
      self->fiber_->run();
      self->pause();
    }
  }

  // What AddressSanitizer wants to know of stacks.
  static void start_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* stack,
                           [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake_stack, stack, bytes);
#endif
  }
  static void finish_switch([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** stack,
                            [[maybe_unused]] std::size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, stack, bytes);
#endif
  }

  std::unique_ptr<std::byte[]> memory_;
  std::size_t bytes_;
  Context inside_, outside_;
  Fiber* fiber_ = nullptr;  // that runs on it
  void *inside_fake_ = nullptr, *outside_fake_ = nullptr;
  const void* outside_stack_ = nullptr;
  std::size_t outside_bytes_ = 0;
};

std::vector<std::unique_ptr<Fiber::Stack>>& Fiber::idle() {
  static thread_local std::vector<std::unique_ptr<Stack>> stacks;
  return stacks;
}

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)) {}

Fiber::~Fiber() {
  if (!stack_) return;
  abandoned_ = true;
  resume();
}

void Fiber::resume() {
  if (!stack_) {
    auto& ready = idle();
    if (ready.empty()) ready.push_back(std::make_unique<Stack>());
    stack_ = std::move(ready.back());
    ready.pop_back();
  }
  stack_->resume(*this);
  if (!ended_) return;
  idle().push_back(std::move(stack_));
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void Fiber::pause() {
  stack_->pause();
  if (abandoned_) throw Abandoned{};
}

void Fiber::run() {
  try {
    body_();
  } catch (const Abandoned&) {
  } catch (...) {
    thrown_ = std::current_exception();
  }
  ended_ = true;
}

}  // namespace grapnel::cuda_host
