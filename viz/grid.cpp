// Laying out, scaling and pasting: the three steps of torchvision.utils.make_grid, shared by both kinds of
// sheet.
#include "grapnel/viz/grid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "grapnel/engine/error.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"

namespace grapnel::viz {
namespace {

/// (N,C,H,W), dense, and how its cells lie on the sheet.
struct Layout {
  std::int64_t count, channels, height, width, columns, rows;

  std::int64_t sheet_height(int padding) const { return rows * (height + padding) + padding; }
  std::int64_t sheet_width(int padding) const { return columns * (width + padding) + padding; }
};

Layout lay_out(const Shape& shape, const GridOptions& options) {
  if (shape.size() != 4 || numel(shape) == 0)
    throw ShapeError("make_grid: got shape " + to_string(shape) +
                     ", expected (N,C,H,W) with at least one picture");
  if (options.per_row < 1 || options.padding < 0)
    throw ShapeError("make_grid: got " + std::to_string(options.per_row) + " pictures a row and padding " +
                     std::to_string(options.padding) + ", expected at least 1 and 0");
  const std::int64_t columns = std::min<std::int64_t>(options.per_row, shape[0]);
  return {shape[0], shape[1], shape[2], shape[3], columns, (shape[0] + columns - 1) / columns};
}

void scale(std::span<float> values) {
  const auto [low_at, high_at] = std::minmax_element(values.begin(), values.end());
  const float low = *low_at;
  const auto range = static_cast<float>(std::max(static_cast<double>(*high_at) - low, 1e-5));
  for (float& value : values) value = (value - low) / range;
}

/// The pictures row by row, brought to 0..1 as asked.
std::vector<float> scaled_values(const Tensor& batch, const Layout& layout, GridScale mode) {
  std::vector<float> values = batch.to_vector<float>();
  const std::size_t one = values.size() / static_cast<std::size_t>(layout.count);
  if (mode == GridScale::together) scale(values);
  if (mode == GridScale::each)
    for (std::size_t start = 0; start < values.size(); start += one)
      scale(std::span(values).subspan(start, one));
  return values;
}

Tensor paste(const std::vector<float>& values, const Layout& layout, const GridOptions& options) {
  const int padding = options.padding;
  const std::int64_t sheet_width = layout.sheet_width(padding);
  const std::int64_t plane = layout.sheet_height(padding) * sheet_width;
  const std::int64_t channels = layout.channels == 1 ? 3 : layout.channels;
  Tensor sheet = Tensor::full({channels, layout.sheet_height(padding), sheet_width}, options.pad_value,
                              DType::float32, Device::cpu());
  float* out = sheet.data<float>();
  const float* in = values.data();
  for (std::int64_t n = 0; n < layout.count; ++n) {
    const std::int64_t top = n / layout.columns * (layout.height + padding) + padding;
    const std::int64_t left = n % layout.columns * (layout.width + padding) + padding;
    for (std::int64_t c = 0; c < layout.channels; ++c)
      for (std::int64_t y = 0; y < layout.height; ++y, in += layout.width)
        std::copy_n(in, layout.width, out + c * plane + (top + y) * sheet_width + left);
  }
  if (layout.channels == 1)
    for (int copy = 1; copy < 3; ++copy) std::copy_n(out, plane, out + copy * plane);
  return sheet;
}

std::uint8_t to_byte(float value) {
  const float level = value * 255.0f + 0.5f;
  return level > 0 ? static_cast<std::uint8_t>(std::min(level, 255.0f)) : std::uint8_t{0};
}

}  // namespace

Tensor make_grid(const Tensor& batch, const GridOptions& options) {
  const Layout layout = lay_out(batch.shape(), options);
  const std::vector<float> values = scaled_values(batch, layout, options.scale);
  if (layout.count > 1) return paste(values, layout, options);
  GridOptions bare = options;
  bare.padding = 0;
  return paste(values, layout, bare);
}

Image to_image(const Tensor& picture) {
  const Shape& shape = picture.shape();
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  if (shape.size() != 3 || (shape[0] != 1 && shape[0] != 3) || shape[1] > kMax || shape[2] > kMax)
    throw ShapeError("to_image: got shape " + to_string(shape) + ", expected (3,H,W) or (1,H,W)");
  const std::vector<float> values = picture.to_vector<float>();
  Image image(static_cast<int>(shape[1]), static_cast<int>(shape[2]), static_cast<int>(shape[0]));
  const std::size_t channels = static_cast<std::size_t>(shape[0]),
                    plane = values.size() / std::max<std::size_t>(1, channels);
  for (std::size_t c = 0; c < channels; ++c)
    for (std::size_t i = 0; i < plane; ++i) image.pixels()[i * channels + c] = to_byte(values[c * plane + i]);
  return image;
}

Image feature_grid(const Tensor& maps, const FeatureGridOptions& options) {
  const Shape& shape = maps.shape();
  const bool batched = shape.size() == 4 && shape[0] == 1;
  if (!batched && shape.size() != 3)
    throw ShapeError("feature_grid: got shape " + to_string(shape) + ", expected (1,K,H,W) or (K,H,W)");
  const std::size_t first = batched ? 1 : 0;
  const Shape cells{shape[first], 1, shape[first + 1], shape[first + 2]};
  const Layout layout = lay_out(cells, options.grid);
  const NoGrad guard;
  const Tensor sheet = paste(scaled_values(maps, layout, options.grid.scale), layout, options.grid);
  if (!options.colormap) return to_image(sheet);
  return colorize(to_map(select(sheet, 0, 0)), *options.colormap);
}

}  // namespace grapnel::viz
