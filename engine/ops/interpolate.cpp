// Resampling of pictures and maps: linear, so that its gradient is its adjoint and the other way round.
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops/elementwise.h"

namespace grapnel {
namespace {

Tensor resample(const kernels::Interpolate& shape, bool adjoint, const Tensor& x) {
  const char* name = adjoint ? "interpolate_adjoint" : "interpolate";
  Tensor y = x.new_empty({shape.n, shape.c, adjoint ? shape.h : shape.oh, adjoint ? shape.w : shape.ow},
                         MemoryFormat::channels_last);
  dispatch(name, x, [&]<class T>(const kernels::FloatKernels<T>& table) {
    (adjoint ? table.interpolate_adjoint : table.interpolate)(
        shape, y.data<T>(), x.detach().contiguous(MemoryFormat::channels_last).data<T>());
  });
  return record(name, y, {x}, {}, [shape, adjoint](const Backward& ctx) -> Tensors {
    return {resample(shape, !adjoint, ctx.grad())};
  });
}

}  // namespace

Tensor interpolate(const Tensor& x, std::int64_t out_h, std::int64_t out_w, Resample mode,
                   bool align_corners) {
  check_rank("interpolate", x, 4, "(N, C, H, W)");
  if (out_h < 1 || out_w < 1 || x.size(2) < 1 || x.size(3) < 1)
    throw ShapeError("interpolate: cannot resample " + to_string(x.shape()) + " to " + std::to_string(out_h) +
                     " x " + std::to_string(out_w));
  if (align_corners && mode == Resample::nearest)
    throw ShapeError("interpolate: align_corners applies to bilinear only");
  return resample(
      {x.size(0), x.size(1), x.size(2), x.size(3), out_h, out_w, mode == Resample::bilinear, align_corners},
      false, x);
}

}  // namespace grapnel
