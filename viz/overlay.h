// A heat map painted over a picture.
#pragma once

#include "grapnel/viz/colormap.h"
#include "grapnel/viz/image.h"

namespace grapnel::viz {

/// Weights of the sum. The default is the classic CAM script's; 0.5/0.5 is the other common choice.
struct Blend {
  double heat = 0.3;
  double image = 0.5;
};

/// heat * blend.heat + picture * blend.image, rounded half to even and saturated. Both pictures have one
/// size; grey counts as RGB. Throws ShapeError.
Image overlay(const Image& picture, const Image& heat, const Blend& blend = {});

/// Colours the map, resizes it to the picture if its size differs (before colouring) and blends. A flat map
/// is not painted: the picture comes back as it was.
Image overlay(const Image& picture, const Heatmap& heat, Colormap colormap = Colormap::jet,
              const Blend& blend = {});

}  // namespace grapnel::viz
