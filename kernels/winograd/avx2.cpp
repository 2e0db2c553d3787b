// The Winograd maps for AVX2 and FMA.
#include "grapnel/kernels/winograd/few.h"

namespace grapnel::kernels {

constinit const Winograd winograd_avx2 = {make_maps<Two>(), make_maps<Four>(), make_maps<Six>(),
                                          make_few<2>()};

}  // namespace grapnel::kernels
