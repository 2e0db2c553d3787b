// Making recipes longer, and running them. Read next: waiting.cpp, when that happens.
#include "grapnel/engine/recipe.h"

#include <utility>

#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/tensor_impl.h"
#include "grapnel/kernels/common/finish.h"

namespace grapnel {
namespace {

using Kind = Step::Kind;

bool fills_its_storage(const Tensor& x) {
  return is_whole(x) && x.is_contiguous(kept_format(x.shape()));
}

/// Of a vector with one value a channel.
template <class V>
const V* values(const Tensor& x) {
  return x.defined() ? static_cast<const V*>(x.storage()->read()) + x.storage_offset() : nullptr;
}

}  // namespace

Recipe::Recipe(Step step) : step_(std::move(step)) {
  for (Tensor* operand : {&step_.first, &step_.second})
    if (operand->defined()) {
      *operand = without_history(*operand);
      operand->storage()->compute();
      ++operand->storage()->readers_;
    }
}

Recipe::Recipe(std::shared_ptr<const Recipe> before, Step step) : Recipe(std::move(step)) {
  before_ = std::move(before);
}

Recipe::Recipe(const Tensor& x, std::shared_ptr<const Recipe> before, Step step)
    : Recipe(std::move(before), std::move(step)) {
  value_before_ = x.storage();
  ++x.storage()->readers_;
}

Recipe::~Recipe() {
  if (const auto value = value_before_.lock()) --value->readers_;
  for (const Tensor* operand : {&step_.first, &step_.second})
    if (operand->defined()) --operand->storage()->readers_;
}

bool Recipe::reads(const Storage& storage) const {
  for (const Recipe* at = this; at; at = at->before_.get()) {
    if (at->value_before_.lock().get() == &storage) return true;
    for (const Tensor* operand : {&at->step_.first, &at->step_.second})
      if (operand->defined() && operand->storage().get() == &storage) return true;
  }
  return false;
}

template <class T, class V>
void Recipe::run_as(const kernels::ActivationKernels<T, V>& table, T* out, const Shape& shape, Device device,
                    const kernels::Parts& wanted) const {
  const kernels::Pool2d* pool = step_.kind == Kind::max_pool ? &step_.pool : nullptr;
  const Shape unpooled_shape = pool ? Shape{pool->n, pool->c, pool->h, pool->w} : shape;
  const std::int64_t channels = shape[1], count = numel(unpooled_shape);
  const std::int64_t rows = channels == 0 ? 0 : count / channels;
  // What the pooling follows goes to memory, unless one kernel makes both.
  const auto write = [&](const auto& make) {
    if (!pool) return make(out);
    Storage unpooled(static_cast<std::size_t>(count) * sizeof(T), device);
    make(static_cast<T*>(unpooled.data()));
    table.max_pool2d(*pool, out, nullptr, static_cast<const T*>(unpooled.read()));
  };
  const auto finish = [&](const T* from, const kernels::Epilogue<T, V>& epilogue) {
    if (pool && !kernels::any_step(epilogue)) return table.max_pool2d(*pool, out, nullptr, from);
    write([&](T* to) { table.channel_epilogue(rows, channels, to, from, epilogue); });
  };

  kernels::Epilogue<T, V> epilogue{};
  epilogue.parts = wanted;
  std::optional<Elements<T>> residual, mask;
  const Step* moments = nullptr;
  for (const Recipe* at = this;; at = at->before_.get()) {
    const Step& step = at->step_;
    switch (step.kind) {
      case Kind::values:
        return finish(Elements<T>(step.first).data(), epilogue);
      case Kind::convolution: {
        const kernels::FloatKernels<V>& floats = kernels_of<V>(device);
        const bool forward = step.pass == kernels::ConvPass::forward;
        const auto packed = packed_weight<V>(step.conv, step.pass, step.second);
        const V* weight = static_cast<const V*>(packed->read());
        std::shared_ptr<Storage> parts;
        if constexpr (std::is_same_v<T, V>) {
          parts = kept_parts(floats, step.first);
          if (parts) {
            epilogue.parts.count = parts_of(floats, step.first.shape());
            epilogue.parts.input = static_cast<const std::uint16_t*>(parts->read());
          }
        }
        if (!forward) {
          const Elements<T> gradient(step.first);
          return write(
              [&](T* to) { table.conv2d_input_grad(step.conv, to, gradient.data(), weight, epilogue); });
        }
        const ConvInput<T, V> input(step.first);
        if (pool && table.conv2d_max_pool(step.conv, *pool, out, input.get(), weight, epilogue)) return;
        if (moments)
          return table.conv2d_moments(step.conv, out, static_cast<V*>(moments->first.storage()->read()),
                                      static_cast<V*>(moments->second.storage()->read()), input.get(), weight,
                                      epilogue);
        return write([&](T* to) { table.conv2d_forward(step.conv, to, input.get(), weight, epilogue); });
      }
      case Kind::linear:
        if constexpr (std::is_same_v<T, V>) {
          const bool shared = !epilogue.scale && !epilogue.residual && !epilogue.mask && !epilogue.after;
          run_linear(out, step.first, step.second, shared ? epilogue.shift : nullptr,
                     shared && epilogue.relu);
          if (!shared) table.channel_epilogue(rows, channels, out, out, epilogue);
        }
        return;  // matrices are not kept as bfloat16
      case Kind::affine:
        epilogue.scale = values<V>(step.first);
        epilogue.shift = values<V>(step.second);
        break;
      case Kind::residual:
        epilogue.residual = residual.emplace(step.first).data();
        break;
      case Kind::relu:
        epilogue.relu = true;
        break;
      case Kind::mask:
        epilogue.mask = mask.emplace(step.first).data();
        break;
      case Kind::scale:
        epilogue.after = values<V>(step.first);
        break;
      case Kind::moments:
        moments = &step;
        break;
      case Kind::max_pool:
        break;
    }
    if (auto storage = at->value_before_.lock()) {
      const Elements<T> before(Tensor::view_of(std::move(storage), 0, unpooled_shape,
                                               dense_strides(unpooled_shape, kept_format(unpooled_shape)),
                                               sizeof(V) == sizeof(float) ? DType::float32 : DType::float64));
      return finish(before.data(), epilogue);
    }
  }
}

bool Recipe::leaves_moments(Device device) const {
  const bool has_bias = step_.kind == Kind::affine && !step_.first.defined() && before_;
  const Step& step = has_bias ? before_->step_ : step_;
  return step.kind == Kind::convolution && step.pass == kernels::ConvPass::forward &&
         step.second.dtype() == DType::float32 && backend(device).f32.conv2d_moments;
}

void Recipe::run(const Storage& storage, void* out, const Shape& shape, DType type) const {
  const Device device = storage.device();
  if (is_stored()) {
    const kernels::Loops<2> all{1, {numel(shape)}, {{1}, {1}}};
    const Tensor& halves = step_.first;
    return on_device("a fused operation",
                     [&] { backend(device).copy(all, out, type, halves.storage()->read(), halves.dtype()); });
  }
  const auto run_with = [&]<class T>(const kernels::FloatKernels<T>& table) {
    // What follows a convolution, or batch norm's sums, is mostly what the next convolution reads. In three
    // parts it is larger than the floats, which gradients keep.
    const bool leaves = Fusion::enabled() && shape.size() == 4 && step_.kind > Kind::convolution &&
                        step_.kind < Kind::max_pool;
    kernels::Parts parts{leaves && !grad_enabled() ? parts_of(table, shape) : 0};
    std::shared_ptr<Storage> memory;
    if (parts.count > 0) {
      memory = make_pooled<Storage>(parts.bytes(numel(shape)), device);
      parts.result = static_cast<std::uint16_t*>(memory->data());
    }
    run_as<T, T>(table, static_cast<T*>(out), shape, device, parts);
    if (memory) storage.keep(kPartsKey, std::move(memory));
  };
  on_device("a fused operation", [&] {
    type == DType::float32 ? run_with(kernels_of<float>(device)) : run_with(kernels_of<double>(device));
  });
}

Tensor Recipe::run_as_bf16(Device device, const Shape& shape) const {
  const Tensor halves = Tensor::empty(shape, DType::bfloat16, MemoryFormat::channels_last, device);
  on_device("a fused operation", [&] {
    run_as(backend(device).bf16, static_cast<kernels::BFloat16*>(halves.raw_data()), shape, device, {});
  });
  return halves;
}

std::optional<Tensor> joined(const Tensor& x, Step step) {
  if (!Fusion::enabled() || !x.defined()) return std::nullopt;
  const auto recipe = x.storage()->recipe_of(x.shape());
  const bool in_order =
      recipe && (recipe->last() < step.kind && !(recipe->last() == Kind::relu && step.kind == Kind::mask));
  if (!in_order || !fills_its_storage(x)) return std::nullopt;
  for (const Tensor* operand : {&step.first, &step.second}) {
    if (!operand->defined()) continue;
    const bool per_channel = step.kind == Kind::affine || step.kind == Kind::scale;
    if (operand->dtype() != x.dtype() || operand->device() != x.device() ||
        (per_channel ? operand->shape() != Shape{x.size(1)} || !operand->is_contiguous()
                     : operand->shape() != x.shape() || !operand->is_contiguous(kept_format(x.shape()))))
      return std::nullopt;
  }
  const kernels::Pool2d& pool = step.pool;
  const Shape shape =
      step.kind == Kind::max_pool ? Shape{pool.n, pool.c, pool.oh, pool.ow} : Shape(x.shape());
  return cook(x, shape, make_pooled<Recipe>(x, recipe, std::move(step)));
}

Tensor followed(const Tensor& x, Step step) {
  if (auto y = joined(x, step)) return *std::move(y);
  const Tensor values = x.detach().contiguous(MemoryFormat::channels_last);
  auto recipe = make_pooled<Recipe>(make_pooled<Recipe>(Step{Kind::values, values}), std::move(step));
  return cook(x, x.shape(), std::move(recipe));
}

Tensor copied(const Tensor& x) {
  if (Fusion::enabled() && keeps_bf16(x.device(), x.dtype(), x.shape())) return float_tensor_of(bf16_of(x));
  const Tensor values = x.detach().contiguous(MemoryFormat::channels_last);
  return cook(x, x.shape(), make_pooled<Recipe>(Step{Kind::values, values}));
}

}  // namespace grapnel
