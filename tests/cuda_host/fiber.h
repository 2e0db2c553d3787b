// One thread of the modelled GPU: a stack of its own that runs until it has to wait.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace grapnel::cuda_host {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  /// One that is paused is unwound first: what it holds on its stack is given back.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Runs it until it pauses or ends. Called from outside of any fiber.
  void resume();
  /// Back to whoever resumed it. Called from inside.
  void pause();
  bool ended() const { return ended_; }

 private:
  static constexpr std::size_t kStack = 128 * 1024;

  static void enter(unsigned low, unsigned high);
  void switch_to(ucontext_t* from, ucontext_t* to, void** fake_stack, const void* stack, std::size_t size);
  void arrived(void* fake_stack, const void** stack, std::size_t* size);

  std::function<void()> body_;
  std::unique_ptr<std::byte[]> stack_;
  ucontext_t own_{}, outside_{};
  // What AddressSanitizer wants to know of stacks; unused without it.
  void *own_fake_ = nullptr, *outside_fake_ = nullptr;
  const void* outside_stack_ = nullptr;
  std::size_t outside_size_ = 0;
  bool begun_ = false, ended_ = false, abandoned_ = false;
};

}  // namespace grapnel::cuda_host
