// Micro-benchmark of the convolutions and matrix products of every CPU table that runs here, on the layers of
// ResNet and VGG:
//   conv_bench --threads=2 --benchmark_filter=avx512/forward
// The counter FLOP/s counts the multiplications and additions of the definition, whatever a variant really
// does.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "grapnel/kernels/kernels.h"

namespace {

using namespace grapnel::kernels;

struct Layer {
  const char* name;
  std::int64_t c, k, size, kernel, stride, pad;
};

constexpr Layer kLayers[] = {
    {"3-64@224_7x7s2", 3, 64, 224, 7, 2, 3},   {"64@56", 64, 64, 56, 3, 1, 1},
    {"64-128@56s2", 64, 128, 56, 3, 2, 1},     {"128@28", 128, 128, 28, 3, 1, 1},
    {"128-256@28s2", 128, 256, 28, 3, 2, 1},   {"256@14", 256, 256, 14, 3, 1, 1},
    {"256-512@14s2", 256, 512, 14, 3, 2, 1},   {"512@7", 512, 512, 7, 3, 1, 1},
    {"64-128@56_1x1s2", 64, 128, 56, 1, 2, 0}, {"256-512@14_1x1s2", 256, 512, 14, 1, 2, 0},
    {"3-64@224", 3, 64, 224, 3, 1, 1},         {"64@224", 64, 64, 224, 3, 1, 1},
    {"128@112", 128, 128, 112, 3, 1, 1},       {"256@56", 256, 256, 56, 3, 1, 1},
    {"512@28", 512, 512, 28, 3, 1, 1},         {"512@14", 512, 512, 14, 3, 1, 1},
};

Conv2d shape_of(const Layer& l, std::int64_t batch) {
  const std::int64_t out = (l.size + 2 * l.pad - l.kernel) / l.stride + 1;
  return {batch, l.c,      l.size,   l.size, l.k,   l.kernel, l.kernel, out,
          out,   l.stride, l.stride, l.pad,  l.pad, 1,        1,        1};
}

class Buffer {
 public:
  explicit Buffer(std::size_t count)
      : data_(static_cast<float*>(::operator new ((count + 16) * sizeof(float), std::align_val_t{64}))) {
    for (std::size_t i = 0; i < count; ++i) data_[i] = 0.01f * static_cast<float>(i % 7) - 0.03f;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { ::operator delete (data_, std::align_val_t{64}); }
  float* data() { return data_; }

 private:
  float* data_;
};

void count_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

void run_conv(benchmark::State& state, const FloatKernels<float>& kernels, const Layer& layer,
              const std::string& pass) {
  const Conv2d p = shape_of(layer, state.range(0));
  Buffer x(static_cast<std::size_t>(p.n * p.c * p.h * p.w)),
      y(static_cast<std::size_t>(p.n * p.k * p.oh * p.ow));
  Buffer w(static_cast<std::size_t>(p.k * p.c * p.r * p.s)), bias(static_cast<std::size_t>(p.k));
  const ConvPass packing = pass == "input_grad" ? ConvPass::input_grad : ConvPass::forward;
  const std::int64_t w_strides[] = {p.c * p.r * p.s, p.r * p.s, p.s, 1};
  Buffer packed(kernels.conv2d_packed_size(p, packing));
  kernels.conv2d_pack(p, packing, packed.data(), w.data(), w_strides);
  for (auto _ : state) {
    if (pass == "forward")
      kernels.conv2d_forward(p, y.data(), x.data(), packed.data(), {.shift = bias.data()});
    if (pass == "input_grad") kernels.conv2d_input_grad(p, x.data(), y.data(), packed.data(), {});
    if (pass == "weight_grad") kernels.conv2d_weight_grad(p, w.data(), x.data(), y.data(), nullptr, nullptr);
    if (pass == "pack") kernels.conv2d_pack(p, packing, packed.data(), w.data(), w_strides);
  }
  const double products = static_cast<double>(p.n * p.oh * p.ow * p.k) * static_cast<double>(p.c * p.r * p.s);
  if (pass != "pack") count_flops(state, 2 * products);
  state.SetLabel(kernels.conv2d_variant(p, pass == "weight_grad" ? ConvPass::weight_grad : packing));
}

void run_gemm(benchmark::State& state, const FloatKernels<float>& kernels, bool b_transposed) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  Buffer a(static_cast<std::size_t>(m * k)), b(static_cast<std::size_t>(k * n)),
      c(static_cast<std::size_t>(m * n));
  const Gemm shape{m, n, k, k, 1, b_transposed ? 1 : n, b_transposed ? k : 1, n};
  for (auto _ : state) kernels.gemm(shape, c.data(), a.data(), b.data(), nullptr);
  count_flops(state, 2.0 * static_cast<double>(m * n) * static_cast<double>(k));
}

void register_all(std::int64_t batch) {
  int count = 0;
  const Table* const* tables = cpu_tables(&count);
  for (int t = 0; t < count; ++t) {
    const FloatKernels<float>& kernels = tables[t]->f32;
    const std::string table = tables[t]->name;
    if (table == "reference") continue;  // minutes, and nothing to learn
    for (const std::string pass : {"forward", "input_grad", "weight_grad", "pack"}) {
      for (const Layer& layer : kLayers) {
        const auto body = [&kernels, layer, pass](benchmark::State& state) {
          run_conv(state, kernels, layer, pass);
        };
        benchmark::RegisterBenchmark((table + "/" + pass + "/" + layer.name).c_str(), body)
            ->Arg(batch)
            ->UseRealTime();
      }
    }
    for (const bool transposed : {false, true}) {
      const std::string name = table + (transposed ? "/gemm_bt" : "/gemm");
      const auto body = [&kernels, transposed](benchmark::State& state) {
        run_gemm(state, kernels, transposed);
      };
      benchmark::RegisterBenchmark(name.c_str(), body)
          ->Args({1, 1000, 512})
          ->Args({1, 4096, 4096})
          ->Args({32, 4096, 4096})
          ->Args({512, 512, 512})
          ->UseRealTime();
    }
  }
}

/// Removes --name=value from the arguments and returns the value, or `otherwise`.
int take_option(int* argc, char** argv, const char* name, int otherwise) {
  const std::string prefix = std::string("--") + name + "=";
  int kept = 1, value = otherwise;
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp(argv[i], prefix.c_str(), prefix.size()) == 0) {
      value = std::atoi(argv[i] + prefix.size());
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  set_num_threads(take_option(&argc, argv, "threads", 0));
  register_all(take_option(&argc, argv, "batch", 1));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
