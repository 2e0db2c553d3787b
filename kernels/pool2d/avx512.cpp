// The max pooling loops for AVX-512 (F, DQ, BW, VL).
#include "grapnel/kernels/pool2d/rows.h"

namespace grapnel::kernels {

const MaxPoolRows max_pool_avx512 = {maximum, collect};

}  // namespace grapnel::kernels
