// One thread of the modelled GPU: a stack of its own that runs until it has to wait.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <vector>

namespace grapnel::cuda_host {

/// Stays on the host thread that resumes it first.
class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  /// One that is paused is unwound first: what it holds on its stack is given back.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Runs it until it pauses or ends. Called from outside of any fiber. Throws what `body` throws.
  void resume();
  /// Back to whoever resumed it. Called from inside.
  void pause();
  bool ended() const { return ended_; }

 private:
  class Stack;
  /// What the host thread has ready: one that has ended leaves its stack to the next.
  static std::vector<std::unique_ptr<Stack>>& idle();
  void run();

  std::function<void()> body_;
  std::unique_ptr<Stack> stack_;  // from the first resume until it ends
  std::exception_ptr thrown_;
  bool ended_ = false, abandoned_ = false;
};

}  // namespace grapnel::cuda_host
