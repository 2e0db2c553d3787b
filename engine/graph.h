// A plain description of the recorded graph, to look at: who made what from what, what is kept for the
// backward pass, and where hooks wait.
//
//   std::string picture = to_dot(describe_graph({loss}, {{"w", w}}));   // for Graphviz
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "grapnel/engine/tensor.h"

namespace grapnel {

struct GraphNode {
  std::string name;            ///< of the operation; of the leaf, "leaf" if that is not known
  std::uint64_t sequence;      ///< later operations have larger numbers; a leaf has the largest of all
  std::vector<Shape> outputs;  ///< one for a leaf: its own
  std::vector<Shape> saved;    ///< of what is kept for the backward pass; none once that is freed
  std::size_t hooks = 0;       ///< tensor hooks, node hooks and a named leaf's post-accumulate hooks
  bool leaf = false;
  bool root = false;        ///< made one of the tensors that were asked about
  std::string module = {};  ///< dotted path of who ran the operation: the caller's to fill in
};

/// Indices into Graph::nodes, in the direction of the forward pass. Two between the same nodes if an
/// operation uses a tensor twice.
struct GraphEdge {
  std::size_t from, to;
  bool operator==(const GraphEdge&) const = default;
};

struct Graph {
  std::vector<GraphNode> nodes;  ///< operations in the order they were recorded, then leaves
  std::vector<GraphEdge> edges;
};

/// Everything that a backward pass from `outputs` could reach. `leaves` give names to those among them. A
/// tensor without history adds nothing. Changes nothing and does not recurse.
Graph describe_graph(const Tensors& outputs, const std::vector<std::pair<std::string, Tensor>>& leaves = {});

/// In Graphviz's language, inputs at the top: operations with their output shapes and what they keep, leaves,
/// hooks in red; nodes with a `module` framed by module.
std::string to_dot(const Graph& graph);

}  // namespace grapnel
