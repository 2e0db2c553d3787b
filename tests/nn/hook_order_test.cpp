// Which hook fires when, and what it sees: the event traces of a real PyTorch (golden/make_hook_order.py).
#include <fstream>
#include <functional>
#include <sstream>

#include "grapnel/engine/backward.h"
#include "nn/small_modules.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::HookOptions;
using nn::Module;

namespace {

std::string show(const Tensors& tensors) {
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

Replace times(double factor) {
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

const std::vector<std::string> kKinds{"pre", "forward", "backward_pre", "backward"};

std::vector<std::string> golden(const std::string& scenario) {
  std::ifstream file(GRAPNEL_TEST_DIR "/nn/golden/hook_order.txt");
  std::vector<std::string> lines;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("["))
      inside = line == "[" + scenario + "]";
    else if (inside)
      lines.push_back(line);
  }
  REQUIRE_FALSE(lines.empty());
  return lines;
}

void check(const std::string& scenario, const Trace& trace) {
  CHECK(trace.lines == golden(scenario));
}

}  // namespace

TEST_CASE("hook order: global before local, parents around children, forward then backward") {
  Trace trace;
  auto net = two_scales();
  std::vector<ScopedHook> global;
  for (const std::string& kind : kKinds)
    for (const char* name : {"global1", "global2"}) global.emplace_back(trace.add_global(kind, name));
  for (Module* module : std::initializer_list<Module*>{net.get(), net->first.get(), net->second.get()})
    for (const std::string& kind : kKinds)
      for (const char* name : {"local1", "local2"}) trace.add(*module, kind, name);
  const Tensor x = leaf(3);
  (*net)(x).backward();
  trace.result("x.grad", {x.grad()});
  check("every_kind", trace);
}

TEST_CASE("hook order: prepend puts a hook first") {
  Trace trace;
  for (const std::string& kind : kKinds) {
    Scale net("net", 2);
    for (int i = 0; i < 5; ++i)
      trace.add(net, kind, "h" + std::to_string(i), nullptr, {.prepend = i == 1 || i == 4, .name = {}});
    net(leaf(3)).backward();
  }
  check("prepended", trace);
}

TEST_CASE("hook order: every kind may replace what it sees, and its successor sees the replacement") {
  Trace trace;
  auto net = two_scales();
  Module& first = *net->first;
  trace.add(first, "pre", "add1", [](const Tensors& x) { return Tensors{x[0] + 1.0}; });
  trace.add(first, "pre", "see");
  trace.add(first, "forward", "times10", times(10));
  trace.add(first, "forward", "see");
  trace.add(first, "backward_pre", "times3", times(3));
  trace.add(first, "backward_pre", "see");
  trace.add(first, "backward", "times7", times(7));
  trace.add(first, "backward", "see");
  const Tensor x = leaf(3);
  const Tensor y = (*net)(x);
  trace.result("y", {y});
  y.backward();
  trace.result("x.grad", {x.grad()});
  trace.result("first.weight.grad", {first.parameters()[0].grad()});
  check("replacements", trace);
}

TEST_CASE("hook order: two calls of one module fire twice, each with its own gradients") {
  Trace trace;
  Scale net("net", 2);
  trace.add(net, "backward_pre", "h");
  trace.add(net, "backward", "h");
  const Tensor x = leaf(3);
  net(net(x)).backward();
  trace.result("x.grad", {x.grad()});
  check("called_twice", trace);
}

TEST_CASE("hook order: a retained graph fires at each pass") {
  Trace trace;
  Scale net("net", 2);
  trace.add(net, "backward_pre", "h");
  trace.add(net, "backward", "h");
  const Tensor x = leaf(3);
  const Tensor y = net(x);
  y.backward({}, true);
  y.backward();
  trace.result("x.grad", {x.grad()});
  check("retained", trace);
}

TEST_CASE("hook order: without an input that needs a gradient the full hook fires at the outputs") {
  Trace trace;
  auto net = two_scales();
  for (Module* module : std::initializer_list<Module*>{net.get(), net->first.get(), net->second.get()}) {
    trace.add(*module, "backward_pre", "h");
    trace.add(*module, "backward", "h");
  }
  (*net)(leaf(3, false)).backward();
  trace.result("first.weight.grad", {net->first->parameters()[0].grad()});
  check("no_input_needs_gradient", trace);
}

TEST_CASE("hook order: several inputs and outputs") {
  Trace trace;
  SumAndProduct net("net");
  for (const std::string& kind : kKinds) trace.add(net, kind, "h");
  const Tensor a = leaf(3), b = leaf(4);
  const Tensors out = net(Tensors{a, b});
  (out[0] * 10 + out[1]).backward();
  trace.result("grads", {a.grad(), b.grad()});
  check("several_tensors", trace);
}

TEST_CASE("hook order: an output that nobody used has an unset gradient") {
  Trace trace;
  SumAndProduct net("net");
  trace.add(net, "backward_pre", "h");
  trace.add(net, "backward", "h");
  net(Tensors{leaf(3), leaf(4)})[0].backward();
  check("one_output_unused", trace);
}

TEST_CASE("hook order: tensor hooks inside and outside the module's stages") {
  Trace trace;
  Scale net("net", 2);
  const auto watch = [&trace](const Tensor& tensor, const std::string& name) {
    tensor.register_hook([&trace, name](const Tensor& gradient) {
      trace.lines.push_back("tensor " + name + " " + show({gradient}));
      return std::nullopt;
    });
  };
  trace.add(net, "backward_pre", "times3", times(3));
  trace.add(net, "backward", "times7", times(7));
  net.register_forward_hook([&](Module&, const Tensors& inputs, const Tensors& outputs) {
    watch(inputs[0], "input_inside");
    watch(outputs[0], "output_inside");
    return std::nullopt;
  });
  const Tensor x = leaf(3);
  watch(x, "input_outside");
  const Tensor y = net(x);
  watch(y, "output_outside");
  y.backward();
  check("tensor_hooks_around", trace);
}

TEST_CASE("hook order: hooks that remove themselves all run once") {
  Trace trace;
  Scale net("net", 2);
  std::vector<HookHandle> handles(12);
  std::size_t next = 0;
  for (const std::string& kind : kKinds)
    for (int i = 0; i < 3; ++i, ++next)
      handles[next] = trace.add(net, kind, "h" + std::to_string(i), nullptr, {},
                                [&handle = handles[next]] { handle.remove(); });
  for (int run = 0; run < 2; ++run) {
    net(leaf(3)).backward();
    trace.lines.push_back("end");
  }
  check("removing_themselves", trace);
}

TEST_CASE("hook order: what a hook registers joins the lists that have not started") {
  Trace trace;
  Scale net("net", 2);
  HookHandle handle = trace.add(net, "pre", "h", nullptr, {}, [&] {
    for (const char* kind : {"pre", "forward", "backward"}) trace.add(net, kind, "late");
  });
  net(leaf(3)).backward();
  trace.lines.push_back("end");
  handle.remove();
  net(leaf(3)).backward();
  check("registered_meanwhile", trace);
}

TEST_CASE("hook order: always_call hooks run after a failure, global before local") {
  Trace trace;
  Failing net("net");
  std::vector<ScopedHook> global;
  for (const bool always : {false, true}) {
    const std::string name = always ? "always" : "plain";
    global.emplace_back(trace.add_global("forward", "global_" + name, {.always_call = always, .name = {}}));
    trace.add(net, "forward", "local_" + name, nullptr, {.always_call = always, .name = {}});
  }
  try {
    net(leaf(3));
  } catch (const Error& error) {
    trace.lines.push_back(std::string("error ") + error.what());
  }
  check("always_called", trace);
}

TEST_CASE("hook order: always_call hooks that ran before a hook failed do not run again") {
  Trace trace;
  Scale net("net", 2);
  trace.add(net, "forward", "before", nullptr, {.always_call = true, .name = {}});
  trace.add(net, "forward", "fails", nullptr, {}, [] { throw Error("on purpose"); });
  trace.add(net, "forward", "plain_after");
  trace.add(net, "forward", "always_after", nullptr, {.always_call = true, .name = {}});
  try {
    net(leaf(3));
  } catch (const Error&) {
    trace.lines.push_back("error");
  }
  check("always_called_once", trace);
}

TEST_CASE("hook order: a second derivative does not fire the hooks of the first again") {
  Trace trace;
  Cube net("net");
  trace.add(net, "backward_pre", "h");
  trace.add(net, "backward", "h");
  const Tensor x = leaf(3);
  const Tensors first = grad({net(x)}, {x}, {}, {.create_graph = true});
  trace.lines.push_back("end");
  first[0].backward();
  trace.result("x.grad", {x.grad()});
  check("second_derivative", trace);
}
