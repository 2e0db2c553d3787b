// Convolutions with data of their own, by the reference and on the model: what tests of both kinds of kernels
// share.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "cuda_host/precisions.h"
#include "grapnel/kernels/common/cuda_families.h"

namespace grapnel::cuda_host {

using namespace kernels;
using Index = std::int64_t;

inline const Table& cuda_table() {
  static const Table table = make_cuda_table();
  return table;
}
inline const FloatKernels<float>& cuda_conv2d() {
  return cuda_table().f32;
}

struct Window {
  Index kernel, stride = 1, pad = 0, dilation = 1, groups = 1;
};

/// Height and width differ in all they can.
inline Conv2d shape_of(Index n, Index c, Index h, Index w, Index k, Window window) {
  const auto& [size, stride, pad, dilation, groups] = window;
  const auto out = [&](Index in) { return (in + 2 * pad - dilation * (size - 1) - 1) / stride + 1; };
  return {n, c, h, w, k, size, size, out(h), out(w), stride, stride, pad, pad, dilation, dilation, groups};
}

inline std::size_t count(std::initializer_list<Index> sizes) {
  Index product = 1;
  for (const Index size : sizes) product *= size;
  return static_cast<std::size_t>(product);
}

struct Data {
  std::vector<float> x, w, dy;
};
inline Data data_for(const Conv2d& p) {
  return {numbers(count({p.n, p.h, p.w, p.c}), 1), numbers(count({p.k, p.c / p.groups, p.r, p.s}), 2),
          numbers(count({p.n, p.oh, p.ow, p.k}), 3)};
}
/// More bits than any tensor core keeps.
inline Data any_data_for(const Conv2d& p) {
  Data d = data_for(p);
  for (auto* values : {&d.x, &d.w, &d.dy})
    for (float& value : *values) value = std::sin(100 * value);
  return d;
}

/// The parts of an epilogue, in order; a bit for each.
constexpr unsigned kAllParts = 63;
struct EpilogueOperands {
  std::vector<float> scale, shift, after, residual, mask;
  EpilogueOperands(std::size_t channels, std::size_t elements)
      : scale(numbers(channels, 11)),
        shift(numbers(channels, 12)),
        after(numbers(channels, 13)),
        residual(numbers(elements, 14)),
        mask(numbers(elements, 15)) {}
};
template <class Give>
Epilogue<float> epilogue_of(const EpilogueOperands& p, unsigned which, const Give& give) {
  Epilogue<float> e;
  if (which & 1) e.scale = give(p.scale);
  if (which & 2) e.shift = give(p.shift);
  if (which & 4) e.residual = give(p.residual);
  e.relu = which & 8;
  if (which & 16) e.mask = give(p.mask);
  if (which & 32) e.after = give(p.after);
  return e;
}

struct Results {
  std::vector<float> y, dx, dw;
};

/// Of weights that are dense rows, or channels last.
inline std::vector<Index> strides_of(const Conv2d& p, bool channels_last) {
  const Index c = p.c / p.groups;
  return channels_last ? std::vector<Index>{p.r * p.s * c, 1, p.s * c, c}
                       : std::vector<Index>{c * p.r * p.s, p.r * p.s, p.s, 1};
}

/// What is computed; the results of others are empty.
struct Passes {
  bool forward = true, input_grad = true, weight_grad = true;
};

inline Results expected_of(const Conv2d& p, const Data& d, unsigned parts = 0, bool last = false,
                           Passes passes = {}) {
  const auto& table = reference();
  Results out{std::vector<float>(passes.forward ? d.dy.size() : 0),
              std::vector<float>(passes.input_grad ? d.x.size() : 0),
              std::vector<float>(passes.weight_grad ? d.w.size() : 0)};
  const auto packed = [&](ConvPass pass) {
    std::vector<float> result(table.conv2d_packed_size(p, pass));
    table.conv2d_pack(p, pass, result.data(), d.w.data(), strides_of(p, last).data());
    return result;
  };
  const auto here = [](const std::vector<float>& values) { return values.data(); };
  const EpilogueOperands of_y(count({p.k}), d.dy.size()), of_x(count({p.c}), d.x.size());
  if (passes.forward)
    table.conv2d_forward(p, out.y.data(), d.x.data(), packed(ConvPass::forward).data(),
                         epilogue_of(of_y, parts, here));
  if (passes.input_grad)
    table.conv2d_input_grad(p, out.dx.data(), d.dy.data(), packed(ConvPass::input_grad).data(),
                            epilogue_of(of_x, parts, here));
  if (passes.weight_grad)
    table.conv2d_weight_grad(p, out.dw.data(), d.x.data(), d.dy.data(), nullptr, nullptr);
  return out;
}

inline Results run(const Conv2d& p, const Data& d, unsigned parts = 0, bool last = false,
                   Passes passes = {}) {
  const auto& table = cuda_conv2d();
  const Array<float> x(d.x), w(d.w), dy(d.dy), y(passes.forward ? d.dy.size() : 0),
      dx(passes.input_grad ? d.x.size() : 0), dw(passes.weight_grad ? d.w.size() : 0);
  const Array<float> forward(table.conv2d_packed_size(p, ConvPass::forward)),
      backward(table.conv2d_packed_size(p, ConvPass::input_grad));
  table.conv2d_pack(p, ConvPass::forward, forward.data(), w.data(), strides_of(p, last).data());
  table.conv2d_pack(p, ConvPass::input_grad, backward.data(), w.data(), strides_of(p, last).data());
  std::vector<std::unique_ptr<Array<float>>> kept;
  const auto there = [&](const std::vector<float>& values) {
    kept.push_back(std::make_unique<Array<float>>(values));
    return kept.back()->data();
  };
  const EpilogueOperands of_y(count({p.k}), d.dy.size()), of_x(count({p.c}), d.x.size());
  if (passes.forward)
    table.conv2d_forward(p, y.data(), x.data(), forward.data(), epilogue_of(of_y, parts, there));
  if (passes.input_grad)
    table.conv2d_input_grad(p, dx.data(), dy.data(), backward.data(), epilogue_of(of_x, parts, there));
  if (passes.weight_grad) table.conv2d_weight_grad(p, dw.data(), x.data(), dy.data(), nullptr, nullptr);
  return {y.values(), dx.values(), dw.values()};
}

inline void check_same(const Results& got, const Results& expected) {
  check_close(got.y, expected.y, 8);
  check_close(got.dx, expected.dx, 8);
  check_close(got.dw, expected.dw, 8);
}

inline double distance(const std::vector<float>& got, const std::vector<float>& expected) {
  REQUIRE(got.size() == expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace grapnel::cuda_host
