// The elementwise loops for AVX-512 (F, DQ, BW, VL).
#include "grapnel/kernels/elementwise/planes.h"

namespace grapnel::kernels {

const ElementwisePlanes<float> elementwise_avx512 = {unary_plane<float>, binary_plane<float>};

}  // namespace grapnel::kernels
