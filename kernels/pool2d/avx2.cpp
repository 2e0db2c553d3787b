// The max pooling loops for AVX2 and FMA.
#include "grapnel/kernels/pool2d/rows.h"

namespace grapnel::kernels {

const MaxPoolRows max_pool_avx2 = {maximum, collect};

}  // namespace grapnel::kernels
