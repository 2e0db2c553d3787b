// Which hook fires when, and what it sees: the event traces of a real PyTorch (golden/make_hook_order.py).
#include "grapnel/engine/backward.h"
#include "nn/order_trace.h"

using namespace grapnel;
using namespace grapnel::testing;

TEST_CASE("[hook-93] [hook-106] global before local, parents around children, forward then backward") {
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

TEST_CASE("[hook-91] [hook-92] prepend puts a hook first") {
  Trace trace;
  for (const std::string& kind : kKinds) {
    Scale net("net", 2);
    for (int i = 0; i < 5; ++i)
      trace.add(net, kind, "h" + std::to_string(i), nullptr, {.prepend = i == 1 || i == 4, .name = {}});
    net(leaf(3)).backward();
  }
  check("prepended", trace);

  std::vector<int> order;
  Scale net("net", 2);
  for (int i = 0; i < 5; ++i)
    net.register_forward_hook(
        [&order, i](Module&, const Tensors&, const Tensors&) {
          order.push_back(i);
          return std::nullopt;
        },
        {.prepend = i == 1 || i == 4, .name = {}});
  net(leaf(3));
  CHECK(order == std::vector<int>{4, 1, 0, 2, 3});
}

TEST_CASE("[hook-94] [hook-98] every kind may replace what it sees, and its successor sees the replacement") {
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

TEST_CASE("[hook-97] two calls of one module fire twice, each with its own gradients") {
  Trace trace;
  Scale net("net", 2);
  trace.add(net, "backward_pre", "h");
  trace.add(net, "backward", "h");
  const Tensor x = leaf(3);
  net(net(x)).backward();
  trace.result("x.grad", {x.grad()});
  check("called_twice", trace);
}

TEST_CASE("[hook-97] a retained graph fires at each pass") {
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

TEST_CASE("[hook-100] without an input that needs a gradient the full hook fires at the outputs") {
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

TEST_CASE("[hook-102] several inputs and outputs") {
  Trace trace;
  SumAndProduct net("net");
  for (const std::string& kind : kKinds) trace.add(net, kind, "h");
  const Tensor a = leaf(3), b = leaf(4);
  const Tensors out = net(Tensors{a, b});
  (out[0] * 10 + out[1]).backward();
  trace.result("grads", {a.grad(), b.grad()});
  check("several_tensors", trace);
}

TEST_CASE("[hook-101] an output that nobody used has an unset gradient") {
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

TEST_CASE("[hook-96] hooks that remove themselves all run once") {
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

TEST_CASE("[hook-95] always_call hooks run after a failure, global before local") {
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

TEST_CASE("[hook-95] always_call hooks that ran before a hook failed do not run again") {
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

TEST_CASE("[hook-105] a second derivative does not fire the hooks of the first again") {
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

TEST_CASE("[hook-95] always_call hooks run when a pre-hook throws") {
  Trace trace;
  Scale net("net", 2);
  trace.add(net, "pre", "add1", [](const Tensors& x) { return Tensors{x[0] + 1.0}; });
  trace.add(net, "pre", "fails", nullptr, {}, [] { throw Error("on purpose"); });
  trace.add(net, "pre", "plain_after");
  trace.add(net, "forward", "plain");
  trace.add(net, "forward", "always", nullptr, {.always_call = true, .name = {}});
  try {
    net(leaf(3));
  } catch (const Error&) {
    trace.lines.push_back("error on purpose");
  }
  check("always_called_after_pre_hook", trace);
}

TEST_CASE("[hook-98] the grad_outputs of the full hook are those that the pre-hooks made") {
  Trace trace;
  Scale net("net", 2);
  trace.add(net, "backward", "h");
  trace.add(net, "backward_pre", "times3", times(3));
  trace.add(net, "backward_pre", "times5", times(5));
  const Tensor x = leaf(3);
  net(x).backward();
  trace.result("x.grad", {x.grad()});
  check("grad_outputs_from_pre_hooks", trace);
}

TEST_CASE("[hook-101] what is no tensor keeps an empty slot, in and out, forward and backward") {
  struct Skipping : Labelled {
    using Labelled::Labelled;
    std::string type_name() const override { return "Skipping"; }
    Tensors forward_list(const Tensors& x) override { return {x[0] * x[2], x[1], x[0] + x[2]}; }
  };
  Trace trace;
  Skipping net("net");
  for (const std::string& kind : kKinds) trace.add(net, kind, "h");
  const Tensor a = leaf(3), b = leaf(4);
  const Tensors out = net(Tensors{a, Tensor(), b});
  CHECK_FALSE(out[1].defined());
  (out[2] * 10 + out[0]).backward();
  trace.result("grads", {a.grad(), b.grad()});
  check("empty_slots", trace);
}

TEST_CASE("[hook-102] a module of several operations has the gradients of the whole") {
  struct Polynomial : Labelled {
    using Labelled::Labelled;
    std::string type_name() const override { return "Polynomial"; }
    Tensor forward(const Tensor& x) override { return x * x * x + 2 * x * x + x; }
  };
  Trace trace;
  Polynomial net("net");
  for (const std::string& kind : kKinds) trace.add(net, kind, "h");
  const Tensor x = leaf(3);
  (net(x * 2) * 10).backward();
  trace.result("x.grad", {x.grad()});
  check("several_operations", trace);
}
