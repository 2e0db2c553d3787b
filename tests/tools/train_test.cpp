// Training and evaluating, from class folders to a network that other commands use.
#include <doctest/doctest.h>

#include <cstdlib>

#include "grapnel/viz/codec.h"
#include "grapnel/weights/weights.h"
#include "program.h"

using namespace grapnel;
using testing::check_fails;
using testing::Workshop;

namespace {

constexpr const char* kClasses[] = {"blue", "green", "red"};

/// Three classes that differ by colour, so that a small net learns them in seconds.
struct School : Workshop {
  School() {
    make_set("train", 12);
    make_set("test", 6);
  }

  void make_set(const std::string& folder, int pictures) const {
    for (int label = 0; label < 3; ++label)
      make_class(folder + "/" + kClasses[label], {2 - label}, 1000 * label, pictures);
  }
  /// Dark noise, in which some channels are bright.
  void make_class(const std::string& folder, std::initializer_list<int> channels, int seed,
                  int pictures) const {
    std::filesystem::create_directories(path(folder));
    for (int i = 0; i < pictures; ++i) {
      viz::Image image(12, 12, 3);
      Generator generator(static_cast<std::uint64_t>(seed + i));
      for (std::uint8_t& value : image.pixels()) value = static_cast<std::uint8_t>(generator.bits() % 120);
      for (int y = 0; y < 12; ++y)
        for (int x = 0; x < 12; ++x)
          for (const int channel : channels) image.row(y)[3 * x + channel] += 110;
      viz::write_image(path(folder) / (std::to_string(i) + ".png"), image);
    }
  }
  testing::Run train(const std::string& out, const std::string& more = "") const {
    return grapnel("train train " + kSmall + " --epochs 8 --out " + out + " " + more);
  }
  bool same_tensors(const std::string& a, const std::string& b) const {
    const auto x = weights::read(path(a).string()), y = weights::read(path(b).string());
    REQUIRE(x.tensors.size() == y.tensors.size());
    for (std::size_t i = 0; i < x.tensors.size(); ++i)
      if (x.tensors[i].first != y.tensors[i].first ||
          x.tensors[i].second.to_vector<float>() != y.tensors[i].second.to_vector<float>())
        return false;
    return true;
  }

  const std::string kSmall = "--width 4 --size 16 --batch 8 --lr 0.05 --crop-scale 0.5 --val test";
};

}  // namespace

TEST_CASE("a trained network knows its classes, and its file is enough for every other command") {
  const School school;
  // Wide and long enough that every seed gets there: of forty tried, all knew every picture.
  const auto run = school.grapnel(
      "train train --width 8 --size 16 --batch 12 --lr 0.02 --crop-scale 0.5 --epochs 12 --val test "
      "--out m.safetensors --json");
  CHECK(run.err.empty());
  REQUIRE(run.code == 0);
  CHECK(run.json()["epochs"] == 12);
  const double accuracy = run.json()["last"]["val_accuracy"];
  CHECK(accuracy > 0.9);

  const auto lines = school.text("m.jsonl");
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 12);
  CHECK(school.text("m.svg").find("</svg>") != std::string::npos);
  const auto metadata = weights::read(school.path("m.safetensors").string()).metadata;
  CHECK(metadata.at("model") == "resnet18");
  CHECK(metadata.at("classes") == R"(["blue","green","red"])");
  CHECK(metadata.at("command").find("--lr 0.02") != std::string::npos);

  const auto evaluated = school.grapnel("evaluate test --weights m.safetensors --json").json();
  CHECK(evaluated["pictures"] == 18);
  CHECK(evaluated["accuracy"] == accuracy);
  CHECK(evaluated["loss"].get<double>() ==
        doctest::Approx(run.json()["last"]["val_loss"].get<double>()).epsilon(1e-5));
  const auto classified = school.grapnel("classify test/red/0.png --weights m.safetensors --json").json();
  CHECK(classified["pictures"][0]["predictions"][0]["label"] == "red");
}

TEST_CASE("a run depends on the seed and on nothing else") {
  const School school;
  const std::string changes = "--pad 2 --jitter 0.2 --erase 0.5 --cutmix 0.5 --seed ";
  REQUIRE(school.train("a.safetensors", changes + "5").code == 0);
  REQUIRE(school.train("b.safetensors", changes + "5 --threads 1 --workers 3").code == 0);
  REQUIRE(school.train("c.safetensors", changes + "6").code == 0);
  CHECK(school.text("a.safetensors") == school.text("b.safetensors"));
  CHECK_FALSE(school.same_tensors("a.safetensors", "c.safetensors"));
}

TEST_CASE("a run that was interrupted ends in the same bits") {
  const School school;
  const std::string command = school.kSmall + " --epochs 40";
  REQUIRE(school.grapnel("train train " + command + " --out whole.safetensors").code == 0);

  // However many times it is stopped, and wherever. A busy machine may stop it before it has begun: it gets a
  // little longer each time.
  int stops = 0;
  std::string resume;
  for (double seconds = 0.25;; seconds += 0.05) {
    const auto run =
        school.interrupted("train train " + command + " --out parts.safetensors" + resume, seconds);
    if (run.code == 0) break;
    REQUIRE(run.code == 130);
    if (run.err.empty()) continue;
    CHECK(run.err.find("--resume") != std::string::npos);
    ++stops;
    resume = " --resume";
  }
  CHECK(stops > 0);
  CHECK(school.text("whole.safetensors") == school.text("parts.safetensors"));
}

TEST_CASE("a loaded network goes on with other classes, and what is frozen stays") {
  const School school;
  school.make_weights("resnet18", 7);
  const auto run = school.train("m.safetensors",
                                "--init resnet18.safetensors --freeze conv1. --freeze bn1. --freeze layer1.");
  REQUIRE(run.code == 0);
  const auto before = weights::read(school.path("resnet18.safetensors").string()).tensors;
  const auto after = weights::read(school.path("m.safetensors").string()).tensors;
  REQUIRE(before.size() == after.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    const auto& [name, tensor] = after[i];
    CAPTURE(name);
    const bool frozen = name.starts_with("conv1.") || name.starts_with("bn1.") || name.starts_with("layer1.");
    if (name.starts_with("fc."))
      CHECK(tensor.size(0) == 3);
    else
      CHECK((tensor.to_vector<float>() == before[i].second.to_vector<float>()) == frozen);
  }
}

TEST_CASE("broken pictures end a run, or are skipped and counted") {
  const School school;
  school.write_text("train/red/0.png", "no picture");
  check_fails(school.train("m.safetensors", "--json"), "train", "train/red/0.png");
  CHECK_FALSE(std::filesystem::exists(school.path("m.safetensors")));
  const auto run = school.train("m.safetensors", "--skip-bad --json");
  REQUIRE(run.code == 0);
  CHECK(run.json()["skipped"] == 1);

  for (const auto& file : std::filesystem::recursive_directory_iterator(school.path("train")))
    if (file.is_regular_file()) std::filesystem::resize_file(file, 20);
  check_fails(school.train("n.safetensors", "--skip-bad --json"), "train",
              "none of its pictures can be read");
}

TEST_CASE("what training refuses is told in one line, and nothing is lost") {
  const School school;
  const auto fails = [&](const std::string& arguments, const std::string& part) {
    CAPTURE(arguments);
    check_fails(school.grapnel("train " + arguments + " --json"), "train", part);
  };
  const std::string small = school.kSmall + " --epochs 2 ";
  fails("nowhere --out m.safetensors", "nowhere");
  fails("train --out m.pth", ".safetensors");
  fails("train --out no/m.safetensors", "no folder");
  fails("train --model resnet50 --out m.safetensors", "resnet50");
  fails("train " + small + " --freeze layer9. --out m.safetensors", "layer9.");
  fails("train " + small + " --init m.png --out m.safetensors", "m.png");
  fails("train " + small + " --resume --out m.safetensors", "m.checkpoint");
  school.make_weights("resnet18");
  fails("train --width 8 --init resnet18.safetensors --out m.safetensors", "has width 4");
  std::filesystem::create_directory(school.path("train/violet"));
  fails("train " + small + " --out m.safetensors", "violet");
  std::filesystem::remove(school.path("train/violet"));
  fails("train/red --out m.safetensors", "train/red");
  fails("train --width 4 --size 16 --batch 8 --epochs 3 --lr 1e6 --crop-scale 1 --out nan.safetensors",
        "the loss is not finite");

  REQUIRE(school.grapnel("train train " + small + " --out m.safetensors --json").code == 0);
  fails("train " + small + " --out m.safetensors", "--resume");
  fails("train " + small + " --seed 3 --resume --out m.safetensors", "--seed is 3, was 0");
  const std::string checkpoint = school.text("m.checkpoint");
  school.write_text("m.checkpoint", checkpoint.substr(0, checkpoint.size() - 100));
  fails("train " + small + " --resume --out m.safetensors", "m.checkpoint");
  std::filesystem::copy_file(school.path("m.safetensors"), school.path("m.checkpoint"),
                             std::filesystem::copy_options::overwrite_existing);
  fails("train " + small + " --resume --out m.safetensors", "is no checkpoint");
}

TEST_CASE("a full disk ends a run, and what was written before stays good") {
  const School school;
  const std::string command = "train train " + school.kSmall + " --epochs 40 --json --out ";
  REQUIRE(school.grapnel(command + "whole.safetensors").code == 0);
  REQUIRE(school.interrupted(command + "m.safetensors", 0.3).code == 130);
  const std::string checkpoint = school.text("m.checkpoint");
  check_fails(school.with_little_room(command + "m.safetensors --resume", 64), "train", "m.");
  CHECK(school.text("m.checkpoint") == checkpoint);
  REQUIRE(school.grapnel(command + "m.safetensors --resume").code == 0);
  CHECK(school.text("m.safetensors") == school.text("whole.safetensors"));
}

TEST_CASE("evaluate compares the folder's classes with the network's") {
  const School school;
  school.make_weights("resnet18", 3);
  CHECK(school.grapnel("evaluate test --weights resnet18.safetensors --resize 16 --crop 16").code == 0);
  check_fails(school.grapnel("evaluate test"), "evaluate", "3 class folders");
  std::filesystem::rename(school.path("test/red"), school.path("test/rose"));
  REQUIRE(school.grapnel("train train --width 4 --size 16 --epochs 1 --out m.safetensors").code == 0);
  check_fails(school.grapnel("evaluate test --weights m.safetensors"), "evaluate", "\"rose\"");
}

TEST_CASE("the pointing game counts the heat in the right cell") {
  const School school;
  school.make_class("train/white", {0, 1, 2}, 3000, 12);
  school.make_class("test/white", {0, 1, 2}, 3000, 6);
  REQUIRE(school.train("m.safetensors").code == 0);
  const auto run = school.grapnel(
      "pointing-game test --weights m.safetensors --mosaics 2 --confidence 0 --method gradcam,layercam "
      "--json");
  INFO(run.err);
  REQUIRE(run.code == 0);
  const auto report = run.json();
  CHECK(report["mosaics"] == 2);
  REQUIRE(report["methods"].size() == 2);
  for (const auto& method : report["methods"]) {
    CHECK(method["mean_share"] >= 0);
    CHECK(method["mean_share"] <= 1);
  }
  check_fails(school.grapnel("pointing-game test --weights m.safetensors --mosaics 1000"), "pointing-game",
              "--mosaics");
}

TEST_CASE("the report is one page with its pictures inside") {
  const School school;
  const auto run = school.grapnel("report test/red/0.png --resize 64 --crop 64 --out page.html");
  REQUIRE(run.code == 0);
  CHECK(run.out == "page.html\n");
  const std::string page = school.text("page.html");
  for (const char* part :
       {"<title>", "gradcam++", "guided-gradcam", "data:image/png;base64,iVBOR", "layer4", "</html>"})
    CHECK(page.find(part) != std::string::npos);
  CHECK(page.find("http") == std::string::npos);
}
