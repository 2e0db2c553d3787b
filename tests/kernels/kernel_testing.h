// What the kernel tests share: random data, every table that runs here, and the rounding a float sum may
// have.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "grapnel/kernels/kernels.h"

namespace grapnel::testing {

inline std::vector<float> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = uniform(engine);
  return values;
}

inline std::vector<double> widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

inline std::vector<double> magnitudes(const std::vector<float>& values) {
  std::vector<double> result = widened(values);
  for (double& v : result) v = std::abs(v);
  return result;
}

inline std::vector<const kernels::Table*> tables() {
  int count = 0;
  const kernels::Table* const* list = kernels::cpu_tables(&count);
  return {list, list + count};
}

inline const kernels::Table& reference_table() {
  return *tables().back();
}

/// Largest error of a float sum of `terms` products, as a multiple of what rounding explains: every rounding
/// is at most eps/2 of a partial sum, partial sums are at most `size` = the sum of magnitudes, and as their
/// signs vary they add up like sqrt(terms). NaN, such as an element never written, gives infinity.
inline double worst_error(const std::vector<float>& got, const std::vector<double>& want,
                          const std::vector<double>& size, std::int64_t terms) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  const double eps = std::numeric_limits<float>::epsilon();
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double allowed = eps * (1 + std::sqrt(static_cast<double>(terms))) * size[i];
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    if (error == 0) continue;
    worst = std::max(worst, std::isnan(error) ? std::numeric_limits<double>::infinity() : error / allowed);
  }
  return worst;
}

/// Uninitialised floats aligned as packed weights want them.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t count)
      : data_(static_cast<float*>(::operator new (count * sizeof(float) + 64, std::align_val_t{64}))) {}
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() { ::operator delete (data_, std::align_val_t{64}); }
  float* data() { return data_; }

 private:
  float* data_;
};

}  // namespace grapnel::testing
