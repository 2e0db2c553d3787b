// The batch normalisation loops for AVX-512 (F, DQ, BW, VL).
#include "grapnel/kernels/batch_norm/rows.h"

namespace grapnel::kernels {

const BatchNormRows batch_norm_avx512 = {finish, blend, moments, dots};

}  // namespace grapnel::kernels
