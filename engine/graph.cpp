#include "grapnel/engine/graph.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <unordered_map>

#include "grapnel/engine/error.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {

std::vector<Shape> Node::saved_shapes() const {
  std::vector<Shape> shapes;
  if (const auto* saved = saved_tensors())
    for (const SavedTensor& tensor : *saved)
      if (const auto shape = tensor.shape()) shapes.push_back(*shape);
  return shapes;
}

namespace {

std::size_t count_hooks(const Node& node) {
  std::size_t count = 0;
  if (const Node::Hooks* hooks = node.find_hooks())
    count = hooks->before.names().size() + hooks->after.names().size();
  for (std::size_t i = 0; i < node.outputs().size(); ++i)
    if (const auto* hooks = node.tensor_hooks(i)) count += hooks->names().size();
  return count;
}

std::size_t count_post_accumulate_hooks(const Tensor& leaf) {
  const auto& state = leaf.impl()->autograd.leaf;
  return state ? state->post_accumulate_hooks.names().size() : 0;
}

/// All nodes from which gradients could come, those recorded first in front.
std::vector<const Node*> reachable(const Tensors& outputs) {
  std::vector<const Node*> found;
  std::unordered_map<const Node*, bool> seen;
  const auto visit = [&](const Node* node) {
    if (node && !std::exchange(seen[node], true)) found.push_back(node);
  };
  for (const Tensor& output : outputs) visit(gradient_edge(output).node.get());
  for (std::size_t i = 0; i < found.size(); ++i)
    for (const Edge& edge : found[i]->next_edges()) visit(edge.node.get());
  std::stable_sort(found.begin(), found.end(),
                   [](const Node* a, const Node* b) { return a->sequence() < b->sequence(); });
  return found;
}

}  // namespace

Graph describe_graph(const Tensors& outputs, const std::vector<std::pair<std::string, Tensor>>& leaves) {
  // An accumulator lives only as long as somebody holds it, and a root may itself be a leaf.
  std::vector<std::shared_ptr<Node>> keep;
  for (const Tensor& output : outputs) keep.push_back(gradient_edge(output).node);

  Graph graph;
  std::unordered_map<const Node*, std::size_t> index;
  for (const Node* node : reachable(outputs)) {
    index.emplace(node, graph.nodes.size());
    GraphNode& described = graph.nodes.emplace_back(
        GraphNode{node->name(), node->sequence(), {}, node->saved_shapes(), count_hooks(*node)});
    for (const OutputInfo& output : node->outputs()) described.outputs.push_back(output.shape);
    described.leaf = node->sequence() == std::numeric_limits<std::uint64_t>::max();
    if (described.leaf) described.name = "leaf";
  }
  for (const auto& [node, to] : index)
    for (const Edge& edge : node->next_edges())
      if (edge.node) graph.edges.push_back({index.at(edge.node.get()), to});
  std::sort(graph.edges.begin(), graph.edges.end(), [](const GraphEdge& a, const GraphEdge& b) {
    return std::pair(a.to, a.from) < std::pair(b.to, b.from);
  });
  for (const auto& root : keep)
    if (root) graph.nodes[index.at(root.get())].root = true;

  for (const auto& [name, leaf] : leaves) {
    if (!leaf.is_leaf()) continue;
    const auto found = index.find(gradient_edge(leaf).node.get());
    if (found == index.end()) continue;
    graph.nodes[found->second].name = name;
    graph.nodes[found->second].hooks += count_post_accumulate_hooks(leaf);
  }
  return graph;
}

namespace {

struct Kind {
  const char* colour;
  const char* what;
  std::vector<std::string_view> operations;
};

/// The first colour is that of everything else.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"#ececec", "other", {}},
      {"#d6e4f2", "products", {"conv2d", "linear", "matmul"}},
      {"#e6def0", "normalisation", {"batch_norm", "softmax", "log_softmax"}},
      {"#dcedd8", "activation", {"relu", "relu_", "leaky_relu", "sigmoid", "tanh", "clamp", "dropout"}},
      {"#f6ead2",
       "reduction",
       {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "sum", "amax", "max"}},
  };
  return all;
}
constexpr const char* kHooked = "#c03020";
constexpr const char* kFaint = "#606060";

const char* colour_of(const std::string& operation) {
  for (const Kind& kind : kinds())
    if (std::find(kind.operations.begin(), kind.operations.end(), operation) != kind.operations.end())
      return kind.colour;
  return kinds().front().colour;
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text)
    if (std::string_view("&<>\"\\").find(c) == std::string_view::npos)
      result += c;
    else
      result += "&#" + std::to_string(static_cast<int>(c)) + ";";
  return result;
}

std::string small(const std::string& text, const char* colour = kFaint) {
  return "<br/><font point-size=\"9\" color=\"" + std::string(colour) + "\">" + text + "</font>";
}

std::string joined(const std::vector<Shape>& shapes) {
  std::string text;
  for (const Shape& shape : shapes) text += (text.empty() ? "" : " ") + to_string(shape);
  return text;
}

/// "layer1.0" of "layer1.0.conv1"; "" of "conv1".
std::string parent(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

/// The path below `frame`, or all of it.
std::string_view below(std::string_view path, std::string_view frame) {
  return !frame.empty() && path.size() > frame.size() && path.starts_with(frame)
             ? path.substr(frame.size() + 1)
             : path;
}

std::string node_line(const GraphNode& node, std::size_t id, const std::string& frame) {
  std::string label = "<b>" + escaped(node.leaf ? below(node.name, frame) : node.name) + "</b>";
  const std::string_view module = node.module == frame ? "" : below(node.module, frame);
  if (!node.leaf && !module.empty() && module != node.name) label += small(escaped(module));
  label += small(joined(node.outputs));
  if (!node.saved.empty()) label += small("keeps " + joined(node.saved));
  if (node.hooks > 0)
    label += small(std::to_string(node.hooks) + (node.hooks == 1 ? " hook" : " hooks"), kHooked);
  std::string line = "n" + std::to_string(id) + " [label=<" + label + ">";
  line += node.leaf ? ", style=filled, fillcolor=white"
                    : ", fillcolor=\"" + std::string(colour_of(node.name)) + "\"";
  if (node.root) line += ", peripheries=2";
  if (node.hooks > 0) line += ", color=\"" + std::string(kHooked) + "\", penwidth=2";
  return line + "];\n";
}

/// For each node the innermost module that contains others besides; "" if there is none.
std::vector<std::string> frames(const Graph& graph) {
  std::set<std::string> parents;
  for (const GraphNode& node : graph.nodes) parents.insert(parent(node.module));
  std::vector<std::string> result;
  for (const GraphNode& node : graph.nodes)
    result.push_back(parents.contains(node.module) ? node.module : parent(node.module));
  return result;
}

/// Frames within frames, as the modules are; naming one again adds to it.
std::string open_frames(const std::string& frame) {
  std::string dot;
  for (std::size_t end = 0; end != std::string::npos && !frame.empty();) {
    end = frame.find('.', end + 1);
    const std::string path = escaped(frame.substr(0, end));
    dot += "subgraph \"cluster_" + path + "\" { label=\"" + path + "\";\n";
  }
  return dot;
}

std::string close_frames(const std::string& frame) {
  if (frame.empty()) return "";
  return std::string(static_cast<std::size_t>(std::count(frame.begin(), frame.end(), '.')) + 1, '}') + "\n";
}

std::string legend() {
  std::string cells;
  for (const Kind& kind : kinds())
    cells += "<td bgcolor=\"" + std::string(kind.colour) + "\">" + kind.what + "</td>";
  return "<<table border=\"0\" cellborder=\"0\" cellspacing=\"4\"><tr>" + cells +
         "<td border=\"1\">leaf</td><td border=\"1\" color=\"" + kHooked + "\"><font color=\"" + kHooked +
         "\">hooked</font></td></tr></table>>";
}

}  // namespace

std::string to_dot(const Graph& graph) {
  const std::vector<std::string> frame_of = frames(graph);
  std::map<std::string, std::vector<std::size_t>> nodes_in;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) nodes_in[frame_of[i]].push_back(i);
  std::vector<std::vector<std::size_t>> uses(graph.nodes.size());
  for (const GraphEdge& edge : graph.edges) uses[edge.from].push_back(edge.to);

  std::string dot =
      "digraph autograd {\n"
      "rankdir=TB; nodesep=0.25; ranksep=0.3; labelloc=t; style=\"rounded,filled\"; color=\"#d8d8d8\"; "
      "fillcolor=\"#f8f8f8\"; fontname=\"Helvetica\"; fontsize=11; fontcolor=\"#606060\";\n"
      "node [shape=box, style=\"rounded,filled\", color=\"#a0a0a0\", fontname=\"Helvetica\", fontsize=11, "
      "height=0.3, margin=\"0.1,0.04\"];\n"
      "edge [color=\"#808080\", arrowsize=0.6];\n";
  for (const auto& [frame, nodes] : nodes_in) {
    dot += open_frames(frame);
    for (const std::size_t id : nodes) {
      dot += node_line(graph.nodes[id], id, frame);
      // Beside the operation that uses it, so that operations alone make the height of the picture.
      if (graph.nodes[id].leaf && uses[id].size() == 1 && frame_of[uses[id][0]] == frame)
        dot += "{ rank=same; n" + std::to_string(id) + "; n" + std::to_string(uses[id][0]) + "; }\n";
    }
    dot += close_frames(frame);
  }
  for (const GraphEdge& edge : graph.edges)
    dot += "n" + std::to_string(edge.from) + " -> n" + std::to_string(edge.to) +
           (graph.nodes[edge.from].leaf ? ";\n" : " [weight=8];\n");
  return dot + "label=" + legend() + ";\n}\n";
}

}  // namespace grapnel
