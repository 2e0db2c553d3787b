// The traversal: which nodes run, in which order, and where each hook fires.
//
// A node runs when all gradients of its outputs have arrived; among the ready ones the latest recorded goes
// first. At one node: (1) tensor hooks of each output, (2) retain_grad stores, (3) node pre-hooks, (4) the
// node itself (a leaf: accumulate, then post-accumulate hooks), (5) node post-hooks. Nothing here recurses.
#include "grapnel/engine/backward.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/function_node.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

/// Whether the memory is dense and nobody else can see it, so that it may be added into.
bool solely_owned(const Tensor& x) {
  return x.impl().use_count() == 1 && x.storage().use_count() == 1 && x.numel() > 1 &&
         (x.is_contiguous() || x.is_contiguous(MemoryFormat::channels_last));
}

/// slot += gradient, never changing a tensor that anybody else holds.
void accumulate(Tensor& slot, Tensor gradient) {
  if (!gradient.defined()) return;
  if (!slot.defined())
    slot = std::move(gradient);
  else if (!grad_enabled() && solely_owned(slot))
    add_(slot, gradient);
  else if (!grad_enabled() && solely_owned(gradient))
    slot = add_(gradient, slot);
  else
    slot = slot + gradient;
}

/// Makes a gradient fit the output it belongs to: sums what was broadcast, converts the type back.
Tensor fit(const Node& from, std::size_t input, Tensor gradient, const OutputInfo& info) {
  if (!gradient.defined()) return gradient;
  if (gradient.shape() != info.shape) {
    if (!broadcasts_to(info.shape, gradient.shape()))
      throw ShapeError(std::string(from.name()) + ": its backward gave a gradient of shape " +
                       to_string(gradient.shape()) + " for input " + std::to_string(input) +
                       ", expected shape " + to_string(info.shape));
    gradient = sum_to(gradient, info.shape);
  }
  return gradient.to(info.dtype);
}

/// A hook's replacement must look like what it replaces.
void check_replacement(const Tensor& before, const Tensor& after, const std::string& hook, const char* node) {
  const auto who = [&] {
    return "a hook" + (hook.empty() ? "" : " \"" + hook + "\"") + " on the output of " + node;
  };
  if (!after.defined() && before.defined())
    throw AutogradError(who() + " replaced a gradient by nothing; return std::nullopt to leave it as it is");
  if (before.defined() && after.shape() != before.shape())
    throw ShapeError(who() + " changed the gradient's shape from " + to_string(before.shape()) + " to " +
                     to_string(after.shape()));
  if (before.defined() && after.dtype() != before.dtype())
    throw TypeError(who() + " changed the gradient's type from " + std::string(name(before.dtype())) +
                    " to " + std::string(name(after.dtype())));
}

/// Runs a node's pre- or post-hooks over the tuple they may replace.
template <class List, class Call>
void run_tuple_hooks(const List& list, Tensors& values, const char* node, const Call& call) {
  for (const auto& hook : list.snapshot()) {
    if (hook->removed) continue;
    std::optional<Tensors> replaced = call(hook->function);
    if (!replaced) continue;
    if (replaced->size() != values.size())
      throw AutogradError("a node hook on " + std::string(node) + " returned " +
                          std::to_string(replaced->size()) + " gradients, expected " +
                          std::to_string(values.size()));
    values = std::move(*replaced);
  }
}

/// What the caller wants of one node when only a part of the graph is asked for.
struct Target {
  struct Capture {
    std::size_t output;
    Tensor* destination;
  };
  std::vector<Capture> captures;  // gradients to put somewhere as they pass
  bool runs = false;              // run the node too: a leaf that accumulates
};
using Targets = std::unordered_map<Node*, Target>;

/// What hooks keep for the length of the innermost pass on this thread (pass_local).
using PassLocals = std::unordered_map<const void*, std::shared_ptr<void>>;
thread_local PassLocals* current_locals = nullptr;

class PassLocalsScope {
 public:
  PassLocalsScope() : former_(std::exchange(current_locals, &locals_)) {}
  ~PassLocalsScope() { current_locals = former_; }
  PassLocalsScope(const PassLocalsScope&) = delete;
  PassLocalsScope& operator=(const PassLocalsScope&) = delete;

 private:
  PassLocals locals_;
  PassLocals* former_;
};

class Pass {
 public:
  /// No targets: the whole graph runs.
  Pass(bool keep_graph, Targets targets) : keep_graph_(keep_graph), targets_(std::move(targets)) {}

  void run(const std::vector<Edge>& roots, Tensors gradients) {
    PassLocalsScope locals;
    count_dependencies(roots);
    for (std::size_t i = 0; i < roots.size(); ++i)
      if (roots[i].node) accumulate(slot(roots[i]), std::move(gradients[i]));
    for (const Edge& root : roots)
      if (root.node && states_[root.node.get()].waiting == 0) make_ready(root.node);
    while (!ready_.empty()) {
      std::shared_ptr<Node> node = ready_.top();
      ready_.pop();
      run_node(*node);
    }
  }

 private:
  struct State {
    std::size_t waiting = 0;  // edges that have yet to deliver
    bool needed = true;       // runs: leads to a target, or everything is wanted
    bool queued = false;
    Tensors gradients;
  };

  struct Later {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const {
      return a->sequence() < b->sequence();
    }
  };

  Tensor& slot(const Edge& edge) {
    Tensors& gradients = states_[edge.node.get()].gradients;
    if (gradients.empty()) gradients.resize(edge.node->outputs().size());
    return gradients[edge.output];
  }

  void make_ready(const std::shared_ptr<Node>& node) {
    if (std::exchange(states_[node.get()].queued, true)) return;
    ready_.push(node);
  }

  /// Visits everything reachable; if there are targets, also marks what leads to one.
  void count_dependencies(const std::vector<Edge>& roots) {
    struct Visit {
      Node* node;
      std::size_t next;
    };
    std::vector<Visit> stack;
    const auto enter = [&](Node* node) {
      if (!states_.try_emplace(node).second) return;
      const auto target = targets_.find(node);
      states_[node].needed = targets_.empty() || (target != targets_.end() && target->second.runs);
      stack.push_back({node, 0});
    };
    for (const Edge& root : roots) {
      if (root.node) enter(root.node.get());
      while (!stack.empty()) {
        Visit& visit = stack.back();
        const std::vector<Edge>& edges = visit.node->next_edges();
        if (visit.next < edges.size()) {
          Node* child = edges[visit.next++].node.get();
          if (!child) continue;
          enter(child);
          ++states_[child].waiting;
        } else {
          bool& needed = states_[visit.node].needed;
          for (const Edge& edge : edges)
            if (edge.node) needed |= states_[edge.node.get()].needed || targets_.count(edge.node.get()) > 0;
          stack.pop_back();
        }
      }
    }
  }

  void run_node(Node& node) {
    State& state = states_[&node];
    Tensors gradients = std::move(state.gradients);
    gradients.resize(node.outputs().size());
    const bool needed = state.needed;
    const auto target = targets_.find(&node);
    if (needed || target != targets_.end()) run_tensor_hooks(node, gradients);
    if (target != targets_.end())
      for (const auto& capture : target->second.captures) *capture.destination = gradients[capture.output];

    Tensors results;
    if (needed &&
        std::any_of(gradients.begin(), gradients.end(), [](const Tensor& g) { return g.defined(); })) {
      run_tuple_hooks(node.prehooks, gradients, node.name(), [&](auto& hook) { return hook(gradients); });
      // Post-hooks see the gradients that went in; only then is a second reference kept, for it forbids reuse
      // of memory.
      const Tensors seen = node.hooks.empty() ? Tensors{} : gradients;
      results = node.apply(std::move(gradients));
      if (results.size() != node.next_edges().size())
        throw AutogradError(std::string(node.name()) + ": its backward gave " +
                            std::to_string(results.size()) + " gradients for " +
                            std::to_string(node.next_edges().size()) + " inputs");
      run_tuple_hooks(node.hooks, results, node.name(), [&](auto& hook) { return hook(results, seen); });
      if (!keep_graph_) node.release_saved();
    }
    deliver(node, std::move(results));
  }

  void run_tensor_hooks(Node& node, Tensors& gradients) {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const HookList<TensorHook>* hooks = node.tensor_hooks(i);
      if (!hooks || !gradients[i].defined()) continue;
      for (const auto& hook : hooks->snapshot()) {
        if (hook->removed) continue;
        std::optional<Tensor> replaced = hook->function(gradients[i]);
        if (!replaced) continue;
        check_replacement(gradients[i], *replaced, hook->name, node.name());
        gradients[i] = std::move(*replaced);
      }
    }
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      Node::OutputHooks* hooks = node.find_output_hooks(i);
      auto target = hooks ? hooks->retain.lock() : nullptr;
      if (!target || !gradients[i].defined()) continue;
      Tensor& grad = target->meta().grad;
      grad = grad.defined() ? grad + gradients[i] : gradients[i];
    }
  }

  void deliver(const Node& node, Tensors results) {
    const std::vector<Edge>& edges = node.next_edges();
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (!edges[i].node) continue;
      State& next = states_[edges[i].node.get()];
      if (i < results.size() && (next.needed || targets_.count(edges[i].node.get())))
        accumulate(slot(edges[i]),
                   fit(node, i, std::move(results[i]), edges[i].node->outputs()[edges[i].output]));
      if (--next.waiting == 0) make_ready(edges[i].node);
    }
  }

  bool keep_graph_;
  Targets targets_;
  std::unordered_map<Node*, State> states_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, Later> ready_;
};

/// The gradients the pass starts with. Throws before anything ran.
Tensors root_gradients(const char* operation, const Tensors& outputs, const Tensors& gradients) {
  if (!gradients.empty() && gradients.size() != outputs.size())
    throw AutogradError(std::string(operation) + ": " + std::to_string(gradients.size()) + " gradients for " +
                        std::to_string(outputs.size()) + " outputs");
  Tensors result;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& output = outputs[i];
    if (!output.requires_grad())
      throw AutogradError(std::string(operation) + ": output " + std::to_string(i) + " of shape " +
                          to_string(output.shape()) + " does not require a gradient and has no history");
    Tensor gradient = i < gradients.size() ? gradients[i] : Tensor();
    if (!gradient.defined()) {
      if (output.numel() != 1)
        throw AutogradError(std::string(operation) + ": output " + std::to_string(i) + " has shape " +
                            to_string(output.shape()) +
                            "; give its gradient, or reduce it to one element first");
      gradient = Tensor::ones(output.shape(), output.dtype());
    } else if (gradient.shape() != output.shape()) {
      throw ShapeError(std::string(operation) + ": the gradient of output " + std::to_string(i) +
                       " has shape " + to_string(gradient.shape()) + ", the output " +
                       to_string(output.shape()));
    }
    check_same_type(operation, output, gradient);
    result.push_back(std::move(gradient));
  }
  return result;
}

}  // namespace

std::shared_ptr<void>& pass_local(const void* key) {
  if (!current_locals) throw AutogradError("pass_local: no backward pass is running on this thread");
  return (*current_locals)[key];
}

void backward(const Tensors& outputs, const Tensors& gradients, const BackwardOptions& options) {
  Tensors starts = root_gradients("backward", outputs, gradients);
  const std::vector<Edge> wanted = gradient_edges(options.inputs);
  Targets targets;
  Tensors captured(options.inputs.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i].node)
      throw AutogradError("backward: input " + std::to_string(i) + " does not require a gradient");
    Target& target = targets[wanted[i].node.get()];
    if (options.inputs[i].is_leaf())
      target.runs = true;
    else
      target.captures.push_back({wanted[i].output, &captured[i]});
  }
  GradMode mode(options.create_graph);
  Pass(options.retain_graph || options.create_graph, std::move(targets))
      .run(gradient_edges(outputs), std::move(starts));
  for (std::size_t i = 0; i < captured.size(); ++i) {
    const Tensor& input = options.inputs[i];
    if (captured[i].defined() && !input.retains_grad())
      input.set_grad(input.grad().defined() ? input.grad() + captured[i] : captured[i]);
  }
}

Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& gradients,
             const GradOptions& options) {
  if (inputs.empty()) throw AutogradError("grad: no inputs given");
  Tensors starts = root_gradients("grad", outputs, gradients);
  const std::vector<Edge> wanted = gradient_edges(inputs);
  Targets targets;
  Tensors result(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (wanted[i].node)
      targets[wanted[i].node.get()].captures.push_back({wanted[i].output, &result[i]});
    else if (!options.allow_unused)
      throw AutogradError("grad: input " + std::to_string(i) + " of shape " + to_string(inputs[i].shape()) +
                          " does not require a gradient");
  }
  {
    GradMode mode(options.create_graph);
    Pass(options.retain_graph || options.create_graph, std::move(targets))
        .run(gradient_edges(outputs), std::move(starts));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!result[i].defined() && !options.allow_unused)
      throw AutogradError("grad: the outputs do not depend on input " + std::to_string(i) + " of shape " +
                          to_string(inputs[i].shape()) + "; pass allow_unused to get an unset tensor for it");
  return result;
}

}  // namespace grapnel
