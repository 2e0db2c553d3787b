// The batch normalisation loops for AVX2 and FMA.
#include "grapnel/kernels/batch_norm/rows.h"

namespace grapnel::kernels {

const BatchNormRows batch_norm_avx2 = {finish, blend, moments, dots};

}  // namespace grapnel::kernels
