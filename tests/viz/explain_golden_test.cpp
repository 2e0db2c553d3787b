// Every explanation method against PyTorch in float64, on three small nets (golden/make_explain.py).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "grapnel/engine/ops.h"
#include "grapnel/viz/explain.h"
#include "support/golden.h"
#include "viz/expected.h"
#include "viz/small_nets.h"

using namespace grapnel;
using namespace grapnel::testing;
using namespace grapnel::viz;

namespace {

constexpr double kFloat32 = std::numeric_limits<float>::epsilon();
constexpr double kFileDigits = 1e-11;  // of the golden file, which outweighs float64's roundings

struct Line {
  std::string net, method, layer, kind;
  int target;
  GoldenDigest digest;
};

std::vector<Line> read_lines_of(const std::string& net) {
  std::ifstream file(golden_path("explain.txt"));
  std::vector<Line> lines;
  for (std::string text; std::getline(file, text);) {
    std::istringstream words(text);
    Line line;
    std::size_t rank;
    words >> line.net >> line.method >> line.layer >> line.target >> line.kind >> rank;
    for (std::int64_t size; line.digest.shape.size() < rank && words >> size;)
      line.digest.shape.push_back(size);
    words >> line.digest.digest.norm;
    for (double& projection : line.digest.digest.projections) words >> projection;
    REQUIRE(words);
    if (line.net == net) lines.push_back(line);
  }
  REQUIRE(!lines.empty());
  return lines;
}

Tensor plane(const FloatMap& map) {
  return reshape(to_tensor(map), {map.height, map.width});
}

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

double largest(const Tensor& x) {
  return amax(abs(x)).item();
}

double range(const FloatMap& map) {
  const auto [low, high] = std::minmax_element(map.values.begin(), map.values.end());
  return *high - *low;
}

/// How far float32 may push a value of the heat map: by rounding the raw map, four weights with products and
/// sums, their coordinates (in units of the layer's pixels), and the scaling; all relative to the largest raw
/// value, of which taking the minimum away leaves only the range.
double heat_error(const Explanation& found) {
  const double roundings = 12 + std::max(found.raw.height, found.raw.width);
  return roundings * kFloat32 * largest(to_tensor(found.raw)) / range(found.raw);
}

/// The same for one value of a gradient.
double gradient_error(const Explanation& found, Observation& seen, std::size_t layer) {
  if (found.method != Method::guided_gradcam) return kFileDigits * largest(found.gradient);
  const Explanation factor = explain(seen, Method::gradcam, found.target).at(layer);
  return heat_error(factor) * largest(seen.input_gradient(found.target, ReluRule::guided));
}

/// The relative error allowed for what a line holds.
double tolerance(const std::string& kind, const Explanation& found, Observation& seen, std::size_t layer) {
  if (kind == "raw" || kind == "classic") return kFloat32;
  const double count = std::sqrt(static_cast<double>(found.heat.map.values.size()));
  if (kind == "gradient")
    return gradient_error(found, seen, layer) * std::sqrt(3.0) * count /
           norm(found.gradient.to_vector<double>());
  double error = heat_error(found);
  if (found.gradient.defined()) error += gradient_error(found, seen, layer) / range(found.raw);
  return error * count / norm(to_tensor(found.heat.map).to_vector<double>());
}

Tensor value_of(const std::string& kind, const Explanation& found) {
  if (kind == "raw") return plane(found.raw);
  if (kind == "heat") return plane(found.heat.map);
  if (kind == "classic") return plane(found.heat.map) * 255.0;
  REQUIRE(kind == "gradient");
  return found.gradient;
}

/// The explanation of the observed layer with this number, or the only one.
Explanation explanation_of(const Line& line, Observation& seen, std::size_t layer) {
  const Method method = parse_method(line.method);
  const auto all = explain(seen, method, line.target, {.classic_tail = line.kind == "classic"});
  return all.at(needs_layers(method) ? layer : 0);
}

void check_net(const std::string& name, nn::Module& net, const Tensor& x,
               const std::vector<std::string>& layers) {
  Observation all(net, x, observe_for(all_methods(), layers));
  // CAM applies to one of the layers only, and refuses the others.
  Observation first(net, x, {.layers = {layers[0]}});
  for (const Line& line : read_lines_of(name)) {
    CAPTURE(line.method);
    CAPTURE(line.layer);
    CAPTURE(line.target);
    CAPTURE(line.kind);
    if (line.method == "logits") {
      CHECK(relative_error(all.logits(), line.digest) <= kFileDigits);
      continue;
    }
    Observation& seen = line.method == "cam" ? first : all;
    const auto at = std::find(layers.begin(), layers.end(), line.layer);
    const std::size_t layer = line.layer == "-" ? 0 : static_cast<std::size_t>(at - layers.begin());
    const Explanation found = explanation_of(line, seen, layer);
    CHECK(found.layer == (line.layer == "-" ? "" : line.layer));
    CHECK_FALSE(found.heat.flat);
    CHECK(relative_error(value_of(line.kind, found), line.digest) <=
          tolerance(line.kind, found, seen, layer));
  }
}

}  // namespace

TEST_CASE("explanations of a residual net are PyTorch's") {
  check_net("resnet", *narrow_resnet(), resnet_picture(), {"layer4", "layer2.1.relu", "layer1.0.conv1"});
}

TEST_CASE("explanations of a plain net are PyTorch's, also with in-place ReLUs") {
  for (const bool inplace : {false, true})
    check_net("plain", *plain_net(inplace), picture_for("plain", 22, 18), {"0.6", "0.4", "0.3"});
}

TEST_CASE("explanations of a net that uses one ReLU three times are PyTorch's") {
  check_net("repeated", *repeated_net(), picture_for("repeated", 9, 13), {"relu", "conv1"});
}
