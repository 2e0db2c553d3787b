// Hooks around views that are changed in place: the events and their values are PyTorch's, in its order
// (../golden/make_view_trace.py).
#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "grapnel/engine/multi_grad_hook.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "support/golden.h"

using namespace grapnel;

namespace {

struct Trace {
  std::vector<std::string> lines;

  void note(const std::string& hook, const std::string& where, const Tensors& gradients) {
    std::ostringstream line;
    line << hook << ' ' << where;
    for (const Tensor& gradient : gradients) {
      char before = ' ';
      if (!gradient.defined()) line << " -";
      if (gradient.defined())
        for (const float value : gradient.to_vector<float>()) line << std::exchange(before, ',') << value;
    }
    lines.push_back(line.str());
  }

  void watch(const std::string& where, const Tensor& tensor) {
    tensor.register_hook([this, where](const Tensor& gradient) -> std::optional<Tensor> {
      note("tensor", where, {gradient});
      return std::nullopt;
    });
  }

  void watch_leaf(const std::string& where, const Tensor& leaf) {
    watch(where, leaf);
    leaf.register_post_accumulate_grad_hook(
        [this, where](Tensor& tensor) { note("accumulated", where, {tensor.grad()}); });
  }

  void watch_node(const std::string& where, Node& node) {
    node.register_prehook([this, where](const Tensors& outputs) -> std::optional<Tensors> {
      note("node_pre", where, outputs);
      return std::nullopt;
    });
    node.register_hook([this, where](const Tensors&, const Tensors& outputs) -> std::optional<Tensors> {
      note("node", where, outputs);
      return std::nullopt;
    });
  }
};

}  // namespace

TEST_CASE("view trace: hooks before and after in-place changes of views fire in PyTorch's order") {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4}, {4}).set_requires_grad();
  const Tensor w = Tensor::from<float>({5, 7}, {2}).set_requires_grad();
  Trace trace;
  trace.watch_leaf("x", x);
  trace.watch_leaf("w", w);
  const Tensor base = x * 2.0;
  trace.watch("base_before", base);
  base.retain_grad();
  const Tensor view = narrow(base, 0, 1, 2);
  trace.watch("view_before", view);
  mul_(view, w);
  trace.watch("view_after", view);
  trace.watch("base_after", base);
  const Tensor sibling = narrow(base, 0, 2, 2);
  trace.watch("sibling", sibling);
  trace.watch_node("sibling", *sibling.grad_fn());
  register_all_grads_hook({sibling, w},
                          [&](const Tensors& gradients) { trace.note("all", "sibling_w", gradients); });
  const Tensor out = sum(sibling * Tensor::from<float>({1, 10}, {2})) + sum(base * base);
  trace.watch("out", out);
  for (int k = 0; k < 2; ++k) {
    trace.lines.push_back("pass " + std::to_string(k));
    out.backward({}, true);
  }
  trace.note("grad", "base", {base.grad()});
  trace.lines.push_back("through the view");
  sum(view).backward();
  trace.note("grad", "x", {x.grad()});
  trace.note("grad", "w", {w.grad()});

  const std::vector<std::string> expected = testing::read_lines("view_trace.txt");
  for (std::size_t i = 0; i < std::max(expected.size(), trace.lines.size()); ++i) {
    CAPTURE(i);
    CHECK_EQ(i < trace.lines.size() ? trace.lines[i] : "missing",
             i < expected.size() ? expected[i] : "too many");
  }
}
