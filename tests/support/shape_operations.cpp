// Operations on shapes, and those in place.
#include "support/operations.h"

#include "grapnel/engine/ops.h"
#include "support/device.h"

namespace grapnel::testing {

#define CALL(call) [](const Tensors& in) { return call; }

std::vector<Operation> shapes() {
  const Tensor x = leaf({2, 3, 4}, 1), y = leaf({2, 3, 4}, 2), plane = leaf({2, 1, 3, 3}, 3);
  const Tensor rows = Tensor::from<std::int64_t>({2, 0, 2}, {3});
  const Tensor picks = Tensor::from<std::int64_t>({1, 0, 2, 2, 1, 1, 0, 0}, {2, 1, 4});
  return {
      {"reshape", CALL(pow(reshape(in[0], {6, -1}), 2)), {x}},
      {"reshape of a transpose", CALL(pow(reshape(transpose(in[0], 0, 2), {4, 6}), 2)), {x}},
      {"view", CALL(pow(view(in[0], {3, 8}), 2)), {x}},
      {"flatten", CALL(pow(flatten(in[0], 1), 2)), {x}},
      {"permute", CALL(pow(permute(in[0], {2, 0, 1}), 2)), {x}},
      {"expand", CALL(pow(expand(in[0], {3, 2, 4, 3, 3}), 2)), {leaf({4, 1, 3}, 4)}},
      {"narrow", CALL(pow(narrow(in[0], 1, 1, 2), 2)), {x}},
      {"select", CALL(pow(select(in[0], -1, -2), 2)), {x}},
      {"unbind, one unused", CALL(unbind(in[0], 1)[0] * pow(unbind(in[0], 1)[2], 2)), {x}},
      {"split", CALL(pow(split(in[0], 2, -1)[0], 2) * split(in[0], 2, -1)[1]), {x}},
      {"chunk", CALL(pow(chunk(in[0], 2, 1)[1], 3)), {x}},
      {"unsqueeze, squeeze", CALL(squeeze(pow(unsqueeze(in[0], 1), 2), 1)), {x}},
      {"as_strided, overlapping", CALL(pow(as_strided(in[0], {3, 4}, {2, 1}, 3), 2)), {x}},
      {"cat", CALL(pow(cat({in[0], in[1], in[0]}, 1), 2)), {x, y}},
      {"stack", CALL(pow(stack({in[0], in[1]}, -1), 2)), {x, y}},
      {"pad", CALL(pow(pad(in[0], 1, 2, 0, 1, 0.5), 2)), {plane}},
      {"pad, cropping", CALL(pow(pad(in[0], -1, 1, 2, -1), 2)), {plane}},
      {"index_select", CALL(pow(index_select(in[0], 1, in[1]), 2)), {x, rows}},
      {"index_add", CALL(pow(index_add(4, 1, in[1], in[0]), 2)), {x, rows}},
      {"gather", CALL(pow(gather(in[0], 1, in[1]), 2)), {x, picks}},
      {"scatter_add", CALL(pow(scatter_add(3, 1, in[1], in[0]), 2)), {leaf({2, 1, 4}, 5), picks}},
  };
}

std::vector<Operation> in_place() {
  const Tensor x = distinct({2, 3}, 1), y = distinct({2, 3}, 2), row = leaf({3}, 3);
  return {
      {"relu_",
       [](const Tensors& t) {
         Tensor z = t[0] * 2.0;
         relu_(z);
         return z * t[0];
       },
       {x}},
      {"add_",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         add_(z, t[1]);
         return z * z;
       },
       {x, row}},
      {"mul_",
       [](const Tensors& t) {
         Tensor z = t[0] + 1.0;
         mul_(z, t[1]);
         return z * z;
       },
       {x, y}},
      {"affine_",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         affine_(z, 3, 1);
         return z * z;
       },
       {x}},
      {"copy_",
       [](const Tensors& t) {
         Tensor z = t[0] * 2.0;
         z.copy_(t[1] * t[1]);
         return z + t[0];
       },
       {x, row}},
      {"fill_",
       [](const Tensors& t) {
         Tensor z = t[0] * 2.0;
         select(z, 0, 0).fill_(3);
         return z * z;
       },
       {x}},
      {"view changed, base used",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         mul_(select(z, 0, 1), t[1]);
         return z * z;
       },
       {x, row}},
      {"view of a view",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         mul_(narrow(transpose(z, 0, 1), 0, 1, 2), Tensor::full({2, 2}, 2.5, z.dtype(), z.device()));
         return z * t[0];
       },
       {x}},
      {"base changed, earlier view used",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         const Tensor earlier = select(z, 0, 1);
         mul_(z, t[1]);
         return earlier * earlier;
       },
       {x, y}},
      {"sibling view used",
       [](const Tensors& t) {
         Tensor z = t[0] * t[0];
         const Tensor sibling = flatten(z);
         affine_(select(z, 1, 0), 0.5, 0);
         affine_(select(z, 1, 2), -2, 1);
         return sibling * sibling;
       },
       {x}},
  };
}

#undef CALL

}  // namespace grapnel::testing
