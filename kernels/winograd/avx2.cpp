// The Winograd maps for AVX2 and FMA.
#include "grapnel/kernels/winograd/maps.h"

namespace grapnel::kernels {

constinit const Winograd winograd_avx2 = {make_maps<Two>(), make_maps<Four>(), make_maps<Six>()};

}  // namespace grapnel::kernels
