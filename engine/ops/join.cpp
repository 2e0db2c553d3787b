// Putting tensors together: cat, stack, pad.
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"

namespace grapnel {

// Each part's gradient is its stretch of dy.
Tensor cat(const Tensors& parts, std::int64_t dim) {
  if (parts.empty()) throw ShapeError("cat: nothing to join");
  const std::size_t d = wrap_dim("cat", dim, parts[0].rank());
  Shape shape = parts[0].shape();
  shape[d] = 0;
  MemoryFormat format = MemoryFormat::contiguous;
  std::vector<std::int64_t> lengths;
  for (const Tensor& part : parts) {
    Shape expected = shape;
    if (part.rank() == shape.size()) expected[d] = part.shape()[d];
    if (part.shape() != expected || part.dtype() != parts[0].dtype())
      throw ShapeError("cat: a part of type " + std::string(name(part.dtype())) + " and shape " +
                       to_string(part.shape()) + " does not fit the first, " +
                       std::string(name(parts[0].dtype())) + " " + to_string(parts[0].shape()) +
                       ", joined along dimension " + std::to_string(dim));
    lengths.push_back(part.shape()[d]);
    shape[d] += lengths.back();
    if (part.suggested_format() == MemoryFormat::channels_last) format = MemoryFormat::channels_last;
  }
  const auto join_dim = static_cast<std::int64_t>(d);
  Tensor out = parts[0].new_empty(shape, format);
  std::int64_t start = 0;
  for (std::size_t i = 0; i < parts.size(); start += lengths[i], ++i)
    narrow(out, join_dim, start, lengths[i]).copy_(parts[i].detach());
  return record("cat", {out}, parts, {}, [join_dim, lengths](const Backward& ctx) -> Tensors {
    Tensors gradients;
    std::int64_t from = 0;
    for (std::size_t i = 0; i < lengths.size(); from += lengths[i], ++i)
      gradients.push_back(ctx.needs(i) ? narrow(ctx.grad(), join_dim, from, lengths[i]) : Tensor());
    return gradients;
  })[0];
}

Tensor stack(const Tensors& parts, std::int64_t dim) {
  if (parts.empty()) throw ShapeError("stack: nothing to join");
  Tensors raised;
  for (const Tensor& part : parts) raised.push_back(unsqueeze(part, dim));
  return cat(raised, static_cast<std::int64_t>(wrap_dim("stack", dim, parts[0].rank() + 1)));
}

// dx = dy without the frame; for a negative amount, dy inside a frame of zeros: pad again, the other way.
Tensor pad(const Tensor& x, std::int64_t left, std::int64_t right, std::int64_t top, std::int64_t bottom,
           double value) {
  if (x.rank() < 2) throw ShapeError("pad: expected at least 2 dimensions, got " + to_string(x.shape()));
  Shape shape = x.shape();
  std::int64_t& rows = shape[shape.size() - 2];
  std::int64_t& columns = shape[shape.size() - 1];
  rows += top + bottom;
  columns += left + right;
  if (rows < 0 || columns < 0)
    throw ShapeError("pad: cropping leaves nothing of a tensor of shape " + to_string(x.shape()));
  Tensor out = x.new_empty(shape, x.suggested_format());
  {
    NoGrad guard;
    out.fill_(value);
    // The part of x that survives, seen in both tensors.
    const auto keep = [](std::int64_t size, std::int64_t before, std::int64_t after) {
      return std::max<std::int64_t>(
          size + std::min<std::int64_t>(before, 0) + std::min<std::int64_t>(after, 0), 0);
    };
    const std::int64_t height = keep(x.size(-2), top, bottom), width = keep(x.size(-1), left, right);
    const auto window = [&](const Tensor& t, std::int64_t y, std::int64_t x0) {
      return narrow(narrow(t, -2, y, height), -1, x0, width);
    };
    if (height > 0 && width > 0)
      window(out, std::max<std::int64_t>(top, 0), std::max<std::int64_t>(left, 0))
          .copy_(window(x, std::max<std::int64_t>(-top, 0), std::max<std::int64_t>(-left, 0)));
  }
  return record("pad", out, {x}, {}, [=](const Backward& ctx) -> Tensors {
    return {pad(ctx.grad(), -left, -right, -top, -bottom)};
  });
}

}  // namespace grapnel
