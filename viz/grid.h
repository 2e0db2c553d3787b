// Many small pictures on one sheet, laid out as torchvision.utils.make_grid does.
#pragma once

#include <optional>

#include "grapnel/engine/tensor.h"
#include "grapnel/viz/colormap.h"
#include "grapnel/viz/image.h"

namespace grapnel::viz {

/// How values are brought to 0..1 before painting: x -> (x - low) / max(high - low, 1e-5).
enum class GridScale {
  none,      ///< taken as they are
  together,  ///< low and high over all maps: strengths can be compared (torchvision's normalize=True)
  each,      ///< low and high of each map: weak maps can be seen (torchvision's scale_each=True)
};

struct GridOptions {
  int per_row = 8;  ///< torchvision's nrow
  int padding = 2;  ///< pixels on all four sides of every picture
  double pad_value = 0;
  GridScale scale = GridScale::none;
};

/// batch (N,C,H,W), C 1 or more, to one (C',H',W') float32 tensor; one channel becomes three. Like
/// torchvision's, a batch of one comes back without padding. Throws ShapeError for another rank or an empty
/// batch.
Tensor make_grid(const Tensor& batch, const GridOptions& options = {});

/// (3,H,W) or (1,H,W) with values in 0..1 to a picture: x*255 + 0.5, clamped to 0..255, truncated, as
/// torchvision's save_image does; NaN becomes 0. Throws ShapeError for another shape.
Image to_image(const Tensor& picture);

struct FeatureGridOptions {
  GridOptions grid{.per_row = 8, .padding = 2, .pad_value = 0, .scale = GridScale::each};
  std::optional<Colormap> colormap;  ///< unset: grey, rounded as by to_image
};

/// The K maps of a layer's output (1,K,H,W) or (K,H,W) side by side; always padded, also for K = 1. A
/// constant map is the colour of 0. Throws ShapeError.
Image feature_grid(const Tensor& maps, const FeatureGridOptions& options = {});

}  // namespace grapnel::viz
