#include "bench_layers.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops/conv2d_shape.h"
#include "grapnel/nn/layers.h"

namespace grapnel::tools {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::int64_t bytes_of(const Tensor& tensor) {
  return tensor.numel() * static_cast<std::int64_t>(item_size(tensor.dtype()));
}

std::int64_t bytes_of(const Tensors& tensors) {
  std::int64_t total = 0;
  for (const Tensor& tensor : tensors) total += bytes_of(tensor);
  return total;
}

/// Which kernel the layer's forward pass runs; empty if it is no convolution.
std::string kernel_of(const nn::Module& layer, const Shape& x) {
  const auto* conv = dynamic_cast<const nn::Conv2d*>(&layer);
  if (!conv) return {};
  const kernels::Conv2d shape = describe_conv2d("bench", x, conv->weight.shape(), conv->options());
  return kernels::select_cpu()->f32.conv2d_variant(shape, kernels::ConvPass::forward);
}

std::string row(const std::string& name, const std::string& type, const std::string& output,
                const std::string& kernel, double gflop, double ms, double peak, std::int64_t bytes) {
  const auto number = [](double value, int decimals) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
    return value > 0 ? std::string(text) : std::string();  // what does no multiply-adds has no such speed
  };
  const double speed = gflop / ms * 1e3;
  char line[256];
  std::snprintf(line, sizeof line, "%-24s %-18s %-20s %-10s %8s %9.3f %9s %7s %10s\n", name.c_str(),
                type.c_str(), output.c_str(), kernel.c_str(), number(gflop, 4).c_str(), ms,
                number(speed, 1).c_str(), number(100 * speed / peak, 1).c_str(),
                number(static_cast<double>(bytes) / (1 << 20), 2).c_str());
  return line;
}

}  // namespace

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

LayerTimes time_layers(nn::Module& net, const Tensor& x, int repeat) {
  const nn::Summary summary = nn::summarize(net, x.shape());
  const std::size_t count = summary.layers.size();
  std::vector<std::vector<double>> ms(count);
  std::vector<std::int64_t> bytes(count);
  std::vector<std::string> kernels(count);
  std::size_t call = 0;  // of this pass: the summary lists calls in the same order
  Clock::time_point start;
  std::vector<ScopedHook> hooks;
  for (const auto& [path, module] : net.named_modules()) {
    if (!module->named_children().empty()) continue;
    hooks.emplace_back(module->register_forward_pre_hook(
        [&start](nn::Module&, const Tensors&) {
          start = Clock::now();
          return std::nullopt;
        },
        {.name = "bench --layers"}));
    hooks.emplace_back(module->register_forward_hook(
        [&](nn::Module& layer, const Tensors& inputs, const Tensors& outputs) {
          for (const Tensor& output : outputs) output.raw_data();  // fused, it would be computed later
          ms.at(call).push_back(ms_since(start));
          bytes.at(call) = bytes_of(inputs) + bytes_of(outputs);
          for (const auto& [name, tensor] : layer.state_dict()) bytes.at(call) += bytes_of(tensor);
          kernels.at(call) = kernel_of(layer, inputs.at(0).shape());
          ++call;
          return std::nullopt;
        },
        {.name = "bench --layers"}));
  }

  const InferenceMode inference;
  std::vector<double> outside;
  for (int i = 0; i <= repeat; ++i) {
    call = 0;
    const auto begin = Clock::now();
    net(x);
    double rest = ms_since(begin);
    for (const auto& times : ms) rest -= times.back();
    if (i == 0)
      for (auto& times : ms) times.clear();
    else
      outside.push_back(rest);
  }

  LayerTimes result{{}, quantile(outside, 0.5)};
  for (std::size_t i = 0; i < count; ++i)
    result.layers.push_back({summary.layers[i], quantile(ms[i], 0.5), bytes[i], kernels[i]});
  return result;
}

Json to_json(const LayerTimes& times, double peak) {
  Json rows = Json::array();
  for (const LayerTime& time : times.layers) {
    const double speed = time.gflop() / time.ms * 1e3;
    rows.push_back({{"name", time.layer.name},
                    {"type", time.layer.type},
                    {"output", to_json(time.layer.output)},
                    {"kernel", time.kernel},
                    {"gflop", time.gflop()},
                    {"ms", time.ms},
                    {"gflops", speed},
                    {"share", speed / peak},
                    {"bytes", time.bytes}});
  }
  return rows;
}

std::string to_string(const LayerTimes& times, double peak) {
  char head[256];
  std::snprintf(head, sizeof head, "%-24s %-18s %-20s %-10s %8s %9s %9s %7s %10s\n", "layer", "type",
                "output", "kernel", "GFLOP", "ms", "GFLOP/s", "% peak", "MiB moved");
  std::string text = head;
  double gflop = 0, ms = times.outside_ms;
  std::int64_t bytes = 0;
  for (const LayerTime& time : times.layers) {
    text += row(time.layer.name, time.layer.type, to_string(time.layer.output), time.kernel, time.gflop(),
                time.ms, peak, time.bytes);
    gflop += time.gflop();
    ms += time.ms;
    bytes += time.bytes;
  }
  text += row("outside layers", "", "", "", 0, times.outside_ms, peak, 0);
  return text + row("total", "", "", "", gflop, ms, peak, bytes);
}

}  // namespace grapnel::tools
