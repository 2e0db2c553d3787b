// Every public operation. All are differentiable (twice, too) unless the comment says otherwise; shapes
// broadcast as in NumPy; dimensions may be negative; results have the first operand's element type and, where
// it matters, memory format. A wrong shape throws ShapeError, a wrong element type TypeError; the message
// names the operation.
#pragma once

#include <utility>

#include "grapnel/engine/random.h"
#include "grapnel/engine/tensor.h"

namespace grapnel {

// --- elementwise (ops/arithmetic.cpp, ops/unary.cpp, ops/activation.cpp) ---
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor pow(const Tensor& a, const Tensor& b);
/// scale * x + shift.
Tensor affine(const Tensor& x, double scale, double shift);
Tensor pow(const Tensor& x, double exponent);
/// The larger of both; where they are equal each side gets half of the gradient.
Tensor maximum(const Tensor& a, const Tensor& b);
/// 1 where a == b / a > b, else 0, in the operands' type. Not differentiable.
Tensor equal(const Tensor& a, const Tensor& b);
Tensor greater(const Tensor& a, const Tensor& b);

inline Tensor operator+(const Tensor& a, const Tensor& b) {
  return add(a, b);
}
inline Tensor operator-(const Tensor& a, const Tensor& b) {
  return sub(a, b);
}
inline Tensor operator*(const Tensor& a, const Tensor& b) {
  return mul(a, b);
}
inline Tensor operator/(const Tensor& a, const Tensor& b) {
  return div(a, b);
}
inline Tensor operator+(const Tensor& a, double b) {
  return affine(a, 1, b);
}
inline Tensor operator-(const Tensor& a, double b) {
  return affine(a, 1, -b);
}
inline Tensor operator*(const Tensor& a, double b) {
  return affine(a, b, 0);
}
inline Tensor operator/(const Tensor& a, double b) {
  return affine(a, 1 / b, 0);
}
inline Tensor operator+(double a, const Tensor& b) {
  return affine(b, 1, a);
}
inline Tensor operator-(double a, const Tensor& b) {
  return affine(b, -1, a);
}
inline Tensor operator*(double a, const Tensor& b) {
  return affine(b, a, 0);
}
Tensor operator/(double a, const Tensor& b);
Tensor operator-(const Tensor& x);

Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor reciprocal(const Tensor& x);
/// -1, 0 or 1; its gradient is zero.
Tensor sign(const Tensor& x);
/// min(max(x, low), high); the gradient passes where low <= x <= high.
Tensor clamp(const Tensor& x, double low, double high);
Tensor relu(const Tensor& x);
Tensor leaky_relu(const Tensor& x, double slope = 0.01);
Tensor sigmoid(const Tensor& x);
Tensor tanh(const Tensor& x);
/// Zeroes each element with probability p and scales the rest by 1/(1-p); the identity if not training.
Tensor dropout(const Tensor& x, double p, bool training, Generator& generator = default_generator());

// In place: the tensor, all views of it and its history change. Throw AutogradError on a leaf that requires a
// gradient.
const Tensor& relu_(const Tensor& x);
const Tensor& add_(const Tensor& x, const Tensor& y);
const Tensor& mul_(const Tensor& x, const Tensor& y);
/// x = scale * x + shift.
const Tensor& affine_(const Tensor& x, double scale, double shift);

// --- reductions (ops/reduce.cpp); an empty list of dimensions means all ---
Tensor sum(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// Largest value; equal largest values share the gradient.
Tensor amax(const Tensor& x, const Dims& dims = {}, bool keepdim = false);
/// Largest value along one dimension and the index of its first occurrence (int64), which alone gets the
/// gradient.
std::pair<Tensor, Tensor> max(const Tensor& x, std::int64_t dim, bool keepdim = false);
/// Index of the first largest value (int64). Not differentiable.
Tensor argmax(const Tensor& x, std::int64_t dim, bool keepdim = false);
/// Variance with divisor count - correction.
Tensor var(const Tensor& x, const Dims& dims = {}, double correction = 1, bool keepdim = false);
/// Sums broadcast dimensions away until x has `shape`.
Tensor sum_to(const Tensor& x, const Shape& shape);

// --- matrices (ops/matmul.cpp) ---
/// (..., M, K) x (..., K, N); a vector on either side is a row or column and vanishes from the result.
Tensor matmul(const Tensor& a, const Tensor& b);
/// x (..., in) times weight (out, in) transposed, plus bias (out) if defined.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

// --- convolution and pooling (ops/conv2d.cpp, ops/pool2d.cpp); x (N,C,H,W), result channels last ---
struct Conv2dOptions {
  std::pair<std::int64_t, std::int64_t> stride{1, 1}, padding{0, 0}, dilation{1, 1};
  std::int64_t groups = 1;
};
/// weight (K, C/groups, R, S), bias (K) if defined.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
              const Conv2dOptions& options = {});
/// Gradient of conv2d with respect to its input of shape `x_shape`, given dy: bilinear in dy and weight.
Tensor conv2d_input_grad(const Shape& x_shape, const Tensor& dy, const Tensor& weight,
                         const Conv2dOptions& options = {});
/// Gradient of conv2d with respect to its weight of shape `weight_shape`: bilinear in x and dy.
Tensor conv2d_weight_grad(const Tensor& x, const Shape& weight_shape, const Tensor& dy,
                          const Conv2dOptions& options = {});

struct Pool2dOptions {
  std::pair<std::int64_t, std::int64_t> kernel{2, 2};
  std::pair<std::int64_t, std::int64_t> stride{0, 0};  ///< 0: as large as the kernel
  std::pair<std::int64_t, std::int64_t> padding{0, 0}, dilation{1, 1};
  bool ceil_mode = false;
  bool count_include_pad = true;  ///< averages only
};
/// At most 256 window positions (amax reduces whole planes). The first of equal maxima gets the gradient.
Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options);
Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options);
Tensor adaptive_avg_pool2d(const Tensor& x, std::int64_t out_h, std::int64_t out_w);
enum class Resample { nearest, bilinear };
Tensor interpolate(const Tensor& x, std::int64_t out_h, std::int64_t out_w, Resample mode,
                   bool align_corners = false);

// --- normalisation and losses (ops/batch_norm.cpp, ops/softmax.cpp, ops/loss.cpp) ---
/// y = (x - mean) / sqrt(var + eps) * weight + bias per channel. Training uses the batch's biased variance
/// and moves the running statistics by `momentum` (with the unbiased one); otherwise the running statistics
/// are used. weight, bias and, when training, the running statistics may be undefined.
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                  const Tensor& running_var, bool training, double momentum = 0.1, double eps = 1e-5);
Tensor softmax(const Tensor& x, std::int64_t dim);
Tensor log_softmax(const Tensor& x, std::int64_t dim);
enum class LossReduction { none, mean, sum };
/// -log_probabilities[n, labels[n]], times weight[labels[n]] if a weight (classes), a constant, is given;
/// log_probabilities (N, classes), labels (N) int64. The mean is over the weights, as in PyTorch. Throws
/// ShapeError for a label out of range; on a CUDA device, where nobody waits for the check, its loss is NaN
/// and the next copy to the CPU, or synchronize, throws DeviceError. So do indices everywhere.
Tensor nll_loss(const Tensor& log_probabilities, const Tensor& labels,
                LossReduction reduction = LossReduction::mean, const Tensor& weight = {});
struct CrossEntropyOptions {
  LossReduction reduction = LossReduction::mean;
  double label_smoothing = 0;  ///< share of the label that all classes split evenly, 0 to 1
  Tensor weight = {};          ///< (classes), as in nll_loss
};
/// nll_loss of log_softmax(logits), logits (N, classes).
Tensor cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options = {});
inline Tensor cross_entropy(const Tensor& logits, const Tensor& labels, LossReduction reduction) {
  return cross_entropy(logits, labels, CrossEntropyOptions{.reduction = reduction});
}
/// -(target log sigmoid(x) + (1 - target) log(1 - sigmoid(x))), element by element; same shapes.
Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                        LossReduction reduction = LossReduction::mean);
Tensor mse_loss(const Tensor& x, const Tensor& target, LossReduction reduction = LossReduction::mean);

// --- shape (ops/view.cpp: no copy; ops/join.cpp and ops/index.cpp: copies) ---
/// One size may be -1. A view where the strides allow it, else a copy; `view` throws ShapeError instead of
/// copying.
Tensor reshape(const Tensor& x, const Shape& shape);
Tensor view(const Tensor& x, const Shape& shape);
Tensor flatten(const Tensor& x, std::int64_t first_dim = 0, std::int64_t last_dim = -1);
Tensor permute(const Tensor& x, const Dims& order);
Tensor transpose(const Tensor& x, std::int64_t dim0, std::int64_t dim1);
/// Repeats dimensions of size 1 without copying; -1 keeps a size.
Tensor expand(const Tensor& x, const Shape& shape);
Tensor narrow(const Tensor& x, std::int64_t dim, std::int64_t start, std::int64_t length);
Tensor select(const Tensor& x, std::int64_t dim, std::int64_t index);
/// All positions of a dimension / pieces of `size`, the last maybe smaller / at most `count` pieces of equal
/// size, as one operation. None of several views made together may be changed in place.
Tensors unbind(const Tensor& x, std::int64_t dim = 0);
Tensors split(const Tensor& x, std::int64_t size, std::int64_t dim = 0);
Tensors chunk(const Tensor& x, std::int64_t count, std::int64_t dim = 0);
Tensor unsqueeze(const Tensor& x, std::int64_t dim);
Tensor squeeze(const Tensor& x, std::int64_t dim);
/// An arbitrary view of x's elements; offset relative to x's first element.
Tensor as_strided(const Tensor& x, const Shape& shape, const Strides& strides, std::int64_t offset);
Tensor cat(const Tensors& parts, std::int64_t dim = 0);
Tensor stack(const Tensors& parts, std::int64_t dim = 0);
/// Surrounds the last two dimensions by `value`; negative amounts crop.
Tensor pad(const Tensor& x, std::int64_t left, std::int64_t right, std::int64_t top, std::int64_t bottom,
           double value = 0);
/// Picks index (int64, rank 1) along a dimension; its adjoint adds rows of y into zeros of length `size`.
Tensor index_select(const Tensor& x, std::int64_t dim, const Tensor& index);
Tensor index_add(std::int64_t size, std::int64_t dim, const Tensor& index, const Tensor& y);
/// y[..., j, ...] = x[..., index[..., j, ...], ...]; index has x's sizes except along `dim`. scatter_add is
/// its adjoint.
Tensor gather(const Tensor& x, std::int64_t dim, const Tensor& index);
Tensor scatter_add(std::int64_t size, std::int64_t dim, const Tensor& index, const Tensor& y);

}  // namespace grapnel
