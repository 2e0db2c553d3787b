#include "grapnel/engine/ops/operands.h"

#include "grapnel/engine/pool.h"
#include "grapnel/engine/recipe.h"

namespace grapnel {

bool keeps_bf16(Device device, DType type, const Shape& shape) {
  if (type != DType::float32 || shape.size() != 4 || device.kind == Device::Kind::cpu) return false;
  const auto keeps = backend(device).keeps_bf16;
  return keeps && keeps(shape[1]);
}

Tensor kept_bf16(const Tensor& x) {
  if (!is_whole(x)) return {};
  x.storage()->compute();
  auto kept = x.storage()->kept(kBf16Key);
  return kept ? Tensor::view_of(std::move(kept), 0, x.shape(), x.strides(), DType::bfloat16) : Tensor();
}

Tensor read_as(const Tensor& x, DType type) {
  const Tensor result = Tensor::empty(x.shape(), type, MemoryFormat::channels_last, x.device());
  const std::byte* from = static_cast<const std::byte*>(x.storage()->read()) +
                          x.storage_offset() * static_cast<std::int64_t>(item_size(x.dtype()));
  on_device("copy", [&] {
    backend(x.device()).copy({1, {x.numel()}, {{1}, {1}}}, result.raw_data(), type, from, x.dtype());
  });
  return result;
}

Tensor bf16_of(const Tensor& x) {
  if (x.dtype() == DType::bfloat16) return x;
  const Tensor last = x.detach().contiguous(MemoryFormat::channels_last), kept = kept_bf16(last);
  return kept.defined() ? kept : read_as(last, DType::bfloat16);
}

void keep_bf16(const Tensor& x) {
  if (!kept_bf16(x).defined()) x.storage()->keep(kBf16Key, bf16_of(x).storage());
}

void with_elements(const Tensor& x, const std::function<void(const Tensor&)>& use) {
  const Storage& storage = *x.storage();
  if (const auto recipe = storage.recipe(); recipe && !recipe->copied_from().defined()) storage.compute();
  const bool copied = storage.with_source([&](const Tensor& values) {
    use(Tensor::view_of(values.storage(), values.storage_offset() + x.storage_offset(), x.shape(),
                        x.strides(), values.dtype()));
  });
  if (!copied) use(x);
}

Tensor float_tensor_of(const Tensor& halves) {
  auto storage = make_pooled<Storage>(halves.shape(), DType::float32, halves.device(),
                                      make_pooled<Recipe>(Step{Step::Kind::values, halves}));
  storage->keep(kBf16Key, halves.storage());
  return Tensor::view_of(std::move(storage), 0, halves.shape(), halves.strides(), DType::float32);
}

}  // namespace grapnel
