// Resampling and its adjoint on the model of a GPU, against the reference.
#include <doctest/doctest.h>

#include <limits>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "grapnel/kernels/common/cuda_families.h"

using namespace grapnel;
using namespace grapnel::kernels;
using cuda_host::Array;

namespace {

const FloatKernels<float>& cuda() {
  static const FloatKernels<float> table = [] {
    FloatKernels<float> result{};
    fill_interpolate_cuda(result);
    return result;
  }();
  return table;
}

std::size_t inputs(const Interpolate& s) {
  return static_cast<std::size_t>(s.n * s.c * s.h * s.w);
}
std::size_t outputs(const Interpolate& s) {
  return static_cast<std::size_t>(s.n * s.c * s.oh * s.ow);
}

/// Each size nearest, bilinear, and bilinear with aligned corners: n, c, h, w, oh, ow.
std::vector<Interpolate> shapes() {
  std::vector<Interpolate> list;
  for (Interpolate s : {Interpolate{1, 1, 7, 7, 32, 32, false, false},
                        {2, 4, 3, 4, 6, 8, false, false},
                        {2, 3, 5, 8, 5, 8, false, false},
                        {1, 67, 9, 4, 4, 9, false, false},
                        {2, 1, 1, 1, 3, 4, false, false},
                        {1, 12, 13, 11, 1, 1, false, false},
                        {1, 8, 3, 10, 7, 6, false, false},
                        {1, 2, 20, 31, 6, 61, false, false},
                        {0, 2, 3, 3, 2, 2, false, false}}) {
    list.push_back(s);
    s.bilinear = true;
    list.push_back(s);
    s.align_corners = true;
    list.push_back(s);
  }
  return list;
}

using Run = void (*)(const Interpolate&, float*, const float*);

/// With the values at the start of an allocation, and an element behind it.
void compare(const Interpolate& s, Run run, Run reference, const std::vector<float>& from, std::size_t count,
             double roundings) {
  CAPTURE(s.c);
  CAPTURE(s.h);
  CAPTURE(s.oh);
  CAPTURE(s.bilinear);
  CAPTURE(s.align_corners);
  std::vector<float> expected(count);
  reference(s, expected.data(), from.data());
  for (const std::size_t offset : {std::size_t{0}, std::size_t{1}}) {
    std::vector<float> source(offset, 0);
    source.insert(source.end(), from.begin(), from.end());
    const Array<float> in(source), out(std::vector<float>(count + offset, 77));
    run(s, out.data() + offset, in.data() + offset);
    const std::vector<float> got = out.values();
    cuda_host::check_close({got.begin() + static_cast<std::ptrdiff_t>(offset), got.end()}, expected,
                           roundings);
    if (offset > 0) CHECK(got[0] == 77);
  }
}

}  // namespace

TEST_CASE("interpolate: nearest, bilinear, with aligned corners") {
  for (const Interpolate& s : shapes())
    compare(s, cuda().interpolate, cuda_host::reference().interpolate, cuda_host::numbers(inputs(s)),
            outputs(s), s.bilinear ? 8 : 0);
}

TEST_CASE("interpolate's adjoint: each input gathers from all outputs that read it") {
  for (const Interpolate& s : shapes()) {
    // The reference rounds after each of so many additions.
    const double terms =
        static_cast<double>(outputs(s)) / static_cast<double>(std::max<std::size_t>(1, inputs(s)));
    compare(s, cuda().interpolate_adjoint, cuda_host::reference().interpolate_adjoint,
            cuda_host::numbers(outputs(s)), inputs(s), 16 + 8 * terms);
  }
}

TEST_CASE("what has no share in an output leaves no NaN in it") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const bool bilinear : {false, true})
    for (const bool align_corners : {false, true}) {
      // The same size is the identity, and all its outputs are at pixels.
      const Interpolate s{1, 4, 3, 5, 3, 5, bilinear, align_corners};
      std::vector<float> values = cuda_host::numbers(inputs(s));
      for (std::size_t i = 0; i < values.size(); i += 7) values[i] = i % 2 ? infinity : -infinity;
      const Array<float> x(values), y(values.size()), dx(values.size());
      cuda().interpolate(s, y.data(), x.data());
      CHECK(y.values() == values);
      cuda().interpolate_adjoint(s, dx.data(), x.data());
      CHECK(dx.values() == values);
    }
}
