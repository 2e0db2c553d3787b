// The CPU tables: one ordered list, fastest first. A new instruction set is one row here and one case in each
// family.
#include <cstdlib>
#include <cstring>

#include "grapnel/kernels/batch_norm/batch_norm.h"
#include "grapnel/kernels/common/isa.h"
#include "grapnel/kernels/conv2d/conv2d.h"
#include "grapnel/kernels/copy/copy.h"
#include "grapnel/kernels/elementwise/elementwise.h"
#include "grapnel/kernels/gemm/gemm.h"
#include "grapnel/kernels/index/index.h"
#include "grapnel/kernels/interpolate/interpolate.h"
#include "grapnel/kernels/kernels.h"
#include "grapnel/kernels/optim/optim.h"
#include "grapnel/kernels/pool2d/pool2d.h"
#include "grapnel/kernels/reduce/reduce.h"
#include "grapnel/kernels/softmax/softmax.h"

namespace grapnel::kernels {
namespace {

struct Row {
  const char* name;
  Isa isa;
};

constexpr Row kRows[] = {
    {"avx512", Isa::avx512},
    {"avx2", Isa::avx2},
    {"portable", Isa::portable},
    {"reference", Isa::reference},
};
constexpr int kRowCount = sizeof(kRows) / sizeof(kRows[0]);

template <class T>
void fill_all(FloatKernels<T>& table, Isa isa) {
  fill_gemm(table, isa);
  fill_conv2d(table, isa);
  fill_elementwise(table, isa);
  fill_reduce(table, isa);
  fill_index(table, isa);
  fill_pool2d(table, isa);
  fill_batch_norm(table, isa);
  fill_softmax(table, isa);
  fill_interpolate(table, isa);
  fill_optim(table, isa);
}

struct Tables {
  Table tables[kRowCount] = {};
  const Table* list[kRowCount] = {};
  int count = 0;

  Tables() {
    for (const Row& row : kRows) {
      if (!runs_here(row.isa)) continue;
      Table& table = tables[count];
      table.name = row.name;
      fill_all(table.f32, row.isa);
      fill_all(table.f64, row.isa);
      fill_copy(table, row.isa);
      list[count++] = &table;
    }
  }
};

const Tables& all_tables() noexcept {
  static const Tables tables;
  return tables;
}

const Table* choose() noexcept {
  const Tables& all = all_tables();
  const char* wanted = std::getenv("GRAPNEL_KERNEL");
  if (wanted == nullptr || *wanted == '\0') return all.list[0];
  for (int i = 0; i < all.count; ++i) {
    if (std::strcmp(wanted, all.list[i]->name) == 0) return all.list[i];
  }
  return nullptr;
}

}  // namespace

const Table* const* cpu_tables(int* count) noexcept {
  *count = all_tables().count;
  return all_tables().list;
}

const Table* select_cpu() noexcept {
  static const Table* const chosen = choose();
  return chosen;
}

}  // namespace grapnel::kernels
