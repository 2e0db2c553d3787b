// What each family puts into the CUDA table; NAME/cuda.cu defines it.
#pragma once

#include "grapnel/kernels/kernels.h"

namespace grapnel::kernels {

void fill_elementwise_cuda(FloatKernels<float>& table);
void fill_reduce_cuda(FloatKernels<float>& table);
void fill_gemm_cuda(FloatKernels<float>& table);
void fill_conv2d_cuda(FloatKernels<float>& table);
void fill_pool2d_cuda(FloatKernels<float>& table);
void fill_batch_norm_cuda(FloatKernels<float>& table);
void fill_softmax_cuda(FloatKernels<float>& table);
void fill_interpolate_cuda(FloatKernels<float>& table);
void fill_index_cuda(FloatKernels<float>& table);
void fill_optim_cuda(FloatKernels<float>& table);
void fill_copy_cuda(Table& table);
void fill_conv2d_bf16_cuda(Table& table);
void fill_pool2d_bf16_cuda(Table& table);
void fill_batch_norm_bf16_cuda(Table& table);
void fill_reduce_bf16_cuda(Table& table);

/// All of them; the entries for double stay null.
inline Table make_cuda_table() {
  Table table{};
  table.name = "cuda";
  fill_elementwise_cuda(table.f32);
  fill_reduce_cuda(table.f32);
  fill_gemm_cuda(table.f32);
  fill_conv2d_cuda(table.f32);
  fill_pool2d_cuda(table.f32);
  fill_batch_norm_cuda(table.f32);
  fill_softmax_cuda(table.f32);
  fill_interpolate_cuda(table.f32);
  fill_index_cuda(table.f32);
  fill_optim_cuda(table.f32);
  fill_copy_cuda(table);
  fill_conv2d_bf16_cuda(table);
  fill_pool2d_bf16_cuda(table);
  fill_batch_norm_bf16_cuda(table);
  fill_reduce_bf16_cuda(table);
  return table;
}

}  // namespace grapnel::kernels
