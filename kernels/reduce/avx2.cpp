// The reduction loops for AVX2 and FMA.
#include "grapnel/kernels/reduce/rows.h"

namespace grapnel::kernels {

const ReduceRows reduce_avx2 = {loops_of<Sum>(), loops_of<Max>()};

}  // namespace grapnel::kernels
