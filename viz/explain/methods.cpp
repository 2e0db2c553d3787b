#include "grapnel/viz/explain/methods.h"

#include <algorithm>
#include <vector>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"

namespace grapnel::viz {
namespace {

template <MapFormula formula>
void layer_map(Observation& seen, std::size_t layer, const ExplainOptions&, Explanation& result) {
  set_map(seen, formula(seen.activation(layer), seen.gradient(layer, result.target)), result);
}

template <ReluRule rule>
void input_map(Observation& seen, std::size_t, const ExplainOptions&, Explanation& result) {
  set_gradient(seen.input_gradient(result.target, rule), result);
}

constexpr MethodRow kMethods[] = {
    // method, name, layers, input_gradient, compute
    {Method::cam, "cam", true, false, cam},
    {Method::gradcam, "gradcam", true, false, layer_map<gradcam>},
    {Method::gradcam_plus_plus, "gradcam++", true, false, layer_map<gradcam_plus_plus>},
    {Method::xgradcam, "xgradcam", true, false, layer_map<xgradcam>},
    {Method::hirescam, "hirescam", true, false, layer_map<hirescam>},
    {Method::elementwise, "elementwise", true, false, layer_map<elementwise>},
    {Method::layercam, "layercam", true, false, layer_map<layercam>},
    {Method::guided, "guided", false, true, input_map<ReluRule::guided>},
    {Method::deconvnet, "deconvnet", false, true, input_map<ReluRule::deconvnet>},
    {Method::guided_gradcam, "guided-gradcam", true, true, guided_gradcam},
    {Method::saliency, "saliency", false, true, input_map<ReluRule::ordinary>},
};

const MethodRow& row_of(Method method) {
  return *std::find_if(std::begin(kMethods), std::end(kMethods),
                       [method](const MethodRow& row) { return row.method == method; });
}

}  // namespace

std::span<const Method> all_methods() {
  static const std::vector<Method> methods = [] {
    std::vector<Method> result;
    for (const MethodRow& row : kMethods) result.push_back(row.method);
    return result;
  }();
  return methods;
}

std::string_view name(Method method) {
  return row_of(method).name;
}

Method parse_method(std::string_view name) {
  std::string known;
  for (const MethodRow& row : kMethods) {
    if (name == row.name) return row.method;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw NameError("no method \"" + std::string(name) + "\"; there are " + known);
}

bool needs_layers(Method method) {
  return row_of(method).layers;
}

ObserveOptions observe_for(std::span<const Method> methods, std::vector<std::string> layers) {
  ObserveOptions options;
  for (const Method method : methods) {
    const MethodRow& row = row_of(method);
    options.input_gradient |= row.input_gradient;
    if (!row.layers) continue;
    if (layers.empty())
      throw NameError(std::string(row.name) +
                      " explains a layer and none was named; \"layer4\" is the usual "
                      "one of a ResNet, \"features.29\" of VGG16");
    options.layers = layers;
  }
  return options;
}

std::vector<Explanation> explain(Observation& seen, Method method, int target,
                                 const ExplainOptions& options) {
  const MethodRow& row = row_of(method);
  if (row.layers && seen.layer_count() == 0)
    throw Error(std::string(row.name) + ": no layer was observed; see observe_for");
  const NoGrad no_grad;
  std::vector<Explanation> results;
  const std::size_t count = row.layers ? seen.layer_count() : 1;
  for (std::size_t layer = 0; layer < count; ++layer) {
    Explanation result{.method = method,
                       .target = target,
                       .score = seen.score(target),
                       .probability = seen.probability(target),
                       .layer = row.layers ? seen.layer_name(layer) : "",
                       .raw = {},
                       .heat = {},
                       .gradient = {}};
    row.compute(seen, layer, options, result);
    results.push_back(std::move(result));
  }
  return results;
}

void set_map(const Observation& seen, const Tensor& map, Explanation& result) {
  result.raw = to_map(map);
  const Tensor& input = seen.input();
  result.heat = min_max(resize(result.raw, static_cast<int>(input.size(2)), static_cast<int>(input.size(3))));
}

void set_gradient(const Tensor& gradient, Explanation& result) {
  result.gradient = gradient;
  result.raw = to_map(amax(abs(gradient), {1}));
  result.heat = min_max(result.raw);
}

}  // namespace grapnel::viz
