// The Winograd maps for AVX-512 (F, DQ, BW, VL).
#include "grapnel/kernels/winograd/few.h"
#include "grapnel/kernels/winograd/strided.h"

namespace grapnel::kernels {

constinit const Winograd winograd_avx512 = {make_maps<Two>(),
                                            make_maps<Four>(),
                                            make_maps<Six>(),
                                            make_strided<TwoStrided>(Two::kName),
                                            make_strided<FourStrided>(Four::kName),
                                            make_stem(),
                                            make_few<4>()};

}  // namespace grapnel::kernels
