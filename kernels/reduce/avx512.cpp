// The reduction loops for AVX-512 (F, DQ, BW, VL).
#include "grapnel/kernels/reduce/rows.h"

namespace grapnel::kernels {

const ReduceRows reduce_avx512 = {loops_of<Sum>(), loops_of<Max>()};

}  // namespace grapnel::kernels
