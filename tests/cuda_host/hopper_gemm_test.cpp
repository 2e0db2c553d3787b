// Products by tensor maps and warpgroups on the model of a Hopper, against the reference.
#include <doctest/doctest.h>

#include "cuda_host/array.h"
#include "cuda_host/numbers.h"
#include "cuda_host/precisions.h"
#include "grapnel/kernels/common/cuda_families.h"
#include "grapnel/kernels/gemm/hopper.cuh"
#include "grapnel/kernels/gemm/strided.cuh"

using namespace grapnel;
using namespace grapnel::kernels;
using namespace grapnel::cuda_host;

namespace {

/// a (m, k) and b (n, k), whose rows lie further apart than they are long, by the gaps; rows of C do, too,
/// and can be written in fours if n is a multiple of 8.
struct Operands {
  Gemm shape;
  std::vector<float> a, b, bias;

  Operands(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t gap_a, std::int64_t gap_b)
      : shape{m, n, k, k + gap_a, 1, 1, k + gap_b, n + (n % 8 == 0 ? 4 : 3)},
        a(numbers(static_cast<std::size_t>(m * shape.a_row), 1)),
        b(numbers(static_cast<std::size_t>(n * shape.b_col), 2)),
        bias(numbers(static_cast<std::size_t>(n), 3)) {}
  std::size_t places() const { return static_cast<std::size_t>(shape.m * shape.c_row); }
};

std::vector<float> expected_of(const Operands& o, bool with_bias) {
  std::vector<float> c(o.places(), 77);
  reference().gemm(o.shape, c.data(), o.a.data(), o.b.data(), with_bias ? o.bias.data() : nullptr);
  return c;
}

struct Ran {
  std::vector<float> c;
  bool by_hopper;
};
/// By the table. What lies between the rows of C is left as it was.
Ran run(const Operands& o, bool with_bias, std::size_t shift_a = 0) {
  FloatKernels<float> table{};
  fill_gemm_cuda(table);
  std::vector<float> shifted(shift_a, 99);
  shifted.insert(shifted.end(), o.a.begin(), o.a.end());
  const Array<float> a(shifted), b(o.b), bias(o.bias), c(std::vector<float>(o.places(), 77));
  const std::uint64_t before = tensor_maps_made;
  table.gemm(o.shape, c.data(), a.data() + shift_a, b.data(), with_bias ? bias.data() : nullptr);
  return {c.values(), tensor_maps_made > before};
}

void check(const Operands& o, bool with_bias) {
  CAPTURE(o.shape.m);
  CAPTURE(o.shape.k);
  const Ran ran = run(o, with_bias);
  CHECK(ran.by_hopper);
  check_close(ran.c, expected_of(o, with_bias), 4);
}

/// The kernel itself, a sum in one part.
template <class Way, int kN>
std::vector<float> in_one_part(const Operands& o) {
  const Gemm& s = o.shape;
  std::vector<ElementOf<Way>> a, b;
  for (std::size_t part = 0; part < Way::kParts; ++part) {
    for (const float value : o.a) a.push_back(parts_of<Way>(value)[part]);
    for (const float value : o.b) b.push_back(parts_of<Way>(value)[part]);
  }
  const Array<ElementOf<Way>> left(a), right(b);
  const Array<float> c(std::vector<float>(o.places(), 77));
  const ProductSizes sizes{1, static_cast<int>(s.m), static_cast<int>(s.n),
                           tiles_for(static_cast<int>(s.k), kHopperDepth<Way>), 1};
  const StoreSum output{c.data(), nullptr, s.c_row};
  const auto tiles = static_cast<unsigned>(tiles_for(sizes.m, kHopperRows) * tiles_for(sizes.n, kN));
  device::launch("gemm", {tiles}, {kHopperThreads}, HopperStages<Way, kN>::kAllBytes,
                 hopper_product_kernel<Way, kN, MatrixRows<Way>, MatrixRows<Way>, StoreSum>, sizes,
                 matrix_rows<Way>(left.data(), s.m, s.k, s.a_row, kHopperRows),
                 matrix_rows<Way>(right.data(), s.n, s.k, s.b_col, kN), output, s.n % 8 == 0, nullptr);
  return c.values();
}

}  // namespace

TEST_CASE("Hopper, gemm: whole tiles and ragged ones, dense and with gaps, with a bias, in parts") {
  on_hopper([](Precision) {
    check({64, 64, 32, 0, 0}, false);
    check({128, 128, 64, 8, 0}, true);
    check({130, 67, 72, 0, 16}, true);
    check({65, 200, 40, 4, 2}, false);
    check({70, 66, 1032, 0, 0}, true);
  });
}

TEST_CASE("Hopper, gemm: a ring that goes round, and sums that are folded, in one part") {
  const Operands wide{129, 130, 1000, 0, 0}, narrow{66, 64, 1224, 8, 0};
  check_close(in_one_part<AsTf32, 128>(wide), expected_of(wide, false), 16);
  check_close(in_one_part<AsBf16, 64>(narrow), expected_of(narrow, false), 16);
  check_close(in_one_part<AsFp32, 128>(wide), expected_of(wide, false), 16);
}

TEST_CASE("Hopper, gemm: tiles of 256 columns, which fold nothing") {
  const Operands two{130, 300, 520, 0, 8}, one{65, 256, 1000, 8, 0};
  check_close(in_one_part<AsTf32, 256>(two), expected_of(two, false), 64);
  check_close(in_one_part<AsBf16, 256>(two), expected_of(two, false), 64);
  check_close(in_one_part<AsTf32, 256>(one), expected_of(one, false), 64);
}

TEST_CASE("Hopper, gemm: how a product is tiled") {
  const auto is = [](Tiling tiling, int width, int splits) {
    CHECK(tiling.width == width);
    CHECK(tiling.splits == splits);
  };
  is(tiling_for<AsTf32>(1 << 18, 64, 18), 64, 1);
  is(tiling_for<AsTf32>(1 << 18, 65, 18), 128, 1);
  is(tiling_for<AsTf32>(1 << 18, 256, 72), 256, 1);
  is(tiling_for<AsBf16>(1 << 18, 200, 36), 256, 1);
  is(tiling_for<AsFp32>(1 << 18, 256, 36), 128, 1);  // nothing wider
  is(tiling_for<AsTf32>(128, 64, 7), 64, 1);         // too short to be split
  for (const int n : {64, 128, 256}) CHECK(tiling_for<AsTf32>(128, n, 0).splits == 1);
  is(tiling_for<AsTf32>(196 * 128, 64, 72), 64, 1);  // all at once, two a multiprocessor
  // Layers of VGG16 and ResNets: a second kernel must pay for its start and for what it reads.
  is(tiling_for<AsBf16>(3136, 256, 18), 128, 1);
  is(tiling_for<AsBf16>(3136, 256, 36), 128, 2);
  is(tiling_for<AsTf32>(3136, 256, 36), 128, 2);
  is(tiling_for<AsBf16>(784, 512, 72), 128, 4);
  is(tiling_for<AsBf16>(12544, 512, 72), 128, 1);
  CHECK(tiling_for<AsTf32>(49, 512, 144).splits > 1);
  CHECK(tiling_for<AsFp32>(49, 512, 72).splits > 8);
  for (const int steps : {1, 8, 300, 5000, 20000, 200000})
    for (const int n : {130, 256, 2304}) {
      const Tiling wide = tiling_for<AsTf32>(4096, n, steps);
      CAPTURE(steps);
      CHECK(wide.splits >= 1);
      CHECK(wide.splits <= 128);
      if (wide.width == 256) CHECK(steps <= wide.splits * kMostUnfolded);
    }
}

TEST_CASE("Hopper, gemm: any numbers are rounded as the mode says, the same bits twice, aligned or not") {
  Operands o{65, 64, 520, 4, 0};
  for (auto* values : {&o.a, &o.b})
    for (float& value : *values) value = 1 + std::abs(std::sin(100 * value));
  on_hopper([&](Precision precision) {
    Operands rounded = o;
    rounded.a = rounded_to(o.a, precision), rounded.b = rounded_to(o.b, precision);
    const std::vector<float> got = run(o, true).c;
    check_close(got, expected_of(rounded, true), 24);
    CHECK(got == run(o, true).c);
    CHECK(got == run(o, true, 1).c);
  });
}

TEST_CASE("Hopper, gemm: what others make") {
  const auto by_hopper = [](const Operands& o, const auto& change) {
    Operands changed = o;
    change(changed.shape);
    return run(changed, false).by_hopper;
  };
  const auto as_it_is = [](Gemm&) {};
  const Operands o{64, 64, 32, 0, 0};
  in_every_precision([&](Precision) { CHECK_FALSE(by_hopper(o, as_it_is)); });
  on_hopper([&](Precision precision) {
    CHECK(by_hopper(o, as_it_is));
    CHECK(by_hopper({64, 64, 36, 0, 0}, as_it_is) == (precision == Precision::tf32));
    CHECK(by_hopper({64, 64, 16, 0, 0}, as_it_is) == (precision == Precision::tf32));
    CHECK_FALSE(by_hopper({64, 64, 33, 0, 0}, as_it_is));
    CHECK_FALSE(by_hopper(o, [](Gemm& s) { s.m = 63; }));
    CHECK_FALSE(by_hopper(o, [](Gemm& s) { s.n = 63; }));
    CHECK_FALSE(by_hopper(o, [](Gemm& s) { s.a_row = 0; }));
    CHECK_FALSE(by_hopper(o, [](Gemm& s) { s.b_col = 0; }));
    CHECK_FALSE(by_hopper(o, [](Gemm& s) { s.a_row = 1, s.a_col = s.m; }));
    CHECK_FALSE(by_hopper(o, [](Gemm& s) { s.b_row = s.n, s.b_col = 1; }));
  });
}
