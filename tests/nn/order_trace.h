// Event traces of module hooks, and the recorded ones of a real PyTorch to compare them with
// (golden/make_hook_order.py).
#pragma once

#include <functional>
#include <sstream>

#include "nn/scenario.h"
#include "nn/small_modules.h"

namespace grapnel::testing {

using nn::HookOptions;
using nn::Module;

inline std::string show(const Tensors& tensors) {
  std::ostringstream out;
  out << '(';
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    out << (i ? "," : "");
    if (tensors[i].defined())
      out << tensors[i].item();
    else
      out << '-';
  }
  out << ')';
  return out.str();
}

using Replace = std::function<Tensors(const Tensors&)>;

inline Replace times(double factor) {
  return [factor](const Tensors& x) { return Tensors{x[0] * factor}; };
}

/// Notes events as the Python script does. Hooks keep a reference to it.
struct Trace {
  std::vector<std::string> lines;

  void note(const std::string& kind, const std::string& name, Module& module, const Tensors& a) {
    lines.push_back(kind + " " + name + " " + dynamic_cast<Labelled&>(module).label + " " + show(a));
  }
  void note(const std::string& kind, const std::string& name, Module& module, const Tensors& a,
            const Tensors& b) {
    note(kind, name, module, a);
    lines.back() += " " + show(b);
  }
  void result(const std::string& name, const Tensors& tensors) {
    lines.push_back(name + " " + show(tensors));
  }

  /// A hook that notes the lists it sees and returns replace(the one it may replace); `then` runs last.
  auto hook(const std::string& kind, const std::string& name, const Replace& replace = nullptr,
            const std::function<void()>& then = nullptr) {
    return [=, this](Module& module, const Tensors& a, const auto&... b) -> std::optional<Tensors> {
      note(kind, name, module, a, b...);
      if (then) then();
      if (!replace) return std::nullopt;
      if (kind == "forward") return std::optional<Tensors>(replace(std::get<0>(std::tie(b..., a))));
      return std::optional<Tensors>(replace(a));
    };
  }

  HookHandle add(Module& module, const std::string& kind, const std::string& name,
                 const Replace& replace = nullptr, HookOptions options = {},
                 const std::function<void()>& then = nullptr) {
    const auto noting = hook(kind, name, replace, then);
    if (kind == "pre") return module.register_forward_pre_hook(noting, options);
    if (kind == "forward") return module.register_forward_hook(noting, options);
    if (kind == "backward_pre") return module.register_full_backward_pre_hook(noting, options);
    return module.register_full_backward_hook(noting, options);
  }

  HookHandle add_global(const std::string& kind, const std::string& name, HookOptions options = {}) {
    const auto noting = hook(kind, name);
    if (kind == "pre") return nn::register_global_forward_pre_hook(noting, options);
    if (kind == "forward") return nn::register_global_forward_hook(noting, options);
    if (kind == "backward_pre") return nn::register_global_full_backward_pre_hook(noting, options);
    return nn::register_global_full_backward_hook(noting, options);
  }
};

inline const std::vector<std::string> kKinds{"pre", "forward", "backward_pre", "backward"};

inline void check(const std::string& scenario, const Trace& trace) {
  CHECK(trace.lines == scenario_lines("hook_order.txt", scenario));
}

}  // namespace grapnel::testing
