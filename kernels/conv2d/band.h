// Cutting a convolution into bands of output rows whose input stays in cache, and giving each band an input
// that may be read past the picture's borders: the picture itself where nothing hangs over, else a
// zero-padded copy.
#pragma once

#include <cstdint>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/conv2d/correlation.h"

namespace grapnel::kernels {

/// Output rows [rows) of every image in [images).
struct Band {
  Range images, rows;
  std::int64_t count() const { return images.size() * rows.size(); }
};

/// Cuts the flattened rows (image * rows_per_image + row) into bands of at most `most` rows: several whole
/// images where they fit, otherwise a piece of one.
template <class Body>
void for_each_band(Range flat, std::int64_t rows_per_image, std::int64_t most, const Body& body) {
  for (std::int64_t at = flat.begin; at < flat.end;) {
    const std::int64_t image = at / rows_per_image, row = at % rows_per_image;
    const std::int64_t left = flat.end - at < most ? flat.end - at : most;
    const std::int64_t whole = row == 0 ? left / rows_per_image : 0;
    Band band{{image, image + 1}, {row, row + left < rows_per_image ? row + left : rows_per_image}};
    if (whole > 0) band = {{image, image + whole}, {0, rows_per_image}};
    body(band);
    at += band.count();
  }
}

/// Where a band reads: output row `o`, column 0, tap (0, 0) of image `n` is at
/// data + (n - images.begin) * image + (o - rows.begin) * stride_h * row; all taps of all columns lie inside.
struct BandInput {
  const float* data;
  std::int64_t row, image;
};

/// Input (images, h.in, w.in, channels), dense, as the outputs of `h` and `w` read it.
class InputReader {
 public:
  InputReader(const Axis& h, const Axis& w, std::int64_t channels, const float* data);

  /// The copy, where one is needed, lives in memory of this thread until its next call.
  BandInput read(const Band& band) const;

  /// Floats a band costs for each of its rows, about.
  std::int64_t floats_per_row() const;

 private:
  Axis h_, w_;
  std::int64_t channels_;
  const float* data_;
  Range columns_;  // input columns that the taps of a row touch
  bool inside_;
};

}  // namespace grapnel::kernels
