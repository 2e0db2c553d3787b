#include "grapnel/engine/backend.h"

#include <cstdlib>
#include <string_view>
#include <utility>

#include "grapnel/engine/device_memory.h"

namespace grapnel {
namespace {

/// The kernels cannot complain of a value they do not know.
void check_forced_convolution() {
  const char* value = std::getenv("GRAPNEL_CONV");
  if (!value || !*value) return;
  std::string known;
  for (const char* name : kernels::kConv2dVariants) {
    if (std::string_view(value) == name) return;
    known += std::string(known.empty() ? "" : ", ") + name;
  }
  throw NameError("GRAPNEL_CONV=" + std::string(value) +
                  " names no way to compute a convolution; choose one of " + known);
}

}  // namespace

const kernels::Table& backend(Device device) {
  if (device.kind == Device::Kind::cuda) return *use(device).table;
  static const kernels::Table* table = (check_forced_convolution(), kernels::select_cpu());
  if (!table) {
    const char* wanted = std::getenv("GRAPNEL_KERNEL");
    std::string known;
    int count = 0;
    const kernels::Table* const* tables = kernels::cpu_tables(&count);
    for (int i = 0; i < count; ++i) known += std::string(i ? ", " : "") + tables[i]->name;
    throw NameError("GRAPNEL_KERNEL=" + std::string(wanted ? wanted : "") +
                    " names no kernels that run on this machine; choose one of " + known);
  }
  return *table;
}

const char* kernel_name() {
  return backend({}).name;
}

void set_num_threads(int threads) {
  if (threads < 0)
    throw Error("set_num_threads: " + std::to_string(threads) + " is negative; 0 means all cores");
  kernels::set_num_threads(threads);
}

int num_threads() {
  return kernels::num_threads();
}

void check_same_type(const char* operation, const Tensor& x, const Tensor& y) {
  if (y.defined() && y.dtype() != x.dtype())
    throw TypeError(std::string(operation) + ": element types differ, " + std::string(name(x.dtype())) +
                    " and " + std::string(name(y.dtype())) + "; convert one of them with Tensor::to");
  if (y.defined() && y.device() != x.device())
    throw DeviceError(std::string(operation) + ": operands on different devices, " + to_string(x.device()) +
                      " and " + to_string(y.device()) + "; move one of them with Tensor::to");
}

void check_rank(const char* operation, const Tensor& x, std::size_t rank, const char* shape) {
  if (x.rank() != rank)
    throw ShapeError(std::string(operation) + ": expected a tensor of shape " + shape + ", got " +
                     to_string(x.shape()));
}

void check_indices(const char* operation, const char* what, const Tensor& index, std::int64_t size) {
  const std::int64_t* values = index.data<std::int64_t>();
  const std::int64_t count = index.numel();
  if (index.device().kind != Device::Kind::cpu)
    return on_device(operation, [&] {
      use(index.device()).check_index(index.device().index, operation, size, count, values);
    });
  for (std::int64_t i = 0; i < count; ++i)
    if (values[i] < 0 || values[i] >= size)
      throw ShapeError(std::string(operation) + ": " + what + " " + std::to_string(values[i]) +
                       " is outside 0.." + std::to_string(size - 1));
}

Strides broadcast_strides(const Tensor& x, const Shape& shape) {
  Strides strides(shape.size(), 0);
  const std::size_t missing = shape.size() - x.rank();
  for (std::size_t d = 0; d < x.rank(); ++d)
    if (x.shape()[d] != 1) strides[missing + d] = x.strides()[d];
  return strides;
}

template <int Operands>
kernels::Loops<Operands> make_loops(const Shape& shape, const Strides* const (&strides)[Operands]) {
  int order[kernels::kMaxRank];
  int rank = 0;
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (shape[d] != 1) order[rank++] = static_cast<int>(d);
  // Insertion sort: stable, and std::stable_sort would allocate.
  for (int i = 1; i < rank; ++i)
    for (int j = i; j > 0 && (*strides[0])[order[j - 1]] < (*strides[0])[order[j]]; --j)
      std::swap(order[j - 1], order[j]);

  kernels::Loops<Operands> loops{};
  for (int i = 0; i < rank; ++i) {
    const int d = order[i];
    const int last = loops.rank - 1;
    bool merges = loops.rank > 0;
    for (int o = 0; merges && o < Operands; ++o)
      merges = loops.strides[o][last] == (*strides[o])[d] * shape[d];
    const int slot = merges ? last : loops.rank++;
    loops.sizes[slot] = merges ? loops.sizes[slot] * shape[d] : shape[d];
    for (int o = 0; o < Operands; ++o) loops.strides[o][slot] = (*strides[o])[d];
  }
  if (loops.rank == 0) {
    loops.rank = 1;
    loops.sizes[0] = 1;
  }
  return loops;
}

template kernels::Loops<2> make_loops<2>(const Shape&, const Strides* const (&)[2]);
template kernels::Loops<3> make_loops<3>(const Shape&, const Strides* const (&)[3]);

MemoryFormat common_format(const Shape& shape, const Tensor& a, const Tensor& b) {
  for (const Tensor* x : {&a, &b})
    if (x->shape() == shape && x->suggested_format() == MemoryFormat::channels_last)
      return MemoryFormat::channels_last;
  return MemoryFormat::contiguous;
}

}  // namespace grapnel
