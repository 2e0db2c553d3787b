#include <algorithm>
#include <cmath>
#include <numeric>

#include "grapnel/viz/explain.h"
#include "grapnel/viz/grid.h"

namespace grapnel::viz {
namespace {

/// Mean 0.5 and standard deviation 0.1: few pixels saturate, whatever the outliers.
void center(std::vector<float>& values) {
  constexpr double kMiddle = 0.5, kSpread = 0.1, kEps = 1e-30;
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double square = 0;
  for (const float value : values) square += (value - mean) * (value - mean);
  const double scale = kSpread / std::max(std::sqrt(square / count), kEps);
  for (float& value : values) value = static_cast<float>(kMiddle + scale * (value - mean));
}

float part_of(float value, GradientPart part) {
  if (part == GradientPart::absolute) return std::abs(value);
  return std::max(part == GradientPart::negative ? -value : value, 0.0f);
}

/// The part of each value, over the largest.
void scale_part(std::vector<float>& values, GradientPart part) {
  for (float& value : values) value = part_of(value, part);
  const float largest = *std::max_element(values.begin(), values.end());
  if (largest > 0)
    for (float& value : values) value /= largest;
}

}  // namespace

Image gradient_picture(const Tensor& gradient, GradientPart part) {
  const Shape& shape = gradient.shape();
  if (shape.size() != 4 || shape[0] != 1 || shape[1] != 3 || numel(shape) == 0)
    throw ShapeError("gradient_picture: got shape " + to_string(shape) + ", expected (1,3,H,W)");
  std::vector<float> values = gradient.to_vector<float>();
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }))
    throw Error(
        "gradient_picture: the gradient holds NaN or infinity; look for it in the picture or the weights");
  if (part == GradientPart::both)
    center(values);
  else
    scale_part(values, part);
  return to_image(Tensor::from(std::span<const float>(values), {3, shape[2], shape[3]}, Device::cpu()));
}

}  // namespace grapnel::viz
