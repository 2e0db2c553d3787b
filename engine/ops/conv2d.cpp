// Convolution and its two gradients. Written y = conv(x, w), dx = input_grad(dy, w), dw = weight_grad(x, dy),
// each is linear in both operands, and the derivative of any one is made of the other two: the family is
// closed, so that gradients of gradients need nothing new.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/conv2d_shape.h"
#include "grapnel/engine/ops/elementwise.h"
#include "grapnel/engine/ops/operands.h"
#include "grapnel/engine/pool.h"
#include "grapnel/engine/recipe.h"

namespace grapnel {

kernels::Conv2d describe_conv2d(const char* name, const Shape& x, const Shape& weight,
                                const Conv2dOptions& options) {
  if (x.size() != 4 || weight.size() != 4)
    throw ShapeError(std::string(name) + ": expected x (N, C, H, W) and weight (K, C/groups, R, S), got " +
                     to_string(x) + " and " + to_string(weight));
  const auto [stride_h, stride_w] = options.stride;
  const auto [pad_h, pad_w] = options.padding;
  const auto [dil_h, dil_w] = options.dilation;
  if (stride_h < 1 || stride_w < 1 || dil_h < 1 || dil_w < 1 || pad_h < 0 || pad_w < 0 || options.groups < 1)
    throw ShapeError(std::string(name) +
                     ": stride, dilation and groups must be at least 1, padding at least 0");
  if (x[1] != weight[1] * options.groups || weight[0] % options.groups != 0)
    throw ShapeError(std::string(name) + ": an input of shape " + to_string(x) +
                     " does not fit a weight of shape " + to_string(weight) +
                     " with groups = " + std::to_string(options.groups) + ": expected " +
                     std::to_string(weight[1] * options.groups) + " input channels and a multiple of " +
                     std::to_string(options.groups) + " output channels");
  const std::int64_t oh = (x[2] + 2 * pad_h - dil_h * (weight[2] - 1) - 1 + stride_h) / stride_h;
  const std::int64_t ow = (x[3] + 2 * pad_w - dil_w * (weight[3] - 1) - 1 + stride_w) / stride_w;
  if (x[2] + 2 * pad_h < dil_h * (weight[2] - 1) + 1 || x[3] + 2 * pad_w < dil_w * (weight[3] - 1) + 1)
    throw ShapeError(std::string(name) + ": the kernel of shape " + to_string(weight) +
                     " (dilation included) is larger than the padded input of shape " + to_string(x));
  return {x[0], x[1],     x[2],     x[3],  weight[0], weight[2], weight[3], oh,
          ow,   stride_h, stride_w, pad_h, pad_w,     dil_h,     dil_w,     options.groups};
}

namespace {

void check_shape(const char* name, const char* what, const Tensor& x, const Shape& expected) {
  if (x.shape() != expected)
    throw ShapeError(std::string(name) + ": " + what + " has shape " + to_string(x.shape()) + ", expected " +
                     to_string(expected));
}

/// The elements in channels-last order, outside any record.
Tensor channels_last(const Tensor& x) {
  return x.detach().contiguous(MemoryFormat::channels_last);
}

/// Two passes will read them.
void keep_operand(const Tensor& x) {
  if (!is_whole(x) || !x.is_contiguous(MemoryFormat::channels_last)) return;
  if (Fusion::enabled() && keeps_bf16(x.device(), x.dtype(), x.shape())) return keep_bf16(x);
  dispatch("conv2d", x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    const kernels::Parts parts{parts_of(table, x.shape())};
    if (parts.count == 0 || kept_parts(table, x)) return;
    auto memory = make_pooled<Storage>(parts.bytes(x.numel()), x.device());
    table.make_parts(parts.count, x.numel(), static_cast<std::uint16_t*>(memory->data()), x.data<T>());
    x.storage()->keep(kPartsKey, std::move(memory));
  });
}

Step convolution(const kernels::Conv2d& shape, kernels::ConvPass pass, const Tensor& in,
                 const Tensor& weight) {
  return {Step::Kind::convolution, channels_last(in), weight, shape, pass};
}

}  // namespace

template <class T>
std::shared_ptr<Storage> packed_weight(const kernels::Conv2d& shape, kernels::ConvPass pass,
                                       const Tensor& weight) {
  // The packing depends on the weight, on stride, dilation and groups, and through the variant on the input's
  // size. Names of variants are literals: their addresses tell them apart.
  const kernels::FloatKernels<T>& table = kernels_of<T>(weight.device());
  const auto variant = reinterpret_cast<std::intptr_t>(table.conv2d_variant(shape, pass));
  const Shape &sizes = weight.shape(), &strides = weight.strides();
  const std::int64_t key[] = {variant,        static_cast<std::int64_t>(pass),
                              shape.stride_h, shape.stride_w,
                              shape.dil_h,    shape.dil_w,
                              shape.pad_h,    shape.pad_w,
                              shape.groups,   weight.storage_offset(),
                              sizes[0],       sizes[1],
                              sizes[2],       sizes[3],
                              strides[0],     strides[1],
                              strides[2],     strides[3]};
  const auto fill = [&](void* packed) {
    const T* values = static_cast<const T*>(weight.storage()->read()) + weight.storage_offset();
    table.conv2d_pack(shape, pass, static_cast<T*>(packed), values, strides.data());
  };
  return weight.storage()->derived({reinterpret_cast<const char*>(key), sizeof(key)},
                                   table.conv2d_packed_size(shape, pass) * sizeof(T), std::ref(fill));
}

template std::shared_ptr<Storage> packed_weight<float>(const kernels::Conv2d&, kernels::ConvPass,
                                                       const Tensor&);
template std::shared_ptr<Storage> packed_weight<double>(const kernels::Conv2d&, kernels::ConvPass,
                                                        const Tensor&);

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  const kernels::Conv2d shape = describe_conv2d("conv2d", x.shape(), weight.shape(), options);
  check_same_type("conv2d", x, weight);
  check_same_type("conv2d", x, bias);
  if (bias.defined()) check_shape("conv2d", "the bias", bias, {shape.k});
  const Shape y_shape{shape.n, shape.k, shape.oh, shape.ow};
  const Tensor y = dispatch("conv2d", x, [&]<class T>(const kernels::FloatKernels<T>&) {
    std::shared_ptr<const Recipe> recipe =
        make_pooled<Recipe>(convolution(shape, kernels::ConvPass::forward, x, weight));
    if (bias.defined())
      recipe = make_pooled<Recipe>(std::move(recipe), Step{Step::Kind::affine, {}, bias.contiguous()});
    return cook(x, y_shape, std::move(recipe));
  });
  const Shape x_shape = x.shape(), weight_shape = weight.shape();
  return record("conv2d", y, {x, weight, bias},
                {keep_if(weight.requires_grad(), x), keep_if(x.requires_grad(), weight)},
                [=](const Backward& ctx) -> Tensors {
                  const Tensor& dy = ctx.grad();
                  if (ctx.needs(0) && ctx.needs(1)) keep_operand(dy);
                  return {
                      ctx.needs(0) ? conv2d_input_grad(x_shape, dy, ctx.saved(1), options) : Tensor(),
                      ctx.needs(1) ? conv2d_weight_grad(ctx.saved(0), weight_shape, dy, options) : Tensor(),
                      ctx.needs(2) ? sum(dy, {0, 2, 3}) : Tensor()};
                });
}

Tensor conv2d_input_grad(const Shape& x_shape, const Tensor& dy, const Tensor& weight,
                         const Conv2dOptions& options) {
  const kernels::Conv2d shape = describe_conv2d("conv2d_input_grad", x_shape, weight.shape(), options);
  check_same_type("conv2d_input_grad", dy, weight);
  check_shape("conv2d_input_grad", "the output gradient", dy, {shape.n, shape.k, shape.oh, shape.ow});
  const Tensor dx = dispatch("conv2d_input_grad", dy, [&]<class T>(const kernels::FloatKernels<T>&) {
    return cook(dy, x_shape,
                make_pooled<Recipe>(convolution(shape, kernels::ConvPass::input_grad, dy, weight)));
  });
  const Shape weight_shape = weight.shape();
  return record("conv2d_input_grad", dx, {dy, weight},
                {keep_if(weight.requires_grad(), dy), keep_if(dy.requires_grad(), weight)},
                [=](const Backward& ctx) -> Tensors {
                  return {ctx.needs(0) ? conv2d(ctx.grad(), ctx.saved(1), {}, options) : Tensor(),
                          ctx.needs(1) ? conv2d_weight_grad(ctx.grad(), weight_shape, ctx.saved(0), options)
                                       : Tensor()};
                });
}

Tensor conv2d_weight_grad(const Tensor& x, const Shape& weight_shape, const Tensor& dy,
                          const Conv2dOptions& options) {
  const kernels::Conv2d shape = describe_conv2d("conv2d_weight_grad", x.shape(), weight_shape, options);
  check_same_type("conv2d_weight_grad", x, dy);
  check_shape("conv2d_weight_grad", "the output gradient", dy, {shape.n, shape.k, shape.oh, shape.ow});
  Tensor dw = x.new_empty(weight_shape);
  dispatch_activation("conv2d_weight_grad", dy,
                      [&]<class T, class V>(const kernels::ActivationKernels<T, V>& table) {
                        const Elements<T> x_values(x), dy_values(dy);
                        std::shared_ptr<Storage> x_parts, dy_parts;
                        if constexpr (std::is_same_v<T, V>) {
                          x_parts = kept_parts(kernels_of<V>(x.device()), channels_last(x));
                          dy_parts = kept_parts(kernels_of<V>(x.device()), channels_last(dy));
                        }
                        const auto given = [](const std::shared_ptr<Storage>& parts) {
                          return parts ? static_cast<const std::uint16_t*>(parts->read()) : nullptr;
                        };
                        table.conv2d_weight_grad(shape, dw.data<V>(), x_values.data(), dy_values.data(),
                                                 given(x_parts), given(dy_parts));
                      });
  const Shape x_shape = x.shape();
  return record(
      "conv2d_weight_grad", dw, {x, dy}, {keep_if(dy.requires_grad(), x), keep_if(x.requires_grad(), dy)},
      [=](const Backward& ctx) -> Tensors {
        return {ctx.needs(0) ? conv2d_input_grad(x_shape, ctx.saved(1), ctx.grad(), options) : Tensor(),
                ctx.needs(1) ? conv2d(ctx.saved(0), ctx.grad(), {}, options) : Tensor()};
      });
}

}  // namespace grapnel
