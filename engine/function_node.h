// The node behind record(): a backward function over saved tensors. Internal to the engine.
#pragma once

#include <algorithm>
#include <span>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"

namespace grapnel {

/// A node whose backward is a function over saved tensors: every operation but the leaf's accumulator.
class FunctionNode : public Node {
 public:
  FunctionNode(const char* name, PoolVector<Edge> next_edges, PoolVector<OutputInfo> outputs,
               BackwardFunction function)
      : Node(name, std::move(next_edges), std::move(outputs)), function_(std::move(function)) {}

  void reserve_saved(std::size_t count) { saved_.reserve(count); }
  void save(SavedTensor tensor) { saved_.push_back(std::move(tensor)); }

  Tensors apply(Tensors gradients) override { return function_(Backward(*this, gradients)); }

  void release_saved() override {
    released_ = !saved_.empty();
    saved_.clear();
  }

 private:
  const PoolVector<SavedTensor>* saved_tensors() const override {
    if (released_)
      throw AutogradError(
          std::string(name()) +
          ": its saved tensors are already freed; to go backward through the same graph twice, pass "
          "retain_graph = true the first time");
    return &saved_;
  }

  BackwardFunction function_;
  PoolVector<SavedTensor> saved_;
  bool released_ = false;
};

/// A node of these outputs. A saved tensor that is one of them is kept without its history.
std::shared_ptr<FunctionNode> make_node(const char* name, std::span<const TensorRef> outputs,
                                        PoolVector<Edge> edges, std::span<const TensorRef> saved,
                                        BackwardFunction backward);

/// Where the gradients of the inputs go.
PoolVector<Edge> gradient_edges(std::span<const TensorRef> inputs);
PoolVector<Edge> gradient_edges(const Tensors& inputs);

}  // namespace grapnel
