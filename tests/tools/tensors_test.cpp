// Commands about tensors and files: run, inspect, convert, summary; and the program's own options.
#include <doctest/doctest.h>

#include "grapnel/engine/ops.h"
#include "grapnel/viz/capture.h"
#include "grapnel/viz/npy.h"
#include "grapnel/weights/weights.h"
#include "program.h"

using namespace grapnel;
using testing::check_fails;
using testing::distance;
using testing::Workshop;

namespace {

const std::string kRun = "run --model resnet18 --weights resnet18.safetensors --input x.npy";

/// A network, a batch x.npy and its labels.npy.
struct Bench : Workshop {
  std::shared_ptr<nn::Module> net = make_weights("resnet18");
  Tensor x, labels = Tensor::from<std::int64_t>({3, 7}, {2});

  Bench() {
    Generator generator(1);
    x = Tensor::randn({2, 3, 32, 32}, generator);
    viz::write_npy(path("x.npy"), x);
    viz::write_npy(path("labels.npy"), labels);
  }
  Tensor npy(const std::string& name) const { return viz::read_npy(path(name)); }

  /// Every parameter's gradient in the file against the one in the net, bit by bit.
  void check_grads(const std::string& name) const {
    const auto parameters = net->named_parameters();
    const auto gradients = weights::read(path(name).string()).tensors;
    REQUIRE(gradients.size() == parameters.size());
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      CAPTURE(gradients[i].first);
      CHECK(gradients[i].first == parameters[i].first);
      CHECK(distance(gradients[i].second, parameters[i].second.grad()) == 0);
    }
  }
};

}  // namespace

TEST_CASE("run goes forward and backward from a class's logits as the library does") {
  const Bench bench;
  const auto run = bench.grapnel(kRun +
                                 " --output y.npy --target 3 --capture layer4=a.npy --capture conv1=c.npy"
                                 " --capture-grad layer4=g.npy --input-grad dx.npy --grads dw.safetensors");
  CHECK(run.err.empty());
  REQUIRE(run.code == 0);

  const Tensor x = bench.x.clone().set_requires_grad();
  const viz::Capture layer4(bench.net->at("layer4")), conv1(bench.net->at("conv1"));
  const Tensor logits = (*bench.net)(x);
  sum(select(logits, 1, 3)).backward();
  CHECK(distance(bench.npy("y.npy"), logits) == 0);
  CHECK(distance(bench.npy("a.npy"), layer4.activation()) == 0);
  CHECK(distance(bench.npy("c.npy"), conv1.activation()) == 0);
  CHECK(distance(bench.npy("g.npy"), layer4.gradient()) == 0);
  CHECK(distance(bench.npy("dx.npy"), x.grad()) == 0);
  bench.check_grads("dw.safetensors");
}

TEST_CASE("run in train mode goes backward from the mean cross entropy and tells it") {
  const Bench bench;
  const auto run = bench.grapnel(kRun + " --train --labels labels.npy --grads dw.safetensors --json");
  REQUIRE(run.code == 0);

  bench.net->train();
  const Tensor loss = cross_entropy((*bench.net)(bench.x), bench.labels);
  loss.backward();
  CHECK(run.json()["loss"].get<double>() == loss.item());
  CHECK(run.json()["output_shape"] == nlohmann::json({2, 10}));
  bench.check_grads("dw.safetensors");
}

TEST_CASE("run gives the same whatever the order in memory") {
  const Bench bench;
  for (const std::string format : {"nchw", "nhwc"})
    REQUIRE(
        bench.grapnel(kRun + " --memory-format " + format + " --capture layer1=" + format + ".npy").code ==
        0);
  const Tensor nchw = bench.npy("nchw.npy"), nhwc = bench.npy("nhwc.npy");
  CHECK(nchw.is_contiguous());
  const double scale = amax(abs(nchw)).item();
  // Five convolutions of at most 3*7*7 or 4*3*3 products each: their rounding, generously in units of
  // epsilon.
  CHECK(distance(nchw, nhwc) <= scale * 0x1p-23 * (3 * 49 + 4 * 36));
}

TEST_CASE("run says in one line what is wrong, before it works") {
  const Bench bench;
  const auto fails = [&](const std::string& arguments, const std::string& part) {
    check_fails(bench.grapnel(kRun + arguments), "run", part);
  };
  fails(" --grads g.safetensors", "--target CLASS or --labels FILE");
  fails(" --target 10", "there is no class 10");
  fails(" --target 1 --labels labels.npy", "--labels");
  fails(" --labels x.npy", "expected 2 int64 labels");
  fails(" --capture layer4", "LAYER=FILE.npy");
  fails(" --capture layer4=", "LAYER=FILE.npy");
  fails(" --capture layer44=a.npy", "layer44");
  fails(" --capture layer4=a.npy --output ./a.npy", "named for two results");
  fails(" --output nowhere/y.npy", "no folder nowhere");
  fails(" --output /dev/null", "/dev/null");
  fails(" --memory-format chwn", "--memory-format");
  fails(" --toaster 1", "--toaster");
  fails(" --device toaster", "device toaster is unknown; use cpu, cuda or cuda:N");
  fails(" --precision fp8", "precision fp8 is unknown; use fp32, tf32 or bf16");
  check_fails(bench.grapnel("run --weights resnet18.safetensors --input labels.npy"), "run",
              "expected a batch (N,3,H,W), got (2,)");
  bench.write_text("bad.npy", "\x93NUMPY");
  check_fails(bench.grapnel("run --weights resnet18.safetensors --input bad.npy"), "run", "bad.npy: ");
}

TEST_CASE("inspect tells what a file holds and which network it fits") {
  const Bench bench;
  const auto run = bench.grapnel("inspect resnet18.safetensors --json");
  REQUIRE(run.code == 0);
  const auto report = run.json();
  CHECK(report["format"] == "safetensors");
  CHECK(report["model"] == "resnet18");
  CHECK(report["classes"] == 10);
  CHECK(report["tensors"].size() == bench.net->state_dict().size());
  CHECK(report["tensors"][0] ==
        nlohmann::json({{"name", "conv1.weight"}, {"dtype", "float32"}, {"shape", {4, 3, 7, 7}}}));
  CHECK(bench.grapnel("inspect resnet18.safetensors").out.find("a resnet18 with 10 classes") !=
        std::string::npos);

  weights::write_safetensors(bench.path("one.safetensors").string(), {{"w", bench.x}});
  CHECK(bench.grapnel("inspect one.safetensors --json").json()["model"].is_null());
  check_fails(bench.grapnel("inspect x.npy"), "inspect", "x.npy: ");
}

TEST_CASE("convert keeps every tensor and unwraps checkpoints") {
  const Bench bench;
  auto state = bench.net->state_dict();
  for (auto& [name, tensor] : state) name = "module." + name;
  weights::write_safetensors(bench.path("wrapped.safetensors").string(), state, {{"epoch", "3"}});
  REQUIRE(bench.grapnel("convert wrapped.safetensors plain.safetensors --unwrap").code == 0);
  const weights::StateFile plain = weights::read(bench.path("plain.safetensors").string());
  CHECK(plain.metadata.at("epoch") == "3");
  const auto expected = bench.net->state_dict();
  REQUIRE(plain.tensors.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(plain.tensors[i].first == expected[i].first);
    CHECK(distance(plain.tensors[i].second, expected[i].second) == 0);
  }
  check_fails(bench.grapnel("convert plain.safetensors out.pth"), "convert", ".safetensors");
  check_fails(bench.grapnel("convert x.npy out.safetensors"), "convert", "x.npy: ");
  CHECK_FALSE(std::filesystem::exists(bench.path("out.safetensors")));
}

TEST_CASE("summary counts as published") {
  const Workshop workshop;
  const auto report = workshop.grapnel("summary --model resnet34 --json").json();
  CHECK(report["parameters"] == 21'797'672);
  CHECK(report["layers"].size() == 36 + 36 + 33 + 3);  // convolutions, batch norms, ReLU calls, pools and fc
  CHECK(workshop.grapnel("summary --model resnet18 --num-classes 7").out.find("(1, 7)") != std::string::npos);
  CHECK(workshop.grapnel("summary --json").json() ==
        workshop.grapnel("summary --json --model builtin").json());
  check_fails(workshop.grapnel("summary --model builtin --weights x.pth"), "summary", "leave out --weights");
}

TEST_CASE("help and version") {
  const Workshop workshop;
  CHECK(workshop.grapnel("--version").out == "grapnel " GRAPNEL_VERSION "\n");
  for (const std::string command :
       {"classify", "explain", "features", "preprocess", "run", "inspect", "convert", "summary", "bench",
        "graph", "train", "evaluate", "report", "pointing-game"}) {
    const auto run = workshop.grapnel(command + " --help");
    CHECK(run.code == 0);
    CHECK(run.out.find("Example: grapnel " + command) != std::string::npos);
  }
  const auto nothing = workshop.grapnel("");
  CHECK(nothing.code == 2);
  CHECK(nothing.err.find("--help") != std::string::npos);
  CHECK(workshop.grapnel("clasify a.png").code == 2);
}

TEST_CASE("a full disk is an error") {
  const Workshop workshop;
  if (!std::filesystem::exists("/dev/full")) return;
  const auto run = workshop.grapnel("summary --model resnet18 >/dev/full 2>stderr.txt; echo $?");
  CHECK(run.out == "2\n");
}
