#include "cuda_host/fiber.h"

#include <cstdint>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace grapnel::cuda_host {
namespace {

/// Thrown where an abandoned fiber paused.
struct Abandoned {};

}  // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)), stack_(new std::byte[kStack]) {
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_.get();
  own_.uc_stack.ss_size = kStack;
  const auto self = reinterpret_cast<std::uintptr_t>(this);  // makecontext passes ints
  makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::enter), 2, static_cast<unsigned>(self),
              static_cast<unsigned>(self >> 32));
}

Fiber::~Fiber() {
  if (!begun_ || ended_) return;
  abandoned_ = true;
  resume();
}

void Fiber::resume() {
  begun_ = true;
  switch_to(&outside_, &own_, &outside_fake_, stack_.get(), kStack);
  arrived(outside_fake_, nullptr, nullptr);
}

void Fiber::pause() {
  switch_to(&own_, &outside_, &own_fake_, outside_stack_, outside_size_);
  arrived(own_fake_, &outside_stack_, &outside_size_);
  if (abandoned_) throw Abandoned{};
}

void Fiber::enter(unsigned low, unsigned high) {
  auto* self = reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(high) << 32 | low);
  self->arrived(nullptr, &self->outside_stack_, &self->outside_size_);
  try {
    self->body_();
  } catch (const Abandoned&) {
  }
  self->ended_ = true;
  self->switch_to(&self->own_, &self->outside_, nullptr, self->outside_stack_, self->outside_size_);
}

void Fiber::switch_to(ucontext_t* from, ucontext_t* to, [[maybe_unused]] void** fake_stack,
                      [[maybe_unused]] const void* stack, [[maybe_unused]] std::size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, stack, size);
#endif
  swapcontext(from, to);
}

void Fiber::arrived([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** stack,
                    [[maybe_unused]] std::size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, stack, size);
#endif
}

}  // namespace grapnel::cuda_host
