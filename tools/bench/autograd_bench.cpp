// Micro-benchmark of the graph itself, on chains of one-element operations where arithmetic costs nothing:
//   autograd_bench --benchmark_filter=backward/
// The counter per_node is the time of one operation, node, hook or module call. What is not named (building
// the chain for a backward, destroying it afterwards) is not timed. compare_autograd.py runs the same beside
// PyTorch; autograd_libtorch.cpp is the other side.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/nn/module.h"

namespace {

using namespace grapnel;

/// One step of a chain; the second operand is a leaf that requires a gradient.
using Step = Tensor (*)(const Tensor& x, const Tensor& w);

struct Operation {
  const char* name;
  Step step;
};

constexpr Operation kOperations[] = {
    {"mul_scalar", [](const Tensor& x, const Tensor&) { return x * 0.999; }},
    {"add_scalar", [](const Tensor& x, const Tensor&) { return x + 0.001; }},
    {"mul", [](const Tensor& x, const Tensor& w) { return x * w; }},
};
constexpr Step kAddScalar = kOperations[1].step;

Tensor leaf() {
  return Tensor::ones({1}).set_requires_grad();
}

template <class Each>
Tensor chain(Step step, std::int64_t nodes, const Each& each) {
  const Tensor w = leaf();
  Tensor x = leaf();
  for (std::int64_t i = 0; i < nodes; ++i) {
    x = step(x, w);
    each(x);
  }
  return x;
}

Tensor chain(Step step, std::int64_t nodes) {
  return chain(step, nodes, [](const Tensor&) {});
}

/// Runs `timed` on what `prepare` made; neither making that nor destroying it and the result is timed. The
/// first run is not either: malloc tidies up in it what the benchmark before left behind.
template <class Prepare, class Timed>
void measure(benchmark::State& state, const Prepare& prepare, const Timed& timed) {
  using Clock = std::chrono::steady_clock;
  {
    auto prepared = prepare();
    timed(prepared);
  }
  for (auto _ : state) {
    auto prepared = prepare();
    const auto start = Clock::now();
    auto result = timed(prepared);
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
    benchmark::DoNotOptimize(result);
  }
  state.counters["per_node"] =
      benchmark::Counter(static_cast<double>(state.range(0)),
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

std::optional<Tensor> look(const Tensor& gradient) {
  benchmark::DoNotOptimize(gradient.raw_data());
  return std::nullopt;
}

struct Nothing {};

Nothing go_backward(Tensor& y) {
  y.backward();
  return {};
}

/// A module that does nothing, and its forward without the call around it.
class Pass : public nn::Module {
 public:
  std::string type_name() const override { return "Pass"; }
  Tensor forward(const Tensor& x) override { return x; }
};

template <class Call>
void measure_calls(benchmark::State& state, const Call& call) {
  measure(state, leaf, [&](const Tensor& x) {
    Tensor y = x;
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      y = call(y);
      benchmark::DoNotOptimize(y);
    }
    return y;
  });
}

/// A line of /proc/self/status, such as VmRSS (resident now) or VmHWM (at most, since the last reset).
double status_bytes(const std::string& wanted) {
  std::ifstream status("/proc/self/status");
  for (std::string key, rest; status >> key && std::getline(status, rest);)
    if (key == wanted + ":") return 1024 * std::stod(rest);
  return 0;
}

/// Bytes a node of a chain, and at the highest point of its backward.
void measure_memory(benchmark::State& state, Step step) {
  const auto nodes = static_cast<double>(state.range(0));
  for (auto _ : state) {
    release_cached_memory();
    malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << 5;  // resets VmHWM
    const double before = status_bytes("VmRSS");
    Tensor y = chain(step, state.range(0));
    state.counters["bytes_per_node"] = (status_bytes("VmRSS") - before) / nodes;
    y.backward();
    state.counters["peak_bytes_per_node"] = (status_bytes("VmHWM") - before) / nodes;
  }
}

template <class Body>
benchmark::internal::Benchmark* add(const std::string& name, const Body& body) {
  return benchmark::RegisterBenchmark(name.c_str(), body);
}

template <class Body>
void add_timed(const std::string& name, const Body& body) {
  add(name, body)->Arg(1000)->Arg(100'000)->UseManualTime();
}

void register_operations() {
  for (const Operation& operation : kOperations) {
    const Step step = operation.step;
    const std::string name = operation.name;
    const auto run = [step](benchmark::State& state) {
      measure(
          state, [] { return Nothing(); }, [&](Nothing) { return chain(step, state.range(0)); });
    };
    add_timed("forward/" + name, run);
    add_timed("no_grad/" + name, [run](benchmark::State& state) {
      const NoGrad guard;
      run(state);
    });
    add_timed("destroy/" + name, [step](benchmark::State& state) {
      measure(
          state, [&] { return chain(step, state.range(0)); },
          [](Tensor& y) {
            y = Tensor();
            return Nothing();
          });
    });
    add_timed("backward/" + name, [step](benchmark::State& state) {
      measure(
          state, [&] { return chain(step, state.range(0)); }, go_backward);
    });
  }
}

void register_hooks() {
  const auto hooked = [](std::int64_t nodes) {
    return chain(kAddScalar, nodes, [](const Tensor& x) { x.register_hook(look); });
  };
  add_timed("forward/add_scalar+tensor_hook", [hooked](benchmark::State& state) {
    measure(
        state, [] { return Nothing(); }, [&](Nothing) { return hooked(state.range(0)); });
  });
  add_timed("backward/add_scalar+tensor_hook", [hooked](benchmark::State& state) {
    measure(
        state, [&] { return hooked(state.range(0)); }, go_backward);
  });

  add_timed("module/forward", [](benchmark::State& state) {
    Pass pass;
    Pass* module = &pass;
    benchmark::DoNotOptimize(module);  // the call stays virtual, as in a network
    measure_calls(state, [module](const Tensor& x) { return module->forward(x); });
  });
  add_timed("module/call", [](benchmark::State& state) {
    Pass pass;
    measure_calls(state, [&pass](const Tensor& x) { return pass(x); });
  });
  add_timed("module/call+forward_hook", [](benchmark::State& state) {
    Pass pass;
    pass.register_forward_hook([](nn::Module&, const Tensors&, const Tensors& outputs) {
      benchmark::DoNotOptimize(outputs.data());
      return std::nullopt;
    });
    measure_calls(state, [&pass](const Tensor& x) { return pass(x); });
  });
}

}  // namespace

int main(int argc, char** argv) {
  register_operations();
  register_hooks();
  for (const Operation& operation : kOperations)
    add("memory/" + std::string(operation.name),
        [step = operation.step](benchmark::State& state) { measure_memory(state, step); })
        ->Arg(1'000'000)
        ->Iterations(1);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
