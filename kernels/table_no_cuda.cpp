// A build without CUDA.
#include "grapnel/kernels/accelerator.h"

namespace grapnel::kernels {

const Accelerator* cuda_accelerator() {
  return nullptr;
}

}  // namespace grapnel::kernels
