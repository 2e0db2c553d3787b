// The batch normalisation loops for any machine (the baseline instruction set).
#include "grapnel/kernels/batch_norm/rows.h"

namespace grapnel::kernels {

const BatchNormRows batch_norm_portable = {finish, blend, moments, dots};

}  // namespace grapnel::kernels
