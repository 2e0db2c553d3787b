// What a Fusion may and may not change: values by rounding only, and nothing that anybody can look at.
#include "grapnel/engine/fusion.h"

#include <doctest/doctest.h>

#include <cmath>
#include <optional>
#include <thread>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/device_memory.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/recipe.h"
#include "support/device.h"
#include "support/gradcheck.h"

using namespace grapnel;
using testing::leaf;

namespace {

const Conv2dOptions kSame{.padding = {1, 1}};

/// conv, batch norm, addition and ReLU: a residual block's last half.
struct Block {
  explicit Block(DType type, bool frozen = false) {
    x = leaf({2, 5, 6, 7}, 1).detach().to(type).contiguous(MemoryFormat::channels_last);
    other = leaf({2, 4, 6, 7}, 2).detach().to(type).contiguous(MemoryFormat::channels_last);
    weight = leaf({4, 5, 3, 3}, 3).detach().to(type);
    scale = leaf({4}, 4, 0.5, 1.5).detach().to(type);
    shift = leaf({4}, 5).detach().to(type);
    mean = leaf({4}, 6).detach().to(type);
    variance = leaf({4}, 7, 0.5, 2).detach().to(type);
    for (const Tensor& t : {x, other}) t.set_requires_grad();
    if (!frozen)
      for (const Tensor& t : {weight, scale, shift}) t.set_requires_grad();
  }

  Tensor run(bool training) const {
    const Tensor y =
        batch_norm(conv2d(x, weight, {}, kSame), scale, shift, mean.clone(), variance.clone(), training);
    return relu(y + other);
  }

  Tensors inputs() const {
    return scale.requires_grad() ? Tensors{x, other, weight, scale, shift} : Tensors{x, other};
  }

  Tensor x, other, weight, scale, shift, mean, variance;
};

double distance(const Tensor& a, const Tensor& b) {
  const NoGrad no_grad;
  const auto p = a.to_vector<double>(), q = b.to_vector<double>();
  REQUIRE(p.size() == q.size());
  double worst = 0;
  for (std::size_t i = 0; i < p.size(); ++i) worst = std::max(worst, std::abs(p[i] - q[i]));
  return worst;
}

/// By its address, of which no version counter knows.
void overwrite_first(const Tensor& x, float value) {
  copy_memory(x.device(), x.data<float>(), Device::cpu(), &value, sizeof value);
}

bool waits(const Tensor& x) {
  return x.storage()->recipe() != nullptr;
}

}  // namespace

TEST_CASE("fusion: values and gradients of a residual block are the same but for rounding") {
  for (const DType type : testing::float_types())
    for (const bool training : {false, true})
      for (const bool frozen : {false, true}) {
        CAPTURE(training);
        CAPTURE(frozen);
        // Sums of 45 products of numbers below 1, then a few operations on numbers below 20.
        const double allowed = type == DType::float32 ? 2e-5 : 5e-14;
        const Block block(type, frozen);
        const Tensor want = block.run(training);
        const Tensor upstream = leaf(want.shape(), 8).detach().to(type);
        const Tensors expected = grad({want}, block.inputs(), {upstream});
        Tensor got;
        Tensors gradients;
        {
          const Fusion fusion;
          got = block.run(training);
          CHECK(waits(got));
          gradients = grad({got}, block.inputs(), {upstream});
          CHECK(got.shape() == want.shape());
          CHECK(got.strides() == want.strides());
        }
        CHECK_FALSE(waits(got));
        CHECK(distance(got, want) <= allowed);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          CAPTURE(i);
          CHECK(distance(gradients[i], expected[i]) <= allowed);
        }
      }
}

TEST_CASE("fusion: second derivatives" * testing::on_cpu_only("float64")) {
  const Fusion fusion;
  const Tensor mean = leaf({2}, 1).detach(), variance = leaf({2}, 2, 0.5, 2).detach();
  const auto block = [&](const Tensors& in) {
    return tanh(
        relu(batch_norm(conv2d(in[0], in[1], {}, kSame), in[2], in[3], mean, variance, false) + in[4]));
  };
  const Tensors inputs{leaf({1, 2, 3, 3}, 3), leaf({2, 2, 3, 3}, 4), leaf({2}, 5, 0.5, 1.5), leaf({2}, 6),
                       leaf({1, 2, 3, 3}, 7)};
  CHECK(testing::gradcheck(block, inputs) == "");
  CHECK(testing::gradgradcheck(block, inputs) == "");
}

TEST_CASE("fusion: a value that somebody holds is computed as without it, and the rest goes on from there") {
  const NoGrad no_grad;
  const Block block(DType::float32);
  const Tensor conv = conv2d(block.x, block.weight, {}, kSame);
  const Tensor want = relu(conv + block.other);
  const Fusion fusion;
  const Tensor held = conv2d(block.x, block.weight, {}, kSame);
  Tensor y = relu(held + block.other);
  CHECK(waits(held));
  CHECK(y.to_vector<float>() == want.to_vector<float>());
  CHECK_FALSE(waits(held));  // running y computed it
  CHECK(held.to_vector<float>() == conv.to_vector<float>());

  y = relu(conv2d(block.x, block.weight, {}, kSame) + block.other);
  const Tensor view = narrow(y, 0, 1, 1);
  CHECK(waits(view));
  CHECK(distance(view, narrow(want, 0, 1, 1)) <= 1e-6);
  CHECK_FALSE(waits(y));
}

TEST_CASE("fusion: a pooling waits, too, and leaves nothing of what it pools in memory") {
  const NoGrad no_grad;
  const Pool2dOptions windows{.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}};
  for (const DType type : testing::float_types())
    for (const std::int64_t stride : {1, 2}) {  // on the CPU by tiles, which pool afterwards, and directly
      const Tensor x =
          (testing::on_cpu() ? leaf({2, 16, 40, 38}, 1) : leaf({1, 16, 9, 8}, 1)).detach().to(type);
      const Tensor weight = leaf({32, 16, 3, 3}, 2).detach().to(type), bias = leaf({32}, 3).detach().to(type);
      const Conv2dOptions options{.stride = {stride, stride}, .padding = {1, 1}};
      const Tensor before = relu(conv2d(x, weight, bias, options)), want = max_pool2d(before, windows);
      const Fusion fusion;
      Tensor y = relu(conv2d(x, weight, bias, options));
      const std::weak_ptr<Storage> pooled = y.storage();
      y = max_pool2d(y, windows);
      CHECK(waits(y));
      CHECK(pooled.expired());
      CHECK(y.shape() == want.shape());
      CHECK(y.to_vector<double>() == want.to_vector<double>());

      const Tensor held = relu(conv2d(x, weight, bias, options));
      y = max_pool2d(held, windows);
      CHECK(y.to_vector<double>() == want.to_vector<double>());
      CHECK_FALSE(waits(held));
      CHECK(held.to_vector<double>() == before.to_vector<double>());

      // What follows a pooling does not join it.
      y = relu(max_pool2d(conv2d(x, weight, bias, options), windows));
      CHECK(y.to_vector<double>() == want.to_vector<double>());
    }
}

TEST_CASE("fusion: a linear layer waits for its ReLU, whatever the rank and the order of its operands") {
  const NoGrad no_grad;
  for (const DType type : testing::float_types())
    for (const bool has_bias : {false, true}) {
      CAPTURE(has_bias);
      const Tensor x = leaf({6, 5}, 1).detach().to(type), weight = leaf({4, 5}, 2).detach().to(type),
                   bias = has_bias ? leaf({4}, 3).detach().to(type) : Tensor(),
                   other = leaf({6, 4}, 4).detach().to(type),
                   turned = transpose(transpose(x, 0, 1).clone(), 0, 1), deep = reshape(x, {2, 3, 5});
      const Tensor plain = linear(x, weight, bias), want = relu(plain);
      const Fusion fusion;
      Tensor y = linear(x, weight, bias);
      const std::weak_ptr<Storage> before = y.storage();
      y = relu(y);
      CHECK(waits(y));
      CHECK(before.expired());
      CHECK(y.to_vector<double>() == want.to_vector<double>());
      CHECK(relu(linear(turned, weight, bias)).to_vector<double>() == want.to_vector<double>());
      const Tensor held = linear(x, weight, bias);
      CHECK(relu(held).to_vector<double>() == want.to_vector<double>());
      CHECK(held.to_vector<double>() == plain.to_vector<double>());
      // Three dimensions are not those of the product, of which one is channels.
      CHECK(relu(linear(deep, weight, bias)).to_vector<double>() == want.to_vector<double>());
      CHECK((linear(deep, weight, bias) + reshape(other, {2, 3, 4})).to_vector<double>() ==
            (plain + other).to_vector<double>());
      y = linear(x, weight, bias);
      y = y + other;
      y = relu(y);
      CHECK(distance(y, relu(plain + other)) <= 1e-6);
      CHECK(linear(Tensor::zeros({0, 5}).to(type), weight, bias).numel() == 0);
    }
}

TEST_CASE("fusion: averages of one element each are the elements, copied when somebody looks") {
  for (const bool fused : {false, true}) {
    CAPTURE(fused);
    const Tensor x =
        leaf({2, 3, 4, 5}, 1).detach().to(DType::float32).contiguous(MemoryFormat::channels_last);
    const std::vector<float> values = x.to_vector<float>();
    std::optional<Fusion> fusion;
    if (fused) fusion.emplace();
    {
      const NoGrad no_grad;
      const Tensor y = adaptive_avg_pool2d(x, 4, 5);
      CHECK(waits(y) == fused);
      CHECK(flatten(y, 1).to_vector<float>() == values);
      CHECK(y.clone().to_vector<float>() == values);
      CHECK(waits(y) == fused);  // others copied from x
      affine_(x, 2, 0);
      CHECK_FALSE(waits(y));
      CHECK(y.to_vector<float>() == values);
      affine_(y, 0, 1);
      CHECK(distance(x, Tensor::from<float>(values, x.shape()) * 2) == 0);
      CHECK(distance(adaptive_avg_pool2d(x, 4, 1), mean(x, {3}, true)) <= 1e-6);
      CHECK(distance(adaptive_avg_pool2d(x, 1, 5), mean(x, {2}, true)) <= 1e-6);
      // A part of what waits is a part of what it is copied from.
      const Tensor z = adaptive_avg_pool2d(x, 4, 5);
      CHECK(distance(narrow(z, 1, 1, 2).contiguous(), narrow(x, 1, 1, 2)) == 0);
      CHECK(waits(z) == fused);
    }
    x.set_requires_grad();
    const Tensor upstream = leaf({2, 3, 4, 5}, 2).detach().to(DType::float32);
    const Tensors gradients = grad({adaptive_avg_pool2d(x, 4, 5)}, {x}, {upstream});
    CHECK(distance(gradients[0], upstream) == 0);
  }
  CHECK_THROWS_AS(adaptive_avg_pool2d(Tensor::zeros({1, 1, 2, 2}, DType::int64), 2, 2), TypeError);
}

TEST_CASE("fusion: a thread copies what waits to be copied while another changes what it is copied from") {
  const NoGrad no_grad;
  for (int i = 0; i < 20; ++i) {
    const Tensor x =
        leaf({2, 8, 16, 16}, 1).detach().to(DType::float32).contiguous(MemoryFormat::channels_last);
    const std::vector<float> values = x.to_vector<float>();
    const Fusion fusion;
    const Tensor y = adaptive_avg_pool2d(x, 16, 16);
    std::vector<float> got;
    std::thread other([&] { got = y.clone().to_vector<float>(); });
    affine_(x, 2, 1);
    other.join();
    CHECK(got == values);
    CHECK(y.to_vector<float>() == values);
  }
}

TEST_CASE("fusion: a waiting value seen in another shape is not what waits") {
  const NoGrad no_grad;
  const Tensor x = leaf({2, 3, 1, 1}, 1).detach().to(DType::float32),
               weight = leaf({1, 3, 1, 1}, 2).detach().to(DType::float32),
               scale = leaf({2}, 3, 0.5, 1.5).detach().to(DType::float32),
               zeros = Tensor::zeros({2}, DType::float32), ones = Tensor::ones({2}, DType::float32);
  const auto compute = [&] {
    const Tensor one_picture = reshape(conv2d(x, weight), {1, 2, 1, 1});
    return relu(batch_norm(one_picture, scale, zeros, zeros.clone(), ones.clone(), false));
  };
  const Tensor want = compute();
  const Fusion fusion;
  CHECK(distance(compute(), want) <= 1e-6);
}

TEST_CASE("fusion: what is going to be read may change only afterwards") {
  const NoGrad no_grad;
  for (int way = 0; way < 7; ++way) {
    CAPTURE(way);
    const Block block(DType::float32);
    const Tensor bias = leaf({4}, 9).detach().to(DType::float32);
    Tensor inner;
    const auto compute = [&] {
      inner = conv2d(block.x, block.weight, bias, kSame);
      return relu(inner + block.other);
    };
    const Tensor want = compute();
    const Fusion fusion;
    const Tensor y = compute();
    CHECK(waits(y));
    if (way == 0) affine_(block.x, 2, 1);
    if (way == 1) overwrite_first(block.x, 100);
    if (way == 2) block.weight.fill_(0);
    if (way == 3) block.other.copy_(Tensor::zeros({1}));
    if (way == 4) bias.zero_();
    if (way == 5) affine_(inner, 1, 1);
    if (way == 6) overwrite_first(inner, 100);
    CHECK_FALSE(waits(y));
    CHECK(distance(y, want) <= 1e-6);
    if (way < 5) CHECK(distance(compute(), want) > 0.01);
  }
  const Tensor matrix = leaf({3, 3}, 1).detach().to(DType::float32),
               product = matmul(matrix, transpose(matrix, 0, 1));
  const Fusion fusion;
  const Tensor squared = linear(matrix, matrix);
  CHECK(waits(squared));
  affine_(matrix, 2, 1);
  CHECK_FALSE(waits(squared));
  CHECK(distance(squared, product) <= 1e-6);
}

TEST_CASE("fusion: changing a waiting value in place") {
  const NoGrad no_grad;
  const Block block(DType::float32);
  const Tensor want = relu(conv2d(block.x, block.weight, {}, kSame) + 1.0);
  const Fusion fusion;
  const Tensor y = conv2d(block.x, block.weight, {}, kSame);
  affine_(y, 1, 1);
  relu_(y);
  CHECK(y.to_vector<float>() == want.to_vector<float>());
}

TEST_CASE("fusion: operands that do not lie alike are left to the ordinary operations") {
  const NoGrad no_grad;
  const Block block(DType::float32);
  const auto conv = [&] { return conv2d(block.x, block.weight, {}, kSame); };
  const Tensor rows = block.other.contiguous();
  const Tensor row = leaf({1, 4, 1, 7}, 10).detach().to(DType::float32);
  const Tensor plain = conv(), with_rows = conv() + rows, with_row = conv() + row,
               part = relu(narrow(conv(), 1, 1, 2));
  const Fusion fusion;
  CHECK((conv() + rows).to_vector<float>() == with_rows.to_vector<float>());
  CHECK((conv() + row).to_vector<float>() == with_row.to_vector<float>());
  CHECK(relu(narrow(conv(), 1, 1, 2)).to_vector<float>() == part.to_vector<float>());
  CHECK(distance(relu(relu(conv())), relu(plain)) == 0);
  CHECK(distance(conv() + conv(), plain * 2) <= 1e-6);
  const Tensor once = conv();
  CHECK(distance(once + once, plain * 2) <= 1e-6);
  CHECK(conv2d(Tensor::zeros({0, 5, 6, 7}), block.weight, {}, kSame).numel() == 0);
}

TEST_CASE("fusion: a scope computes what is left, however it ends, scopes nest, any thread may look") {
  const Block block(DType::float32);
  const Tensor want = conv2d(block.x, block.weight, {}, kSame);
  Tensor y;
  {
    const Fusion outer;
    {
      const Fusion inner;
      y = conv2d(block.x, block.weight, {}, kSame);
    }
    CHECK(Fusion::enabled());
    CHECK(waits(y));
  }
  CHECK_FALSE(Fusion::enabled());
  CHECK_FALSE(waits(y));
  CHECK(distance(y, want) == 0);

  try {
    const Fusion fusion;
    y = conv2d(block.x, block.weight, {}, kSame);
    throw Error("on purpose");
  } catch (const Error&) {
  }
  CHECK_FALSE(Fusion::enabled());
  CHECK_FALSE(waits(y));

  const Fusion fusion;
  y = conv2d(block.x, block.weight, {}, kSame);
  double error = 1;
  std::thread([&] { error = distance(y, want); }).join();
  CHECK(error == 0);
}

TEST_CASE("fusion: what nobody asks for is never computed and takes no memory" *
          testing::on_cpu_only("the CPU's memory is counted")) {
  const NoGrad no_grad;
  const Tensor x = Tensor::ones({1, 1, 300, 300}), weight = Tensor::ones({1, 1, 1, 1});
  const Fusion fusion;
  const std::size_t before = memory_use().in_use;
  Tensor y = conv2d(x, weight);
  CHECK(memory_use().in_use == before);
  y = Tensor();
  CHECK(memory_use().in_use == before);
}
