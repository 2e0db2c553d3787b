// Making, looking at, converting and overwriting tensors. Read next: tensor_graph.cpp, their place in the
// graph.
#include "grapnel/engine/tensor.h"

#include "grapnel/engine/backend.h"
#include "grapnel/engine/device_memory.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/random.h"
#include "grapnel/engine/tensor_impl.h"

namespace grapnel {
namespace {

std::shared_ptr<TensorImpl> make_impl(std::shared_ptr<Storage> storage, std::int64_t offset,
                                      const Shape& shape, const Strides& strides, DType type) {
  auto impl = make_pooled<TensorImpl>();
  impl->storage = std::move(storage);
  impl->offset = offset;
  impl->shape = shape;
  impl->strides = strides;
  impl->dtype = type;
  impl->inference = InferenceMode::enabled();
  return impl;
}

void copy_across(const Tensor& dst, const Tensor& src, const Strides& src_strides);

const std::byte* elements_of(const Tensor& x) {
  return static_cast<const std::byte*>(x.storage()->read()) +
         x.storage_offset() * static_cast<std::int64_t>(item_size(x.dtype()));
}

/// dst = convert(src) for equal shapes, without any record.
void copy_elements(const Tensor& dst, const Tensor& src, const Strides& src_strides) {
  if (dst.numel() == 0) return;
  if (dst.device() != src.device()) return copy_across(dst, src, src_strides);
  const Strides* strides[] = {&dst.strides(), &src_strides};
  on_device("copy", [&] {
    backend(dst.device())
        .copy(make_loops<2>(dst.shape(), strides), dst.raw_data(), dst.dtype(), elements_of(src),
              src.dtype());
  });
}

/// The same between devices: converted and made dense where it was, then carried over in one piece.
void copy_across(const Tensor& dst, const Tensor& src, const Strides& src_strides) {
  const MemoryFormat format = dst.suggested_format();
  const Strides dense = dense_strides(dst.shape(), format);
  Tensor sent = src, received = dst;
  if (src.dtype() != dst.dtype() || src_strides != dense) {
    sent = Tensor::empty(dst.shape(), dst.dtype(), format, src.device());
    copy_elements(sent, src, src_strides);
  }
  if (dst.strides() != dense) received = dst.new_empty(dst.shape(), format);
  copy_memory(dst.device(), received.raw_data(), src.device(), elements_of(sent),
              static_cast<std::size_t>(dst.numel()) * item_size(dst.dtype()));
  if (!received.is_same(dst)) copy_elements(dst, received, received.strides());
}

/// The gradient comes back to where x is.
Tensor converted(const Tensor& x, DType type, MemoryFormat format, Device device) {
  Tensor out = Tensor::empty(x.shape(), type, format, device);
  with_elements(x, [&](const Tensor& from) { copy_elements(out, from, x.strides()); });
  return record("copy", out, {x}, {},
                [home = x.device()](const Backward& ctx) -> Tensors { return {ctx.grad().to(home)}; });
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType type, MemoryFormat format, Device device) {
  std::int64_t bytes;
  if (__builtin_mul_overflow(grapnel::numel(shape), static_cast<std::int64_t>(item_size(type)), &bytes))
    throw ShapeError("a tensor of shape " + grapnel::to_string(shape) + " is too large");
  auto storage = make_pooled<Storage>(static_cast<std::size_t>(bytes), device);
  return Tensor(make_impl(std::move(storage), 0, shape, dense_strides(shape, format), type));
}

Tensor Tensor::full(const Shape& shape, double value, DType type, Device device) {
  Tensor tensor = empty(shape, type, MemoryFormat::contiguous, device);
  NoGrad guard;
  tensor.fill_(value);
  return tensor;
}

Tensor Tensor::arange(std::int64_t count, DType type, Device device) {
  Tensor numbers = empty({count}, DType::int64, MemoryFormat::contiguous, Device::cpu());
  for (std::int64_t i = 0; i < count; ++i) numbers.data<std::int64_t>()[i] = i;
  return numbers.to(type).to(device);
}

Tensor Tensor::randn(const Shape& shape, Generator& generator, DType type, Device device) {
  Tensor values = empty(shape, DType::float64, MemoryFormat::contiguous, Device::cpu());
  double* out = values.data<double>();
  for (std::int64_t i = 0, count = values.numel(); i < count; ++i) out[i] = generator.normal();
  return values.to(type).to(device);
}

Tensor Tensor::rand(const Shape& shape, Generator& generator, DType type, Device device) {
  Tensor values = empty(shape, DType::float64, MemoryFormat::contiguous, Device::cpu());
  double* out = values.data<double>();
  for (std::int64_t i = 0, count = values.numel(); i < count; ++i) out[i] = generator.uniform();
  return values.to(type).to(device);
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape, Device device) {
  if (static_cast<std::int64_t>(values.size()) != grapnel::numel(shape))
    throw ShapeError("from: " + std::to_string(values.size()) + " values do not fill the shape " +
                     grapnel::to_string(shape));
  Tensor tensor = empty(shape, dtype_of<T>(), MemoryFormat::contiguous, device);
  copy_memory(device, tensor.raw_data(), Device::cpu(), values.data(), values.size_bytes());
  return tensor;
}

Tensor Tensor::from_blob(void* data, const Shape& shape, const Strides& strides, DType type,
                         std::function<void()> release) {
  std::int64_t extent = grapnel::numel(shape) == 0 ? 0 : 1;
  for (std::size_t d = 0; extent && d < shape.size(); ++d) extent += (shape[d] - 1) * strides[d];
  auto storage =
      std::make_shared<Storage>(data, static_cast<std::size_t>(extent) * item_size(type), std::move(release));
  return view_of(std::move(storage), 0, shape, strides, type);
}

Tensor Tensor::view_of(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape,
                       const Strides& strides, DType type) {
  if (shape.size() != strides.size())
    throw ShapeError("a view needs one stride per dimension: shape " + grapnel::to_string(shape) +
                     ", strides " + grapnel::to_string(strides));
  std::int64_t last = offset;
  bool fits = offset >= 0;
  if (grapnel::numel(shape) > 0) {
    for (std::size_t d = 0; d < shape.size(); ++d) {
      std::int64_t reach = 0;
      fits = fits && strides[d] >= 0 && !__builtin_mul_overflow(shape[d] - 1, strides[d], &reach) &&
             !__builtin_add_overflow(last, reach, &last);
    }
    fits = fits && last < static_cast<std::int64_t>(storage->bytes() / item_size(type));
  }
  if (!fits)
    throw ShapeError("a view of shape " + grapnel::to_string(shape) + ", strides " +
                     grapnel::to_string(strides) + " and offset " + std::to_string(offset) +
                     " reaches outside its storage of " + std::to_string(storage->bytes()) + " bytes");
  return Tensor(make_impl(std::move(storage), offset, shape, strides, type));
}

Tensor make_view(const Tensor& x, const Shape& shape, const Strides& strides, std::int64_t offset) {
  Tensor out = Tensor::view_of(x.storage(), offset, shape, strides, x.dtype());
  TensorImpl& impl = *out.impl();
  impl.inference = x.impl()->inference || impl.inference;
  if (is_floating(impl.dtype)) {
    const ViewInfo* former = x.impl()->view.get();
    impl.view =
        std::make_unique<ViewInfo>(ViewInfo{{},
                                            former ? former->base : x,
                                            history_changes(former ? former->base : x),
                                            !grad_enabled() || (former && former->made_without_grad)});
  }
  return out;
}

Tensor without_history(const Tensor& x) {
  const TensorImpl& impl = *x.impl();
  Tensor out(make_impl(impl.storage, impl.offset, impl.shape, impl.strides, impl.dtype));
  out.impl()->inference = impl.inference;
  return out;
}

void Tensor::check_set() const {
  if (!impl_) throw Error("an unset tensor was used where a value is needed");
}

const Shape& Tensor::shape() const {
  check_set();
  return impl_->shape;
}
const Strides& Tensor::strides() const {
  check_set();
  return impl_->strides;
}
std::int64_t Tensor::size(std::int64_t dim) const {
  return shape()[wrap_dim("size", dim, rank())];
}
std::int64_t Tensor::numel() const {
  return grapnel::numel(shape());
}
DType Tensor::dtype() const {
  check_set();
  return impl_->dtype;
}
Device Tensor::device() const {
  check_set();
  return impl_->storage->device();
}
std::int64_t Tensor::storage_offset() const {
  check_set();
  return impl_->offset;
}
const std::shared_ptr<Storage>& Tensor::storage() const {
  check_set();
  return impl_->storage;
}
std::uint64_t Tensor::version() const {
  check_set();
  return impl_->storage->version();
}

bool Tensor::is_contiguous(MemoryFormat format) const {
  return is_dense(shape(), strides(), format);
}

MemoryFormat Tensor::suggested_format() const {
  return is_contiguous(MemoryFormat::channels_last) && !is_contiguous() ? MemoryFormat::channels_last
                                                                        : MemoryFormat::contiguous;
}

void* Tensor::raw_data() const {
  return static_cast<std::byte*>(storage()->data()) +
         impl_->offset * static_cast<std::int64_t>(item_size(dtype()));
}

template <class T>
T* Tensor::data() const {
  if (dtype() != dtype_of<T>())
    throw TypeError("data: the tensor holds " + std::string(name(dtype())) + ", asked for " +
                    std::string(name(dtype_of<T>())));
  return static_cast<T*>(raw_data());
}

double Tensor::item() const {
  if (numel() != 1)
    throw ShapeError("item: expected one element, the tensor has shape " + grapnel::to_string(shape()));
  NoGrad guard;
  return *to(Device::cpu()).to(DType::float64).data<double>();
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  NoGrad guard;
  Tensor dense = to(Device::cpu()).to(dtype_of<T>()).contiguous();
  const T* values = dense.template data<T>();
  return std::vector<T>(values, values + dense.numel());
}

Tensor Tensor::to(DType type) const {
  return type == dtype() ? *this : converted(*this, type, suggested_format(), device());
}

Tensor Tensor::to(Device device) const {
  return device == this->device() ? *this : converted(*this, dtype(), suggested_format(), device);
}

Tensor Tensor::contiguous(MemoryFormat format) const {
  return is_contiguous(format) ? *this : converted(*this, dtype(), format, device());
}

Tensor Tensor::clone() const {
  return converted(*this, dtype(), suggested_format(), device());
}

const Tensor& Tensor::copy_(const Tensor& source) const {
  if (!broadcasts_to(source.shape(), shape()))
    throw ShapeError("copy_: a source of shape " + grapnel::to_string(source.shape()) +
                     " does not broadcast to " + grapnel::to_string(shape()));
  check_inplace("copy_", *this);
  // A source in the same memory is read in full before anything is written.
  const Tensor values = source.storage() == storage() && !source.is_same(*this) ? source.clone() : source;
  copy_elements(*this, values, broadcast_strides(values, shape()));
  return record_inplace("copy_", *this, {source}, {},
                        [home = source.device()](const Backward& ctx) -> Tensors {
                          return {Tensor(), ctx.grad().to(home)};
                        });
}

const Tensor& Tensor::fill_(double value) const {
  check_inplace("fill_", *this);
  if (numel() > 0) {
    Storage one(sizeof value, device());
    copy_memory(device(), one.data(), Device::cpu(), &value, sizeof value);
    const Strides zero(rank(), 0);
    const Strides* strides[] = {&this->strides(), &zero};
    on_device("fill_", [&] {
      backend(device()).copy(make_loops<2>(shape(), strides), raw_data(), dtype(), one.data(),
                             DType::float64);
    });
  }
  return record_inplace("fill_", *this, {}, {}, [](const Backward&) -> Tensors { return {Tensor()}; });
}

#define GRAPNEL_FOR_ELEMENT(T)                                               \
  template Tensor Tensor::from<T>(std::span<const T>, const Shape&, Device); \
  template T* Tensor::data<T>() const;                                       \
  template std::vector<T> Tensor::to_vector<T>() const;
GRAPNEL_FOR_ELEMENT(float)
GRAPNEL_FOR_ELEMENT(double)
GRAPNEL_FOR_ELEMENT(std::int64_t)
GRAPNEL_FOR_ELEMENT(std::uint8_t)
#undef GRAPNEL_FOR_ELEMENT

}  // namespace grapnel
