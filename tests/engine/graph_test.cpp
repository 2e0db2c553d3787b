// The recorded graph as a plain description, and in Graphviz's language.
#include <doctest/doctest.h>

#include <algorithm>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/graph.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "support/device.h"

using namespace grapnel;

namespace {

Tensor leaf(const Shape& shape) {
  return Tensor::ones(shape).set_requires_grad();
}

std::string names(const Graph& graph) {
  std::string result;
  for (const GraphNode& node : graph.nodes) result += node.name + " ";
  return result;
}

}  // namespace

TEST_CASE("a graph is described: operations in order, leaves, shapes, what is saved, hooks, edges") {
  const Tensor x = leaf({2, 3}), w = leaf({3});
  const Tensor product = x * w, squares = product * product, y = exp(squares);
  product.register_hook([](const Tensor&) { return std::nullopt; });
  w.register_post_accumulate_grad_hook([](Tensor&) {});
  const Graph graph = describe_graph({y}, {{"weight", w}, {"elsewhere", leaf({1})}});

  REQUIRE_EQ(names(graph), "mul mul exp leaf weight ");
  CHECK_EQ(graph.nodes[0].outputs, std::vector<Shape>{{2, 3}});
  CHECK_EQ(graph.nodes[0].saved, std::vector<Shape>{{2, 3}, {3}});
  CHECK_EQ(graph.nodes[0].hooks, 1);
  CHECK_EQ(graph.nodes[1].hooks, 0);
  CHECK(graph.nodes[2].root);
  CHECK(graph.nodes[3].leaf);
  CHECK_EQ(graph.nodes[4].hooks, 1);
  CHECK_EQ(graph.nodes[4].outputs, std::vector<Shape>{{3}});
  const std::vector<GraphEdge> edges{{3, 0}, {4, 0}, {0, 1}, {0, 1}, {1, 2}};
  CHECK(graph.edges == edges);

  y.backward(Tensor::ones({2, 3}));
  CHECK(describe_graph({y}).nodes[0].saved.empty());  // freed
  CHECK(describe_graph({Tensor::ones({1})}).nodes.empty());
}

TEST_CASE("a graph in Graphviz's language: every node and edge, names escaped, hooks marked") {
  const Tensor x = leaf({2}), y = exp(x);
  y.register_hook([](const Tensor&) { return std::nullopt; });
  Graph graph = describe_graph({y}, {{"a<b>&\"c\"", x}});
  const std::string dot = to_dot(graph);
  const auto holds = [&](const char* part) {
    CAPTURE(part);
    CHECK_NE(dot.find(part), std::string::npos);
  };
  CHECK_EQ(dot.rfind("digraph autograd {", 0), 0);
  holds("<b>exp</b>");
  holds("keeps (2,)");
  holds("1 hook<");
  holds("<b>a&#60;b&#62;&#38;&#34;c&#34;</b>");
  holds("n1 -> n0;");
  graph.nodes[0].module = "block.0";
  graph.nodes[1].module = "block.0";
  CHECK_NE(to_dot(graph).find("subgraph \"cluster_block\""), std::string::npos);
}

TEST_CASE("a graph's description counts every kind of hook, and removed ones no more") {
  const Tensor x = leaf({1}), y = exp(x);
  const auto nothing = [](const Tensor&) { return std::nullopt; };
  y.register_hook(nothing);
  HookHandle gone = y.register_hook(nothing);
  y.grad_fn()->register_prehook([](const Tensors&) { return std::nullopt; });
  y.grad_fn()->register_hook([](const Tensors&, const Tensors&) { return std::nullopt; });
  x.register_hook(nothing);
  x.register_post_accumulate_grad_hook([](Tensor&) {});
  const Graph graph = describe_graph({y}, {{"x", x}});
  CHECK_EQ(graph.nodes[0].hooks, 4);
  CHECK_EQ(graph.nodes[1].hooks, 2);
  gone.remove();
  CHECK_EQ(describe_graph({y}).nodes[0].hooks, 3);
}

TEST_CASE("a graph's description has several roots, of which one may be a leaf") {
  const Tensor x = leaf({1}), y = exp(x);
  const Graph graph = describe_graph({y, x, Tensor::ones({1}), Tensor()});
  REQUIRE_EQ(names(graph), "exp leaf ");
  CHECK(graph.nodes[0].root);
  CHECK(graph.nodes[1].root);
}

TEST_CASE("a graph in Graphviz's language: frames within frames, parameters beside their operations") {
  Graph graph;
  graph.nodes = {
      {.name = "conv2d", .sequence = 0, .outputs = {{1, 8}}, .saved = {}, .module = "a.b.conv1"},
      {.name = "add", .sequence = 1, .outputs = {{1, 8}}, .saved = {}, .root = true, .module = "a.b"},
      {.name = "a.b.conv1.weight",
       .sequence = 2,
       .outputs = {{8}},
       .saved = {},
       .leaf = true,
       .module = "a.b.conv1"},
      {.name = "shared", .sequence = 2, .outputs = {{8}}, .saved = {}, .leaf = true, .module = "a.b"},
  };
  graph.edges = {{2, 0}, {3, 0}, {0, 1}, {3, 1}};
  const std::string dot = to_dot(graph);
  CAPTURE(dot);
  std::size_t at = 0;
  for (const char* part :
       {"subgraph \"cluster_a\" { label=\"a\"", "subgraph \"cluster_a.b\" { label=\"a.b\"",
        "n0 [label=<<b>conv2d</b>", ">conv1<", "n1 [label=<<b>add</b>", "peripheries=2",
        "n2 [label=<<b>conv1.weight</b>", "{ rank=same; n2; n0; }", "n3 [", "}}\n", "n2 -> n0;"}) {
    CAPTURE(part);
    at = dot.find(part, at);
    REQUIRE_NE(at, std::string::npos);
  }
  CHECK_EQ(dot.find("rank=same; n3"), std::string::npos);  // it has no one operation to stand beside
  CHECK_EQ(std::count(dot.begin(), dot.end(), '{'), std::count(dot.begin(), dot.end(), '}'));
}

TEST_CASE("a chain of a hundred thousand operations is described without recursion" *
          testing::not_on_model("a hundred thousand kernels")) {
  Tensor x = leaf({1});
  for (int i = 0; i < 100000; ++i) x = x + 1.0;
  CHECK_EQ(describe_graph({x}).nodes.size(), 100001);
}
