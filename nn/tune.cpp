#include "grapnel/nn/tune.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <map>
#include <sstream>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops/conv2d_shape.h"
#include "grapnel/engine/random.h"
#include "grapnel/nn/eval_scope.h"
#include "grapnel/nn/layers.h"

namespace grapnel {
namespace {

using kernels::ConvPass;

/// A way must win by so much to be preferred: less is noise, and the rule's bits are everybody's.
constexpr double kWorthIt = 0.97;

constexpr std::pair<const char*, ConvPass> kPasses[] = {{"forward", ConvPass::forward},
                                                        {"input_grad", ConvPass::input_grad},
                                                        {"weight_grad", ConvPass::weight_grad}};

constexpr std::pair<const char*, std::int64_t kernels::Conv2d::*> kSizes[] = {
    {"n", &kernels::Conv2d::n},
    {"c", &kernels::Conv2d::c},
    {"h", &kernels::Conv2d::h},
    {"w", &kernels::Conv2d::w},
    {"k", &kernels::Conv2d::k},
    {"r", &kernels::Conv2d::r},
    {"s", &kernels::Conv2d::s},
    {"oh", &kernels::Conv2d::oh},
    {"ow", &kernels::Conv2d::ow},
    {"stride_h", &kernels::Conv2d::stride_h},
    {"stride_w", &kernels::Conv2d::stride_w},
    {"pad_h", &kernels::Conv2d::pad_h},
    {"pad_w", &kernels::Conv2d::pad_w},
    {"dil_h", &kernels::Conv2d::dil_h},
    {"dil_w", &kernels::Conv2d::dil_w},
    {"groups", &kernels::Conv2d::groups}};

using Key = std::pair<kernels::Conv2d, ConvPass>;

std::string name_of(const Key& key) {
  std::string text;
  for (const auto& [name, pass] : kPasses)
    if (pass == key.second) text = name;
  for (const auto& [name, size] : kSizes)
    text += std::string(" ") + name + "=" + std::to_string(key.first.*size);
  return text;
}

/// What a net does with one convolution, on numbers of its own: its weights' packings go when it goes.
struct Call {
  Call(const kernels::Conv2d& its_shape, const nn::Conv2d& layer)
      : shape(its_shape), options(layer.options()), weight(layer.weight.detach().clone()) {
    Generator generator(0);
    x = Tensor::randn({shape.n, shape.c, shape.h, shape.w}, generator, weight.dtype(), Device::cpu())
            .contiguous(MemoryFormat::channels_last);
    dy = Tensor::randn({shape.n, shape.k, shape.oh, shape.ow}, generator, weight.dtype(), Device::cpu())
             .contiguous(MemoryFormat::channels_last);
  }

  double milliseconds(ConvPass pass) const {
    const auto start = std::chrono::steady_clock::now();
    const Tensor result = pass == ConvPass::forward      ? conv2d(x, weight, {}, options)
                          : pass == ConvPass::input_grad ? conv2d_input_grad(x.shape(), dy, weight, options)
                                                         : conv2d_weight_grad(x, weight.shape(), dy, options);
    result.raw_data();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }

  kernels::Conv2d shape;
  Conv2dOptions options;
  Tensor weight, x, dy;
};

std::vector<Call> calls_of(nn::Module& net, const Tensor& example) {
  std::vector<Call> calls;
  std::vector<ScopedHook> hooks;
  for (const auto& [path, module] : net.named_modules()) {
    const auto* conv = dynamic_cast<const nn::Conv2d*>(module);
    if (!conv) continue;
    if (conv->weight.device() != Device::cpu())
      throw Error("tune: " + path + " is on " + to_string(conv->weight.device()) +
                  "; only convolutions on the CPU can be computed in several ways");
    hooks.emplace_back(module->register_forward_pre_hook(
        [&calls, conv](nn::Module&, const Tensors& inputs) -> std::optional<Tensors> {
          calls.emplace_back(
              describe_conv2d("tune", inputs.at(0).shape(), conv->weight.shape(), conv->options()), *conv);
          return std::nullopt;
        },
        {.name = "tune"}));
  }
  const nn::EvalScope eval(net);
  net(example);
  return calls;
}

/// The ways that a call can be computed, by what the table says when it is asked; the rule's first.
std::vector<std::string> ways_of(const Call& call, ConvPass pass) {
  const auto taken = [&](const char* preferred) -> std::string {
    kernels::prefer_conv2d(call.shape, pass, preferred);
    return dispatch("tune", call.weight, [&]<class T>(const kernels::FloatKernels<T>& table) {
      return std::string(table.conv2d_variant(call.shape, pass));
    });
  };
  std::vector<std::string> ways{taken(nullptr)};
  for (const char* name : kernels::kConv2dVariants) {
    const std::string way = taken(name);
    // Tiles of 6x6 lose more digits than a layer may: nobody gets them without asking.
    if (way != "winograd6" && std::ranges::count(ways, way) == 0) ways.push_back(way);
  }
  kernels::prefer_conv2d(call.shape, pass, nullptr);
  return ways;
}

double median(std::vector<double>& values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

std::vector<ConvChoice> tune(nn::Module& net, const Tensor& example, bool gradients, int rounds) {
  if (rounds < 1) throw Error("tune: " + std::to_string(rounds) + " rounds, expected 1 or more");
  const InferenceMode inference;
  const std::vector<Call> calls = calls_of(net, example);
  std::vector<ConvChoice> choices;
  for (const auto& [name, pass] : kPasses) {
    if (pass != ConvPass::forward && !gradients) break;
    std::map<Key, std::vector<std::string>> ways;
    std::map<Key, std::map<std::string, std::vector<double>>> times;
    std::vector<Key> order;
    std::size_t most = 0;
    for (const Call& call : calls) {
      const auto [entry, is_new] = ways.try_emplace({call.shape, pass}, ways_of(call, pass));
      if (is_new) order.push_back(entry->first);
      most = std::max(most, entry->second.size());
    }
    // Twice to get warm: a weight's packing is kept from its second use on.
    for (int round = -2; round < rounds; ++round)
      for (std::size_t way = 0; way < most; ++way) {
        for (const Key& key : order)
          kernels::prefer_conv2d(key.first, pass, ways[key][way % ways[key].size()].c_str());
        for (const Call& call : calls) {
          const Key key{call.shape, pass};
          const double time = call.milliseconds(pass);
          if (round >= 0) times[key][ways[key][way % ways[key].size()]].push_back(time);
        }
      }
    for (const Key& key : order) {
      ConvChoice choice{name_of(key), ways[key].front(), {}};
      for (const std::string& way : ways[key]) choice.milliseconds.emplace_back(way, median(times[key][way]));
      const auto fastest =
          std::ranges::min_element(choice.milliseconds, {}, &std::pair<std::string, double>::second);
      if (fastest->second < kWorthIt * choice.milliseconds.front().second) choice.variant = fastest->first;
      kernels::prefer_conv2d(key.first, pass,
                             choice.variant == ways[key].front() ? nullptr : choice.variant.c_str());
      choices.push_back(std::move(choice));
    }
  }
  return choices;
}

std::string to_text(const std::vector<ConvChoice>& choices) {
  std::string text = "# How convolutions are computed; measured with the " + std::string(kernel_name()) +
                     " kernels and " + std::to_string(num_threads()) + " threads, in ms.\n";
  for (const ConvChoice& choice : choices) {
    if (choice.milliseconds.size() < 2) continue;  // nothing to choose
    text += choice.convolution + " " + choice.variant + "  #";
    for (const auto& [way, time] : choice.milliseconds) {
      char number[32];
      std::snprintf(number, sizeof number, " %.3f", time);
      text += " " + way + number;
    }
    text += "\n";
  }
  return text;
}

int use_conv_choices(std::string_view text) {
  std::vector<std::pair<Key, const char*>> choices;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const auto wrong = [&](const std::string& what) {
      throw Error("convolution choices, line " + std::to_string(number) + ": " + what);
    };
    std::istringstream words(line.substr(0, line.find('#')));
    std::string word;
    if (!(words >> word)) continue;
    const auto pass = std::ranges::find(kPasses, word, &std::pair<const char*, ConvPass>::first);
    if (pass == std::end(kPasses)) wrong("\"" + word + "\", expected forward, input_grad or weight_grad");
    Key key{{}, pass->second};
    for (const auto& [name, size] : kSizes) {
      const std::string opening = std::string(name) + "=";
      char* end = nullptr;
      if (!(words >> word) || !word.starts_with(opening)) wrong("expected " + opening + "NUMBER");
      key.first.*size = std::strtoll(word.c_str() + opening.size(), &end, 10);
      if (*end || word.size() == opening.size()) wrong("\"" + word + "\", expected " + opening + "NUMBER");
    }
    if (!(words >> word)) wrong("no variant at its end");
    const auto variant = std::ranges::find(kernels::kConv2dVariants, word);
    if (variant == std::end(kernels::kConv2dVariants))
      wrong("\"" + word + "\" names no way to compute a convolution");
    if (words >> word) wrong("\"" + word + "\" after the variant");
    choices.emplace_back(key, *variant);
  }
  for (const auto& [key, variant] : choices) kernels::prefer_conv2d(key.first, key.second, variant);
  return static_cast<int>(choices.size());
}

}  // namespace grapnel
