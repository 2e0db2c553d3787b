// The max pooling loops for any machine (the baseline instruction set).
#include "grapnel/kernels/pool2d/rows.h"

namespace grapnel::kernels {

const MaxPoolRows max_pool_portable = {maximum, collect};

}  // namespace grapnel::kernels
