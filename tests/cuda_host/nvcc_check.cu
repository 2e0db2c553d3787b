// Asks nvcc for code of every sample kernel: what the model runs is what a GPU would get.
#include <cstring>

#include "cuda_host/hopper_kernels.cuh"
#include "cuda_host/sample_kernels.cuh"

using namespace grapnel::samples;

// Code for other architectures than sm_90a only stops where it comes to Hopper's instructions.
void* sample_kernels[] = {
    reinterpret_cast<void*>(add),
    reinterpret_cast<void*>(sum),
    reinterpret_cast<void*>(transpose),
    reinterpret_cast<void*>(product_tf32<1>),
    reinterpret_cast<void*>(product_bf16),
    reinterpret_cast<void*>(count_odd),
    reinterpret_cast<void*>(hand_over),
    reinterpret_cast<void*>(product_of_tiles<float, 128, 4>),
    reinterpret_cast<void*>(product_of_tiles<BFloat16, 256, 4>),
    reinterpret_cast<void*>(fetch<float, 1>),
    reinterpret_cast<void*>(fetch<float, 3>),
    reinterpret_cast<void*>(fetch<BFloat16, 4>),
    reinterpret_cast<void*>(fetch<float, 5>),
    reinterpret_cast<void*>(fetch_pixels),
    reinterpret_cast<void*>(add_one<>),
    reinterpret_cast<void*>(product_once<BFloat16, Major::k, Major::k, true, 64>),
    reinterpret_cast<void*>(product_once<BFloat16, Major::k, Major::mn, true, 64>),
    reinterpret_cast<void*>(product_once<BFloat16, Major::k, Major::mn, false, 96>),
    reinterpret_cast<void*>(product_once<BFloat16, Major::mn, Major::k, false, 8>),
    reinterpret_cast<void*>(product_once<BFloat16, Major::mn, Major::mn, false, 128>),
    reinterpret_cast<void*>(product_once<float, Major::k, Major::k, true, 64>),
};

grapnel::device::TensorMap some_map(const float* x, const grapnel::device::TensorLayout& layout) {
  return grapnel::device::make_tensor_map(x, layout, grapnel::device::Swizzle::bytes128);
}
grapnel::device::TensorMap pixels(const float* x, const grapnel::device::PixelLayout& layout) {
  return grapnel::device::make_pixel_map(x, layout, grapnel::device::Swizzle::bytes128,
                                         grapnel::device::Rounding::tf32);
}
