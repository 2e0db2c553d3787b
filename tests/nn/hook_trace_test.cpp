// Every kind of hook at once, in one backward pass over a net that branches, joins and calls one module
// twice: the events and their values are PyTorch's, in its order (../golden/make_hook_trace.py).
#include <sstream>
#include <string>
#include <vector>

#include "grapnel/engine/node.h"
#include "nn/small_modules.h"
#include "support/golden.h"

using namespace grapnel;
using grapnel::testing::Labelled;
using grapnel::testing::Scale;
using nn::Module;

namespace {

std::string show(const Tensors& tensors) {
  std::ostringstream out;
  for (const Tensor& tensor : tensors) {
    out << (out.tellp() > 0 ? "," : "");
    if (tensor.defined())
      out << tensor.item();
    else
      out << '-';
  }
  return "(" + out.str() + ")";
}

/// The events so far, and the hooks that write them.
struct Trace {
  std::vector<std::string> lines;

  void note(const std::string& hook, const std::string& where, const Tensors& a) {
    lines.push_back(hook + " " + where + " " + show(a));
  }
  void note(const std::string& hook, const std::string& where, const Tensors& a, const Tensors& b) {
    note(hook, where, a);
    lines.back() += " " + show(b);
  }

  /// For any kind of module hook: one list or two.
  auto module_hook(const std::string& hook) {
    return [this, hook](Module& module, const auto&... lists) -> std::optional<Tensors> {
      note(hook, dynamic_cast<Labelled&>(module).label, lists...);
      return std::nullopt;
    };
  }

  void watch_tensor(const std::string& name, const Tensor& tensor) {
    tensor.register_hook([this, name](const Tensor& gradient) -> std::optional<Tensor> {
      note("tensor", name, {gradient});
      return std::nullopt;
    });
  }

  void watch_node(const std::string& name, Node& node, bool accumulates = false) {
    node.register_prehook([this, name](const Tensors& outputs) -> std::optional<Tensors> {
      note("node_pre", name, outputs);
      return std::nullopt;
    });
    node.register_hook([=, this](const Tensors& inputs, const Tensors& outputs) -> std::optional<Tensors> {
      if (accumulates)
        note("node", name, outputs);
      else
        note("node", name, inputs, outputs);
      return std::nullopt;
    });
  }

  std::shared_ptr<Node> watch_leaf(const std::string& name, const Tensor& leaf) {
    watch_tensor(name, leaf);
    leaf.register_post_accumulate_grad_hook(
        [this, name](Tensor& tensor) { note("post_accumulate", name, {tensor.grad()}); });
    const auto node = gradient_edge(leaf).node;
    watch_node(name, *node, true);
    return node;
  }

  void watch_module(Module& module) {
    module.register_forward_pre_hook(module_hook("pre"));
    module.register_forward_hook(module_hook("forward"));
    module.register_full_backward_pre_hook(module_hook("backward_pre"));
    module.register_full_backward_hook(module_hook("backward"));
  }
};

struct Net : Labelled {
  explicit Net(Trace& trace_of_tensors) : Labelled("net"), trace(trace_of_tensors) {
    stem = register_module("stem", std::make_shared<Scale>("stem", 2));
    shared = register_module("shared", std::make_shared<Scale>("shared", 3));
    head = register_module("head", std::make_shared<Scale>("head", 5));
  }
  std::string type_name() const override { return "Net"; }

  Trace& trace;
  std::shared_ptr<Scale> stem, shared, head;
  std::vector<std::pair<std::string, Tensor>> kept;

 protected:
  Tensor forward(const Tensor& x) override {
    const Tensor a = (*stem)(x), b = (*shared)(a), c = (*shared)(b), d = a * b, e = c + d;
    for (const auto& [name, tensor] : nn::NamedTensors{{"a", a}, {"b", b}, {"c", c}, {"d", d}, {"e", e}}) {
      trace.watch_tensor(name, tensor);
      trace.watch_node(name, *tensor.grad_fn());
    }
    a.retain_grad();
    d.retain_grad();
    kept = {{"a", a}, {"d", d}};
    return (*head)(e);
  }
};

}  // namespace

TEST_CASE("[hook-93] [hook-106] every kind of hook in one pass fires in PyTorch's order") {
  Trace trace;
  const auto net = std::make_shared<Net>(trace);
  const ScopedHook global[] = {
      nn::register_global_forward_pre_hook(trace.module_hook("global_pre")),
      nn::register_global_forward_hook(trace.module_hook("global_forward")),
      nn::register_global_full_backward_pre_hook(trace.module_hook("global_backward_pre")),
      nn::register_global_full_backward_hook(trace.module_hook("global_backward"))};
  for (const auto& [path, module] : net->named_modules()) trace.watch_module(*module);

  const Tensor x = testing::leaf(7);
  nn::NamedTensors leaves{{"x", x}};
  for (const auto& parameter : net->named_parameters()) leaves.push_back(parameter);
  std::vector<std::shared_ptr<Node>> accumulators;  // alive only while somebody holds them
  for (const auto& [name, leaf] : leaves) accumulators.push_back(trace.watch_leaf(name, leaf));

  const Tensor y = (*net)(x);
  trace.lines.push_back("backward pass");
  y.backward();
  for (const auto& list : {net->kept, leaves})
    for (const auto& [name, tensor] : list) trace.note("grad", name, {tensor.grad()});

  const auto expected = testing::read_lines("hook_trace.txt");
  REQUIRE(expected.size() == trace.lines.size());
  for (std::size_t i = 0; i < trace.lines.size(); ++i) {
    CAPTURE(i);
    CHECK(trace.lines[i] == expected[i]);
  }
}
