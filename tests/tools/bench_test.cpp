// grapnel bench: what it tells, not how long things take.
#include <doctest/doctest.h>

#include <sstream>

#include "program.h"

using grapnel::testing::check_fails;
using grapnel::testing::Workshop;
using nlohmann::json;

namespace {

const std::string kSmall = "bench --model resnet18 --width 4 --size 64 --threads 1 --warmup 1 ";

json report(const Workshop& shop, const std::string& arguments) {
  const auto run = shop.grapnel(kSmall + "--json " + arguments);
  CAPTURE(run.err);
  REQUIRE_EQ(run.code, 0);
  return run.json();
}

}  // namespace

TEST_CASE("bench: each task, for one picture and for several") {
  const Workshop shop;
  for (const std::string task : {"infer", "gradcam", "gradcam --full-backward", "backward", "train"})
    for (const int batch : {1, 2}) {
      CAPTURE(task);
      CAPTURE(batch);
      const json found = report(shop, "--repeat 3 --batch " + std::to_string(batch) + " --task " + task);
      CHECK_EQ(found["task"], task.substr(0, task.find(' ')));
      CHECK_EQ(found["batch"], batch);
      CHECK_EQ(found["threads"], 1);
      CHECK_EQ(found["times_ms"].size(), 3);
      CHECK_GT(found["p10_ms"], 0);
      CHECK_LE(found["p10_ms"], found["median_ms"]);
      CHECK_LE(found["median_ms"], found["p90_ms"]);
      CHECK_GT(found["peak_mib"], 0);
      const double median = found["median_ms"];
      CHECK_EQ(found["images_per_s"].get<double>(), doctest::Approx(1e3 * batch / median));
      CHECK_FALSE(found.contains("layers"));
    }
}

TEST_CASE(
    "bench: the work of a backward pass and of a training step is that of two and three forward passes") {
  const Workshop shop;
  const auto work = [&](const std::string& task) {
    const json found = report(shop, "--repeat 1 --task " + task);
    return found["gflops"].get<double>() * found["median_ms"].get<double>();
  };
  const double forward = work("infer");
  CHECK_EQ(work("gradcam"), doctest::Approx(forward));
  CHECK_EQ(work("backward"), doctest::Approx(2 * forward));
  CHECK_EQ(work("train"), doctest::Approx(3 * forward));
}

TEST_CASE("bench --layers: a row for each call of a layer, which add up to the net") {
  const Workshop shop;
  const json found = report(shop, "--repeat 2 --batch 3 --layers");
  const json summary = shop.grapnel("summary --model resnet18 --width 4 --size 64 --json").json();
  REQUIRE_EQ(found["layers"].size(), summary["layers"].size());
  CHECK_GT(found["peak_gflops"], 0);
  double gflop = 0;
  for (std::size_t i = 0; i < found["layers"].size(); ++i) {
    const json& layer = found["layers"][i];
    CAPTURE(layer.dump());
    CHECK_EQ(layer["name"], summary["layers"][i]["name"]);
    CHECK_EQ(layer["type"], summary["layers"][i]["type"]);
    CHECK_EQ(layer["output"][0], 3);
    CHECK_GT(layer["ms"], 0);
    const double ms = layer["ms"], peak = found["peak_gflops"];
    CHECK_EQ(layer["gflops"].get<double>(), doctest::Approx(layer["gflop"].get<double>() / ms * 1e3));
    CHECK_EQ(layer["share"].get<double>(), doctest::Approx(layer["gflops"].get<double>() / peak));
    gflop += layer["gflop"].get<double>();
  }
  CHECK_EQ(gflop, doctest::Approx(found["gflops"].get<double>() * found["median_ms"].get<double>() * 1e-3));

  // conv1: x (3,3,64,64), weight (4,3,7,7), y (3,4,32,32); bn1: y twice and four vectors of 4, and a counter.
  CHECK_EQ(found["layers"][0]["gflop"].get<double>(), doctest::Approx(2e-9 * 3 * 4 * 32 * 32 * 3 * 7 * 7));
  CHECK_EQ(found["layers"][0]["bytes"], 4 * (3 * 3 * 64 * 64 + 4 * 3 * 7 * 7 + 3 * 4 * 32 * 32));
  CHECK_EQ(found["layers"][0]["kernel"], "winograd4rows");
  CHECK_EQ(found["layers"][1]["name"], "bn1");
  CHECK_EQ(found["layers"][1]["kernel"], "");
  CHECK_EQ(found["layers"][1]["bytes"], 4 * (2 * 3 * 4 * 32 * 32 + 4 * 4) + 8);
}

TEST_CASE("bench --layers: the table has the same rows, what is outside, and totals") {
  const Workshop shop;
  const auto run = shop.grapnel(kSmall + "--repeat 1 --layers");
  REQUIRE_EQ(run.code, 0);
  std::istringstream text(run.out);
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  REQUIRE_GT(lines.size(), 5);
  CHECK_NE(lines[0].find("resnet18 infer, batch 1"), std::string::npos);
  CHECK_NE(lines[1].find("peak"), std::string::npos);
  CHECK_EQ(lines[2].find("layer "), 0);
  CHECK_EQ(lines[3].find("conv1 "), 0);
  CHECK_EQ(lines[lines.size() - 3].find("fc "), 0);
  CHECK_EQ(lines[lines.size() - 2].find("outside layers "), 0);
  CHECK_EQ(lines.back().find("total "), 0);
}

TEST_CASE("bench --serve answers each line with a measurement") {
  const Workshop shop;
  for (const std::string task : {"infer", "train"}) {
    shop.write_text("lines.txt", "go\ngo\n");
    const auto served = shop.grapnel(kSmall + "--repeat 2 --serve --task " + task + " < lines.txt");
    REQUIRE_EQ(served.code, 0);
    std::istringstream text(served.out);
    std::vector<json> answers;
    for (std::string line; std::getline(text, line);) answers.push_back(json::parse(line));
    REQUIRE_EQ(answers.size(), 3);
    CHECK_EQ(answers[0]["ready"], true);
    CHECK_EQ(answers[0]["threads"], 1);
    for (const std::size_t i : {1, 2}) {
      CHECK_EQ(answers[i]["times_ms"].size(), 2);
      CHECK_GT(answers[i]["peak_mib"], 0);
    }
  }
}

TEST_CASE("bench --ladder: every step of both ladders, as JSON, and as a plot") {
  const Workshop shop;
  const auto run = shop.grapnel("bench --ladder --threads 2 --repeat 1 --warmup 0 --json --plot ladder.svg");
  CAPTURE(run.err);
  REQUIRE_EQ(run.code, 0);
  const json found = run.json();
  CHECK_EQ(found["threads"], 2);
  const double peak = found["peak_gflops"];
  CHECK_GT(peak, 0);
  REQUIRE_EQ(found["ladders"].size(), 2);
  const json &gemm = found["ladders"][0], &conv = found["ladders"][1];
  CHECK_EQ(gemm["name"], "gemm");
  CHECK_EQ(gemm["steps"][0]["gflop"].get<double>(), doctest::Approx(2e-9 * 16 * 1024 * 1024));
  CHECK_EQ(gemm["steps"].back()["name"], "shipped");
  CHECK_EQ(gemm["steps"].back()["gflop"].get<double>(), doctest::Approx(2e-9 * 448 * 1024 * 1024));
  CHECK_EQ(conv["name"], "conv2d");
  CHECK_EQ(conv["steps"][0]["gflop"].get<double>(), doctest::Approx(2e-9 * 56 * 56 * 64 * 64 * 9));
  CHECK_EQ(conv["steps"].back()["name"], "winograd");
  const std::string plot = shop.text("ladder.svg");
  CHECK_EQ(plot.substr(0, 5), "<svg ");
  for (const json& ladder : found["ladders"]) {
    CHECK_NE(plot.find(ladder["work"].get<std::string>()), std::string::npos);
    CHECK_EQ(ladder["steps"][0]["name"], "naive");
    CHECK_EQ(ladder["steps"][0]["threads"], 1);
    CHECK_EQ(ladder["steps"].back()["threads"], 2);
    for (const json& step : ladder["steps"]) {
      CAPTURE(step.dump());
      REQUIRE_EQ(step["times_ms"].size(), 1);
      CHECK_EQ(step["median_ms"], step["times_ms"][0]);
      const double ms = step["median_ms"];
      CHECK_EQ(step["gflops"].get<double>(), doctest::Approx(step["gflop"].get<double>() / ms * 1e3));
      CHECK_EQ(step["share"].get<double>(), doctest::Approx(step["gflops"].get<double>() / peak));
      CHECK_NE(plot.find(">" + step["name"].get<std::string>() + "<"), std::string::npos);
    }
  }
}

TEST_CASE("bench refuses what does not go together in one line") {
  const Workshop shop;
  check_fails(shop.grapnel(kSmall + "--layers --task train"), "bench", "--task infer only");
  check_fails(shop.grapnel(kSmall + "--layers --serve"), "bench", "not with --serve");
  check_fails(shop.grapnel(kSmall + "--full-backward"), "bench", "--task gradcam");
  check_fails(shop.grapnel(kSmall + "--task sleep"), "bench", "sleep");
  check_fails(shop.grapnel("bench --ladder --model resnet18"), "bench", "leave out --model");
  check_fails(shop.grapnel("bench --ladder --layers"), "bench", "leave out --layers");
  check_fails(shop.grapnel("bench --ladder --task train"), "bench", "leave out --task");
  check_fails(shop.grapnel("bench --ladder --eager"), "bench", "leave out --eager");
  check_fails(shop.grapnel(kSmall + "--plot ladder.svg"), "bench", "--plot belongs to --ladder");
  check_fails(shop.grapnel("bench --ladder --plot nowhere/ladder.svg"), "bench", "nowhere");
}

TEST_CASE("tune: a file of choices, which other commands take") {
  const Workshop shop;
  const std::string net = "--model resnet18 --width 16 --size 64 --threads 1 ";
  const auto tuned = shop.grapnel("tune " + net + "--rounds 1 --out choices --json");
  CAPTURE(tuned.err);
  REQUIRE_EQ(tuned.code, 0);
  const json choices = tuned.json()["choices"];
  CHECK_EQ(choices.size(),
           11);  // three of the 3x3 with stride 1 in a stage are alike, and its 1x1 is another
  for (const json& choice : choices)
    CHECK(choice["median_ms"].contains(choice["variant"].get<std::string>()));

  // The first 3x3 convolution as the file says, whatever was measured.
  const std::string line = choices[1]["convolution"].get<std::string>();
  for (const std::string wanted : {"direct", "winograd2"}) {
    shop.write_text("choices", line + " " + wanted + "\n");
    const auto run = shop.grapnel("bench " + net + "--layers --repeat 1 --json --choices choices");
    CAPTURE(run.err);
    REQUIRE_EQ(run.code, 0);
    const json found = run.json();
    for (const json& layer : found["layers"])
      if (layer["name"] == "layer1.0.conv1") CHECK_EQ(layer["kernel"], wanted);
  }
  shop.write_text("choices", line + " somehow\n");
  check_fails(shop.grapnel("bench " + net + "--choices choices"), "bench",
              "choices: convolution choices, line 1: \"somehow\"");
  check_fails(shop.grapnel("bench " + net + "--choices missing"), "bench", "missing");
  check_fails(shop.grapnel("tune " + net + "--out no/folder"), "tune", "no");
}
