// The elementwise loops for any machine (the baseline instruction set).
#include "grapnel/kernels/elementwise/planes.h"

namespace grapnel::kernels {

const ElementwisePlanes<float> elementwise_portable = {unary_plane<float>, binary_plane<float>};
const ElementwisePlanes<double> elementwise_portable_f64 = {unary_plane<double>, binary_plane<double>};

}  // namespace grapnel::kernels
