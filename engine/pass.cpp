// The traversal: which nodes run, in which order, and where each hook fires.
//
// A node runs when all gradients of its outputs have arrived; among the ready ones the latest recorded goes
// first. At one node: (1) tensor hooks of each output, (2) retain_grad stores, (3) node pre-hooks, (4) the
// node itself (a leaf: accumulate, then post-accumulate hooks), (5) node post-hooks. Nothing here recurses.
#include "grapnel/engine/pass.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/tensor_impl.h"
#include "grapnel/engine/thread_modes.h"

namespace grapnel {
namespace {

/// Whether the memory is filled, dense and nobody else can see it, so that it may be added into.
bool solely_owned(const Tensor& x) {
  return x.impl().use_count() == 1 && !x.storage()->recipe() && x.storage().use_count() == 1 &&
         x.numel() > 1 && (x.is_contiguous() || x.is_contiguous(MemoryFormat::channels_last));
}

/// slot += gradient, never changing a tensor that anybody else holds.
void accumulate(Tensor& slot, Tensor gradient) {
  if (!gradient.defined()) return;
  if (!slot.defined())
    slot = std::move(gradient);
  else if (!grad_enabled() && solely_owned(slot) && !gradient.storage()->recipe())
    add_(slot, gradient);
  else if (!grad_enabled() && solely_owned(gradient) && !slot.storage()->recipe())
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
  return gradient.dtype() == info.dtype ? gradient : gradient.to(info.dtype);
}

/// A hook's replacement must look like what it replaces.
void check_replacement(const Tensor& before, const Tensor& after) {
  if (!before.defined() && after.defined())
    throw AutogradError("it gave a gradient where there is none: this output was not used");
  if (!after.defined() && before.defined())
    throw AutogradError("it replaced a gradient by nothing; return std::nullopt to leave it as it is");
  if (before.defined() && after.shape() != before.shape())
    throw ShapeError("it changed the gradient's shape from " + to_string(before.shape()) + " to " +
                     to_string(after.shape()));
  if (before.defined() && after.dtype() != before.dtype())
    throw TypeError("it changed the gradient's type from " + std::string(name(before.dtype())) + " to " +
                    std::string(name(after.dtype())));
}

/// Runs a node's pre- or post-hooks over the tuple they may replace.
template <class List, class Call>
void run_tuple_hooks(const char* kind, const List& list, Tensors& values, const char* node,
                     const Call& call) {
  for (const auto& hook : list.snapshot())
    hook->run(kind, node, [&](const auto& function) {
      std::optional<Tensors> replaced = call(function);
      if (!replaced) return;
      if (replaced->size() != values.size())
        throw AutogradError("it returned " + std::to_string(replaced->size()) + " gradients, expected " +
                            std::to_string(values.size()));
      values = std::move(*replaced);
    });
}

bool any_defined(const Tensors& tensors) {
  return std::any_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return t.defined(); });
}

void check_for_nan(const Node& node, const Tensors& gradients) {
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) continue;
    const std::vector<double> values = gradients[i].to_vector<double>();
    if (std::any_of(values.begin(), values.end(), [](double value) { return std::isnan(value); }))
      throw AutogradError(std::string(node.name()) + ": its backward gave a NaN for input " +
                          std::to_string(i) + " of shape " + to_string(gradients[i].shape()) + "; this " +
                          node.name() + " made an output of shape " + to_string(node.outputs()[0].shape) +
                          " as recorded operation number " + std::to_string(node.sequence()));
  }
}

thread_local Pass* current_pass = nullptr;  // the innermost on this thread

Pass& running_pass(const char* operation) {
  if (!current_pass)
    throw AutogradError(std::string(operation) + ": no backward pass is running on this thread");
  return *current_pass;
}

}  // namespace

std::shared_ptr<void>& pass_local(const void* key) {
  return running_pass("pass_local").local(key);
}

bool pass_visits(const Node& node) {
  return running_pass("pass_visits").visits(node);
}

Pass::Pass(bool keep_graph, Targets targets)
    : keep_graph_(keep_graph), targets_(std::move(targets)), outer_(std::exchange(current_pass, this)) {}

Pass::~Pass() {
  current_pass = outer_;
}

void Pass::run(const PoolVector<Edge>& roots, Tensors gradients) {
  count_dependencies(roots);
  for (std::size_t i = 0; i < roots.size(); ++i)
    if (roots[i].node)
      accumulate(slot(*states_.find(roots[i].node.get()), roots[i]), std::move(gradients[i]));
  for (const Edge& root : roots)
    if (root.node) make_ready_if_complete(*states_.find(root.node.get()));
  while (!ready_.empty()) {
    State& state = *ready_.top().state;
    ready_.pop();
    run_node(*state.node, state);
  }
}

bool Pass::visits(const Node& node) const {
  const State* state = states_.find(&node);
  return state && (state->needed || state->target);
}

Tensor& Pass::slot(State& state, const Edge& edge) {
  if (state.gradients.empty()) state.gradients.resize(edge.node->outputs().size());
  return state.gradients[edge.output];
}

void Pass::make_ready_if_complete(State& state) {
  if (state.waiting == 0 && !std::exchange(state.queued, true)) ready_.push({state.node->sequence(), &state});
}

void Pass::count_dependencies(const PoolVector<Edge>& roots) {
  struct Visit {
    std::size_t state, next;
  };
  PoolVector<Visit> stack;
  const auto enter = [&](Node* node) {
    const auto [index, is_new] = states_.insert(node);
    if (is_new) {
      if (!targets_.empty()) {
        const auto found = targets_.find(node);
        if (found != targets_.end()) states_[index].target = &found->second;
        states_[index].needed = found != targets_.end() && found->second.runs;
      }
      stack.push_back({index, 0});
    }
    return index;
  };
  for (const Edge& root : roots) {
    if (root.node) enter(root.node.get());
    while (!stack.empty()) {
      Visit& visit = stack.back();
      const PoolVector<Edge>& edges = states_[visit.state].node->next_edges();
      if (visit.next < edges.size()) {
        Node* child = edges[visit.next++].node.get();
        if (child) ++states_[enter(child)].waiting;
      } else {
        if (!targets_.empty()) mark_if_needed(states_[visit.state]);
        stack.pop_back();
      }
    }
  }
}

void Pass::mark_if_needed(State& state) {
  for (const Edge& edge : state.node->next_edges())
    if (edge.node) {
      const State& next = *states_.find(edge.node.get());
      state.needed |= next.needed || next.target;
    }
}

void Pass::run_node(Node& node, State& state) {
  Tensors gradients = std::move(state.gradients);
  gradients.resize(node.outputs().size());
  if (state.needed || state.target) run_tensor_hooks(node, gradients);
  if (state.target)
    for (const auto& capture : state.target->captures) *capture.destination = gradients[capture.output];
  deliver(node, state.needed ? apply(node, std::move(gradients)) : Tensors());
}

Tensors Pass::apply(Node& node, Tensors gradients) {
  const Node::Hooks* hooks = node.find_hooks();
  if (hooks)
    run_tuple_hooks("node pre-hook", hooks->before, gradients, node.name(),
                    [&](auto& hook) { return hook(gradients); });
  // Post-hooks see the gradients that went in; only then is a second reference kept, for it forbids reuse
  // of memory.
  const Tensors seen = hooks && !hooks->after.empty() ? gradients : Tensors();
  Tensors results;
  if (any_defined(gradients)) {
    results = node.apply(std::move(gradients));
    if (results.size() != node.next_edges().size())
      throw AutogradError(std::string(node.name()) + ": its backward gave " + std::to_string(results.size()) +
                          " gradients for " + std::to_string(node.next_edges().size()) + " inputs");
    if (thread_modes().anomaly) check_for_nan(node, results);
    if (!keep_graph_) node.release_saved();
  } else {
    results.resize(node.next_edges().size());
  }
  if (!seen.empty())
    run_tuple_hooks("node post-hook", hooks->after, results, node.name(),
                    [&](auto& hook) { return hook(results, seen); });
  return results;
}

void Pass::run_tensor_hooks(Node& node, Tensors& gradients) {
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const HookList<TensorHook>* hooks = node.tensor_hooks(i);
    if (!hooks) continue;
    for (const auto& hook : hooks->snapshot())
      hook->run("tensor hook", node.name(), [&](const TensorHook& function) {
        std::optional<Tensor> replaced = function(gradients[i]);
        if (!replaced) return;
        check_replacement(gradients[i], *replaced);
        gradients[i] = std::move(*replaced);
      });
  }
  Node::Hooks* hooks = node.find_hooks();
  if (!hooks) return;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const auto target = hooks->outputs[i].retain.lock();
    if (!target || !gradients[i].defined()) continue;
    static std::mutex mutex;  // passes of other threads may reach the same tensor
    std::lock_guard lock(mutex);
    Tensor& grad = target->autograd.grad;
    grad = grad.defined() ? grad + gradients[i] : gradients[i];
  }
}

void Pass::deliver(const Node& node, Tensors results) {
  const PoolVector<Edge>& edges = node.next_edges();
  for (std::size_t i = 0; i < edges.size(); ++i) {
    if (!edges[i].node) continue;
    State& next = *states_.find(edges[i].node.get());
    if (i < results.size() && results[i].defined() && (next.needed || next.target))
      accumulate(slot(next, edges[i]),
                 fit(node, i, std::move(results[i]), edges[i].node->outputs()[edges[i].output]));
    --next.waiting;
    make_ready_if_complete(next);
  }
}

}  // namespace grapnel
