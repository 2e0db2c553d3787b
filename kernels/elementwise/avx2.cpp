// The elementwise loops for AVX2 and FMA.
#include "grapnel/kernels/elementwise/planes.h"

namespace grapnel::kernels {

const ElementwisePlanes<float> elementwise_avx2 = {unary_plane<float>, binary_plane<float>};

}  // namespace grapnel::kernels
