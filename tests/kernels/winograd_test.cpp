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

enum class Loop { squares, few, rows };

struct Variant {
  std::string name;
  const MicroKernel& kernel;
  const Winograd& winograd;
  const WinogradMaps& maps;
  Loop loop;

  std::size_t packed_size(const Conv2d& p, ConvPass pass) const {
    if (loop == Loop::few) return winograd_few_packed_size(kernel, p, pass);
    if (loop == Loop::rows) return winograd_rows_packed_size(kernel, maps, p);
    return winograd_packed_size(kernel, maps, p, pass);
  }
  void pack(const Conv2d& p, ConvPass pass, float* packed, const float* w,
            const std::int64_t* strides) const {
    if (loop == Loop::few) return winograd_few_pack(kernel, p, pass, packed, w, strides);
    if (loop == Loop::rows) return winograd_rows_pack(kernel, maps, p, packed, w, strides);
    winograd_pack(kernel, maps, p, pass, packed, w, strides);
  }
  void correlate(const Conv2d& p, ConvPass pass, float* out, const float* in, const float* packed,
                 const Epilogue<float>& epilogue) const {
    if (loop == Loop::few)
      return winograd_few_correlate(kernel, winograd, p, pass, out, in, packed, epilogue);
    if (loop == Loop::rows) return winograd_rows_forward(kernel, maps, p, out, in, packed, epilogue);
    winograd_correlate(kernel, maps, p, pass, out, in, packed, epilogue);
  }
};

/// Whatever computes a pass of a shape by tiles, on every table.
std::vector<Variant> variants(const Conv2d& p, ConvPass pass) {
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
    const auto add = [&](const char* loop_name, const WinogradMaps& size, Loop loop) {
      result.push_back({name + ", " + loop_name, kernel, maps, size, loop});
    };
    if (pass == ConvPass::forward && winograd_rows_applies(p)) add(maps.stem.name, maps.stem, Loop::rows);
    if (!winograd_applies(p, pass)) continue;
    if (p.stride_h == 2) {
      for (const WinogradMaps* size : {&maps.two_strided, &maps.four_strided})
        add(size->name, *size, Loop::squares);
      continue;
    }
    for (const WinogradMaps* size : {&maps.two, &maps.four, &maps.six}) add(size->name, *size, Loop::squares);
    if (pass != ConvPass::weight_grad) add(maps.few.name, maps.four, Loop::few);
  }
  return result;
}

constexpr ConvPass kPasses[] = {ConvPass::forward, ConvPass::input_grad, ConvPass::weight_grad};

Conv2d shape_of(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t k,
                std::int64_t pad_h, std::int64_t pad_w) {
  return {n, c, h, w, k, 3, 3, h + 2 * pad_h - 2, w + 2 * pad_w - 2, 1, 1, pad_h, pad_w, 1, 1, 1};
}

/// Filters of r x s that move by (down, across).
Conv2d moving(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t k, std::int64_t r,
              std::int64_t s, std::int64_t down, std::int64_t across, std::int64_t pad_h,
              std::int64_t pad_w) {
  const std::int64_t oh = (h + 2 * pad_h - r) / down + 1, ow = (w + 2 * pad_w - s) / across + 1;
  return {n, c, h, w, k, r, s, oh, ow, down, across, pad_h, pad_w, 1, 1, 1};
}

const Conv2d kShapes[] = {
    shape_of(1, 1, 1, 1, 1, 1, 1),
    shape_of(1, 3, 5, 7, 17, 0, 0),
    shape_of(3, 17, 4, 4, 3, 1, 1),
    shape_of(2, 40, 9, 6, 64, 2, 1),
    shape_of(1, 64, 14, 14, 40, 1, 1),
    shape_of(1, 16, 3, 3, 32, 0, 0),
    shape_of(3, 33, 13, 31, 65, 1, 2),
    // filters that move by two, among them one pixel, rows that no output reads, tiles cut at every side
    moving(1, 1, 1, 1, 1, 3, 3, 2, 2, 1, 1),
    moving(2, 33, 9, 12, 65, 3, 3, 2, 2, 1, 1),
    moving(3, 17, 18, 7, 40, 3, 3, 2, 2, 0, 2),
    moving(1, 64, 28, 28, 64, 3, 3, 2, 2, 1, 1),
    // stems: as networks have them, of one pixel, with little but padding, wide, narrow, of many channels
    moving(2, 3, 41, 61, 64, 7, 7, 2, 2, 3, 3),
    moving(1, 1, 1, 1, 1, 7, 7, 2, 2, 3, 3),
    moving(1, 2, 3, 2, 33, 7, 3, 2, 1, 9, 8),
    moving(3, 4, 24, 19, 5, 7, 1, 2, 3, 0, 0),
    moving(1, 40, 17, 9, 70, 7, 5, 2, 2, 3, 1),
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
        w(random_values(p.k * p.c * p.r * p.s, 2)),
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
    reference.conv2d_weight_grad(p, dw_want.data(), widened(x).data(), widened(dy).data(), nullptr, nullptr);
  }

  std::vector<float> correlate(const Variant& v, ConvPass pass, const Epilogue<float>& epilogue) const {
    AlignedBuffer packed(v.packed_size(p, pass));
    v.pack(p, pass, packed.data(), w.data(), strides);
    const bool forward = pass == ConvPass::forward;
    std::vector<float> out((forward ? dy : x).size(), std::numeric_limits<float>::quiet_NaN());
    v.correlate(p, pass, out.data(), (forward ? x : dy).data(), packed.data(), epilogue);
    return out;
  }
  std::vector<float> run(const Variant& v, ConvPass pass) const {
    if (pass != ConvPass::weight_grad) return correlate(v, pass, {});
    std::vector<float> out(w.size(), std::numeric_limits<float>::quiet_NaN());
    winograd_weight_grad(v.kernel, v.maps, p, out.data(), x.data(), dy.data());
    return out;
  }
  const std::vector<double>& wanted(ConvPass pass) const {
    return pass == ConvPass::forward ? y_want : pass == ConvPass::input_grad ? dx_want : dw_want;
  }

  Conv2d p;
  std::int64_t strides[4] = {p.c * p.r * p.s, p.r* p.s, p.s, 1};
  std::vector<float> x, w, dy;
  std::vector<double> y_want, dx_want, dw_want;
};

/// What a layer may lose; six outputs a side, which nobody gets without asking, lose more.
double allowed(const Variant& v) {
  return v.maps.outputs == 6 ? 1e-5 : 5e-6;
}

}  // namespace

TEST_CASE("winograd: every pass, every size of tile, on any number of threads") {
  for (const Conv2d& shape : kShapes) {
    const Layer layer(shape);
    CAPTURE(shape.c);
    CAPTURE(shape.h);
    CAPTURE(shape.k);
    REQUIRE_FALSE(variants(shape, ConvPass::forward).empty());
    for (const ConvPass pass : kPasses)
      for (const Variant& v : variants(shape, pass)) {
        CAPTURE(v.name);
        const auto got = same_for_any_threads([&] { return layer.run(v, pass); });
        CHECK(relative_error(got, layer.wanted(pass)) <= allowed(v));
      }
  }
}

TEST_CASE("winograd: several blocks of tiles and of channels, as deep layers are") {
  // The first three have the longest sums: of the forward pass, the input's gradient, the filters' gradient.
  for (const Conv2d& shape :
       {shape_of(1, 512, 7, 7, 64, 1, 1), shape_of(1, 64, 14, 14, 512, 1, 1),
        shape_of(1, 16, 224, 224, 16, 1, 1), shape_of(5, 130, 30, 28, 70, 1, 1),
        moving(1, 512, 14, 14, 64, 3, 3, 2, 2, 1, 1), moving(3, 130, 60, 56, 70, 3, 3, 2, 2, 1, 1),
        moving(2, 3, 224, 224, 64, 7, 7, 2, 2, 3, 3)}) {
    const Layer layer(shape);
    CAPTURE(shape.c);
    CAPTURE(shape.r);
    for (const ConvPass pass : kPasses)
      for (const Variant& v : variants(shape, pass)) {
        CAPTURE(v.name);
        CHECK(relative_error(layer.run(v, pass), layer.wanted(pass)) <= allowed(v));
      }
  }
}

TEST_CASE("winograd: no picture") {
  for (const Conv2d& shape : {shape_of(0, 20, 6, 6, 20, 1, 1), moving(0, 20, 6, 6, 20, 3, 3, 2, 2, 1, 1),
                              moving(0, 3, 20, 20, 20, 7, 7, 2, 2, 3, 3)}) {
    const Layer layer(shape);
    for (const ConvPass pass : kPasses)
      for (const Variant& v : variants(shape, pass))
        CHECK(layer.run(v, pass) ==
              std::vector<float>(pass == ConvPass::weight_grad ? layer.w.size() : std::size_t{0}));
  }
}

TEST_CASE("winograd: only what it computes rightly") {
  const Conv2d fits = shape_of(1, 8, 8, 8, 8, 1, 1), stem = moving(1, 3, 20, 20, 8, 7, 7, 2, 2, 3, 3);
  for (const ConvPass pass : kPasses) {
    const auto with = [&](std::int64_t Conv2d::*member, std::int64_t value) {
      Conv2d other = fits;
      other.*member = value;
      return winograd_applies(other, pass);
    };
    CHECK(winograd_applies(fits, pass));
    CHECK_FALSE(with(&Conv2d::r, 1));
    CHECK_FALSE(with(&Conv2d::s, 5));
    CHECK_FALSE(with(&Conv2d::stride_h, 2));
    CHECK_FALSE(with(&Conv2d::stride_w, 2));
    CHECK_FALSE(with(&Conv2d::dil_h, 2));
    CHECK_FALSE(with(&Conv2d::dil_w, 2));
    CHECK_FALSE(with(&Conv2d::groups, 2));
    CHECK_FALSE(with(&Conv2d::pad_h, 3));
    CHECK_FALSE(with(&Conv2d::pad_w, 3));
    CHECK(winograd_applies(moving(1, 8, 8, 8, 8, 3, 3, 2, 2, 1, 1), pass) == (pass == ConvPass::forward));
    CHECK_FALSE(winograd_applies(moving(1, 8, 8, 8, 8, 3, 3, 3, 3, 1, 1), pass));
  }
  const auto with = [&](std::int64_t Conv2d::*member, std::int64_t value) {
    Conv2d other = stem;
    other.*member = value;
    return winograd_rows_applies(other);
  };
  CHECK(winograd_rows_applies(stem));
  CHECK(with(&Conv2d::s, 3));
  CHECK(with(&Conv2d::stride_w, 1));
  CHECK_FALSE(with(&Conv2d::r, 5));
  CHECK_FALSE(with(&Conv2d::stride_h, 1));
  CHECK_FALSE(with(&Conv2d::dil_h, 2));
  CHECK_FALSE(with(&Conv2d::dil_w, 2));
  CHECK_FALSE(with(&Conv2d::groups, 3));
}

TEST_CASE("convolutions: every epilogue on every variant is that of the values") {
  // Strides, few channels (scatter), one pixel, several slices of weights, a tail of channels, tiles, a stem.
  for (const Conv2d& p : {moving(2, 20, 9, 7, 35, 3, 3, 2, 2, 1, 1), shape_of(1, 3, 6, 5, 18, 1, 1),
                          shape_of(1, 1, 1, 1, 1, 1, 1), shape_of(1, 700, 7, 7, 33, 1, 1),
                          shape_of(2, 33, 9, 8, 65, 1, 1), moving(2, 3, 21, 18, 37, 7, 7, 2, 2, 3, 3)}) {
    CAPTURE(p.c);
    CAPTURE(p.stride_h);
    for (const ConvPass pass : {ConvPass::forward, ConvPass::input_grad}) {
      const bool forward = pass == ConvPass::forward;
      const std::int64_t channels = forward ? p.k : p.c;
      const std::int64_t rows = p.n * (forward ? p.oh * p.ow : p.h * p.w);
      const auto in = random_values(forward ? p.n * p.h * p.w * p.c : p.n * p.oh * p.ow * p.k, 1);
      const auto w = random_values(p.k * p.c * p.r * p.s, 2);
      const auto residual = random_values(rows * channels, 3), mask = random_values(rows * channels, 4);
      const auto scale = random_values(channels, 5), shift = random_values(channels, 6),
                 after = random_values(channels, 7);
      const std::int64_t strides[4] = {p.c * p.r * p.s, p.r * p.s, p.s, 1};
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
      if (p.c == 700) continue;
      for (const Variant& v : variants(p, pass)) {
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
