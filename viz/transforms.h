// From a picture to a network's input, with torchvision's results bit for bit.
//
// The usual chain is Resize -> CenterCrop -> ToTensor -> Normalize; `preprocess` runs it. Resizing is
// Pillow's bilinear filter, which antialiases: see resize.cpp.
#pragma once

#include <array>
#include <span>

#include "grapnel/engine/tensor.h"
#include "grapnel/viz/image.h"

namespace grapnel::viz {

/// Pillow's `Image.resize((width, height), BILINEAR)` for 1 or 3 channels. Throws ShapeError for an empty
/// picture or size.
Image resize(const Image& image, int height, int width);

/// torchvision's Resize(int): the shorter side becomes `size`, the longer int(size * longer / shorter).
Image resize_shorter_side(const Image& image, int size);

/// torchvision's CenterCrop: offset round((H-h)/2), half to even; a smaller picture gets a black border,
/// whose odd pixel is on the right and at the bottom.
Image center_crop(const Image& image, int height, int width);

/// torchvision's ToTensor: (1,C,H,W) float32, value / 255.
Tensor to_tensor(const Image& image);

/// How pictures are prepared. The defaults are those of the common tutorials: shorter side to 224, centre
/// crop. torchvision's weight presets use resize = 256.
struct Preprocess {
  int resize = 224;
  int crop = 224;
  bool stretch =
      false;  ///< resize both sides to `resize`, as Resize((224, 224)) does, instead of the shorter one
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f};
  std::array<float, 3> std{0.229f, 0.224f, 0.225f};
};

/// The resized and cropped picture, RGB, (crop, crop): what the network sees, and what overlays are painted
/// on.
Image preprocess_image(const Image& image, const Preprocess& options = {});

/// The network's input (1,3,crop,crop) float32: (preprocess_image / 255 - mean) / std.
Tensor preprocess(const Image& image, const Preprocess& options = {});

/// torchvision's ToTensor and Normalize without resizing: (1,3,H,W) of an RGB or grey picture.
Tensor normalize(const Image& image, const Preprocess& options = {});

/// The same for RGB pictures of one size: (N,3,H,W), channels last. Throws ShapeError for other pictures and
/// for none.
Tensor normalize(std::span<const Image> images, const Preprocess& options = {});

}  // namespace grapnel::viz
