// Saved-tensor hooks, and hooks over the gradients of several tensors. Expected counts and values are
// PyTorch's.
#include <doctest/doctest.h>

#include <unistd.h>
#include <cmath>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "grapnel/engine/backward.h"
#include "grapnel/engine/multi_grad_hook.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/saved_tensor_hooks.h"
#include "support/device.h"

using namespace grapnel;

namespace {

using Floats = std::vector<float>;

Tensor leaf(std::initializer_list<float> values) {
  return Tensor::from<float>(values, {static_cast<std::int64_t>(values.size())}).set_requires_grad();
}

Floats values(const Tensor& x) {
  return x.to_vector<float>();
}

struct Counts {
  int packed = 0, unpacked = 0;

  PackHook pack(double factor = 1) {
    return [this, factor](const Tensor& x) {
      ++packed;
      return std::any(x * factor);
    };
  }
  UnpackHook unpack(double factor = 1) {
    return [this, factor](const std::any& kept) {
      ++unpacked;
      return std::any_cast<const Tensor&>(kept) * factor;
    };
  }
};

}  // namespace

TEST_CASE("[hook-81] all-gradients hook: computed ones only, once, not after a failure, removable") {
  const Tensor x = leaf({2}), y = leaf({3});
  const Tensor a = x * 2.0, b = y * 3.0, unused = x * 4.0;
  std::vector<Tensors> seen;
  HookHandle handle = register_all_grads_hook({a, unused, b, y},
                                              [&](const Tensors& gradients) { seen.push_back(gradients); });
  const Tensor out = a * b;
  out.backward({}, true);
  REQUIRE_EQ(seen.size(), 1);
  CHECK_EQ(seen[0].size(), 4);
  CHECK_EQ(values(seen[0][0]), Floats{9});
  CHECK_FALSE(seen[0][1].defined());
  CHECK_EQ(values(seen[0][2]), Floats{4});
  CHECK_EQ(values(seen[0][3]), Floats{12});

  grad({out}, {a}, {}, {.retain_graph = true});  // neither b nor y is visited
  REQUIRE_EQ(seen.size(), 2);
  CHECK_FALSE(seen[1][2].defined());

  {
    ScopedHook failing =
        x.register_hook([](const Tensor&) -> std::optional<Tensor> { throw std::runtime_error("stop"); });
    const Tensor last = leaf({1});
    const Tensor both = out * last;
    ScopedHook silent =
        register_all_grads_hook({x, last}, [&](const Tensors&) { FAIL("fired after a failure"); });
    CHECK_THROWS_WITH(both.backward({}, true), "tensor hook of accumulate_grad: stop");
  }
  handle.remove();
  const std::size_t before = seen.size();
  out.backward();
  CHECK_EQ(seen.size(), before);

  CHECK_THROWS_AS(register_all_grads_hook({}, [](const Tensors&) {}), AutogradError);
  CHECK_THROWS_AS(register_all_grads_hook({Tensor::ones({1})}, [](const Tensors&) {}), AutogradError);
}

TEST_CASE("[hook-82] any-gradient hook: once a pass") {
  const Tensor x = leaf({2}), a = x * 2.0, b = x * 3.0;
  Floats seen;
  register_any_grad_hook({a, b}, [&](const Tensor& gradient) { seen.push_back(values(gradient)[0]); });
  const Tensor out = a + b * 10.0;
  out.backward({}, true);
  REQUIRE_EQ(seen.size(), 1);
  CHECK_EQ(seen[0], 10);  // b was recorded last, so it comes first
  out.backward();
  CHECK_EQ(seen.size(), 2);
}

TEST_CASE("[hook-83] five concurrent passes: five calls, each with its own gradients" *
          testing::not_on_model("several threads")) {
  const Tensor x = leaf({2}), y = leaf({3}), a = x * y, b = x + y, out = a * b;
  std::mutex mutex;
  Floats seen;
  register_all_grads_hook({a, b, x}, [&](const Tensors& gradients) {
    std::lock_guard lock(mutex);
    seen.push_back(values(gradients[0])[0] / values(gradients[1])[0]);
  });
  std::vector<std::thread> threads;
  for (int i = 1; i <= 5; ++i)
    threads.emplace_back([&, seed = Tensor::full({1}, i)] { out.backward(seed, true); });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(seen, Floats(5, 5.0f / 6.0f));
  CHECK_EQ(values(x.grad()), Floats{15 * (3 * 5 + 6)});
}

TEST_CASE("[hook-84] a square packs twice, a pair that scales changes the gradient predictably") {
  Counts counts;
  const Tensor x = leaf({5});
  Tensor y;
  {
    SavedTensorHooks scope(counts.pack(2), counts.unpack(2));
    y = x * x;
  }
  CHECK_EQ(counts.packed, 2);
  CHECK_EQ(counts.unpacked, 0);
  y.backward();
  CHECK_EQ(counts.unpacked, 2);
  CHECK_EQ(values(x.grad()), Floats{2 * 5 * 4});
}

TEST_CASE("[hook-85] of nested pairs only the innermost is used") {
  Counts outer, inner;
  const Tensor x = leaf({3});
  SavedTensorHooks outside(outer.pack(), outer.unpack());
  Tensor y;
  {
    SavedTensorHooks inside(inner.pack(), inner.unpack());
    y = x * x;
  }
  CHECK_EQ(inner.packed, 2);
  CHECK_EQ(outer.packed, 0);
  const Tensor z = exp(y);
  CHECK_EQ(outer.packed, 1);
  z.backward();
  CHECK_EQ(inner.unpacked, 2);
  CHECK_EQ(outer.unpacked, 1);
}

TEST_CASE("[hook-86] x * y where y needs no gradient packs and unpacks once") {
  Counts counts;
  const Tensor x = leaf({3}), y = Tensor::full({1}, 4);
  SavedTensorHooks scope(counts.pack(), counts.unpack());
  (x * y).backward();
  CHECK_EQ(counts.packed, 1);
  CHECK_EQ(counts.unpacked, 1);
  CHECK_EQ(values(x.grad()), Floats{4});
}

TEST_CASE("[hook-87] a pack hook that changes its tensor is refused") {
  const Tensor x = leaf({3});
  SavedTensorHooks scope(
      [](const Tensor& saved) {
        saved.fill_(0);
        return std::any(saved);
      },
      [](const std::any& kept) { return std::any_cast<Tensor>(kept); });
  CHECK_THROWS_WITH_AS(
      x * x, doctest::Contains("the pack hook for a tensor saved by mul changed it in place"), AutogradError);
}

TEST_CASE("[hook-88] what a pack or unpack hook throws arrives, and the engine goes on") {
  const Tensor x = leaf({3});
  const auto keep = [](const Tensor& saved) { return std::any(saved); };
  const auto give = [](const std::any& kept) { return std::any_cast<Tensor>(kept); };
  {
    SavedTensorHooks scope([](const Tensor&) -> std::any { throw std::runtime_error("pack"); }, give);
    CHECK_THROWS_WITH_AS(x * x, "pack", std::runtime_error);
  }
  Tensor y, wrong_shape, wrong_type, nothing;
  {
    SavedTensorHooks scope(keep, [](const std::any&) -> Tensor { throw std::runtime_error("unpack"); });
    y = x * x;
  }
  CHECK_THROWS_WITH_AS(y.backward(), "unpack", std::runtime_error);
  {
    SavedTensorHooks scope(keep, [](const std::any&) { return Tensor::ones({7}); });
    wrong_shape = x * x;
  }
  CHECK_THROWS_WITH_AS(wrong_shape.backward(), doctest::Contains("mul returned shape (7,), expected (1,)"),
                       ShapeError);
  {
    SavedTensorHooks scope(keep, [](const std::any&) { return Tensor::ones({1}, DType::float16); });
    wrong_type = x * x;
  }
  CHECK_THROWS_WITH_AS(wrong_type.backward(), doctest::Contains("float16, expected float32"), TypeError);
  {
    SavedTensorHooks scope(keep, [](const std::any&) { return Tensor(); });
    nothing = x * x;
  }
  CHECK_THROWS_WITH_AS(nothing.backward(), doctest::Contains("returned nothing"), AutogradError);
  CHECK_FALSE(x.grad().defined());
  (x * x).backward();
  CHECK_EQ(values(x.grad()), Floats{6});
}

TEST_CASE("[hook-89] double backward through saved-tensor hooks") {
  Counts counts;
  const Tensor x = leaf({2});
  SavedTensorHooks scope(counts.pack(), counts.unpack());
  const Tensor y = exp(x * x * x);  // an input, an intermediate and an output are saved
  const Tensor first = grad({y}, {x}, {}, {.create_graph = true})[0];
  const Tensor second = grad({first}, {x})[0];
  const double e = std::exp(8.0);
  CHECK(std::abs(first.item() - 12 * e) < 12 * e * 1e-6);
  CHECK(std::abs(second.item() - (12 + 144) * e) < 156 * e * 1e-6);
  CHECK(counts.unpacked >= counts.packed);
}

TEST_CASE("[hook-90] saved tensors kept on disk, and in half precision") {
  const auto gradient = [](const Tensor& x) {
    const Tensor y = sum(tanh(x * x));
    y.backward();
    return x.grad();
  };
  const Tensor plain = leaf({0.5, -1, 0.25, 2});
  const Floats expected = values(gradient(plain));

  const auto folder =
      std::filesystem::temp_directory_path() / ("grapnel-saved-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  int files = 0;
  {
    struct File {
      std::string path;
      Shape shape;
    };
    const Tensor x = leaf({0.5, -1, 0.25, 2});
    SavedTensorHooks disk(
        [&](const Tensor& saved) {
          File file{(folder / std::to_string(files++)).string(), saved.shape()};
          const Floats elements = values(saved);
          std::ofstream(file.path, std::ios::binary)
              .write(reinterpret_cast<const char*>(elements.data()),
                     static_cast<std::streamsize>(elements.size() * sizeof(float)));
          return std::any(file);
        },
        [](const std::any& kept) {
          const auto& file = std::any_cast<const File&>(kept);
          Floats elements(static_cast<std::size_t>(numel(file.shape)));
          std::ifstream(file.path, std::ios::binary)
              .read(reinterpret_cast<char*>(elements.data()),
                    static_cast<std::streamsize>(elements.size() * sizeof(float)));
          return Tensor::from(std::span<const float>(elements), file.shape);
        });
    CHECK_EQ(values(gradient(x)), expected);
    CHECK_EQ(files, 3);
  }
  std::filesystem::remove_all(folder);

  const Tensor x = leaf({0.5, -1, 0.25, 2});
  SavedTensorHooks half([](const Tensor& saved) { return std::any(saved.to(DType::float16)); },
                        [](const std::any& kept) { return std::any_cast<Tensor>(kept).to(DType::float32); });
  const Floats halved = values(gradient(x));
  CHECK_NE(halved, expected);
  // Three roundings to 11 bits enter: two factors x and the output y, with dy/dx = 2x (1 - y^2).
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(std::abs(halved[i] - expected[i]) < 6 * 0x1p-11 * std::max(1.0f, std::abs(values(x)[i]) * 2));
}
