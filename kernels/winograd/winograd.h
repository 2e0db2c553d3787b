// Convolutions of 3x3 with fewer multiplications (Winograd, 1980; Lavin & Gray, CVPR 2016).
//
// A tile of m x m outputs y is made from a = m + 2 rows and columns of inputs d and the filter g as
//   y = A^T [ (G g G^T) * (B^T d B) ] A,
// where * multiplies element by element: a*a multiplications a channel in place of 9 m*m. Summed over
// channels, the products at each of the a*a places are a matrix product, tiles x channels times channels x
// outputs: that is where the time goes, in the micro-kernel of ../gemm. Both gradients are made of the same
// three maps:
//   the input's is the convolution of dy with the filters turned round; the filters' is
//   dg = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G.
// m = 2 takes 4/9 of the multiplications, m = 4 a quarter, m = 6 a fifth. The points of the interpolation are
// 0, 1, -1 and infinity for m = 2, and 0, +-sqrt(1/2), +-sqrt(2) and infinity for m = 4: their rounding
// errors are about half of those of 0, +-1, +-2 (Barabasz et al., ACM TOMS 2020, on how points decide). m = 6
// is less exact, and used only where asked for.
//
// Filters that move by two are two without stride, of the taps at even and at odd places (strided.h): 3x3 so
// takes 25 multiplications in place of 36 (m = 2) or 81 in place of 144 (m = 4), and a stem of 7x7, cut along
// its rows only (rows.cpp), 13 in place of 28. Read next: maps.h, correlate.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "grapnel/kernels/common/split.h"
#include "grapnel/kernels/gemm/microkernel.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// The most rows and columns of inputs a square tile has.
inline constexpr int kMaxReach = 9;
/// The rows of a stem's filters.
inline constexpr int kStemTaps = 7;

/// One tile's part in the output: rows x columns pixels from `at`, in floats from the first.
struct OutputTile {
  std::int64_t at, row, pixel;
  int rows, columns;
};

/// The maps of one size of tile, compiled once per instruction set. Each works on vectors of channels: what
/// is called a place below holds `channels` floats.
struct WinogradMaps {
  const char* name;
  int outputs;  // m
  int reach;    // a
  int filters;  // rows of mapped filters: what comes after them in `reach` is the last row again
  /// v + place * plane = B^T d B; `d` points to the channels of a*a pixels.
  void (*input)(const float* const* d, std::int64_t channels, float* v, std::int64_t plane);
  /// y = the epilogue of A^T m A, of which the pixels in `tile` exist.
  void (*output)(const float* m, std::int64_t plane, std::int64_t channels, float* y, const OutputTile& tile,
                 const Epilogue<float>& epilogue);
  /// u + i * plane = G g G^T, `filters` rows and columns; tap t of the filters at g + t * tap.
  void (*filter)(const float* g, std::int64_t tap, std::int64_t channels, float* u, std::int64_t plane);
  /// w + place * plane = A dy A^T; `dy` points to the channels of m*m pixels. Without stride.
  void (*output_grad)(const float* const* dy, std::int64_t channels, float* w, std::int64_t plane);
  /// Tap t of the filters' gradient at dg + t * tap = G^T s G. Without stride.
  void (*filter_grad)(const float* s, std::int64_t plane, std::int64_t channels, float* dg, std::int64_t tap);

  int places() const { return reach * reach; }
  /// The mapped filter that is multiplied at a place.
  int filter_at(int place) const {
    const int row = place / reach, column = place % reach, last = filters - 1;
    return (row < last ? row : last) * filters + (column < last ? column : last);
  }
};

/// Some inputs' part of the products of a vector of outputs with `tiles` tiles, m = 4, all 36 places.
struct FewTiles {
  std::int64_t depth;   // inputs
  const float* taps;    // [input][9][lanes]
  const float* mapped;  // B^T d B, [input][place][tile]
  float* products;      // [place][tile][lanes], added to unless `first`
  bool first;
  const float* next;  // taps a later call will read, brought nearer while this one computes
};

/// The inner loop for few tiles, whose filters are mapped where they are multiplied.
struct FewKernel {
  const char* name;
  int tiles;
  void (*multiply)(const FewTiles& arguments);
};

/// For m = 2, 4 and 6; for 2 and 4 where filters move by two; and for stems, whose maps are those of rows
/// only: of `reach` places and filters, not squared.
struct Winograd {
  WinogradMaps two, four, six, two_strided, four_strided, stem;
  FewKernel few;
};
extern const Winograd winograd_portable, winograd_avx2, winograd_avx512;

/// 3x3, no dilation, no groups, padding of at most 2, and no stride or, for the forward pass, two.
bool winograd_applies(const Conv2d& shape, ConvPass pass);
/// Filters of 7 rows that move down by two; no dilation, no groups.
bool winograd_rows_applies(const Conv2d& shape);

// Arguments as in FloatKernels.
std::size_t winograd_packed_size(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape,
                                 ConvPass pass);
void winograd_pack(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, ConvPass pass,
                   float* packed, const float* w, const std::int64_t* w_strides);
void winograd_correlate(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape,
                        ConvPass pass, float* out, const float* in, const float* packed,
                        const Epilogue<float>& epilogue);
void winograd_weight_grad(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, float* dw,
                          const float* x, const float* dy);

// The same for few tiles of 4x4: filters are packed as they are, and mapped in registers on their way.
std::size_t winograd_few_packed_size(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass);
void winograd_few_pack(const MicroKernel& kernel, const Conv2d& shape, ConvPass pass, float* packed,
                       const float* w, const std::int64_t* w_strides);
void winograd_few_correlate(const MicroKernel& kernel, const Winograd& winograd, const Conv2d& shape,
                            ConvPass pass, float* out, const float* in, const float* packed,
                            const Epilogue<float>& epilogue);

// The forward pass by tiles of four rows and one column. winograd_rows makes some rows of it, as direct_rows
// does, from the first row of a tile on.
std::size_t winograd_rows_packed_size(const MicroKernel& kernel, const WinogradMaps& maps,
                                      const Conv2d& shape);
void winograd_rows_pack(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape,
                        float* packed, const float* w, const std::int64_t* w_strides);
void winograd_rows_forward(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, float* y,
                           const float* x, const float* packed, const Epilogue<float>& epilogue);
void winograd_rows(const MicroKernel& kernel, const WinogradMaps& maps, const Conv2d& shape, Range rows,
                   float* out, const float* in, const float* packed, const Epilogue<float>& epilogue);

}  // namespace grapnel::kernels
