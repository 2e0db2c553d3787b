// Random changes of a training picture, as torchvision's transforms make them.
//
// A pure function of the picture, the options and the generator's place in its stream: whoever owns the
// generators decides what is reproducible. Arithmetic on 8-bit pixels is Pillow's, bit for bit. Read next:
// transforms.h, what happens to pictures that are not augmented.
#pragma once

#include <vector>

#include "grapnel/engine/random.h"
#include "grapnel/viz/image.h"

namespace grapnel::viz {

struct Interval {
  double low, high;
};

/// What may happen to a picture, in this order. Everything is off by default.
struct Augment {
  /// torchvision's RandomResizedCrop: a rectangle of this share of the area (within 0..1) and of this ratio
  /// of width to height (positive, drawn on a logarithmic scale) is cut out and resized. Otherwise the
  /// shorter side is resized and the centre cut out.
  bool resized_crop = false;
  Interval area{0.08, 1};
  Interval ratio{3.0 / 4, 4.0 / 3};
  /// The resized picture gets a border of so many pixels (0 .. size - 1), black or its own reflection, and is
  /// cropped to its size at a random place.
  int pad = 0;
  bool pad_reflect = false;
  /// Probability of a horizontal flip, 0..1.
  double flip = 0;
  /// torchvision's ColorJitter, in random order: factors from [max(0, 1 - x), 1 + x], x >= 0 ...
  double brightness = 0, contrast = 0, saturation = 0;
  /// ... and a turn of the hue from [-x, x] of the circle, 0 <= x <= 0.5. Costs the most.
  double hue = 0;
  /// Probability, 0..1, that a rectangle of 2 to 33 % of the area turns into noise, each byte of it drawn on
  /// its own: random erasing (Zhong et al., AAAI 2020).
  double erase = 0;
};

/// An RGB picture of (size, size). Throws ShapeError for an empty picture, and what check_augment throws.
Image augment(const Image& image, int size, const Augment& options, Generator& generator);

/// CutMix (Yun et al., ICCV 2019): pictures of the same size, the first and the last, the second and the last
/// but one and so on, exchange a rectangle that all pairs have in common. Its area is drawn between none and
/// all before what would lie outside is left out. Returns the share of each picture that is another's now.
/// Throws ShapeError for pictures of different sizes.
double cut_and_mix(std::vector<Image>& images, Generator& generator);

/// Throws Error for an option outside its range, ShapeError for a size below 1.
void check_augment(const Augment& options, int size);

// --- the parts, deterministic ---
// Pictures are RGB; ShapeError otherwise. A factor is >= 0, and 1 changes nothing.

/// Mirrors left and right.
Image flip_horizontal(Image image);
/// Mixes with black.
Image adjust_brightness(Image image, double factor);
/// Mixes with the mean of the grey picture.
Image adjust_contrast(Image image, double factor);
/// Mixes with the grey picture.
Image adjust_saturation(Image image, double factor);
/// Turns the hue by `turn` of the circle, -0.5..0.5. Passes through 8-bit HSV: not exact even at 0.
Image adjust_hue(Image image, double turn);

}  // namespace grapnel::viz
