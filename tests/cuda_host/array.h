// Global memory of the model, for tests of kernels.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda_host/model.h"

namespace grapnel::cuda_host {

template <class T>
class Array {
 public:
  /// Unset.
  explicit Array(std::size_t count) : size_(count), data_(static_cast<T*>(allocate(count * sizeof(T)))) {}
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    std::copy(values.begin(), values.end(), data_);
    set_written(data_, values.size() * sizeof(T));
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { release(data_); }

  T* data() const { return data_; }
  T operator[](std::size_t i) const { return data_[i]; }
  std::vector<T> values() const { return {data_, data_ + size_}; }

 private:
  std::size_t size_;
  T* data_;
};

}  // namespace grapnel::cuda_host
