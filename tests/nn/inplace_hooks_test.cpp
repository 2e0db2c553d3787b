// In-place operations on the inputs and outputs of hooked modules: every gradient must equal that of the same
// computation without hooks and without in-place operations, and the hooks must see what they see there.

#include "grapnel/engine/backward.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/random.h"
#include "nn/small_modules.h"
#include "support/device.h"

using namespace grapnel;
using namespace grapnel::testing;
using nn::Module;

namespace {

/// How one computation is run. Without `inplace` and `hooked` it is the reference.
struct Mode {
  bool inplace = false, hooked = false;
};

/// A module around a function.
struct Lambda : Labelled {
  explicit Lambda(std::function<Tensor(const Tensor&)> f) : Labelled("lambda"), function(std::move(f)) {}
  std::string type_name() const override { return "Lambda"; }
  std::function<Tensor(const Tensor&)> function;

 protected:
  Tensor forward(const Tensor& x) override { return function(x); }
};

/// What full backward hooks saw, call by call.
using Seen = std::vector<std::vector<double>>;

void append(std::vector<double>& row, const Tensors& tensors) {
  for (const Tensor& tensor : tensors) {
    const auto values = tensor.defined() ? tensor.to_vector<double>() : std::vector<double>{};
    row.insert(row.end(), values.begin(), values.end());
  }
}

struct Run {
  Mode mode;
  Tensor x = [] {
    Generator generator(1);
    return Tensor::randn({2, 3, 4}, generator, finest_type()).set_requires_grad();
  }();
  Tensor weight = [] {
    Generator generator(2);
    return Tensor::randn({2, 3, 4}, generator, finest_type()).set_requires_grad();
  }();
  Seen seen = {};
  std::vector<std::shared_ptr<Module>> modules = {};

  /// Calls a module that computes f, hooked in hooked mode.
  Tensor call(const Tensor& input, const std::function<Tensor(const Tensor&)>& f) {
    auto module = modules.emplace_back(std::make_shared<Lambda>(f));
    if (mode.hooked)
      module->register_full_backward_hook(
          [this](Module&, const Tensors& grad_inputs, const Tensors& grad_outputs) {
            auto& row = seen.emplace_back();
            append(row, grad_inputs);
            append(row, grad_outputs);
            return std::nullopt;
          });
    return (*module)(input);
  }

  Tensor relu(const Tensor& t) const { return mode.inplace ? relu_(t) : grapnel::relu(t); }
  Tensor add(const Tensor& a, const Tensor& b) const { return mode.inplace ? add_(a, b) : a + b; }
  Tensor scale(const Tensor& t, double factor) const {
    return mode.inplace ? affine_(t, factor, 0) : t * factor;
  }
  /// `original` as it is after an in-place operation gave `result`: the same value.
  const Tensor& after(const Tensor& original, const Tensor& result) const {
    return mode.inplace ? original : result;
  }
};

/// Runs f in all four modes and compares loss, gradients, and what the hooks saw.
void check_all_modes(const std::function<Tensor(Run&)>& f) {
  const auto run = [&f](Mode mode) {
    Run result{mode};
    const Tensor out = f(result);
    Generator generator(3);
    const Tensor loss = sum(out * Tensor::randn(out.shape(), generator, finest_type()));
    loss.backward();
    std::vector<double> values{loss.item()};
    append(values, {result.x.grad(), result.weight.grad()});
    return std::pair(values, result.seen);
  };
  const auto [reference, none] = run({.inplace = false, .hooked = false});
  const auto [hooked, seen] = run({.inplace = false, .hooked = true});
  const auto [inplace, nothing] = run({.inplace = true, .hooked = false});
  const auto [both, seen_inplace] = run({.inplace = true, .hooked = true});
  CHECK(hooked == reference);
  CHECK(inplace == reference);
  CHECK(both == reference);
  CHECK_FALSE(seen.empty());
  CHECK(seen_inplace == seen);
}

}  // namespace

TEST_CASE("[hook-103] [better-1] in place: a hooked module overwrites its input and returns it") {
  check_all_modes([](Run& run) {
    const Tensor h = run.x * run.weight;
    return run.call(h, [&](const Tensor& t) { return run.relu(t); }) * run.weight;
  });
}

TEST_CASE("[hook-103] [better-1] in place: the output of a hooked module is overwritten by the caller") {
  check_all_modes([](Run& run) {
    const Tensor h = run.call(run.x, [&](const Tensor& t) { return t * run.weight; });
    return run.relu(run.scale(h, 3));
  });
}

TEST_CASE(
    "[hook-103] [better-1] in place: chains of hooked modules, each overwriting what the one before "
    "returned") {
  check_all_modes([](Run& run) {
    Tensor h = run.call(run.x, [&](const Tensor& t) { return t * run.weight; });
    for (int i = 0; i < 3; ++i)
      h = run.call(h, [&](const Tensor& t) {
        return run.call(run.scale(t, 0.5), [&](const Tensor& u) { return run.add(u, run.weight); });
      });
    return h;
  });
}

TEST_CASE(
    "[hook-103] [better-1] in place: a residual sum onto the output of a hooked module, with a hooked "
    "module's input") {
  check_all_modes([](Run& run) {
    const Tensor h = run.x * 2.0;
    return run.call(h, [&](const Tensor& t) {
      const Tensor branch = run.call(t, [&](const Tensor& u) { return u * run.weight; });
      return run.relu(run.add(branch, t));
    });
  });
}

TEST_CASE("[hook-103] [better-1] in place: a residual sum onto the input of a hooked module") {
  check_all_modes([](Run& run) {
    const Tensor h = run.x * 2.0;
    return run.call(h, [&](const Tensor& t) {
      const Tensor branch = run.call(t, [&](const Tensor& u) { return sigmoid(u) + run.weight; });
      return run.add(t, branch);
    });
  });
}

TEST_CASE(
    "[hook-103] [better-1] in place: the caller goes on with an input that a hooked module overwrote and "
    "returned") {
  check_all_modes([](Run& run) {
    const Tensor h = run.x * run.weight;
    const Tensor y = run.call(h, [&](const Tensor& t) { return run.relu(t); });
    return run.after(h, y) * y + run.after(h, y);
  });
}

TEST_CASE(
    "[hook-103] [better-1] in place: the caller goes on with an input that a hooked module overwrote but did "
    "not return") {
  const auto run = [](Mode mode) {
    Run r{mode};
    const Tensor h = r.x * r.weight;
    Tensor inner;
    const Tensor y = r.call(h, [&](const Tensor& t) {
      inner = r.relu(t);
      return inner * 2.0;
    });
    sum(r.after(h, inner) * y).backward();
    return std::pair(r.x.grad().to_vector<double>(), r.weight.grad().to_vector<double>());
  };
  const auto reference = run({});
  CHECK(run({.inplace = true, .hooked = false}) == reference);
  CHECK(run({.inplace = true, .hooked = true}) == reference);
}

TEST_CASE(
    "[hook-103] [better-1] in place: the input is a view, and its base and siblings are used afterwards") {
  const auto run = [](Mode mode) {
    Run r{mode};
    const Tensor base = r.x * r.weight;
    const Tensor part = narrow(base, 1, 0, 2), rest = narrow(base, 1, 2, 1);
    const Tensor y = r.call(part, [&](const Tensor& t) { return r.relu(t); });
    // What the base has become, spelled out where nothing was overwritten.
    const Tensor now = mode.inplace ? base : cat({y, rest}, 1);
    const Tensor sibling = mode.inplace ? narrow(base, 1, 1, 2) : narrow(now, 1, 1, 2);
    (sum(now * now) + sum(sibling * y) + sum(r.after(part, y) * 2.0)).backward();
    return std::pair(r.x.grad().to_vector<double>(), r.weight.grad().to_vector<double>());
  };
  const auto reference = run({});
  for (const Mode mode : {Mode{true, false}, Mode{true, true}, Mode{false, true}}) {
    const auto result = run(mode);
    for (std::size_t i = 0; i < reference.first.size(); ++i) {
      // Four terms, each of three factors, summed in another order.
      const double tolerance = 16 * epsilon(finest_type());
      CHECK(result.first[i] == doctest::Approx(reference.first[i]).epsilon(tolerance));
      CHECK(result.second[i] == doctest::Approx(reference.second[i]).epsilon(tolerance));
    }
  }
}

TEST_CASE(
    "[hook-103] [better-1] in place: the output is a view of the input, overwritten by the caller, who goes "
    "on with the input") {
  check_all_modes([](Run& run) {
    const Tensor h = run.x * run.weight;
    const Tensor flat = run.call(h, [](const Tensor& t) { return flatten(t, 1); });
    const Tensor y = run.relu(flat);
    return run.mode.inplace ? h * 2.0 : reshape(y, h.shape()) * 2.0;
  });
}

TEST_CASE(
    "[hook-103] [better-1] in place: the output is the input itself, overwritten by the caller, who goes on "
    "with both") {
  check_all_modes([](Run& run) {
    const Tensor h = run.x * run.weight;
    const Tensor same = run.call(h, [](const Tensor& t) { return t; });
    const Tensor y = run.relu(same);
    return run.after(h, y) * y;
  });
}

TEST_CASE("[hook-103] [better-1] in place: an output that is the input itself counts only its own uses") {
  Run run{{.inplace = false, .hooked = true}};
  const Tensor h = run.x * run.weight;
  const Tensor same = run.call(h, [](const Tensor& t) { return t; });
  sum(same * 2.0 + h * 3.0).backward();
  CHECK(run.seen == Seen{std::vector<double>(48, 2.0)});
  CHECK(run.weight.grad().to_vector<double>() == (run.x * 5.0).to_vector<double>());
}

TEST_CASE("[hook-103] [better-1] in place: a change under NoGrad does not unhook the output") {
  Run run{{.inplace = false, .hooked = true}};
  const Tensor y = run.call(run.x, [](const Tensor& t) { return t * 2.0; });
  {
    NoGrad no_grad;
    affine_(y, 10, 0);
  }
  sum(y).backward();
  CHECK(run.seen.size() == 1);
  CHECK(run.x.grad().to_vector<double>() == std::vector<double>(24, 2.0));
}

TEST_CASE("[hook-103] [better-1] in place: overwriting a leaf stays an error when the module is hooked") {
  for (const bool hooked : {false, true}) {
    Run run{{.inplace = true, .hooked = hooked}};
    const auto before = run.x.to_vector<double>();
    CHECK_THROWS_AS(run.call(run.x, [&](const Tensor& t) { return run.relu(t); }), AutogradError);
    CHECK(run.x.to_vector<double>() == before);
  }
}
