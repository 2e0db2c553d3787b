// grapnel graph.
#include <doctest/doctest.h>

#include <cstdlib>

#include "program.h"

using namespace grapnel::testing;

namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

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
  CHECK_EQ(count(dot, "<b>conv2d</b>"), 20);
  CHECK_EQ(count(dot, "<b>add</b>"), 8);
  CHECK_EQ(count(dot, "rank=same"), 62);  // one a parameter
}

TEST_CASE("graph: the size comes from the weights, the mode from --train") {
  const Workshop shop;
  shop.make_weights("vgg16", 7);
  const std::string command = "graph --weights vgg16.safetensors --input-size 32 ";
  REQUIRE_EQ(shop.grapnel(command + "--out eval.dot").code, 0);
  REQUIRE_EQ(shop.grapnel(command + "--train --out train.dot").code, 0);
  CHECK_EQ(count(shop.text("eval.dot"), ">(1, 7)<"), 1);
  CHECK_EQ(count(shop.text("eval.dot"), "<b>mul</b>"), 0);
  CHECK_EQ(count(shop.text("train.dot"), "<b>mul</b>"), 2);  // the dropouts
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

TEST_CASE("graph: without Graphviz, or with one that fails, a picture already there is kept") {
  const Workshop shop;
  const std::string command = "graph --model resnet18 --width 4 --input-size 32 --out old.svg";
  shop.write_text("old.svg", "kept");
  const std::string path = std::getenv("PATH");
  setenv("PATH", shop.path("").c_str(), 1);
  const Run missing = shop.grapnel(command);
  shop.write_text("dot", "#!/bin/sh\necho broken >&2\nexit 3\n");
  std::filesystem::permissions(shop.path("dot"), std::filesystem::perms::owner_all);
  const Run broken = shop.grapnel(command);
  setenv("PATH", path.c_str(), 1);
  check_fails(missing, "graph", "install graphviz, or write a .dot file");
  check_fails(broken, "graph", "failed: broken");
  CHECK_EQ(shop.text("old.svg"), "kept");
}
