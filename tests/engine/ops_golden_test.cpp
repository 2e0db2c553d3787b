// Every operation against PyTorch: ../golden/ops.txt holds what it computed in float64, values and gradients;
// this file holds the same expressions under the same names. Run in both element types and, for pictures,
// both memory formats.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/ops.h"
#include "support/device.h"
#include "support/golden.h"

using namespace grapnel;
using testing::GoldenOperation;
using testing::GoldenValues;

namespace {

using Function = std::function<Tensors(const Tensors&)>;

Conv2dOptions convolution(std::int64_t stride, std::int64_t padding, std::int64_t dilation = 1,
                          std::int64_t groups = 1) {
  return {{stride, stride}, {padding, padding}, {dilation, dilation}, groups};
}

Pool2dOptions pooling(std::int64_t kernel, std::int64_t stride, std::int64_t padding = 0,
                      bool ceil_mode = false, bool count_include_pad = true) {
  return {{kernel, kernel}, {stride, stride}, {padding, padding}, {1, 1}, ceil_mode, count_include_pad};
}

Function matmul_of_two() {
  return [](const Tensors& x) -> Tensors { return {matmul(x[0], x[1])}; };
}

Function convolve(const Conv2dOptions& options) {
  return [=](const Tensors& x) -> Tensors {
    return {conv2d(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), options)};
  };
}

Function max_pool(const Pool2dOptions& options) {
  return [=](const Tensors& x) -> Tensors { return {max_pool2d(x[0], options)}; };
}

Function avg_pool(const Pool2dOptions& options) {
  return [=](const Tensors& x) -> Tensors { return {avg_pool2d(x[0], options)}; };
}

Function adaptive(std::int64_t height, std::int64_t width) {
  return [=](const Tensors& x) -> Tensors { return {adaptive_avg_pool2d(x[0], height, width)}; };
}

Function label_loss(LossReduction reduction, double label_smoothing, bool weighted) {
  return [=](const Tensors& x) -> Tensors {
    return {cross_entropy(x[0], x[1], {reduction, label_smoothing, weighted ? x[2] : Tensor()})};
  };
}

Function resize(std::int64_t height, std::int64_t width, Resample mode, bool align_corners = false) {
  return [=](const Tensors& x) -> Tensors { return {interpolate(x[0], height, width, mode, align_corners)}; };
}

/// Inputs x, weight, bias, mean, variance; gives y and the statistics afterwards.
Function normalise(bool training, double momentum = 0.1, double eps = 1e-5) {
  return [=](const Tensors& x) -> Tensors {
    const Tensor mean = x[3].clone(), variance = x[4].clone();
    const Tensor y = batch_norm(x[0], x[1], x[2], mean, variance, training, momentum, eps);
    return {y, mean, variance};
  };
}

Function power(double exponent) {
  return [=](const Tensors& x) -> Tensors { return {pow(x[0], exponent)}; };
}

Tensors both(std::pair<Tensor, Tensor> pair) {
  return {pair.first, pair.second};
}

#define CASE(...) [](const Tensors& x) -> Tensors { return {__VA_ARGS__}; }
#define CASE_OF_MANY(...) [](const Tensors& x) -> Tensors { return __VA_ARGS__; }

const std::map<std::string, Function>& functions() {
  static const std::map<std::string, Function> table = {
      // elementwise
      {"add broadcast", CASE(x[0] + x[1])},
      {"sub broadcast", CASE(x[0] - x[1])},
      {"mul broadcast both", CASE(x[0] * x[1])},
      {"div broadcast", CASE(x[0] / x[1])},
      {"mul scalar tensor", CASE(x[0] * x[1])},
      {"number arithmetic", CASE(2 - (3 * x[0] + 1) / 4 + 5 / x[0] - (-x[0]))},
      {"pow tensors", CASE(pow(x[0], x[1]))},
      {"pow 2 through zero", power(2)},
      {"pow 3 negative base", power(3)},
      {"pow -2 negative base", power(-2)},
      {"pow 0.5 at zero", power(0.5)},
      {"pow 1 through zero", power(1)},
      {"pow 0 through zero", power(0)},
      {"pow 1.5", power(1.5)},
      {"maximum with ties", CASE(maximum(x[0], x[1]))},
      {"exp", CASE(exp(x[0]))},
      {"log", CASE(log(x[0]))},
      {"sqrt", CASE(sqrt(x[0]))},
      {"abs through zero", CASE(abs(x[0]))},
      {"reciprocal", CASE(reciprocal(x[0]))},
      {"sign", CASE(sign(x[0]))},
      {"clamp", CASE(clamp(x[0], -0.5, 0.75))},
      {"relu through zero", CASE(relu(x[0]))},
      {"relu in place", CASE(relu_(x[0] * 2))},
      {"leaky_relu", CASE(leaky_relu(x[0], 0.2))},
      {"leaky_relu through zero", CASE(leaky_relu(x[0]))},
      {"sigmoid", CASE(sigmoid(x[0]))},
      {"tanh", CASE(tanh(x[0]))},
      // reductions
      {"sum all", CASE(sum(x[0]))},
      {"sum outer and inner", CASE(sum(x[0], {0, -1}))},
      {"sum channels last", CASE(sum(x[0], {0, 2, 3}, true))},
      {"mean", CASE(mean(x[0], {1}))},
      {"mean keepdim", CASE(mean(x[0], {2, 3}, true))},
      {"amax all with ties", CASE(amax(x[0]))},
      {"amax dims with ties", CASE(amax(x[0], {0, 2}))},
      {"amax keepdim", CASE(amax(x[0], {1}, true))},
      {"max along a dimension", CASE_OF_MANY(both(max(x[0], 1)))},
      {"max with ties", CASE_OF_MANY(both(max(x[0], -1, true)))},
      {"argmax with ties", CASE(argmax(x[0], 0))},
      {"var all", CASE(var(x[0]))},
      {"var population", CASE(var(x[0], {0, 2}, 0))},
      {"var correction 2 keepdim", CASE(var(x[0], {1}, 2, true))},
      // matrices
      {"matmul vector vector", matmul_of_two()},
      {"matmul vector matrix", matmul_of_two()},
      {"matmul matrix vector", matmul_of_two()},
      {"matmul matrix matrix", matmul_of_two()},
      {"matmul transposed", CASE(matmul(transpose(x[0], 0, 1), transpose(x[1], 0, 1)))},
      {"matmul vector batch", matmul_of_two()},
      {"matmul batch vector", matmul_of_two()},
      {"matmul batch matrix", matmul_of_two()},
      {"matmul matrix batch", matmul_of_two()},
      {"matmul batch batch", matmul_of_two()},
      {"matmul broadcast batches", matmul_of_two()},
      {"linear", CASE(linear(x[0], x[1], x[2]))},
      {"linear without bias", CASE(linear(x[0], x[1]))},
      {"linear vector", CASE(linear(x[0], x[1], x[2]))},
      // convolution and pooling
      {"conv2d", convolve({})},
      {"conv2d without bias", convolve({})},
      {"conv2d padded", convolve(convolution(1, 1))},
      {"conv2d stem", convolve(convolution(2, 3))},
      {"conv2d 1x1 stride 2", convolve(convolution(2, 0))},
      {"conv2d uneven", convolve({{2, 1}, {0, 2}, {1, 2}, 1})},
      {"conv2d dilated", convolve(convolution(1, 2, 2))},
      {"conv2d groups", convolve(convolution(1, 1, 1, 2))},
      {"conv2d depthwise", convolve(convolution(2, 1, 1, 4))},
      {"conv2d window larger than picture", convolve(convolution(1, 1))},
      {"conv2d_input_grad", CASE(conv2d_input_grad({2, 2, 6, 6}, x[0], x[1], convolution(2, 1)))},
      {"conv2d_weight_grad", CASE(conv2d_weight_grad(x[0], {3, 2, 3, 3}, x[1], convolution(2, 1)))},
      {"max_pool2d", max_pool(pooling(2, 2))},
      {"max_pool2d stem", max_pool(pooling(3, 2, 1))},
      {"max_pool2d with ties", max_pool(pooling(3, 2, 1))},
      {"max_pool2d ceil", max_pool(pooling(3, 2, 0, true))},
      {"max_pool2d ceil drops empty window", max_pool(pooling(2, 3, 1, true))},
      {"max_pool2d dilated", max_pool({{2, 3}, {1, 1}, {1, 1}, {3, 2}, false, true})},
      {"avg_pool2d", avg_pool({})},
      {"avg_pool2d padded", avg_pool(pooling(3, 2, 1))},
      {"avg_pool2d without padding in the count", avg_pool(pooling(3, 2, 1, false, false))},
      {"avg_pool2d ceil", avg_pool({{3, 2}, {2, 3}, {1, 0}, {1, 1}, true, true})},
      {"avg_pool2d ceil without padding in the count", avg_pool(pooling(3, 2, 1, true, false))},
      {"adaptive_avg_pool2d to one", adaptive(1, 1)},
      {"adaptive_avg_pool2d uneven", adaptive(3, 4)},
      {"adaptive_avg_pool2d enlarging", adaptive(5, 7)},
      {"interpolate nearest up", resize(7, 6, Resample::nearest)},
      {"interpolate nearest down", resize(3, 2, Resample::nearest)},
      {"interpolate bilinear up", resize(7, 6, Resample::bilinear)},
      {"interpolate bilinear down", resize(3, 2, Resample::bilinear)},
      {"interpolate bilinear up aligned", resize(7, 6, Resample::bilinear, true)},
      {"interpolate bilinear down aligned", resize(3, 2, Resample::bilinear, true)},
      {"interpolate bilinear to one aligned", resize(1, 1, Resample::bilinear, true)},
      // normalisation and losses
      {"batch_norm train", normalise(true)},
      {"batch_norm train momentum and eps", normalise(true, 0.3, 1e-2)},
      {"batch_norm eval", normalise(false)},
      {"batch_norm without weight", CASE(batch_norm(x[0], {}, {}, {}, {}, true))},
      {"batch_norm far from zero", CASE(batch_norm(x[0], x[1], x[2], {}, {}, true))},
      {"softmax", CASE(softmax(x[0], 1))},
      {"softmax middle", CASE(softmax(x[0], 1))},
      {"softmax large values", CASE(softmax(x[0], -1))},
      {"log_softmax", CASE(log_softmax(x[0], 1))},
      {"log_softmax first", CASE(log_softmax(x[0], 0))},
      {"nll_loss", CASE(nll_loss(x[0], x[1]))},
      {"nll_loss none", CASE(nll_loss(x[0], x[1], LossReduction::none))},
      {"cross_entropy", CASE(cross_entropy(x[0], x[1]))},
      {"cross_entropy sum", CASE(cross_entropy(x[0], x[1], LossReduction::sum))},
      {"cross_entropy none", CASE(cross_entropy(x[0], x[1], LossReduction::none))},
      {"nll_loss weighted", CASE(nll_loss(x[0], x[1], LossReduction::mean, x[2]))},
      {"nll_loss weighted sum", CASE(nll_loss(x[0], x[1], LossReduction::sum, x[2]))},
      {"cross_entropy weighted none", label_loss(LossReduction::none, 0, true)},
      {"cross_entropy smoothed", label_loss(LossReduction::mean, 0.1, false)},
      {"cross_entropy weighted smoothed mean", label_loss(LossReduction::mean, 0.3, true)},
      {"cross_entropy weighted smoothed sum", label_loss(LossReduction::sum, 0.3, true)},
      {"cross_entropy weighted smoothed none", label_loss(LossReduction::none, 0.3, true)},
      {"bce with logits", CASE(binary_cross_entropy_with_logits(x[0], x[1]))},
      {"bce with logits sum of large values",
       CASE(binary_cross_entropy_with_logits(x[0], x[1], LossReduction::sum))},
      {"bce with logits none through zero",
       CASE(binary_cross_entropy_with_logits(x[0], x[1].to(x[0].dtype()), LossReduction::none))},
      {"mse_loss", CASE(mse_loss(x[0], x[1]))},
      {"mse_loss sum", CASE(mse_loss(x[0], x[1], LossReduction::sum))},
      {"mse_loss none", CASE(mse_loss(x[0], x[1], LossReduction::none))},
      // shape
      {"reshape of a transpose", CASE(reshape(transpose(x[0], 1, 2), {4, -1}))},
      {"view", CASE(view(x[0], {-1, 2}))},
      {"flatten", CASE(flatten(x[0], 1))},
      {"permute", CASE(permute(x[0], {2, 0, 1}))},
      {"expand", CASE(expand(x[0], {2, -1, 4}))},
      {"narrow", CASE(narrow(x[0], 1, 1, 3))},
      {"select", CASE(select(x[0], -2, -1))},
      {"squeeze and unsqueeze", CASE(unsqueeze(squeeze(x[0], 1), -1))},
      {"as_strided overlapping", CASE(as_strided(x[0], {3, 4}, {2, 1}, 1))},
      {"as_strided with gaps", CASE(as_strided(x[0], {2, 3}, {1, 4}, 2))},
      {"cat", CASE(cat(x, 1))},
      {"cat repeated", CASE(cat({x[0], x[0]}))},
      {"stack", CASE(stack(x, -1))},
      {"pad", CASE(pad(x[0], 1, 2, 3, 0, 0.5))},
      {"pad cropping", CASE(pad(x[0], -1, 2, 1, -2))},
      {"index_select repeated", CASE(index_select(x[0], 1, x[1]))},
      {"index_add", CASE(index_add(4, 1, x[1], x[0]))},
      {"gather", CASE(gather(x[0], 1, x[1]))},
      {"gather outer", CASE(gather(x[0], 0, x[1]))},
      {"scatter_add", CASE(scatter_add(4, 1, x[1], x[0]))},
  };
  return table;
}

#undef CASE
#undef CASE_OF_MANY

double largest(const std::vector<double>& values) {
  double result = 0;
  for (double value : values)
    if (std::isfinite(value)) result = std::max(result, std::abs(value));
  return result;
}

/// A sum of n terms of size s in random order of sign errs by about eps * sqrt(n) * s, eps being the distance
/// from 1 to the next number. A term here is a product or quotient of up to three values or one elementary
/// function, good for another few eps: hence the factor. A term can be as large as the case's largest input
/// or expected value.
double tolerance(const GoldenOperation& golden, const Tensors& inputs, double expected_size, DType type) {
  const double eps =
      type == DType::float64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  double size = std::max(1.0, expected_size);
  for (const Tensor& input : inputs)
    if (is_floating(input.dtype())) size = std::max(size, largest(input.to_vector<double>()));
  return 4 * eps * std::sqrt(static_cast<double>(golden.longest_sum)) * size;
}

/// Largest difference; infinite where shapes differ or only one side is an infinity.
double difference(const Tensor& found, const GoldenValues& expected) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!found.defined() || !(found.shape() == expected.shape)) return kInfinity;
  const auto values = found.to_vector<double>();
  double worst = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == expected.values[i]) continue;  // equal infinities, too
    const double distance = std::abs(values[i] - expected.values[i]);
    worst = std::isnan(distance) ? kInfinity : std::max(worst, distance);
  }
  return worst;
}

void compare(const GoldenOperation& golden, const Function& function, DType type, MemoryFormat format) {
  Tensors inputs, differentiated;
  for (std::size_t i = 0; i < golden.inputs.size(); ++i) {
    Tensor input = golden.inputs[i].make(golden.name + " " + std::to_string(i), type);
    if (input.rank() == 4) input = input.contiguous(format);
    if (golden.inputs[i].differentiated()) {
      input.set_requires_grad();
      differentiated.push_back(input);
    }
    inputs.push_back(input);
  }

  const Tensors outputs = function(inputs);
  REQUIRE(outputs.size() == golden.outputs.size());
  Tensors roots, upstream;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    CAPTURE(i);
    CHECK(difference(outputs[i], golden.outputs[i]) <=
          tolerance(golden, inputs, largest(golden.outputs[i].values), type));
    if (!outputs[i].requires_grad()) continue;
    roots.push_back(outputs[i]);
    upstream.push_back(
        testing::reals(golden.name + " upstream " + std::to_string(i), outputs[i].shape()).to(type));
  }

  REQUIRE(golden.gradients.size() == (roots.empty() ? 0 : differentiated.size()));
  if (roots.empty()) return;
  const Tensors gradients = grad(roots, differentiated, upstream);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    CAPTURE(i);
    CHECK(difference(gradients[i], golden.gradients[i]) <=
          tolerance(golden, inputs, largest(golden.gradients[i].values), type));
  }
}

}  // namespace

TEST_CASE("operations: values and gradients equal PyTorch's") {
  std::set<std::string> seen;
  for (const GoldenOperation& golden : testing::read_operations()) {
    CAPTURE(golden.name);
    seen.insert(golden.name);
    const auto found = functions().find(golden.name);
    REQUIRE(found != functions().end());
    for (DType type : testing::float_types()) {
      CAPTURE(name(type));
      for (MemoryFormat format : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
        const bool last = format == MemoryFormat::channels_last;
        if (last &&
            std::ranges::none_of(golden.inputs, [](const auto& input) { return input.shape.size() == 4; }))
          continue;
        CAPTURE(last);
        compare(golden, found->second, type, format);
      }
    }
  }
  for (const auto& entry : functions())
    CHECK_MESSAGE(seen.count(entry.first) == 1, entry.first, " has no golden values");
}
