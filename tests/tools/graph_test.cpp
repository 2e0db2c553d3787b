// grapnel graph.
#include <doctest/doctest.h>

#include <cstdlib>

#include "program.h"

using namespace grapnel::testing;

TEST_CASE("graph: a .dot file names modules, operations and parameters") {
  const Workshop shop;
  const Run run = shop.grapnel("graph --model resnet18 --width 4 --input-size 32 --out net.dot");
  CHECK_EQ(run.code, 0);
  const std::string dot = shop.text("net.dot");
  for (const char* part : {"digraph autograd", "cluster_layer4.1", "<b>batch_norm</b>", "<b>conv2.weight</b>",
                           "<b>max_pool2d</b>", "(1, 32, 1, 1)"}) {
    CAPTURE(part);
    CHECK_NE(dot.find(part), std::string::npos);
  }
  // 20 convolutions, as many batch norms; a skip connection is a second edge from where it leaves.
  std::size_t convolutions = 0;
  for (std::size_t at = dot.find("<b>conv2d</b>"); at != std::string::npos;
       at = dot.find("<b>conv2d</b>", at + 1))
    ++convolutions;
  CHECK_EQ(convolutions, 20);
}

TEST_CASE("graph: wrong names and missing programs are one line") {
  const Workshop shop;
  check_fails(shop.grapnel("graph --model resnet18 --width 4 --out net.png"), "graph", ".svg or .dot");
  check_fails(shop.grapnel("graph --model resnet18 --width 4 --out missing/net.dot"), "graph", "missing");
  check_fails(shop.grapnel("graph --model alexnet --out net.dot"), "graph", "alexnet");
  CHECK_FALSE(std::filesystem::exists(shop.path("net.png")));
  CHECK_FALSE(std::filesystem::exists(shop.path("net.dot")));
}

TEST_CASE("graph: an .svg where Graphviz is installed, else advice") {
  const Workshop shop;
  const Run run = shop.grapnel("graph --model vgg16 --width 4 --input-size 32 --out net.svg");
  if (std::system("command -v dot > /dev/null") == 0) {
    CHECK_EQ(run.code, 0);
    CHECK_NE(shop.text("net.svg").find("<svg"), std::string::npos);
  } else {
    check_fails(run, "graph", "install graphviz, or write a .dot file");
    CHECK_FALSE(std::filesystem::exists(shop.path("net.svg")));
  }
}
