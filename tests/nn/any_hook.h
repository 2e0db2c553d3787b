// Hooks of any kind for tests.
#pragma once

#include "nn/small_modules.h"

namespace grapnel::testing {

/// A hook of any kind that counts its calls.
inline auto counting(int& calls) {
  return [&calls](nn::Module&, const auto&...) {
    ++calls;
    return std::nullopt;
  };
}

/// A hook of any kind that returns `tensors`.
inline auto returning(Tensors tensors) {
  return [=](nn::Module&, const auto&...) { return std::optional(tensors); };
}

/// A hook of any kind that throws `error`.
template <class E>
auto throwing(E error) {
  return [=](nn::Module&, const auto&...) -> std::optional<Tensors> { throw error; };
}

/// Registers the same hook as each of the four kinds.
template <class Hook>
std::vector<HookHandle> register_all(nn::Module& module, const Hook& hook) {
  return {module.register_forward_pre_hook(hook), module.register_forward_hook(hook),
          module.register_full_backward_pre_hook(hook), module.register_full_backward_hook(hook)};
}

/// The message of the exception of class E that f throws.
template <class E, class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  FAIL("no exception of the expected class");
  return {};
}

}  // namespace grapnel::testing
