// The Winograd maps for AVX2 and FMA.
#include "grapnel/kernels/winograd/few.h"
#include "grapnel/kernels/winograd/strided.h"

namespace grapnel::kernels {

constinit const Winograd winograd_avx2 = {make_maps<Two>(),
                                          make_maps<Four>(),
                                          make_maps<Six>(),
                                          make_strided<TwoStrided>(Two::kName),
                                          make_strided<FourStrided>(Four::kName),
                                          make_stem(),
                                          make_few<2>()};

}  // namespace grapnel::kernels
