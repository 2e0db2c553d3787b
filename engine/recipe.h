// How to compute a value that nobody has looked at yet: a convolution, a linear layer, or a value that
// exists, and what follows it, all in one pass over memory.
//
// Under a Fusion (fusion.h) some operations return tensors whose storage holds a recipe in place of elements.
// The next operation may lengthen the recipe instead of running it; whoever asks for elements (Storage::data)
// runs it. Nothing else can tell the difference. An intermediate value that somebody still holds when a
// longer recipe runs is computed itself, and the rest goes on from it: a hook that keeps what a layer
// returned gets exactly that, and nothing is computed twice. Elements that a recipe may read change only
// after it ran: asking for them runs it. Read next: recipe.cpp, waiting.cpp, then ops/conv2d.cpp. Internal to
// the engine.
#pragma once

#include <memory>
#include <optional>

#include "grapnel/engine/tensor.h"
#include "grapnel/kernels/kernels.h"

namespace grapnel {

/// One step of a recipe, in the order in which steps can share a pass; each adds to the value v before it.
struct Step {
  enum class Kind {
    values,       ///< v = first
    convolution,  ///< v = the pass `pass` of `conv` over first, weights second
    linear,       ///< v = first second^T, of matrices
    affine,       ///< v = first[c] v + second[c]; either may be unset
    residual,     ///< v = v + first
    relu,         ///< v = max(v, 0)
    mask,         ///< v = first > 0 ? v : 0
    scale,        ///< v = first[c] v
    moments,      ///< v stays; its mean and biased variance by channel are written to first and second
    max_pool,     ///< v = the maxima of its windows
  };
  Kind kind;
  Tensor first, second = {};
  kernels::Conv2d conv = {};
  kernels::ConvPass pass = {};
  kernels::Pool2d pool = {};
};

/// A step after what comes before it. Its tensors are dense in the order of kept_format, or one dense value a
/// channel; a linear layer's matrices have any strides.
class Recipe {
 public:
  /// The first step: values, a convolution or a linear layer.
  explicit Recipe(Step step);
  Recipe(std::shared_ptr<const Recipe> before, Step step);
  /// A step after x, which waits to be computed by `before`.
  Recipe(const Tensor& x, std::shared_ptr<const Recipe> before, Step step);
  ~Recipe();
  Recipe(const Recipe&) = delete;
  Recipe& operator=(const Recipe&) = delete;

  /// Writes the elements of a tensor of this shape, in the order of kept_format, to `out`, which is the
  /// content of `storage`. Under a Fusion it keeps their Parts (kernels.h) if convolutions on this device
  /// want such.
  void run(const Storage& storage, void* out, const Shape& shape, DType type) const;
  /// The same as bfloat16.
  Tensor run_as_bf16(Device device, const Shape& shape) const;
  /// Whether there is nothing to compute: the elements are there, as bfloat16.
  bool is_stored() const { return !before_ && step_.first.dtype() == DType::bfloat16; }
  /// If there is nothing to compute, what to copy; otherwise unset.
  Tensor copied_from() const { return before_ || step_.kind != Step::Kind::values ? Tensor() : step_.first; }
  /// Whether the pass it makes can write moments, too.
  bool leaves_moments(Device device) const;
  bool reads(const Storage& storage) const;
  Step::Kind last() const { return step_.kind; }

 private:
  template <class T, class V>
  void run_as(const kernels::ActivationKernels<T, V>& table, T* out, const Shape& shape, Device device,
              const kernels::Parts& wanted) const;

  Step step_;
  std::shared_ptr<const Recipe> before_;
  std::weak_ptr<Storage> value_before_;  // what before_ computes, while anybody holds it
};

/// A tensor (N,C,H,W) or (N,C) of x's type and device: under a Fusion with the recipe, otherwise computed
/// now.
Tensor cook(const Tensor& x, const Shape& shape, std::shared_ptr<const Recipe> recipe);

/// Computes all that waits in this thread.
void run_all_waiting();

/// x followed by a step, if x holds a recipe that the step can join and all operands fit; nothing otherwise.
std::optional<Tensor> joined(const Tensor& x, Step step);

/// x (N,C,H,W) followed by a step in any case.
Tensor followed(const Tensor& x, Step step);

/// The elements of x (N,C,H,W) in a tensor of its own: under a Fusion copied when somebody looks.
Tensor copied(const Tensor& x);

}  // namespace grapnel
