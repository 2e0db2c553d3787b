// The Winograd maps for any machine.
#include "grapnel/kernels/winograd/few.h"
#include "grapnel/kernels/winograd/strided.h"

namespace grapnel::kernels {

constinit const Winograd winograd_portable = {make_maps<Two>(),
                                              make_maps<Four>(),
                                              make_maps<Six>(),
                                              make_strided<TwoStrided>(Two::kName),
                                              make_strided<FourStrided>(Four::kName),
                                              make_stem(),
                                              make_few<2>()};

}  // namespace grapnel::kernels
