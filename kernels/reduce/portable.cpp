// The reduction loops for any machine (the baseline instruction set).
#include "grapnel/kernels/reduce/rows.h"

namespace grapnel::kernels {

const ReduceRows reduce_portable = {loops_of<Sum>(), loops_of<Max>()};

}  // namespace grapnel::kernels
