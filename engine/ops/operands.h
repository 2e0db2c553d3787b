// Operands as kernels read them: weights in their order, floats in parts, activations as bfloat16. Internal
// to the engine.
//
// Under a Fusion, a device that multiplies bfloat16 keeps activations so, and nothing else of them. Their
// tensors are float32 like all others: floats are made when somebody looks (Storage::read).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/fusion.h"

namespace grapnel {

/// The weight in the order the kernel of a pass wants, kept from its second use on until the weight changes.
template <class T>
std::shared_ptr<Storage> packed_weight(const kernels::Conv2d& shape, kernels::ConvPass pass,
                                       const Tensor& weight);

/// Under which a storage keeps the Parts (kernels.h) of all its elements: as many as convolutions ever want.
inline constexpr std::string_view kPartsKey = "parts";

/// How many Parts convolutions want of x (N,C,H,W); 0: none.
template <class T>
int parts_of(const kernels::FloatKernels<T>& table, const Shape& x) {
  return table.conv2d_parts ? table.conv2d_parts(x[1]) : 0;
}

/// How dense activations lie.
inline MemoryFormat kept_format(const Shape& shape) {
  return shape.size() == 4 ? MemoryFormat::channels_last : MemoryFormat::contiguous;
}

/// out (N, K) = x (N, C) weight (K, C)^T + bias, which may be null, then ReLU if asked for.
template <class T>
void run_linear(T* out, const Tensor& x, const Tensor& weight, const T* bias, bool relu);

/// Whether x is all elements of its storage, in any order.
inline bool is_whole(const Tensor& x) {
  return x.storage_offset() == 0 &&
         static_cast<std::size_t>(x.numel()) * item_size(x.dtype()) == x.storage()->bytes();
}

/// The Parts of x (N,C,H,W), dense channels last, that convolutions want, if its storage keeps them.
template <class T>
std::shared_ptr<Storage> kept_parts(const kernels::FloatKernels<T>& table, const Tensor& x) {
  return parts_of(table, x.shape()) > 0 && is_whole(x) ? x.storage()->kept(kPartsKey) : nullptr;
}

/// Whether values (N,C,H,W) that are made under a Fusion, channels last, are kept as bfloat16.
bool keeps_bf16(Device device, DType type, const Shape& shape);
inline constexpr std::string_view kBf16Key = "bfloat16";

/// All elements of x's storage, if it keeps them as bfloat16; otherwise unset. x is dense channels last.
Tensor kept_bf16(const Tensor& x);
/// The elements of x, dense channels last, converted. Only reads: what waits to read x goes on waiting.
Tensor read_as(const Tensor& x, DType type);
/// x (N,C,H,W) as bfloat16, channels last, converted if need be.
Tensor bf16_of(const Tensor& x);
/// Calls use(x), or if x's elements are still to come as a copy of others, use(those), which may be of
/// another type.
void with_elements(const Tensor& x, const std::function<void(const Tensor&)>& use);
/// The elements of x, float32, as bfloat16: all of its storage keeps them so.
void keep_bf16(const Tensor& x);

/// A float32 tensor whose elements are those of `halves`, bfloat16, which fills its storage, channels last.
Tensor float_tensor_of(const Tensor& halves);

/// The elements of x, dense in the order of kept_format, to be read by what is started while this lives.
template <class T>
class Elements {
 public:
  explicit Elements(const Tensor& x)
      : values_(std::is_same_v<T, kernels::BFloat16> ? bf16_of(x) : floats(x)),
        data_(static_cast<const T*>(values_.storage()->read()) + values_.storage_offset()) {}
  const T* data() const { return data_; }

 private:
  static Tensor floats(const Tensor& x) {
    const Tensor last = x.detach().contiguous(kept_format(x.shape()));
    return last.dtype() == DType::bfloat16 ? read_as(last, DType::float32) : last;
  }

  Tensor values_;
  const T* data_;
};

/// The same for a convolution, which reads floats, too, if x is not kept as T.
template <class T, class V>
class ConvInput {
 public:
  explicit ConvInput(const Tensor& x) {
    if constexpr (std::is_same_v<T, V>)
      input_ = kept_.emplace(x).data();
    else if (kept_bf16(x).defined())
      input_.kept = kept_.emplace(x).data();
    else
      input_.floats = floats_.emplace(x).data();
  }
  const typename kernels::ActivationKernels<T, V>::Input& get() const { return input_; }

 private:
  std::optional<Elements<T>> kept_;
  std::optional<Elements<V>> floats_;
  typename kernels::ActivationKernels<T, V>::Input input_{};
};

/// A tensor to be made, (N,C,H,W) channels last, of x's type and device: how it is kept, and the result.
template <class T>
class NewActivation {
 public:
  NewActivation(const Tensor& x, const Shape& shape)
      : values_(Tensor::empty(shape, kHalves ? DType::bfloat16 : x.dtype(), MemoryFormat::channels_last,
                              x.device())) {}
  T* data() const { return static_cast<T*>(values_.raw_data()); }
  Tensor tensor() const { return kHalves ? float_tensor_of(values_) : values_; }

 private:
  static constexpr bool kHalves = std::is_same_v<T, kernels::BFloat16>;
  Tensor values_;
};

/// Calls f with the kernels for activations (N,C,H,W) as they are kept: ActivationKernels of float, double or
/// BFloat16. Throws as dispatch does.
template <class F>
decltype(auto) dispatch_activation(const char* operation, const Tensor& x, F&& f) {
  if (Fusion::enabled() && keeps_bf16(x.device(), x.dtype(), x.shape()))
    return on_device(operation, [&]() -> decltype(auto) { return f(backend(x.device()).bf16); });
  return dispatch(operation, x, [&]<class T>(const kernels::FloatKernels<T>& table) -> decltype(auto) {
    return f(static_cast<const kernels::ActivationKernels<T>&>(table));
  });
}

}  // namespace grapnel
