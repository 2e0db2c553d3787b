// One walk backwards through the graph. Internal to the engine; backward.h starts it.
#pragma once

#include <cstdint>
#include <memory>
#include <queue>
#include <unordered_map>

#include "grapnel/engine/node_table.h"

namespace grapnel {

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

class Pass {
 public:
  /// No targets: the whole graph runs.
  Pass(bool keep_graph, Targets targets);
  ~Pass();
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  /// The roots keep every node of the pass alive.
  void run(const PoolVector<Edge>& roots, Tensors gradients);

  bool visits(const Node& node) const;
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

  struct Ready {
    std::uint64_t sequence;
    State* state;
    bool operator<(const Ready& other) const { return sequence < other.sequence; }
  };

  Tensor& slot(State& state, const Edge& edge);
  void make_ready_if_complete(State& state);
  /// Visits everything reachable; if there are targets, also marks what leads to one.
  void count_dependencies(const PoolVector<Edge>& roots);
  void mark_if_needed(State& state);
  void run_node(Node& node, State& state);
  Tensors apply(Node& node, Tensors gradients);
  void run_tensor_hooks(Node& node, Tensors& gradients);
  void deliver(const Node& node, Tensors results);

  const bool keep_graph_;
  const Targets targets_;
  Pass* const outer_;
  NodeTable<State> states_;
  std::priority_queue<Ready, PoolVector<Ready>> ready_;
  std::unordered_map<const void*, std::shared_ptr<void>> locals_;  // pass_local
};

}  // namespace grapnel
