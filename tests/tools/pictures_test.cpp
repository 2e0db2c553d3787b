// Commands about pictures: classify, explain, features, preprocess.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/explain.h"
#include "grapnel/viz/npy.h"
#include "grapnel/viz/overlay.h"
#include "grapnel/viz/transforms.h"
#include "program.h"

using namespace grapnel;
using testing::check_fails;
using testing::Workshop;

namespace {

const std::string kSmall = " --resize 40 --crop 32";
const viz::Preprocess kSmallPreprocess{.resize = 40, .crop = 32};
const std::string kModel = " --model resnet18 --weights resnet18.safetensors --class-names names.txt";

/// A network, the names of its ten classes and a picture.
struct Studio : Workshop {
  std::shared_ptr<nn::Module> net = make_weights("resnet18");

  Studio() {
    write_text("names.txt", "airplane\nautomobile\nbird\ncat\ndeer, doe\ndog\nfrog\nhorse\nship\ntruck\n");
    make_picture("a.png", 50, 60);
  }
  Tensor input(const std::string& name) const {
    return viz::preprocess(viz::read_image(path(name)), kSmallPreprocess);
  }
};

}  // namespace

TEST_CASE("classify tells the classes that the library computes") {
  const Studio studio;
  const auto run = studio.grapnel("classify a.png --top 10 --json" + kModel + kSmall);
  CHECK(run.code == 0);
  CHECK(run.err.empty());
  const auto picture = run.json()["pictures"].at(0);
  CHECK(picture["picture"] == "a.png");
  CHECK(picture["size"]["height"] == 50);
  CHECK(picture["size"]["width"] == 60);

  const NoGrad no_grad;
  const Tensor logits = (*studio.net)(studio.input("a.png"));
  const auto expected = logits.to_vector<double>();
  const auto probabilities = softmax(logits.to(DType::float64), 1).to_vector<double>();
  REQUIRE(picture["predictions"].size() == 10);
  double former = 1;
  for (const auto& prediction : picture["predictions"]) {
    const auto index = prediction["index"].get<std::size_t>();
    CHECK(prediction["logit"].get<double>() == expected.at(index));
    CHECK(prediction["probability"].get<double>() == doctest::Approx(probabilities[index]).epsilon(1e-12));
    CHECK(prediction["probability"].get<double>() <= former);
    former = prediction["probability"].get<double>();
    if (index == 4) CHECK(prediction["label"] == "deer, doe");
  }

  const auto text = studio.grapnel("classify a.png a.png --top 2 --threads 1" + kModel + kSmall);
  CHECK(text.code == 0);
  CHECK(std::count(text.out.begin(), text.out.end(), '\n') == 6);
}

TEST_CASE("classify recognises the network, numbers classes without names, and reads folders") {
  const Studio studio;
  std::filesystem::create_directory(studio.path("folder"));
  studio.make_picture("folder/z.PNG", 40, 40, 1);
  studio.make_picture("folder/b.jpg", 40, 40, 2);
  studio.write_text("folder/notes.txt", "not a picture");
  const auto run = studio.grapnel("classify folder --weights resnet18.safetensors --top 1 --json" + kSmall);
  CHECK(run.code == 0);
  const auto report = run.json();
  CHECK(report["model"] == "resnet18");
  REQUIRE(report["pictures"].size() == 2);
  CHECK(report["pictures"][0]["picture"] == "folder/b.jpg");
  CHECK(report["pictures"][0]["predictions"][0]["label"].get<std::string>().starts_with("class "));
}

TEST_CASE("classify says in one line what is wrong") {
  const Studio studio;
  studio.write_text("broken.png", "not a picture");
  check_fails(studio.grapnel("classify missing.png" + kModel), "classify",
              "missing.png: there is no such file");
  check_fails(studio.grapnel("classify a.png broken.png" + kModel), "classify", "broken.png: ");
  check_fails(studio.grapnel("classify a.png broken.png missing.png" + kModel), "classify",
              "2 of 3 pictures cannot be read: broken.png: ");
  check_fails(studio.grapnel("classify a.png --model resnet18"), "classify", "tools/get_weights.sh resnet18");
  check_fails(studio.grapnel("classify a.png --model resnet"), "classify", "resnet18, resnet34, vgg16");
  check_fails(studio.grapnel("classify a.png --model resnet34 --weights resnet18.safetensors"), "classify",
              "resnet18.safetensors: ");
  check_fails(studio.grapnel("classify a.png --weights broken.png"), "classify", "broken.png: ");
  check_fails(studio.grapnel("classify a.png --top 0" + kModel), "classify", "--top");
  check_fails(studio.grapnel("classify" + kModel), "classify", "required");
  studio.write_text("names.txt", "cat\ndog\n");
  check_fails(studio.grapnel("classify a.png" + kModel), "classify", "holds 2 names");
}

TEST_CASE("the published weights are found where get_weights.sh puts them") {
  const Studio studio;
  std::filesystem::create_directory(studio.path("grapnel"));
  std::filesystem::copy(studio.path("resnet18.safetensors"), studio.path("grapnel/resnet18-f37072fd.pth"));
  CHECK(studio.grapnel("classify a.png --model resnet18" + kSmall).code == 0);
}

TEST_CASE("explain writes what the library computes, and lists it") {
  const Studio studio;
  studio.make_picture("a.jpg", 45, 45, 3);
  const auto run = studio.grapnel(
      "explain a.png a.jpg --method cam,gradcam,guided,saliency --target cat,top1 --target 'deer, doe' "
      "--gradient both,positive --out out/deep --json" +
      kModel + kSmall);
  CHECK(run.err.empty());
  REQUIRE(run.code == 0);
  const auto result = nlohmann::json::parse(studio.text("out/deep/result.json"));
  CHECK(result == run.json());
  CHECK(result["weights"] == "resnet18.safetensors");
  CHECK(result["settings"]["blend"] == nlohmann::json({0.3, 0.5}));

  std::set<std::string> files;
  std::set<int> targets;
  for (const auto& entry : result["explanations"]) {
    targets.insert(entry["target"]["index"].get<int>());
    for (const auto& file : entry["files"]) {
      files.insert(file.get<std::string>());
      CHECK(std::filesystem::is_regular_file(studio.path("out/deep/" + file.get<std::string>())));
    }
    const bool has_gradient = entry["method"] == "guided" || entry["method"] == "saliency";
    CHECK(entry["files"].contains("gradient") == has_gradient);
    CHECK(entry["files"].contains("gradient-positive") == has_gradient);
    CHECK(entry["layer"].is_null() == has_gradient);
  }
  CHECK(targets.contains(3));
  CHECK(targets.contains(4));
  CHECK(studio.count("out/deep") == files.size() + 1);
  CHECK(files.contains("a.gradcam.3-cat.overlay.png"));
  CHECK(files.contains("a-2.gradcam.4-deer__doe.heatmap.png"));

  const viz::Method method = viz::Method::gradcam;
  viz::Observation seen(*studio.net, studio.input("a.png"), viz::observe_for({&method, 1}, {"layer4"}));
  const viz::Heatmap expected = viz::explain(seen, method, 3).at(0).heat;
  const viz::FloatMap map = viz::to_map(viz::read_npy(studio.path("out/deep/a.gradcam.3-cat.npy")));
  CHECK(map == expected.map);
  CHECK(map.height == 32);
  const viz::Image overlay = viz::read_image(studio.path("out/deep/a.gradcam.3-cat.overlay.png"));
  const viz::Image picture = viz::preprocess_image(viz::read_image(studio.path("a.png")), kSmallPreprocess);
  CHECK(overlay == viz::overlay(picture, expected));
}

TEST_CASE("explain puts the layer into the names where there are several") {
  const Studio studio;
  const auto run = studio.grapnel("explain a.png --layer layer4.*,layer3 --out out" + kModel + kSmall);
  CHECK(run.err.empty());
  CHECK(run.code == 0);
  const auto result = nlohmann::json::parse(studio.text("out/result.json"));
  REQUIRE(result["explanations"].size() == 3);
  std::set<std::string> layers;
  for (const auto& entry : result["explanations"]) {
    const auto layer = entry["layer"].get<std::string>();
    layers.insert(layer);
    CHECK(entry["files"]["overlay"].get<std::string>().ends_with("." + layer + ".overlay.png"));
  }
  CHECK(layers == std::set<std::string>{"layer3", "layer4.0", "layer4.1"});
}

TEST_CASE("explain writes nothing if anything is wrong") {
  const Studio studio;
  studio.write_text("broken.jpg", "not a picture");
  const auto fails = [&](const std::string& arguments, const std::string& part) {
    check_fails(studio.grapnel("explain " + arguments + " --out out" + kModel + kSmall), "explain", part);
    CHECK(studio.count("out") == 0);
  };
  fails("a.png broken.jpg", "broken.jpg: ");
  fails("a.png --method gradcm", "gradcm");
  fails("a.png --layer layer5", "layer5");
  fails("a.png --target doge", "dog");
  fails("a.png --target 10", "10");
  fails("a.png --target cat,doge", "doge");
  fails("a.png --method cam --layer layer3", "Grad-CAM");
  fails("a.png --colormap rainbow", "rainbow");
  fails("a.png --gradient upper", "upper");
  fails("a.png --blend 0.3", "--blend");
}

TEST_CASE("an earlier result.json does not survive a run that fails to write") {
  const Studio studio;
  CHECK(studio.grapnel("explain a.png --target cat --out out" + kModel + kSmall).code == 0);
  std::filesystem::remove(studio.path("out/a.gradcam.3-cat.npy"));
  std::filesystem::create_directories(studio.path("out/a.gradcam.3-cat.npy/in-the-way"));
  check_fails(studio.grapnel("explain a.png --target cat --json --out out" + kModel + kSmall), "explain",
              ".npy");
  CHECK_FALSE(std::filesystem::exists(studio.path("out/result.json")));
}

TEST_CASE("features draws the convolutions of ResNet34 in the order in which they run") {
  const Studio studio;
  studio.make_weights("resnet34");
  const auto run =
      studio.grapnel("features a.png --weights resnet34.safetensors --all-convs --json --out maps" + kSmall);
  CHECK(run.err.empty());
  REQUIRE(run.code == 0);
  const auto layers = run.json()["layers"];
  REQUIRE(layers.size() == 36);
  CHECK(studio.count("maps") == 36);
  CHECK(layers[0]["file"] == "maps/01_conv1.png");
  CHECK(layers[8]["file"] == "maps/09_layer2.0.conv2.png");
  CHECK(layers[9]["file"] == "maps/10_layer2.0.downsample.0.png");
  CHECK(layers[35]["file"] == "maps/36_layer4.2.conv2.png");
  CHECK(layers[0]["shape"] == nlohmann::json({1, 4, 16, 16}));
  const viz::Image sheet = viz::read_image(studio.path("maps/01_conv1.png"));
  CHECK(sheet.width() == 4 * (16 + 2) + 2);
  CHECK(sheet.height() == 16 + 4);
}

TEST_CASE("features refuses layers without maps before it writes") {
  const Studio studio;
  const std::string begin = "features a.png --weights resnet18.safetensors --out maps" + kSmall;
  check_fails(studio.grapnel(begin + " --layer conv1,fc"), "features", "fc returns (1, 10)");
  check_fails(studio.grapnel(begin + " --layer conv2"), "features", "conv2");
  check_fails(studio.grapnel(begin), "features", "--layer");
  check_fails(studio.grapnel(begin + " --layer conv1 --all-convs"), "features", "--all-convs");
  CHECK(studio.count("maps") == 0);
}

TEST_CASE("preprocess writes the network's input") {
  const Studio studio;
  CHECK(studio.grapnel("preprocess a.png --output x.npy").code == 0);
  const Tensor x = viz::read_npy(studio.path("x.npy"));
  CHECK(x.shape() == Shape{1, 3, 224, 224});
  CHECK(testing::distance(x, viz::preprocess(viz::read_image(studio.path("a.png")))) == 0);
  check_fails(studio.grapnel("preprocess a.png --output nowhere/x.npy"), "preprocess", "no folder nowhere");
}
