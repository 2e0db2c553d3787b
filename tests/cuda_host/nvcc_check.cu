// Asks nvcc for code of every sample kernel: what the model runs is what a GPU would get.
#include <cstring>

#include "cuda_host/sample_kernels.cuh"

using namespace grapnel::samples;

void* sample_kernels[] = {
    reinterpret_cast<void*>(add),          reinterpret_cast<void*>(sum),
    reinterpret_cast<void*>(transpose),    reinterpret_cast<void*>(product_tf32<1>),
    reinterpret_cast<void*>(product_bf16), reinterpret_cast<void*>(count_odd),
    reinterpret_cast<void*>(hand_over),
};
