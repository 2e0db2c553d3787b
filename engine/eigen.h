// Optional: tensors as Eigen maps, and back. The only header that includes Eigen; link Eigen3::Eigen to use
// it.
#pragma once

#include <Eigen/Core>
#include <string>

#include "grapnel/engine/tensor.h"

namespace grapnel {

template <class T>
using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using EigenMap = Eigen::Map<EigenMatrix<T>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

/// The elements of a matrix (R,C), or of a vector (C) as one row, without copying; any strides. Writing
/// through the map is an in-place change that no version counter sees: do it before the tensor is used, or to
/// a detached clone. Throws ShapeError for other ranks, TypeError unless T is the element type.
template <class T>
EigenMap<T> as_eigen(const Tensor& x) {
  if (x.rank() != 1 && x.rank() != 2)
    throw ShapeError("as_eigen: expected a vector or matrix, got shape " + to_string(x.shape()));
  if (x.device() != Device::cpu())
    throw DeviceError("as_eigen: the tensor is on " + to_string(x.device()) +
                      "; copy it with to(Device::cpu())");
  const bool matrix = x.rank() == 2;
  const Eigen::Index rows = matrix ? x.size(0) : 1, columns = x.size(-1);
  return EigenMap<T>(x.data<T>(), rows, columns,
                     {matrix ? x.strides()[0] : columns, x.strides()[matrix ? 1 : 0]});
}

/// A copy of any Eigen matrix expression as a tensor (rows, cols) of its scalar type.
template <class Derived>
Tensor from_eigen(const Eigen::MatrixBase<Derived>& matrix) {
  using T = typename Derived::Scalar;
  Tensor tensor =
      Tensor::empty({matrix.rows(), matrix.cols()}, dtype_of<T>(), MemoryFormat::contiguous, Device::cpu());
  as_eigen<T>(tensor) = matrix;
  return tensor.to(default_device());
}

}  // namespace grapnel
