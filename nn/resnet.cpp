// x -> conv1, bn1, relu, maxpool -> four stages of basic blocks -> average over the plane -> fc.
#include "grapnel/nn/resnet.h"

#include <array>

#include "grapnel/nn/init.h"

namespace grapnel::nn {
namespace {

std::shared_ptr<Conv2d> conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride) {
  const std::int64_t padding = kernel / 2;
  return std::make_shared<Conv2d>(in, out, std::pair(kernel, kernel),
                                  Conv2dOptions{.stride = {stride, stride}, .padding = {padding, padding}},
                                  false);
}

/// relu(bn2(conv2(relu(bn1(conv1(x))))) + x), with x through `downsample` where its shape changes. One ReLU
/// runs twice.
class BasicBlock : public Module {
 public:
  BasicBlock(std::int64_t in, std::int64_t out, std::int64_t stride, bool inplace) : inplace_(inplace) {
    conv1_ = register_module("conv1", conv(in, out, 3, stride));
    bn1_ = register_module("bn1", std::make_shared<BatchNorm2d>(out));
    relu_ = register_module("relu", std::make_shared<ReLU>(inplace));
    conv2_ = register_module("conv2", conv(out, out, 3, 1));
    bn2_ = register_module("bn2", std::make_shared<BatchNorm2d>(out));
    if (stride == 1 && in == out) return;
    downsample_ =
        register_module("downsample", std::make_shared<Sequential>(std::vector<std::shared_ptr<Module>>{
                                          conv(in, out, 1, stride), std::make_shared<BatchNorm2d>(out)}));
  }

  std::string type_name() const override { return "BasicBlock"; }

 protected:
  Tensor forward(const Tensor& x) override {
    Tensor y = (*relu_)((*bn1_)((*conv1_)(x)));
    y = (*bn2_)((*conv2_)(y));
    const Tensor identity = downsample_ ? (*downsample_)(x) : x;
    return (*relu_)(inplace_ ? add_(y, identity) : y + identity);
  }

 private:
  bool inplace_;
  std::shared_ptr<Conv2d> conv1_, conv2_;
  std::shared_ptr<BatchNorm2d> bn1_, bn2_;
  std::shared_ptr<ReLU> relu_;
  std::shared_ptr<Sequential> downsample_;
};

class ResNet : public Module {
 public:
  ResNet(const std::array<int, 4>& blocks, const NetOptions& options) {
    {
      SkipInit initialised_below;
      build(blocks, options);
    }
    if (!SkipInit::active()) initialise();
  }

  std::string type_name() const override { return "ResNet"; }

 protected:
  Tensor forward(const Tensor& x) override {
    Tensor y = (*relu_)((*bn1_)((*conv1_)(x)));
    y = (*maxpool_)(y);  // in a statement of its own: what is still held is not fused (engine/fusion.h)
    for (const auto& layer : layers_) y = (*layer)(y);
    return (*fc_)(flatten((*avgpool_)(y), 1));
  }

 private:
  void build(const std::array<int, 4>& blocks, const NetOptions& options) {
    std::int64_t channels = options.width;
    conv1_ = register_module("conv1", conv(3, channels, 7, 2));
    bn1_ = register_module("bn1", std::make_shared<BatchNorm2d>(channels));
    relu_ = register_module("relu", std::make_shared<ReLU>(options.inplace));
    maxpool_ = register_module("maxpool", std::make_shared<MaxPool2d>(Pool2dOptions{
                                              .kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}));
    for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
      const std::int64_t out = options.width << stage;
      auto layer = std::make_shared<Sequential>();
      for (int block = 0; block < blocks[stage]; ++block) {
        const std::int64_t stride = block == 0 && stage > 0 ? 2 : 1;
        layer->push_back(std::make_shared<BasicBlock>(channels, out, stride, options.inplace));
        channels = out;
      }
      layers_[stage] = register_module("layer" + std::to_string(stage + 1), std::move(layer));
    }
    avgpool_ = register_module("avgpool", std::make_shared<AdaptiveAvgPool2d>(1, 1));
    fc_ = register_module("fc", std::make_shared<Linear>(channels, options.num_classes));
  }

  void initialise() {
    for (const auto& [path, module] : named_modules())
      if (auto* layer = dynamic_cast<Conv2d*>(module)) fill_kaiming_normal(layer->weight);
    init_default(fc_->weight, fc_->bias);
  }

  std::shared_ptr<Conv2d> conv1_;
  std::shared_ptr<BatchNorm2d> bn1_;
  std::shared_ptr<ReLU> relu_;
  std::shared_ptr<MaxPool2d> maxpool_;
  std::array<std::shared_ptr<Sequential>, 4> layers_;
  std::shared_ptr<AdaptiveAvgPool2d> avgpool_;
  std::shared_ptr<Linear> fc_;
};

}  // namespace

std::shared_ptr<Module> resnet18(const NetOptions& options) {
  return std::make_shared<ResNet>(std::array{2, 2, 2, 2}, options);
}

std::shared_ptr<Module> resnet34(const NetOptions& options) {
  return std::make_shared<ResNet>(std::array{3, 4, 6, 3}, options);
}

}  // namespace grapnel::nn
