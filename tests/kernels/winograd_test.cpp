// Convolution by tiles, every size and every instruction set, against the definition in double; epilogues on
// every variant of the convolution.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "grapnel/kernels/winograd/winograd.h"
#include "kernel_testing.h"
#include "nest_testing.h"

using namespace grapnel::kernels;
using namespace grapnel::testing;

namespace {

struct Variant {
  std::string name;
  const MicroKernel& kernel;
  const Winograd& winograd;
  const WinogradMaps& maps;
  bool few = false;

  std::size_t packed_size(const Conv2d& p, ConvPass pass) const {
    return few ? winograd_few_packed_size(kernel, p, pass) : winograd_packed_size(kernel, maps, p, pass);
  }
  void pack(const Conv2d& p, ConvPass pass, float* packed, const float* w,
            const std::int64_t* strides) const {
    if (few) return winograd_few_pack(kernel, p, pass, packed, w, strides);
    winograd_pack(kernel, maps, p, pass, packed, w, strides);
  }
  void correlate(const Conv2d& p, ConvPass pass, float* out, const float* in, const float* packed,
                 const Epilogue<float>& epilogue) const {
    if (few) return winograd_few_correlate(kernel, winograd, p, pass, out, in, packed, epilogue);
    winograd_correlate(kernel, maps, p, pass, out, in, packed, epilogue);
  }
};

/// Every size of tile on every table; with `few`, the inner loop for few tiles, too, which has no weight
/// gradient.
std::vector<Variant> variants(bool few = false) {
  std::vector<Variant> result;
  for (const Table* table : tables()) {
    const std::string name = table->name;
    if (name == "reference") continue;
    const MicroKernel& kernel = name == "avx512" ? avx512_microkernel
                                : name == "avx2" ? avx2_microkernel
                                                 : portable_microkernel;
    const Winograd& maps = name == "avx512" ? winograd_avx512
                           : name == "avx2" ? winograd_avx2
                                            : winograd_portable;
    for (const WinogradMaps* size : {&maps.two, &maps.four, &maps.six})
      result.push_back({name + ", " + size->name, kernel, maps, *size});
    if (few) result.push_back({name + ", " + maps.few.name, kernel, maps, maps.four, true});
  }
  return result;
}

Conv2d shape_of(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t k,
                std::int64_t pad_h, std::int64_t pad_w) {
  return {n, c, h, w, k, 3, 3, h + 2 * pad_h - 2, w + 2 * pad_w - 2, 1, 1, pad_h, pad_w, 1, 1, 1};
}

const Conv2d kShapes[] = {
    shape_of(1, 1, 1, 1, 1, 1, 1),     shape_of(1, 3, 5, 7, 17, 0, 0),    shape_of(3, 17, 4, 4, 3, 1, 1),
    shape_of(2, 40, 9, 6, 64, 2, 1),   shape_of(1, 64, 14, 14, 40, 1, 1), shape_of(1, 16, 3, 3, 32, 0, 0),
    shape_of(3, 33, 13, 31, 65, 1, 2),
};

/// ||got - want|| / ||want||; infinite if any value is missing.
double relative_error(const std::vector<float>& got, const std::vector<double>& want) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::isnan(error) ? std::numeric_limits<double>::infinity()
                           : std::sqrt(error / std::max(size, 1e-30));
}

/// Operands of one layer, and what the reference makes of them in double.
struct Layer {
  explicit Layer(const Conv2d& shape)
      : p(shape),
        x(random_values(p.n * p.h * p.w * p.c, 1)),
        w(random_values(p.k * p.c * 9, 2)),
        dy(random_values(p.n * p.oh * p.ow * p.k, 3)) {
    const FloatKernels<double>& reference = reference_table().f64;
    const auto packed = [&](ConvPass pass) {
      std::vector<double> to(reference.conv2d_packed_size(p, pass));
      reference.conv2d_pack(p, pass, to.data(), widened(w).data(), strides);
      return to;
    };
    y_want.resize(dy.size());
    dx_want.resize(x.size());
    dw_want.resize(w.size());
    reference.conv2d_forward(p, y_want.data(), widened(x).data(), packed(ConvPass::forward).data(), {});
    reference.conv2d_input_grad(p, dx_want.data(), widened(dy).data(), packed(ConvPass::input_grad).data(),
                                {});
    reference.conv2d_weight_grad(p, dw_want.data(), widened(x).data(), widened(dy).data());
  }

  std::vector<float> correlate(const Variant& v, ConvPass pass, const Epilogue<float>& epilogue) const {
    AlignedBuffer packed(v.packed_size(p, pass));
    v.pack(p, pass, packed.data(), w.data(), strides);
    const bool forward = pass == ConvPass::forward;
    std::vector<float> out((forward ? dy : x).size(), std::numeric_limits<float>::quiet_NaN());
    v.correlate(p, pass, out.data(), (forward ? x : dy).data(), packed.data(), epilogue);
    return out;
  }
  std::vector<float> weight_grad(const Variant& v) const {
    std::vector<float> out(w.size(), std::numeric_limits<float>::quiet_NaN());
    winograd_weight_grad(v.kernel, v.maps, p, out.data(), x.data(), dy.data());
    return out;
  }

  Conv2d p;
  std::int64_t strides[4] = {p.c * 9, 9, 3, 1};
  std::vector<float> x, w, dy;
  std::vector<double> y_want, dx_want, dw_want;
};

/// What a layer may lose; six outputs a side, which nobody gets without asking, lose more.
double allowed(const Variant& v) {
  return v.maps.outputs == 6 ? 1e-5 : 5e-6;
}

}  // namespace

TEST_CASE("winograd: forward and both gradients, every size of tile, on any number of threads") {
  for (const Conv2d& shape : kShapes) {
    const Layer layer(shape);
    CAPTURE(shape.c);
    CAPTURE(shape.h);
    CAPTURE(shape.k);
    REQUIRE(winograd_applies(shape));
    for (const Variant& v : variants(true)) {
      CAPTURE(v.name);
      const auto y = same_for_any_threads([&] { return layer.correlate(v, ConvPass::forward, {}); });
      const auto dx = same_for_any_threads([&] { return layer.correlate(v, ConvPass::input_grad, {}); });
      CHECK(relative_error(y, layer.y_want) <= allowed(v));
      CHECK(relative_error(dx, layer.dx_want) <= allowed(v));
    }
    for (const Variant& v : variants()) {
      CAPTURE(v.name);
      const auto dw = same_for_any_threads([&] { return layer.weight_grad(v); });
      CHECK(relative_error(dw, layer.dw_want) <= allowed(v));
    }
  }
}

TEST_CASE("winograd: several blocks of tiles and of channels, as deep as layers are") {
  // The first three have the longest sums: of the forward pass, the input's gradient, the filters' gradient.
  for (const Conv2d& shape : {shape_of(1, 512, 7, 7, 64, 1, 1), shape_of(1, 64, 14, 14, 512, 1, 1),
                              shape_of(1, 16, 224, 224, 16, 1, 1), shape_of(5, 130, 30, 28, 70, 1, 1)}) {
    const Layer layer(shape);
    CAPTURE(shape.c);
    for (const Variant& v : variants(true)) {
      CAPTURE(v.name);
      CHECK(relative_error(layer.correlate(v, ConvPass::forward, {}), layer.y_want) <= allowed(v));
      CHECK(relative_error(layer.correlate(v, ConvPass::input_grad, {}), layer.dx_want) <= allowed(v));
    }
    for (const Variant& v : variants()) {
      CAPTURE(v.name);
      CHECK(relative_error(layer.weight_grad(v), layer.dw_want) <= allowed(v));
    }
  }
}

TEST_CASE("winograd: no picture") {
  const Layer layer(shape_of(0, 20, 6, 6, 20, 1, 1));
  for (const Variant& v : variants(true)) CHECK(layer.correlate(v, ConvPass::forward, {}).empty());
  for (const Variant& v : variants()) CHECK(layer.weight_grad(v) == std::vector<float>(layer.w.size()));
}

TEST_CASE("winograd: only what it computes rightly") {
  const Conv2d fits = shape_of(1, 8, 8, 8, 8, 1, 1);
  CHECK(winograd_applies(fits));
  const auto with = [&](std::int64_t Conv2d::*member, std::int64_t value) {
    Conv2d other = fits;
    other.*member = value;
    return winograd_applies(other);
  };
  CHECK_FALSE(with(&Conv2d::r, 1));
  CHECK_FALSE(with(&Conv2d::s, 5));
  CHECK_FALSE(with(&Conv2d::stride_h, 2));
  CHECK_FALSE(with(&Conv2d::stride_w, 2));
  CHECK_FALSE(with(&Conv2d::dil_h, 2));
  CHECK_FALSE(with(&Conv2d::dil_w, 2));
  CHECK_FALSE(with(&Conv2d::groups, 2));
  CHECK_FALSE(with(&Conv2d::pad_h, 3));
  CHECK_FALSE(with(&Conv2d::pad_w, 3));
}

TEST_CASE("convolutions: every epilogue on every variant is that of the values") {
  // Strides, one pixel, few channels (scatter), a tail of channels, several slices of weights, and tiles.
  Conv2d strided = shape_of(2, 20, 9, 7, 35, 1, 1), few = shape_of(1, 3, 6, 5, 18, 1, 1);
  strided.stride_h = strided.stride_w = 2;
  strided.oh = 5;
  strided.ow = 4;
  for (const Conv2d& p : {strided, few, shape_of(1, 1, 1, 1, 1, 1, 1), shape_of(1, 700, 7, 7, 33, 1, 1),
                          shape_of(2, 33, 9, 8, 65, 1, 1)}) {
    CAPTURE(p.c);
    CAPTURE(p.stride_h);
    for (const ConvPass pass : {ConvPass::forward, ConvPass::input_grad}) {
      const bool forward = pass == ConvPass::forward;
      const std::int64_t channels = forward ? p.k : p.c;
      const std::int64_t rows = p.n * (forward ? p.oh * p.ow : p.h * p.w);
      const auto in = random_values(forward ? p.n * p.h * p.w * p.c : p.n * p.oh * p.ow * p.k, 1);
      const auto w = random_values(p.k * p.c * 9, 2);
      const auto residual = random_values(rows * channels, 3), mask = random_values(rows * channels, 4);
      const auto scale = random_values(channels, 5), shift = random_values(channels, 6),
                 after = random_values(channels, 7);
      const std::int64_t strides[4] = {p.c * 9, 9, 3, 1};
      const auto check = [&](const auto& run) {
        const std::vector<float> plain = run(Epilogue<float>{});
        for (int steps = 1; steps < 64; ++steps) {
          const auto set = [steps](int bit, const std::vector<float>& values) {
            return steps >> bit & 1 ? values.data() : nullptr;
          };
          const Epilogue<float> epilogue{set(0, scale),         set(1, shift), set(2, residual),
                                         (steps >> 3 & 1) != 0, set(4, mask),  set(5, after)};
          std::vector<float> want(plain.size());
          reference_table().f32.channel_epilogue(rows, channels, want.data(), plain.data(), epilogue);
          const std::vector<float> got = run(epilogue);
          int wrong = 0;  // but for the rounding of fused multiply-adds
          for (std::size_t i = 0; i < want.size(); ++i)
            wrong += !agree(got[i], want[i], 1e-6 * (std::abs(plain[i]) + 2));
          CAPTURE(steps);
          CHECK(wrong == 0);
        }
      };
      for (const Table* table : tables()) {
        CAPTURE(std::string(table->name));
        AlignedBuffer packed(table->f32.conv2d_packed_size(p, pass));
        table->f32.conv2d_pack(p, pass, packed.data(), w.data(), strides);
        check([&](const Epilogue<float>& epilogue) {
          std::vector<float> out(static_cast<std::size_t>(rows * channels));
          (forward ? table->f32.conv2d_forward : table->f32.conv2d_input_grad)(p, out.data(), in.data(),
                                                                               packed.data(), epilogue);
          return out;
        });
      }
      if (!winograd_applies(p) || p.c == 700) continue;
      for (const Variant& v : variants(true)) {
        CAPTURE(v.name);
        AlignedBuffer packed(v.packed_size(p, pass));
        v.pack(p, pass, packed.data(), w.data(), strides);
        check([&](const Epilogue<float>& epilogue) {
          std::vector<float> out(static_cast<std::size_t>(rows * channels));
          v.correlate(p, pass, out.data(), in.data(), packed.data(), epilogue);
          return out;
        });
      }
    }
  }
}
