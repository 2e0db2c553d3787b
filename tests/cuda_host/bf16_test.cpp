// Activations that are kept as bfloat16: each kernel gives what the one for floats gives, rounded; and the
// engine makes no floats of them unless somebody looks.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "cuda_host/capture.h"
#include "cuda_host/convolutions.h"
#include "grapnel/engine/backward.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/recipe.h"
#include "grapnel/nn/layers.h"
#include "grapnel/nn/plan.h"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

std::vector<BFloat16> halves_of(const std::vector<float>& values) {
  std::vector<BFloat16> halves;
  for (const float value : rounded_to(values, Precision::bf16)) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    halves.push_back({static_cast<std::uint16_t>(bits >> 16)});
  }
  return halves;
}

std::vector<float> floats_of(const std::vector<BFloat16>& halves) {
  std::vector<float> values;
  for (const BFloat16 half : halves) {
    const std::uint32_t bits = std::uint32_t{half.bits} << 16;
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    values.push_back(value);
  }
  return values;
}

/// On the device, in both forms.
struct Activation {
  explicit Activation(const std::vector<float>& values)
      : halves(halves_of(values)), floats(floats_of(halves_of(values))) {}
  explicit Activation(std::size_t count) : halves(count), floats(count) {}

  /// The same result, but for what bfloat16 has no bits for.
  void check_same() const {
    CHECK(floats_of(halves.values()) == rounded_to(floats.values(), Precision::bf16));
  }

  Array<BFloat16> halves;
  Array<float> floats;
};

std::vector<float> any_numbers(std::size_t count, unsigned seed) {
  std::vector<float> values = numbers(count, seed);
  for (float& value : values) value = std::sin(100 * value);
  return values;
}

/// Both kinds of kernels.
template <class Body>
void for_both(const Body& body) {
  set_precision(Precision::bf16);
  body();
  {
    const WithHopper hopper;
    body();
  }
  set_precision(Precision::fp32);
}

/// Half a unit of the last of 8 bits: what a rounding changes at most, of 1.
constexpr double kRounding = 1.0 / 512;

/// Is kept as bfloat16, and nobody has made floats of it.
bool is_kept(const Tensor& x) {
  const auto recipe = x.storage()->recipe();
  return recipe && recipe->is_stored();
}

/// A stem, a block whose shortcut is a convolution, and a head.
class Net : public nn::Module {
 public:
  Net() {
    const auto conv = [](Index in, Index out, Index kernel, Index stride) {
      return std::make_shared<nn::Conv2d>(
          in, out, std::pair(kernel, kernel),
          Conv2dOptions{.stride = {stride, stride}, .padding = {kernel / 2, kernel / 2}}, false);
    };
    stem_ = register_module("stem", conv(3, 32, 3, 1));
    first_ = register_module("first", conv(32, 64, 3, 2));
    second_ = register_module("second", conv(64, 64, 3, 1));
    shortcut_ = register_module("shortcut", conv(32, 64, 1, 2));
    for (std::size_t i = 0; i < norms_.size(); ++i)
      norms_[i] =
          register_module("norm" + std::to_string(i), std::make_shared<nn::BatchNorm2d>(i == 0 ? 32 : 64));
    head_ = register_module("head", std::make_shared<nn::Linear>(64, 5));
  }
  std::string type_name() const override { return "Net"; }

  std::map<std::string, Tensor> seen;

 protected:
  Tensor forward(const Tensor& x) override {
    Tensor y = relu((*norms_[0])((*stem_)(x)));
    y = max_pool2d(y, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}});
    if (watched) seen["pooled"] = y;
    Tensor z = relu((*norms_[1])((*first_)(y)));
    if (watched) seen["first"] = z;
    z = (*norms_[2])((*second_)(z));
    z = relu(z + (*norms_[3])((*shortcut_)(y)));
    if (watched) seen["block"] = z;
    return (*head_)(flatten(adaptive_avg_pool2d(z, 1, 1), 1));
  }

 public:
  bool watched = false;

 private:
  std::shared_ptr<nn::Conv2d> stem_, first_, second_, shortcut_;
  std::array<std::shared_ptr<nn::BatchNorm2d>, 4> norms_;
  std::shared_ptr<nn::Linear> head_;
};

std::shared_ptr<Net> net_on(Device device) {
  default_generator() = Generator(7);
  const auto net = std::make_shared<Net>();
  net->to(device);
  return net;
}

double distance(const Tensor& got, const Tensor& expected) {
  return cuda_host::distance(got.to_vector<float>(), expected.to_vector<float>());
}

}  // namespace

TEST_CASE("bf16: convolutions, all passes, with all that follows") {
  const Conv2d shapes[] = {shape_of(1, 32, 6, 5, 40, {3, 1, 1}), shape_of(2, 32, 7, 6, 64, {3, 2, 1}),
                           shape_of(1, 3, 8, 7, 32, {3, 1, 1}),  // some pass does not run on Hopper
                           shape_of(1, 32, 5, 5, 32, {3, 1, 1, 1, 2}),
                           shape_of(1, 32, 5, 4, 32, {3, 1, 1, 1, 8})};  // groups of no whole pieces
  const FloatKernels<float>& f32 = cuda_table().f32;
  for_both([&] {
    for (const Conv2d& p : shapes) {
      CAPTURE(p.c);
      const std::size_t xs = count({p.n, p.h, p.w, p.c}), ys = count({p.n, p.oh, p.ow, p.k});
      const Activation x(any_numbers(xs, 1)), dy(any_numbers(ys, 2)), y(ys), dx(xs),
          residual(any_numbers(ys, 3)), mask(any_numbers(xs, 4));
      const Array<float> w(data_for(p).w), scale(numbers(static_cast<std::size_t>(p.k), 5)),
          after(numbers(static_cast<std::size_t>(p.c), 6));
      const auto packed = [&](ConvPass pass) {
        auto result = std::make_unique<Array<float>>(f32.conv2d_packed_size(p, pass));
        f32.conv2d_pack(p, pass, result->data(), w.data(), strides_of(p, false).data());
        return result;
      };
      const auto forward = packed(ConvPass::forward), backward = packed(ConvPass::input_grad);
      f32.conv2d_forward(p, y.floats.data(), x.floats.data(), forward->data(),
                         {.scale = scale.data(), .residual = residual.floats.data(), .relu = true});
      cuda_table().bf16.conv2d_forward(
          p, y.halves.data(), {x.halves.data()}, forward->data(),
          {.scale = scale.data(), .residual = residual.halves.data(), .relu = true});
      y.check_same();
      f32.conv2d_input_grad(p, dx.floats.data(), dy.floats.data(), backward->data(),
                            {.mask = mask.floats.data(), .after = after.data()});
      cuda_table().bf16.conv2d_input_grad(p, dx.halves.data(), dy.halves.data(), backward->data(),
                                          {.mask = mask.halves.data(), .after = after.data()});
      dx.check_same();
      const Array<float> dw(data_for(p).w.size()), dw_of_halves(data_for(p).w.size());
      f32.conv2d_weight_grad(p, dw.data(), x.floats.data(), dy.floats.data(), nullptr, nullptr);
      cuda_table().bf16.conv2d_weight_grad(p, dw_of_halves.data(), x.halves.data(), dy.halves.data(), nullptr,
                                           nullptr);
      CHECK(dw_of_halves.values() == dw.values());
    }
  });
}

TEST_CASE("bf16: of floats, which a convolution rounds itself") {
  for_both([&] {
    for (const Conv2d& p : {shape_of(2, 3, 8, 7, 32, {3, 1, 1}), shape_of(1, 32, 6, 5, 40, {3, 1, 1})}) {
      CAPTURE(p.c);
      const std::vector<float> values = any_numbers(count({p.n, p.h, p.w, p.c}), 1);
      const std::size_t ys = count({p.n, p.oh, p.ow, p.k}), ks = static_cast<std::size_t>(p.k);
      const Array<float> x(values), w(data_for(p).w),
          packed(cuda_table().f32.conv2d_packed_size(p, ConvPass::forward));
      const Array<BFloat16> halves(halves_of(values));
      cuda_table().f32.conv2d_pack(p, ConvPass::forward, packed.data(), w.data(),
                                   strides_of(p, false).data());
      std::vector<std::vector<float>> results[2];
      for (const bool kept : {true, false}) {
        const Array<BFloat16> y(ys), z(ys);
        const Array<float> mean(ks), variance(ks);
        const KeptOr<BFloat16, float> input{kept ? halves.data() : nullptr, kept ? nullptr : x.data()};
        cuda_table().bf16.conv2d_forward(p, y.data(), input, packed.data(), {.relu = true});
        cuda_table().bf16.conv2d_moments(p, z.data(), mean.data(), variance.data(), input, packed.data(), {});
        results[kept] = {floats_of(y.values()), floats_of(z.values()), mean.values(), variance.values()};
      }
      CHECK(results[0] == results[1]);
    }
  });
}

TEST_CASE("bf16: under a Fusion a picture is laid out for a first layer, and not converted before") {
  const WithHopper hopper;
  Generator generator(8);
  const Tensor x = Tensor::randn({1, 3, 8, 8}, generator).to(Device::cuda()),
               w = Tensor::randn({32, 3, 1, 1}, generator).to(Device::cuda());
  const Tensor picture = x.contiguous(MemoryFormat::channels_last);
  const NoGrad no_grad;
  in_every_precision([&](Precision) {
    const Fusion fusion;
    const auto layer = [&] {
      Tensor y = conv2d(picture, w);
      y = relu(y);
      y.storage()->compute();
    };
    layer();
    layer();  // from now on the weights are packed
    const std::uint64_t before = activity().launches;
    layer();
    CHECK(activity().launches - before == 2);
  });
}

TEST_CASE("bf16: batch norm's passes") {
  for (const Index channels : {8, 7}) {
    CAPTURE(channels);
    constexpr Index rows = 300;
    const std::size_t size = count({rows, channels});
    const Activation x(any_numbers(size, 1)), dy(any_numbers(size, 2)), y(size), dx(size),
        residual(any_numbers(size, 3));
    const auto vector = [&](unsigned seed) { return numbers(static_cast<std::size_t>(channels), seed); };
    const Array<float> scale(vector(4)), shift(vector(5)), d(vector(6));
    std::vector<std::vector<float>> results[2];
    const auto run = [&](const auto& kernels, const auto& form, std::vector<std::vector<float>>& sums) {
      const Array<float> mean(vector(0)), variance(vector(0)), sum(vector(0)), dot(vector(0));
      kernels.channel_moments(rows, channels, mean.data(), variance.data(), form(x));
      kernels.channel_epilogue(rows, channels, form(y), form(x),
                               {.scale = scale.data(), .shift = shift.data(), .residual = form(residual)});
      kernels.channel_dots(rows, channels, sum.data(), dot.data(), form(dy), form(x), mean.data());
      kernels.channel_blend(rows, channels, form(dx), form(dy), form(x), mean.data(), scale.data(),
                            shift.data(), d.data());
      sums = {mean.values(), variance.values(), sum.values(), dot.values()};
    };
    run(
        cuda_table().f32, [](const Activation& a) { return a.floats.data(); }, results[0]);
    run(
        cuda_table().bf16, [](const Activation& a) { return a.halves.data(); }, results[1]);
    CHECK(results[0] == results[1]);
    y.check_same();
    dx.check_same();
  }
}

TEST_CASE("bf16: pools and sums") {
  for (const Index c : {8, 5}) {
    CAPTURE(c);
    const Pool2d pool{2, c, 7, 6, 4, 3, 3, 3, 2, 2, 1, 1, 1, 1, true};
    const std::size_t xs = count({pool.n, c, pool.h, pool.w}), ys = count({pool.n, c, pool.oh, pool.ow});
    const Activation x(any_numbers(xs, 1)), dy(any_numbers(ys, 2)), y(ys), dx(xs), spread(xs), even(xs);
    const Array<std::uint8_t> taps(ys), taps_of_halves(ys);
    const Array<float> small(numbers(ys, 3));
    std::vector<std::vector<float>> averages[2];
    const auto run = [&](const auto& kernels, const auto& form, const Array<std::uint8_t>& winners,
                         std::vector<std::vector<float>>& results) {
      kernels.max_pool2d(pool, form(y), winners.data(), form(x));
      kernels.max_pool2d_scatter(pool, form(dx), form(dy), winners.data());
      const Array<float> sliding(ys), adaptive(ys), total(static_cast<std::size_t>(c));
      kernels.avg_pool2d(pool, sliding.data(), form(x));
      kernels.adaptive_avg_pool2d(pool, adaptive.data(), form(x));
      kernels.avg_pool2d_adjoint(pool, form(spread), small.data());
      kernels.adaptive_avg_pool2d_adjoint(pool, form(even), small.data());
      const Index rows = pool.n * pool.h * pool.w;
      kernels.reduce(Reduction::sum, Reduce{1, {c}, {1}, {1}, 1, {rows}, {c}}, total.data(), form(x));
      results = {sliding.values(), adaptive.values(), total.values()};
    };
    run(
        cuda_table().f32, [](const Activation& a) { return a.floats.data(); }, taps, averages[0]);
    run(
        cuda_table().bf16, [](const Activation& a) { return a.halves.data(); }, taps_of_halves, averages[1]);
    CHECK(taps.values() == taps_of_halves.values());
    CHECK(averages[0] == averages[1]);
    for (const Activation* result : {&y, &dx, &spread, &even}) result->check_same();
  }
}

TEST_CASE("bf16: under a Fusion a layer's result is kept so, and floats are made when somebody looks") {
  const WithHopper hopper;
  set_precision(Precision::bf16);
  Generator generator(3);
  const Tensor x = Tensor::randn({1, 32, 5, 6}, generator).to(Device::cuda()),
               w = Tensor::randn({40, 32, 3, 3}, generator).to(Device::cuda());
  const Conv2dOptions options{.padding = {1, 1}};
  const std::vector<float> plain = relu(conv2d(x, w, {}, options)).to_vector<float>();
  {
    const Fusion fusion;
    const Tensor y = relu(conv2d(x, w, {}, options));
    CHECK_FALSE(is_kept(y));  // it waits
    const Tensor z = max_pool2d(y, {.kernel = {2, 2}});
    y.storage()->compute();
    CHECK(is_kept(y));
    CHECK(sum(y, {0, 2, 3}).shape() == Shape{40});
    CHECK(is_kept(y));
    const std::vector<float> rounded = rounded_to(plain, Precision::bf16);
    CHECK(y.to_vector<float>() == rounded);
    CHECK(flatten(y, 1).to_vector<float>() == rounded);
    const Tensor same = adaptive_avg_pool2d(y, 5, 6);
    CHECK(is_kept(same));
    CHECK(same.to_vector<float>() == rounded);
    CHECK(is_kept(y));  // copies are made of what is kept
    y.storage()->read();
    CHECK_FALSE(is_kept(y));
    const std::vector<float> before = z.to_vector<float>();
    // What changes is not what was kept.
    affine_(y, 2, 0);
    std::vector<float> twice = rounded;
    for (float& value : twice) value *= 2;
    CHECK(y.to_vector<float>() == twice);
    const Tensor pooled = max_pool2d(y, {.kernel = {2, 2}});
    for (std::size_t i = 0; i < before.size(); ++i) CHECK(pooled.to_vector<float>()[i] == 2 * before[i]);
  }
  Tensor computed, waiting;
  {
    const Fusion fusion;
    computed = relu(conv2d(x, w, {}, options));
    computed.storage()->compute();
    waiting = relu(conv2d(x, w, {}, options));
  }
  CHECK(is_kept(computed));
  CHECK(is_kept(waiting));
  const Fusion fusion;
  for (const Precision other : {Precision::fp32, Precision::tf32}) {
    set_precision(other);
    const Tensor y = relu(conv2d(x, w, {}, options));
    y.storage()->compute();
    CHECK_FALSE(is_kept(y));
  }
  set_precision(Precision::fp32);
}

TEST_CASE("bf16: a network's activations and gradients are never floats, forward and backward") {
  std::optional<WithHopper> hopper;
  SUBCASE("on Hopper") {
    hopper.emplace();
  }
  SUBCASE("on others") {}
  Generator generator(4);
  const Tensor x = Tensor::randn({2, 3, 12, 12}, generator), labels = Tensor::from<std::int64_t>({1, 4}, {2});
  std::map<std::string, Tensor> gradients;
  const auto train = [&](Net& net, Device device) {
    net.watched = true;
    const Tensor loss = cross_entropy(net(x.to(device)), labels.to(device));
    for (const auto& [name, value] : net.seen)
      value.register_hook([&gradients, name = name](const Tensor& g) -> std::optional<Tensor> {
        gradients[name] = g;
        return std::nullopt;
      });
    loss.backward();
    return loss.item();
  };
  const auto here = net_on(Device::cpu()), rounded = net_on(Device::cuda()), there = net_on(Device::cuda());
  const double expected = train(*here, Device::cpu());
  set_precision(Precision::bf16);
  train(*rounded, Device::cuda());
  {
    const Fusion fusion;
    // Six layers on the longest way, each with rounded operands and a rounded result.
    CHECK(std::abs(train(*there, Device::cuda()) - expected) < 12 * kRounding * expected);
    REQUIRE(there->seen.size() == 3);
    REQUIRE(gradients.size() == 3);
    for (const auto& [name, value] : there->seen) {
      CAPTURE(name);
      gradients[name].storage()->compute();
      CHECK(is_kept(value));
      CHECK(is_kept(gradients[name]));
    }
  }
  const auto of = [](Net& net) { return net.named_parameters(); };
  double by_operands = 0, by_storage = 0;
  for (std::size_t i = 0; i < of(*here).size(); ++i) {
    const Tensor exact = of(*here)[i].second.grad();
    by_operands += distance(of(*rounded)[i].second.grad(), exact);
    by_storage += distance(of(*there)[i].second.grad(), exact);
  }
  // Operands are rounded either way; the rest is that, too, where it is written.
  CHECK(by_operands > 0);
  CHECK(by_storage < 2 * by_operands);
  for (Net* net : {here.get(), there.get()}) {
    net->watched = false;
    net->seen.clear();
    net->eval();
  }
  const InferenceMode inference;
  const Fusion fusion;
  CHECK(distance((*there)(x.to(Device::cuda())), (*here)(x)) < 12 * kRounding);
  set_precision(Precision::fp32);
}

TEST_CASE("moments of a convolution's results, by its own kernel and by another that reads them again") {
  const Conv2d shapes[] = {shape_of(2, 32, 17, 15, 40, {3, 1, 1}),  // tiles of 64; the last is not full
                           shape_of(1, 32, 12, 13, 136, {1}),       // of 128 or 256, two across
                           shape_of(1, 128, 3, 3, 40, {3, 1, 1}),   // sums in parts
                           shape_of(1, 3, 16, 16, 40, {3, 1, 1}),   // a first layer, whose tiles are whole
                           shape_of(1, 3, 15, 16, 40, {3, 1, 1}),   // and are not
                           shape_of(2, 3, 7, 6, 24, {3, 2, 1})};    // on no Hopper
  const FloatKernels<float>& f32 = cuda_table().f32;
  const auto check = [&] {
    for (const Conv2d& p : shapes) {
      CAPTURE(p.k);
      const std::size_t ys = count({p.n, p.oh, p.ow, p.k}), ks = static_cast<std::size_t>(p.k);
      std::vector<float> far(ks, 100);  // the mean is far from zero, and the spread small
      const Array<float> w(any_data_for(p).w), bias(far),
          packed(f32.conv2d_packed_size(p, ConvPass::forward)), mean(ks), variance(ks), expected_mean(ks),
          expected_variance(ks);
      const Activation x(any_data_for(p).x), y(ys), z(ys);
      f32.conv2d_pack(p, ConvPass::forward, packed.data(), w.data(), strides_of(p, false).data());
      f32.conv2d_moments(p, y.floats.data(), mean.data(), variance.data(), x.floats.data(), packed.data(),
                         {.shift = bias.data()});
      f32.conv2d_forward(p, z.floats.data(), x.floats.data(), packed.data(), {.shift = bias.data()});
      CHECK(y.floats.values() == z.floats.values());
      f32.channel_moments(p.n * p.oh * p.ow, p.k, expected_mean.data(), expected_variance.data(),
                          z.floats.data());
      check_close(mean.values(), expected_mean.values(), 1.5);
      // Of values that were not yet rounded beside 100.
      check_close(variance.values(), expected_variance.values(), 32);
      if (precision() != Precision::bf16) continue;
      const Array<float> mean_of_halves(ks), variance_of_halves(ks);
      f32.conv2d_moments(p, z.floats.data(), mean.data(), variance.data(), x.floats.data(), packed.data(),
                         {});
      cuda_table().bf16.conv2d_moments(p, z.halves.data(), mean_of_halves.data(), variance_of_halves.data(),
                                       {x.halves.data()}, packed.data(), {});
      z.check_same();
      // Of what was to be rounded, or of what is.
      cuda_table().bf16.channel_moments(p.n * p.oh * p.ow, p.k, expected_mean.data(),
                                        expected_variance.data(), z.halves.data());
      const std::vector<float> of_halves = mean_of_halves.values(), of_rounded = expected_mean.values();
      const bool rounded = of_halves == of_rounded;
      if (p.r == 1) CHECK_FALSE(rounded);  // one step: nobody shares a tile
      const Array<float>& like_variance = rounded ? expected_variance : variance;
      check_close(of_halves, rounded ? of_rounded : mean.values(), 1.5);
      check_close(variance_of_halves.values(), like_variance.values(), 4);
    }
  };
  in_every_precision([&](Precision) { check(); });
  on_hopper([&](Precision) { check(); });
}

TEST_CASE("bf16: a plan's pass is one graph, with the same answers") {
  std::optional<WithHopper> hopper;
  SUBCASE("on Hopper") {
    hopper.emplace();
  }
  SUBCASE("on others") {}
  set_precision(Precision::bf16);
  Generator generator(6);
  const Tensor x = Tensor::randn({1, 3, 12, 12}, generator).to(Device::cuda());
  const auto net = net_on(Device::cuda());
  net->eval();
  const auto fused = [&] {
    const InferenceMode inference;
    const Fusion fusion;
    return (*net)(x).to_vector<float>();
  };
  const std::vector<float> expected = fused();
  const Plan ask = plan(net, x);
  const std::uint64_t replays = activity().replays;
  CHECK(ask(x).to_vector<float>() == expected);
  CHECK(activity().replays == replays + 1);
  set_precision(Precision::fp32);
  CHECK(ask(x).to_vector<float>() != expected);
}
