#include "grapnel/nn/summary.h"

#include <algorithm>
#include <iomanip>
#include <set>
#include <sstream>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/nn/eval_scope.h"
#include "grapnel/nn/layers.h"

namespace grapnel::nn {
namespace {

/// Each output element of a convolution or linear layer is a sum of as many products as its filter has
/// weights.
std::int64_t multiply_adds(const Module& module, const Tensor& output) {
  const Tensor* weight = nullptr;
  if (const auto* conv = dynamic_cast<const Conv2d*>(&module)) weight = &conv->weight;
  if (const auto* linear = dynamic_cast<const Linear*>(&module)) weight = &linear->weight;
  return weight ? output.numel() * (weight->numel() / weight->size(0)) : 0;
}

std::int64_t count(const Tensors& tensors) {
  std::int64_t total = 0;
  for (const Tensor& tensor : tensors) total += tensor.numel();
  return total;
}

std::string with_commas(std::int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

Summary summarize(Module& net, const Shape& input) {
  Summary summary;
  std::set<const Module*> seen;
  std::vector<ScopedHook> hooks;
  for (const auto& [path, listed] : net.named_modules()) {
    if (!listed->named_children().empty()) continue;
    const auto note = [&, name = path](Module& module, const Tensors&,
                                       const Tensors& outputs) -> std::optional<Tensors> {
      const Tensor& output = outputs.at(0);
      const bool first = seen.insert(&module).second;
      summary.layers.push_back({name, module.type_name(), module.settings(), output.shape(),
                                first ? count(module.parameters()) : 0, multiply_adds(module, output)});
      return std::nullopt;
    };
    hooks.emplace_back(listed->register_forward_hook(note, {.name = "summary"}));
  }
  EvalScope eval(net);
  NoGrad no_grad;
  const Tensors parameters = net.parameters();
  net(Tensor::zeros(input, DType::float32,
                    parameters.empty() ? default_device() : parameters.front().device()));
  summary.parameters = count(parameters);
  for (const LayerSummary& layer : summary.layers) summary.multiply_adds += layer.multiply_adds;
  return summary;
}

std::string to_string(const Summary& summary) {
  std::vector<std::vector<std::string>> rows{{"layer", "type", "output", "parameters", "multiply-adds"}};
  for (const LayerSummary& layer : summary.layers)
    rows.push_back({layer.name, layer.type, to_string(layer.output), with_commas(layer.parameters),
                    with_commas(layer.multiply_adds)});
  rows.push_back({"total", "", "", with_commas(summary.parameters), with_commas(summary.multiply_adds)});

  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::ostringstream out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      out << (i ? "  " : "") << (i < 3 ? std::left : std::right) << std::setw(static_cast<int>(widths[i]))
          << row[i];
    out << '\n';
  }
  return out.str();
}

}  // namespace grapnel::nn
