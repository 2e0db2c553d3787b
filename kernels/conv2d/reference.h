// Convolution and its gradients as their definitions say, summed in double: what every other variant is
// tested against. The only liberty taken is the packing, which puts the dimension that is summed innermost
// last.
#pragma once

#include <algorithm>

#include "grapnel/kernels/common/finish.h"
#include "grapnel/kernels/kernels.h"
#include "grapnel/kernels/parallel.h"

namespace grapnel::kernels {

template <class T>
struct ReferenceConv2d {
  using Index = std::int64_t;

  static const char* variant(const Conv2d&, ConvPass) { return "reference"; }

  static std::size_t packed_size(const Conv2d& p, ConvPass) {
    return static_cast<std::size_t>(p.k * (p.c / p.groups) * p.r * p.s);
  }

  /// forward: (K, R, S, C/groups); input_grad: (C, R, S, K/groups).
  static void pack(const Conv2d& p, ConvPass pass, T* packed, const T* w, const Index* w_strides) {
    const Index c_group = p.c / p.groups, k_group = p.k / p.groups;
    for (Index k = 0; k < p.k; ++k) {
      for (Index c = 0; c < c_group; ++c) {
        for (Index r = 0; r < p.r; ++r) {
          for (Index s = 0; s < p.s; ++s) {
            const Index x_channel = k / k_group * c_group + c;
            const Index at = pass == ConvPass::forward
                                 ? ((k * p.r + r) * p.s + s) * c_group + c
                                 : ((x_channel * p.r + r) * p.s + s) * k_group + k % k_group;
            packed[at] = w[k * w_strides[0] + c * w_strides[1] + r * w_strides[2] + s * w_strides[3]];
          }
        }
      }
    }
  }

  /// y[n,oh,ow,k] = sum over r,s,c of x[n, oh*stride - pad + r*dil, ow*stride - pad + s*dil, c]
  /// w[k,c,r,s]
  static bool max_pool(const Conv2d&, const Pool2d&, T*, const T*, const T*, const Epilogue<T>&) {
    return false;
  }
  static void forward(const Conv2d& p, T* y, const T* x, const T* packed, const Epilogue<T>& epilogue) {
    const Index c_group = p.c / p.groups, k_group = p.k / p.groups;
    parallel_for(p.n * p.oh * p.ow, 1, [&](Index begin, Index end) {
      for (Index at = begin; at < end; ++at) {
        const Index n = at / (p.oh * p.ow), oh = at / p.ow % p.oh, ow = at % p.ow;
        for (Index k = 0; k < p.k; ++k) {
          double sum = 0;
          for (Index r = 0; r < p.r; ++r) {
            for (Index s = 0; s < p.s; ++s) {
              const Index h = oh * p.stride_h - p.pad_h + r * p.dil_h,
                          w = ow * p.stride_w - p.pad_w + s * p.dil_w;
              if (h < 0 || h >= p.h || w < 0 || w >= p.w) continue;
              const T* pixel = x + ((n * p.h + h) * p.w + w) * p.c + k / k_group * c_group;
              const T* taps = packed + ((k * p.r + r) * p.s + s) * c_group;
              for (Index c = 0; c < c_group; ++c)
                sum += static_cast<double>(pixel[c]) * static_cast<double>(taps[c]);
            }
          }
          y[at * p.k + k] = finished_value(static_cast<T>(sum), epilogue, at * p.k + k, k);
        }
      }
    });
  }

  /// dx[n,h,w,c] = sum over the oh,ow,r,s that read this pixel, and over k, of dy[n,oh,ow,k] w[k,c,r,s]
  static void input_grad(const Conv2d& p, T* dx, const T* dy, const T* packed, const Epilogue<T>& epilogue) {
    const Index c_group = p.c / p.groups, k_group = p.k / p.groups;
    parallel_for(p.n * p.h * p.w, 1, [&](Index begin, Index end) {
      for (Index at = begin; at < end; ++at) {
        const Index n = at / (p.h * p.w), h = at / p.w % p.h, w = at % p.w;
        for (Index c = 0; c < p.c; ++c) {
          double sum = 0;
          for (Index r = 0; r < p.r; ++r) {
            for (Index s = 0; s < p.s; ++s) {
              const Index from_h = h + p.pad_h - r * p.dil_h, from_w = w + p.pad_w - s * p.dil_w;
              if (from_h < 0 || from_w < 0 || from_h % p.stride_h != 0 || from_w % p.stride_w != 0) continue;
              const Index oh = from_h / p.stride_h, ow = from_w / p.stride_w;
              if (oh >= p.oh || ow >= p.ow) continue;
              const T* pixel = dy + ((n * p.oh + oh) * p.ow + ow) * p.k + c / c_group * k_group;
              const T* taps = packed + ((c * p.r + r) * p.s + s) * k_group;
              for (Index k = 0; k < k_group; ++k)
                sum += static_cast<double>(pixel[k]) * static_cast<double>(taps[k]);
            }
          }
          dx[at * p.c + c] = finished_value(static_cast<T>(sum), epilogue, at * p.c + c, c);
        }
      }
    });
  }

  /// dw[k,c,r,s] = sum over n,oh,ow of dy[n,oh,ow,k] x[n, oh*stride - pad + r*dil, ow*stride - pad + s*dil,
  /// c]
  static void weight_grad(const Conv2d& p, T* dw, const T* x, const T* dy, const std::uint16_t*,
                          const std::uint16_t*) {
    const Index c_group = p.c / p.groups, k_group = p.k / p.groups;
    constexpr Index kBlock = 64;  // channels summed together, because they lie together in x
    parallel_for(p.k * p.r * p.s, 1, [&](Index begin, Index end) {
      for (Index at = begin; at < end; ++at) {
        const Index k = at / (p.r * p.s), r = at / p.s % p.r, s = at % p.s;
        for (Index c0 = 0; c0 < c_group; c0 += kBlock) {
          const Index channels = std::min(kBlock, c_group - c0);
          double sums[kBlock] = {};
          for (Index pixel = 0; pixel < p.n * p.oh * p.ow; ++pixel) {
            const Index n = pixel / (p.oh * p.ow), oh = pixel / p.ow % p.oh, ow = pixel % p.ow;
            const Index h = oh * p.stride_h - p.pad_h + r * p.dil_h,
                        w = ow * p.stride_w - p.pad_w + s * p.dil_w;
            if (h < 0 || h >= p.h || w < 0 || w >= p.w) continue;
            const T* from = x + ((n * p.h + h) * p.w + w) * p.c + k / k_group * c_group + c0;
            const double grad = static_cast<double>(dy[pixel * p.k + k]);
            for (Index c = 0; c < channels; ++c) sums[c] += grad * static_cast<double>(from[c]);
          }
          for (Index c = 0; c < channels; ++c) {
            dw[((k * c_group + c0 + c) * p.r + r) * p.s + s] = static_cast<T>(sums[c]);
          }
        }
      }
    });
  }
};

}  // namespace grapnel::kernels
