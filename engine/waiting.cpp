// Storages whose elements are still to come (recipe.h). Those of this thread are listed, for what must be
// computed before something else changes, and at the end of a Fusion.
#include <utility>

#include "grapnel/engine/fusion.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/recipe.h"
#include "grapnel/engine/thread_modes.h"

namespace grapnel {
namespace {

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

}  // namespace

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

std::shared_ptr<const Recipe> Storage::recipe_of(const Shape& shape) const {
  if (!waiting_.load(std::memory_order_acquire)) return nullptr;
  std::lock_guard lock(plan_mutex_);
  return plan_ && plan_->shape == shape ? plan_->recipe : nullptr;
}

bool Storage::with_source(const std::function<void(const Tensor&)>& use) const {
  if (!waiting_.load(std::memory_order_acquire)) return false;
  std::lock_guard lock(plan_mutex_);  // who changes the values computes this content first
  const Tensor values = plan_ ? plan_->recipe->copied_from() : Tensor();
  if (values.defined()) use(values);
  return values.defined();
}

void Storage::compute() const {
  if (!waiting_.load(std::memory_order_acquire)) return;
  std::lock_guard lock(plan_mutex_);
  if (!plan_ || plan_->recipe->is_stored()) return;
  if (!keeps_bf16(device_, plan_->type, plan_->shape)) return make_elements();
  const Tensor halves = plan_->recipe->run_as_bf16(device_, plan_->shape);
  keep(kBf16Key, halves.storage());
  plan_->recipe = make_pooled<Recipe>(Step{Step::Kind::values, halves});
}

bool Storage::compute_with_moments(const Tensor& mean, const Tensor& variance) const {
  {
    std::lock_guard lock(plan_mutex_);
    if (!plan_ || !plan_->recipe->leaves_moments(device_)) return false;
    plan_->recipe = make_pooled<Recipe>(plan_->recipe, Step{Step::Kind::moments, mean, variance});
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
    Tensor y = x.new_empty(shape, kept_format(shape));
    recipe->run(*y.storage(), y.raw_data(), shape, x.dtype());
    return y;
  }
  auto storage = make_pooled<Storage>(shape, x.dtype(), x.device(), std::move(recipe));
  if (waiting().size() >= 16) forget_done();
  waiting().push_back(storage);
  return Tensor::view_of(std::move(storage), 0, shape, dense_strides(shape, kept_format(shape)), x.dtype());
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
