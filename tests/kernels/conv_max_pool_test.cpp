// A convolution and its max pooling in one pass, against one after the other: the same bits.
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "kernel_testing.h"

using namespace grapnel::kernels;
using grapnel::testing::random_values;

namespace {

struct Pair {
  Conv2d conv;
  Pool2d pool;
};

struct Window {
  std::int64_t kernel, stride, pad, dilation;
};

std::int64_t outputs(std::int64_t in, const Window& window) {
  return (in + 2 * window.pad - window.dilation * (window.kernel - 1) - 1) / window.stride + 1;
}

/// Square pictures, `n` of them.
Pair make_pair(std::int64_t n, std::int64_t c, std::int64_t size, std::int64_t k, const Window& conv,
               const Window& pool) {
  const std::int64_t made = outputs(size, conv), left = outputs(made, pool);
  return {{n, c, size, size, k, conv.kernel, conv.kernel, made, made, conv.stride, conv.stride, conv.pad,
           conv.pad, conv.dilation, conv.dilation, 1},
          {n, k, made, made, left, left, pool.kernel, pool.kernel, pool.stride, pool.stride, pool.pad,
           pool.pad, pool.dilation, pool.dilation, true}};
}

const std::vector<Pair>& pairs() {
  static const std::vector<Pair> list = {
      make_pair(1, 3, 97, 64, {7, 2, 3, 1}, {3, 2, 1, 1}),  // the stem of a ResNet, one band a thread
      make_pair(2, 3, 180, 64, {7, 2, 3, 1},
                {3, 2, 1, 1}),  // several bands; a thread's part ends in a picture
      make_pair(5, 5, 30, 33, {3, 2, 1, 1}, {2, 2, 0, 1}),  // windows side by side
      make_pair(3, 4, 41, 17, {5, 2, 2, 1}, {2, 3, 0, 1}),  // rows between windows that nobody needs
      make_pair(3, 4, 37, 20, {1, 1, 0, 1}, {3, 1, 1, 2}),  // windows with holes
      make_pair(2, 2, 25, 9, {3, 2, 1, 2}, {5, 2, 2, 1}),
  };
  return list;
}

struct Data {
  std::vector<float> x, w, scale, shift;
  std::vector<std::int64_t> w_strides;
};

Data data_for(const Conv2d& p) {
  return {random_values(p.n * p.c * p.h * p.w, 1),
          random_values(p.k * p.c * p.r * p.s, 2),
          random_values(p.k, 3),
          random_values(p.k, 4),
          {p.c * p.r * p.s, p.r * p.s, p.s, 1}};
}

}  // namespace

TEST_CASE("conv2d_max_pool: the bits of the convolution and then the pooling, on 1, 2 and 3 threads") {
  for (const Pair& pair : pairs()) {
    const auto& [conv, pool] = pair;
    const Data data = data_for(conv);
    const Epilogue<float> epilogue{.scale = data.scale.data(), .shift = data.shift.data(), .relu = true};
    CAPTURE(conv.h);
    CAPTURE(conv.k);
    for (const Table* table : grapnel::testing::tables()) {
      CAPTURE(table->name);
      const FloatKernels<float>& kernels = table->f32;
      grapnel::testing::AlignedBuffer packed(kernels.conv2d_packed_size(conv, ConvPass::forward));
      kernels.conv2d_pack(conv, ConvPass::forward, packed.data(), data.w.data(), data.w_strides.data());
      std::vector<float> whole(static_cast<std::size_t>(conv.n * conv.oh * conv.ow * conv.k));
      std::vector<float> want(static_cast<std::size_t>(pool.n * pool.oh * pool.ow * pool.c));
      kernels.conv2d_forward(conv, whole.data(), data.x.data(), packed.data(), epilogue);
      kernels.max_pool2d(pool, want.data(), nullptr, whole.data());
      for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<float> got(want.size(), std::numeric_limits<float>::quiet_NaN());
        const bool done =
            kernels.conv2d_max_pool(conv, pool, got.data(), data.x.data(), packed.data(), epilogue);
        CHECK(done == (std::string(table->name) != "reference"));
        if (done) CHECK_MESSAGE(got == want, threads, " threads");
      }
      set_num_threads(0);
    }
  }
}

TEST_CASE("conv2d_max_pool: declines what it cannot do, and writes nothing") {
  const Pair stem = make_pair(2, 3, 65, 16, {7, 2, 3, 1}, {3, 2, 1, 1});
  const Pair tiles = make_pair(2, 64, 28, 64, {3, 1, 1, 1}, {2, 2, 0, 1});
  const Pair deep = make_pair(1, 64, 14, 64, {3, 2, 1, 1}, {2, 2, 0, 1});  // three lines to share
  set_num_threads(2);
  for (const Table* table : grapnel::testing::tables())
    for (const Pair& pair : {stem, tiles, deep}) {
      const Data data = data_for(pair.conv);
      const FloatKernels<float>& kernels = table->f32;
      grapnel::testing::AlignedBuffer packed(kernels.conv2d_packed_size(pair.conv, ConvPass::forward));
      kernels.conv2d_pack(pair.conv, ConvPass::forward, packed.data(), data.w.data(), data.w_strides.data());
      const std::vector<float> residual(
          static_cast<std::size_t>(pair.conv.n * pair.conv.oh * pair.conv.ow * pair.conv.k));
      Epilogue<float> epilogue{};
      if (pair.conv.r == 7) epilogue.residual = residual.data();
      if (pair.conv.stride_h == 1 &&
          std::string(kernels.conv2d_variant(pair.conv, ConvPass::forward)) == "direct")
        continue;
      std::vector<float> y(static_cast<std::size_t>(pair.pool.n * pair.pool.oh * pair.pool.ow * pair.pool.c),
                           -7);
      const std::vector<float> before = y;
      CHECK_FALSE(
          kernels.conv2d_max_pool(pair.conv, pair.pool, y.data(), data.x.data(), packed.data(), epilogue));
      CHECK(y == before);
    }
  set_num_threads(0);
}
