// Making recipes longer, and running them. The tensors of this thread that wait for their elements are
// listed, for what must be computed before something else changes, and at the end of a Fusion.
#include "grapnel/engine/recipe.h"

#include <algorithm>
#include <utility>

#include "grapnel/engine/fusion.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/tensor_impl.h"
#include "grapnel/engine/thread_modes.h"
#include "grapnel/kernels/common/finish.h"

namespace grapnel {
namespace {

using Kind = Step::Kind;

/// Waiting storages of this thread, and some that no longer wait.
std::vector<std::weak_ptr<Storage>>& waiting() {
  thread_local std::vector<std::weak_ptr<Storage>> list;
  return list;
}

void forget_done() {
  std::erase_if(waiting(), [](const std::weak_ptr<Storage>& entry) {
    const auto storage = entry.lock();
    if (!storage) return true;
    const auto recipe = storage->recipe();
    return !recipe || recipe->is_stored();
  });
}

/// Runs the recipes of this thread that `wanted` picks.
template <class Wanted>
void run_waiting(const Wanted& wanted) {
  for (std::size_t i = 0; i < waiting().size(); ++i)  // running one adds none
    if (const auto storage = waiting()[i].lock())
      if (const auto recipe = storage->recipe(); recipe && wanted(*recipe)) storage->compute();
  forget_done();
}

bool fills_its_storage(const Tensor& x) {
  return is_whole(x) && x.is_contiguous(MemoryFormat::channels_last);
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
        const Elements<T> input(step.first);
        std::shared_ptr<Storage> parts;
        if constexpr (std::is_same_v<T, V>) {
          if (pool && forward &&
              floats.conv2d_max_pool(step.conv, *pool, out, input.data(), weight, epilogue))
            return;
          parts = kept_parts(floats, step.first);
          if (parts) {
            epilogue.parts.count = parts_of(floats, step.first.shape());
            epilogue.parts.input = static_cast<const std::uint16_t*>(parts->read());
          }
        }
        if (moments)
          return table.conv2d_moments(step.conv, out, static_cast<V*>(moments->first.storage()->read()),
                                      static_cast<V*>(moments->second.storage()->read()), input.data(),
                                      weight, epilogue);
        const auto pass = forward ? table.conv2d_forward : table.conv2d_input_grad;
        return write([&](T* to) { pass(step.conv, to, input.data(), weight, epilogue); });
      }
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
                                               dense_strides(unpooled_shape, MemoryFormat::channels_last),
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
    const bool leaves = Fusion::enabled() && step_.kind > Kind::convolution && step_.kind < Kind::max_pool;
    kernels::Parts parts{leaves && !grad_enabled() ? parts_of(table, shape) : 0};
    std::shared_ptr<Storage> memory;
    if (parts.count > 0) {
      memory = make_pooled<Storage>(parts.bytes(numel(shape)), device);
      parts.result = static_cast<std::uint16_t*>(memory->data());
    }
    run_as<T, T>(table, static_cast<T*>(out), shape, device, parts);
    if (memory) storage.keep(parts_key(parts.count), std::move(memory));
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

Storage::Storage(const Shape& shape, DType type, Device device, std::shared_ptr<const Recipe> recipe)
    : bytes_(static_cast<std::size_t>(numel(shape)) * item_size(type)),
      device_(device),
      waiting_(true),
      plan_(new Plan{{}, std::move(recipe), shape, type}) {}

std::shared_ptr<const Recipe> Storage::recipe() const {
  if (!waiting_.load(std::memory_order_acquire)) return nullptr;
  std::lock_guard lock(plan_mutex_);
  return plan_ ? plan_->recipe : nullptr;
}

void Storage::compute() const {
  std::lock_guard lock(plan_mutex_);
  if (!plan_ || plan_->recipe->is_stored()) return;
  if (!keeps_bf16(device_, plan_->type, plan_->shape)) return make_elements();
  const Tensor halves = plan_->recipe->run_as_bf16(device_, plan_->shape);
  keep(kBf16Key, halves.storage());
  plan_->recipe = make_pooled<Recipe>(Step{Kind::values, halves});
}

bool Storage::compute_with_moments(const Tensor& mean, const Tensor& variance) const {
  {
    std::lock_guard lock(plan_mutex_);
    if (!plan_ || !plan_->recipe->leaves_moments(device_)) return false;
    plan_->recipe = make_pooled<Recipe>(plan_->recipe, Step{Kind::moments, mean, variance});
  }
  compute();
  return true;
}

void Storage::fill() const {
  compute();
  std::lock_guard lock(plan_mutex_);
  if (plan_) make_elements();
}

void Storage::make_elements() const {
  if (!data_) take();
  plan_->recipe->run(*this, data_, plan_->shape, plan_->type);
  plan_ = nullptr;
  waiting_.store(false, std::memory_order_release);
}

void Storage::run_readers() const {
  run_waiting([this](const Recipe& recipe) { return recipe.reads(*this); });
}

void run_all_waiting() {
  run_waiting([](const Recipe&) { return true; });
}

Tensor cook(const Tensor& x, const Shape& shape, std::shared_ptr<const Recipe> recipe) {
  if (!Fusion::enabled()) {
    Tensor y = x.new_empty(shape, MemoryFormat::channels_last);
    recipe->run(*y.storage(), y.raw_data(), shape, x.dtype());
    return y;
  }
  auto storage = make_pooled<Storage>(shape, x.dtype(), x.device(), std::move(recipe));
  if (waiting().size() >= 16) forget_done();
  waiting().push_back(storage);
  return Tensor::view_of(std::move(storage), 0, shape, dense_strides(shape, MemoryFormat::channels_last),
                         x.dtype());
}

std::optional<Tensor> joined(const Tensor& x, Step step) {
  if (!Fusion::enabled() || !x.defined()) return std::nullopt;
  const auto recipe = x.storage()->recipe();
  const bool in_order =
      recipe && (recipe->last() < step.kind && !(recipe->last() == Kind::relu && step.kind == Kind::mask));
  if (!in_order || !fills_its_storage(x)) return std::nullopt;
  for (const Tensor* operand : {&step.first, &step.second}) {
    if (!operand->defined()) continue;
    const bool per_channel = step.kind == Kind::affine || step.kind == Kind::scale;
    if (operand->dtype() != x.dtype() || operand->device() != x.device() ||
        (per_channel ? operand->shape() != Shape{x.size(1)} || !operand->is_contiguous()
                     : operand->shape() != x.shape() || !operand->is_contiguous(MemoryFormat::channels_last)))
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

Fusion::Fusion() : previous_(std::exchange(thread_modes().fusing, true)) {}

Fusion::~Fusion() {
  thread_modes().fusing = previous_;
  if (previous_) return;
  try {
    run_all_waiting();
  } catch (...) {  // out of memory: whoever reads such a tensor tries again, and is told
  }
}

bool Fusion::enabled() {
  return thread_modes().fusing;
}

}  // namespace grapnel
