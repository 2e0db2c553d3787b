// The ladder of the matrix product: how its speed comes about, one idea a file, from the definition to the
// product that Grapnel runs. Read the files in their order; `grapnel bench --ladder` times them.
#pragma once

#include <cstdint>

namespace grapnel::kernels::gemm_steps {

/// Sizes of C (M,N) = A (M,K) B (K,N); each at least 1. All three matrices are dense, row after row.
struct Sizes {
  std::int64_t m, n, k;
};

using Multiply = void(const Sizes& sizes, float* c, const float* a, const float* b);
Multiply naive, blocked, packed, vectorised, threaded, shipped;

struct Step {
  const char* name;
  const char* idea;
  bool threads;  // whether it uses num_threads() of them; otherwise one
  Multiply* multiply;
};

inline constexpr Step kSteps[] = {
    {"naive", "the definition", false, naive},
    {"blocked", "blocks of B that stay in the cache", false, blocked},
    {"packed", "panels of B copied into one piece", false, packed},
    {"vectorised", "tiles of sums in the widest registers", false, vectorised},
    {"threaded", "rows shared between threads", true, threaded},
    {"shipped", "A packed too, both sides cut", true, shipped},
};

/// A panel of B: rows k0 .. k0 + depth, columns j0 .. j0 + width, in one piece, zero beyond the last column.
/// The idea of step 3, used by all later ones.
void pack_panel(const Sizes& sizes, const float* b, std::int64_t k0, std::int64_t depth, std::int64_t j0,
                std::int64_t width, float* panel);

}  // namespace grapnel::kernels::gemm_steps
