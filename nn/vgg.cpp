// x -> thirteen 3x3 convolutions in five groups, each group ended by a pool -> 7x7 averages -> three linear
// layers.
#include "grapnel/nn/vgg.h"

#include "grapnel/nn/init.h"

namespace grapnel::nn {
namespace {

constexpr std::int64_t kPool = 0;
/// Output channels of the convolutions in widths (64 in configuration D of the paper), and where the pools
/// are.
constexpr std::int64_t kPlan[] = {1, 1, kPool, 2, 2, kPool, 4, 4, 4, kPool, 8, 8, 8, kPool, 8, 8, 8, kPool};
constexpr std::int64_t kHidden = 64, kPlane = 7;

class VGG : public Module {
 public:
  explicit VGG(const NetOptions& options) {
    {
      SkipInit initialised_below;
      build(options);
    }
    if (!SkipInit::active()) initialise();
  }

  std::string type_name() const override { return "VGG"; }

 protected:
  Tensor forward(const Tensor& x) override {
    return (*classifier_)(flatten((*avgpool_)((*features_)(x)), 1));
  }

 private:
  void build(const NetOptions& options) {
    auto features = std::make_shared<Sequential>();
    std::int64_t channels = 3;
    for (const std::int64_t step : kPlan) {
      if (step == kPool) {
        features->push_back(std::make_shared<MaxPool2d>(Pool2dOptions{.kernel = {2, 2}, .stride = {2, 2}}));
        continue;
      }
      features->push_back(std::make_shared<Conv2d>(channels, step * options.width, std::pair(3, 3),
                                                   Conv2dOptions{.padding = {1, 1}}));
      features->push_back(std::make_shared<ReLU>(options.inplace));
      channels = step * options.width;
    }
    auto classifier = std::make_shared<Sequential>();
    std::int64_t inputs = channels * kPlane * kPlane;
    for (int layer = 0; layer < 2; ++layer) {
      classifier->push_back(std::make_shared<Linear>(inputs, kHidden * options.width));
      classifier->push_back(std::make_shared<ReLU>(options.inplace));
      classifier->push_back(std::make_shared<Dropout>());
      inputs = kHidden * options.width;
    }
    classifier->push_back(std::make_shared<Linear>(inputs, options.num_classes));

    features_ = register_module("features", std::move(features));
    avgpool_ = register_module("avgpool", std::make_shared<AdaptiveAvgPool2d>(kPlane, kPlane));
    classifier_ = register_module("classifier", std::move(classifier));
  }

  void initialise() {
    for (const auto& [path, module] : named_modules()) {
      if (auto* layer = dynamic_cast<Conv2d*>(module)) {
        fill_kaiming_normal(layer->weight);
        layer->bias.detach().zero_();
      } else if (auto* linear_layer = dynamic_cast<Linear*>(module)) {
        fill_normal(linear_layer->weight, 0, 0.01);
        linear_layer->bias.detach().zero_();
      }
    }
  }

  std::shared_ptr<Sequential> features_, classifier_;
  std::shared_ptr<AdaptiveAvgPool2d> avgpool_;
};

}  // namespace

std::shared_ptr<Module> vgg16(const NetOptions& options) {
  return std::make_shared<VGG>(options);
}

}  // namespace grapnel::nn
