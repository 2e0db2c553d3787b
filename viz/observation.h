// One picture's way through a net: scores, what chosen layers returned, and gradients on demand.
//
// Every method of explain.h is a few lines on top of this, and so can be anybody's own; it uses nothing but
// public hooks. Read next: observation.cpp, then explain.h.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "grapnel/nn/module.h"

namespace grapnel::viz {

struct ObserveOptions {
  std::vector<std::string> layers;  ///< dotted names of modules whose last call returns (1,K,h,w)
  bool input_gradient = false;      ///< record from the input on; otherwise only from the first of `layers`
};

/// How a gradient R passes back through a ReLU whose input was x.
enum class ReluRule {
  ordinary,   ///< R [x > 0]
  guided,     ///< R [x > 0] [R > 0] (Springenberg et al., 2015)
  deconvnet,  ///< R [R > 0] (Zeiler & Fergus, 2014)
};

/// Runs net(x) once, when constructed, in eval mode and with frozen parameters; both are put back before the
/// constructor returns. Gradients then are computed per class on demand, from the class's logit down to what
/// was asked for and no further; no grad field is touched. While it lives, an Observation with input_gradient
/// keeps one idle backward hook on every ReLU module. One thread at a time may observe a net; the net
/// outlives it.
class Observation {
 public:
  /// x (1,C,H,W). Throws ShapeError if x, a layer's output or the net's output (1,classes) has another shape,
  /// NameError for an unknown layer, Error for one that does not run, AutogradError in inference mode.
  Observation(nn::Module& net, const Tensor& x, const ObserveOptions& options);
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;

  const Tensor& input() const { return input_; }
  /// (1,classes)
  const Tensor& logits() const { return logits_; }
  int classes() const { return static_cast<int>(scores_.size()); }
  /// Logit and softmax probability of a class. Throw NameError outside 0..classes-1.
  double score(int target) const;
  double probability(int target) const;

  std::size_t layer_count() const { return layers_.size(); }
  const std::string& layer_name(std::size_t layer) const { return layers_.at(layer).name; }
  /// What the layer returned (1,K,h,w), unharmed by what later layers did in place.
  Tensor activation(std::size_t layer) const { return layers_.at(layer).output.detach(); }
  /// d logit[target] / d activation (1,K,h,w); zero where the logit does not depend on the layer.
  const Tensor& gradient(std::size_t layer, int target);
  /// d logit[target] / d input (1,C,H,W), with the rule applied at every call of every ReLU module. Throws
  /// Error without ObserveOptions::input_gradient, or if a rule finds no ReLU module.
  const Tensor& input_gradient(int target, ReluRule rule = ReluRule::ordinary);

  /// The weights (1,K,1,1) with which the plane means of the layer's maps make up the class's logit. Throws
  /// Error unless global average pooling and exactly one linear layer are all that follows the layer.
  Tensor class_weights(std::size_t layer, int target) const;

 private:
  struct Layer {
    std::string name;
    Tensor output;  // what the last call returned: a leaf if nothing before it is recorded
    int time = -1;  // of that call, in notes taken
  };
  struct LinearCall {
    std::string name;
    Tensor input, output, weight;
    int time;
  };

  void watch_layer(nn::Module& module, std::size_t layer);
  void watch_linear(nn::Module& module, const std::string& name);
  void watch_relu(nn::Module& module);
  void check() const;
  Tensors gradients(int target, const Tensors& inputs) const;

  Tensor input_, output_, logits_;  // output_ is logits_ with its history
  std::vector<double> scores_, probabilities_;
  std::vector<Layer> layers_;
  std::vector<LinearCall> linear_calls_;
  int time_ = 0;
  std::vector<ScopedHook> forward_hooks_;  // removed after the run
  std::vector<ScopedHook> relu_hooks_;
  ReluRule rule_ = ReluRule::ordinary;

  // What was asked for last: methods and layers come in groups that share it.
  std::optional<int> layer_target_;
  Tensors layer_gradients_;
  std::optional<std::pair<int, ReluRule>> input_case_;
  Tensor input_gradient_;
};

}  // namespace grapnel::viz
