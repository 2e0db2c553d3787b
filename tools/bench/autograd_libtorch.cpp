// What autograd_bench.cpp measures, with LibTorch; compare_autograd.py builds and runs it.
//   autograd_libtorch NODES MIN_SECONDS MEMORY_NODES
// Prints one JSON object: row -> seconds (bytes for memory rows) per node. LibTorch has no module hooks:
// those rows are missing.
#include <malloc.h>
#include <torch/torch.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using torch::Tensor;
using Step = Tensor (*)(const Tensor& x, const Tensor& w);

const std::vector<std::pair<std::string, Step>> kOperations = {
    {"mul_scalar", [](const Tensor& x, const Tensor&) { return x * 0.999; }},
    {"add_scalar", [](const Tensor& x, const Tensor&) { return x + 0.001; }},
    {"mul", [](const Tensor& x, const Tensor& w) { return x * w; }},
};

std::int64_t nodes;
double min_seconds;
bool first_row = true;

void print_row(const std::string& name, double value) {
  std::printf("%s\"%s\": %.6g", first_row ? "{" : ", ", name.c_str(), value);
  first_row = false;
}

Tensor leaf() {
  return torch::ones({1}, torch::requires_grad());
}

template <class Each>
Tensor chain(Step step, std::int64_t count, const Each& each) {
  const Tensor w = leaf();
  Tensor x = leaf();
  for (std::int64_t i = 0; i < count; ++i) {
    x = step(x, w);
    each(x);
  }
  return x;
}

Tensor chain(Step step, std::int64_t count) {
  return chain(step, count, [](const Tensor&) {});
}

/// The mean over repetitions whose timed parts fill MIN_SECONDS, after one that does not count.
template <class Prepare, class Timed>
void measure(const std::string& name, const Prepare& prepare, const Timed& timed) {
  using Clock = std::chrono::steady_clock;
  double total = 0;
  std::int64_t count = -1;
  while (count < 1 || total < min_seconds) {
    auto prepared = prepare();
    const auto start = Clock::now();
    auto result = timed(prepared);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (count >= 0) total += seconds;
    ++count;
  }
  print_row(name, total / static_cast<double>(count * nodes));
}

struct Pass : torch::nn::Module {
  virtual Tensor forward(const Tensor& x) { return x; }
};

double status_bytes(const std::string& wanted) {
  std::ifstream status("/proc/self/status");
  for (std::string key, rest; status >> key && std::getline(status, rest);)
    if (key == wanted + ":") return 1024 * std::stod(rest);
  return 0;
}

void measure_memory(const std::string& name, Step step, std::int64_t count) {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
  const double before = status_bytes("VmRSS");
  Tensor y = chain(step, count);
  print_row("memory/" + name, (status_bytes("VmRSS") - before) / static_cast<double>(count));
  y.backward();
  print_row("peak memory/" + name, (status_bytes("VmHWM") - before) / static_cast<double>(count));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  nodes = std::atoll(argv[1]);
  min_seconds = std::atof(argv[2]);
  torch::set_num_threads(1);
  const auto nothing = [] { return 0; };
  const auto backward = [](Tensor& y) {
    y.backward();
    return 0;
  };
  for (const auto& [name, op] : kOperations) {
    const Step step = op;
    const auto build = [step] { return chain(step, nodes); };
    const auto forward = [&build](int) { return build(); };
    measure("forward/" + name, nothing, forward);
    {
      const torch::NoGradGuard guard;
      measure("no_grad/" + name, nothing, forward);
    }
    measure("destroy/" + name, build, [](Tensor& y) {
      y = Tensor();
      return 0;
    });
    measure("backward/" + name, build, backward);
  }
  const auto hooked = [] {
    return chain(kOperations[1].second, nodes,
                 [](const Tensor& x) { x.register_hook([](const Tensor&) {}); });
  };
  measure("forward/add_scalar+tensor_hook", nothing, [&hooked](int) { return hooked(); });
  measure("backward/add_scalar+tensor_hook", hooked, backward);
  Pass pass;
  measure("module/forward", leaf, [module = &pass](const Tensor& x) {
    Tensor y = x;
    for (std::int64_t i = 0; i < nodes; ++i) {
      asm volatile("" : : "r"(&y), "r"(module) : "memory");  // the call stays
      y = module->forward(y);
    }
    return y;
  });
  if (const std::int64_t count = std::atoll(argv[3]); count > 0)
    for (const auto& [name, step] : kOperations) measure_memory(name, step, count);
  std::puts("}");
  return 0;
}
