#include "bench_tasks.h"

#include <chrono>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/plan.h"
#include "grapnel/nn/sgd.h"
#include "grapnel/viz/capture.h"
#include "grapnel/viz/explain.h"
#include "output.h"

namespace grapnel::tools {
namespace {

/// On a CUDA device, fused, by one graph.
Task make_infer(const Model& model, const Tensor& x) {
  if (x.device() != Device::cpu() && Fusion::enabled()) {
    HookHandle(model.inputs_move)
        .remove();  // the batch is there, and a hook would have to be called each time
    return [ask = plan(model.net, x), x] { ask(x); };
  }
  return [net = model.net, x] {
    const InferenceMode inference;
    (*net)(x);
  };
}

/// The sum over the batch of each picture's largest logit: in eval mode, where pictures do not influence each
/// other, its gradient is that of each one's own.
Tensor top_logits(const Tensor& logits) {
  return sum(amax(logits, {1}));
}

void make_map(const Tensor& activation, const Tensor& gradient, const Tensor& x) {
  const NoGrad no_grad;
  const Tensor map = relu(sum(mean(gradient, {2, 3}, true) * activation, {1}, true));
  interpolate(map, x.size(2), x.size(3), Resample::bilinear);
}

/// One picture, by the way of `grapnel explain`.
Task make_gradcam(nn::Module& net, const Tensor& x, const std::string& layer) {
  return [&net, x, layer] {
    const viz::Method method = viz::Method::gradcam;
    viz::Observation seen(net, x, viz::observe_for({&method, 1}, {layer}));
    viz::explain(seen, method, viz::resolve_targets("top1", seen.logits()).front());
  };
}

/// Several pictures at once: the layer's output is replaced by a leaf, so that nothing before it is recorded.
Task make_gradcam_batch(nn::Module& net, const Tensor& x, const std::string& layer) {
  net.set_requires_grad(false);
  return [&net, x, layer] {
    Tensor activation;
    const ScopedHook hook = net.at(layer).register_forward_hook(
        [&activation](nn::Module&, const Tensors&, const Tensors& outputs) {
          activation = outputs.at(0).detach().set_requires_grad();
          return std::optional(Tensors{activation});
        });
    const Tensor score = top_logits(net(x));
    make_map(activation, grad({score}, {activation}).front(), x);
  };
}

Task make_gradcam_full(nn::Module& net, const Tensor& x, const std::string& layer) {
  return [&net, x, layer] {
    const viz::Capture seen(net.at(layer), viz::CaptureMode::alias);
    top_logits(net(x)).backward();
    make_map(seen.activation(), seen.gradient(), x);
    net.zero_grad();
  };
}

Task make_backward(nn::Module& net, const Tensor& x) {
  net.set_requires_grad(false);
  const Tensor input = x.clone().set_requires_grad();
  return [&net, input] {
    const Tensor gradient = grad({top_logits(net(input))}, {input}).front();
    gradient.raw_data();  // fused, it is computed when somebody looks
  };
}

Task make_train(nn::Module& net, const Tensor& x, std::int64_t classes) {
  net.train();
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < x.size(0); ++i) labels.push_back(i % classes);
  const Tensor wanted = Tensor::from(std::span<const std::int64_t>(labels), {x.size(0)}).to(x.device());
  const nn::SGDOptions settings{.lr = 1e-3, .momentum = 0.9, .weight_decay = 1e-4};
  const auto optimizer = std::make_shared<nn::SGD>(net.parameters(), settings);
  return [&net, x, wanted, optimizer] {
    cross_entropy(net(x), wanted).backward();
    optimizer->step();
    optimizer->zero_grad();
  };
}

}  // namespace

Task make_task(const std::string& name, const Model& model, const Tensor& x) {
  const std::string layer = nn::default_cam_layer(model.name);
  if (name == "train") return make_train(*model.net, x, model.num_classes);
  if (name == "backward") return make_backward(*model.net, x);
  if (name == "gradcam-full") return make_gradcam_full(*model.net, x, layer);
  if (name != "gradcam") return make_infer(model, x);
  return x.size(0) == 1 ? make_gradcam(*model.net, x, layer) : make_gradcam_batch(*model.net, x, layer);
}

std::vector<double> measure(const Task& task, int warmup, int repeat, const std::string& name,
                            double patience) {
  using Clock = std::chrono::steady_clock;
  const auto ms_since = [](Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  };
  std::vector<double> times;
  Progress progress(static_cast<std::size_t>(warmup + repeat));
  const auto begin = Clock::now();
  for (int i = 0; i < warmup + repeat; ++i) {
    const bool late = ms_since(begin) > patience;
    if (late && !times.empty()) break;
    progress.step(name);
    const auto start = Clock::now();
    task();
    if (i >= warmup || late) times.push_back(ms_since(start));
  }
  return times;
}

}  // namespace grapnel::tools
