// Which variant a shape is to be computed by, where somebody measured or asked.
#pragma once

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

/// What GRAPNEL_CONV says, else what prefer_conv2d was given for this pass of this shape, else "".
const char* preferred_conv2d(const Conv2d& shape, ConvPass pass);

}  // namespace grapnel::kernels
