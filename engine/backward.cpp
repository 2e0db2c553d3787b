// The traversal: which nodes run, in which order, and where each hook fires.
//
// A node runs when all gradients of its outputs have arrived; among the ready ones the latest recorded goes
// first. At one node: (1) tensor hooks of each output, (2) retain_grad stores, (3) node pre-hooks, (4) the
// node itself (a leaf: accumulate, then post-accumulate hooks), (5) node post-hooks. Nothing here recurses.
#include "grapnel/engine/backward.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <mutex>
#include <queue>
#include <thread>
#include <unordered_map>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/function_node.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/tensor_impl.h"
#include "grapnel/engine/thread_modes.h"

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
  return gradient.dtype() == info.dtype ? gradient : gradient.to(info.dtype);
}

/// A hook's replacement must look like what it replaces.
void check_replacement(const Tensor& before, const Tensor& after, const std::string& hook, const char* node) {
  const auto who = [&] {
    return "a hook" + (hook.empty() ? "" : " \"" + hook + "\"") + " on the output of " + node;
  };
  if (!before.defined() && after.defined())
    throw AutogradError(who() + " gave a gradient where there is none: this output was not used");
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

/// What the caller wants of one node when only a part of the graph is asked for.
struct Target {
  struct Capture {
    std::size_t output;
    Tensor* destination;
  };
  std::vector<Capture> captures;  // gradients to put somewhere as they pass
  bool runs = false;              // run the node too: a leaf that accumulates
};
using Targets = std::unordered_map<const Node*, Target>;

class Pass;
thread_local Pass* current_pass = nullptr;  // the innermost on this thread

class Pass {
 public:
  /// No targets: the whole graph runs.
  Pass(bool keep_graph, Targets targets)
      : keep_graph_(keep_graph), targets_(std::move(targets)), outer_(std::exchange(current_pass, this)) {}
  ~Pass() { current_pass = outer_; }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  /// The roots keep every node of the pass alive.
  void run(const PoolVector<Edge>& roots, Tensors gradients) {
    count_dependencies(roots);
    for (std::size_t i = 0; i < roots.size(); ++i)
      if (roots[i].node) accumulate(slot(roots[i]), std::move(gradients[i]));
    for (const Edge& root : roots)
      if (root.node) make_ready_if_complete(*states_.find(root.node.get()));
    while (!ready_.empty()) {
      Node* node = ready_.top().node;
      ready_.pop();
      run_node(*node);
    }
  }

  bool visits(const Node& node) const {
    const State* state = states_.find(&node);
    return state && (state->needed || state->target);
  }

  std::shared_ptr<void>& local(const void* key) { return locals_[key]; }

 private:
  struct State {
    Node* node = nullptr;
    const Target* target = nullptr;
    Tensors gradients;
    std::uint32_t waiting = 0;  // edges that have yet to deliver
    bool needed = true;         // runs: leads to a target, or everything is wanted
    bool queued = false;
  };

  /// Node -> State. Open addressing over indices into one array: a pass looks a node up for every edge.
  class StateTable {
   public:
    /// The node's index, and whether it is new. Invalidates references to states.
    std::pair<std::size_t, bool> insert(Node* node) {
      if (states_.size() * 2 >= slots_.size()) grow();
      std::uint32_t& slot = slots_[position_of(node)];
      if (slot != kFree) return {slot, false};
      slot = static_cast<std::uint32_t>(states_.size());
      states_.emplace_back().node = node;
      return {slot, true};
    }
    State* find(const Node* node) {
      const std::uint32_t slot = slots_.empty() ? kFree : slots_[position_of(node)];
      return slot == kFree ? nullptr : &states_[slot];
    }
    const State* find(const Node* node) const { return const_cast<StateTable*>(this)->find(node); }
    State& operator[](std::size_t index) { return states_[index]; }

   private:
    static constexpr std::uint32_t kFree = ~std::uint32_t{0};

    std::size_t position_of(const Node* node) const {
      const auto address = reinterpret_cast<std::uintptr_t>(node);
      // Fibonacci hashing: the high bits of the product depend on all bits of the address.
      std::size_t at = static_cast<std::size_t>(address * 0x9E3779B97F4A7C15u) >> shift_;
      while (slots_[at] != kFree && states_[slots_[at]].node != node) at = (at + 1) & (slots_.size() - 1);
      return at;
    }
    void grow() {
      shift_ = slots_.empty() ? 64 - 6 : shift_ - 1;
      slots_.assign(std::size_t{1} << (64 - shift_), kFree);
      for (std::size_t i = 0; i < states_.size(); ++i)
        slots_[position_of(states_[i].node)] = static_cast<std::uint32_t>(i);
    }

    std::vector<State> states_;
    std::vector<std::uint32_t> slots_;
    int shift_ = 64;
  };

  struct Ready {
    std::uint64_t sequence;
    Node* node;
    bool operator<(const Ready& other) const { return sequence < other.sequence; }
  };

  Tensor& slot(const Edge& edge) { return slot(*states_.find(edge.node.get()), edge); }
  Tensor& slot(State& state, const Edge& edge) {
    if (state.gradients.empty()) state.gradients.resize(edge.node->outputs().size());
    return state.gradients[edge.output];
  }

  void make_ready_if_complete(State& state) {
    if (state.waiting == 0 && !std::exchange(state.queued, true))
      ready_.push({state.node->sequence(), state.node});
  }

  /// Visits everything reachable; if there are targets, also marks what leads to one.
  void count_dependencies(const PoolVector<Edge>& roots) {
    struct Visit {
      std::size_t state, next;
    };
    std::vector<Visit> stack;
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

  void mark_if_needed(State& state) {
    for (const Edge& edge : state.node->next_edges())
      if (edge.node) {
        const State& next = *states_.find(edge.node.get());
        state.needed |= next.needed || next.target;
      }
  }

  void run_node(Node& node) {
    const State& state = *states_.find(&node);
    Tensors gradients = std::move(states_.find(&node)->gradients);
    gradients.resize(node.outputs().size());
    if (state.needed || state.target) run_tensor_hooks(node, gradients);
    if (state.target)
      for (const auto& capture : state.target->captures) *capture.destination = gradients[capture.output];
    deliver(node, state.needed ? apply(node, std::move(gradients)) : Tensors());
  }

  Tensors apply(Node& node, Tensors gradients) {
    const Node::Hooks* hooks = node.find_hooks();
    if (hooks)
      run_tuple_hooks(hooks->before, gradients, node.name(), [&](auto& hook) { return hook(gradients); });
    // Post-hooks see the gradients that went in; only then is a second reference kept, for it forbids reuse
    // of memory.
    const Tensors seen = hooks && !hooks->after.empty() ? gradients : Tensors();
    Tensors results;
    if (any_defined(gradients)) {
      results = node.apply(std::move(gradients));
      if (results.size() != node.next_edges().size())
        throw AutogradError(std::string(node.name()) + ": its backward gave " +
                            std::to_string(results.size()) + " gradients for " +
                            std::to_string(node.next_edges().size()) + " inputs");
      if (thread_modes().anomaly) check_for_nan(node, results);
      if (!keep_graph_) node.release_saved();
    } else {
      results.resize(node.next_edges().size());
    }
    if (!seen.empty())
      run_tuple_hooks(hooks->after, results, node.name(), [&](auto& hook) { return hook(results, seen); });
    return results;
  }

  void run_tensor_hooks(Node& node, Tensors& gradients) {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const HookList<TensorHook>* hooks = node.tensor_hooks(i);
      if (!hooks) continue;
      for (const auto& hook : hooks->snapshot()) {
        if (hook->removed) continue;
        std::optional<Tensor> replaced = hook->function(gradients[i]);
        if (!replaced) continue;
        check_replacement(gradients[i], *replaced, hook->name, node.name());
        gradients[i] = std::move(*replaced);
      }
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

  void deliver(const Node& node, Tensors results) {
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

  const bool keep_graph_;
  const Targets targets_;
  Pass* const outer_;
  StateTable states_;
  std::priority_queue<Ready> ready_;
  std::unordered_map<const void*, std::shared_ptr<void>> locals_;  // pass_local
};

/// Runs a pass; every so many levels of passes inside hooks or backward functions, on a new thread, so that
/// no depth of them exhausts the stack.
void run_pass(const Tensors& outputs, Tensors starts, bool retain_graph, bool create_graph, Targets targets) {
  constexpr int kLevelsPerStack = 32;
  thread_local int depth = 0;
  const auto run = [&] {
    GradMode mode(create_graph);
    Pass(retain_graph || create_graph, std::move(targets)).run(gradient_edges(outputs), std::move(starts));
  };
  struct Level {
    Level() { ++depth; }
    ~Level() { --depth; }
  } level;
  if (depth <= kLevelsPerStack) return run();
  std::exception_ptr error;
  std::thread([&, modes = thread_modes()] {
    thread_modes() = modes;
    try {
      run();
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

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

void backward(const Tensors& outputs, const Tensors& gradients, const BackwardOptions& options) {
  Tensors starts = root_gradients("backward", outputs, gradients);
  if (options.inputs && options.inputs->empty())
    throw AutogradError("backward: the list of inputs is empty; leave it out to reach every leaf");
  const Tensors inputs = options.inputs.value_or(Tensors());
  const PoolVector<Edge> wanted = gradient_edges(inputs);
  Targets targets;
  Tensors captured(inputs.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i].node)
      throw AutogradError("backward: input " + std::to_string(i) + " does not require a gradient");
    Target& target = targets[wanted[i].node.get()];
    if (inputs[i].is_leaf())
      target.runs = true;
    else
      target.captures.push_back({wanted[i].output, &captured[i]});
  }
  run_pass(outputs, std::move(starts), options.retain_graph, options.create_graph, std::move(targets));
  for (std::size_t i = 0; i < captured.size(); ++i) {
    const Tensor& input = inputs[i];
    if (captured[i].defined() && !input.retains_grad())
      input.set_grad(input.grad().defined() ? input.grad() + captured[i] : captured[i]);
  }
}

Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& gradients,
             const GradOptions& options) {
  if (inputs.empty()) throw AutogradError("grad: no inputs given");
  Tensors starts = root_gradients("grad", outputs, gradients);
  const PoolVector<Edge> wanted = gradient_edges(inputs);
  Targets targets;
  Tensors result(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (wanted[i].node)
      targets[wanted[i].node.get()].captures.push_back({wanted[i].output, &result[i]});
    else if (!options.allow_unused)
      throw AutogradError("grad: input " + std::to_string(i) + " of shape " + to_string(inputs[i].shape()) +
                          " does not require a gradient");
  }
  run_pass(outputs, std::move(starts), options.retain_graph, options.create_graph, std::move(targets));
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!result[i].defined() && !options.allow_unused)
      throw AutogradError("grad: the outputs do not depend on input " + std::to_string(i) + " of shape " +
                          to_string(inputs[i].shape()) + "; pass allow_unused to get an unset tensor for it");
  return result;
}

}  // namespace grapnel
