// What device.cuh is for every GPU, for Hopper (sm_90a): barriers in shared memory, tensor maps, and matrix
// products of warpgroups. Code for other architectures stops where it calls any of it.
//
// The sections of the PTX ISA manual are named, as their numbers change: "Asynchronous Warpgroup Level Matrix
// Multiply-Accumulate Instructions", "Parallel Synchronization and Communication Instructions: mbarrier",
// "Data Movement and Conversion Instructions: Asynchronous copy", "Tensors".
#pragma once

#include <array>
#include <cstdint>

#include "grapnel/kernels/common/device.cuh"

namespace grapnel::device {

/// Whether this host thread's device runs what is in this header: one of compute capability 9.0, and a build
/// with code for sm_90a. Throws DeviceFault.
bool has_hopper();

/// How rows of 32, 64 or 128 bytes lie in shared memory: pieces of 16 bytes change places, so that a column
/// of pieces falls into different banks ("Tensors: Swizzling Modes"). Values as in a matrix descriptor.
enum class Swizzle : unsigned { none = 0, bytes128 = 1, bytes64 = 2, bytes32 = 3 };

/// Bytes of a row; of a piece where there is no swizzle.
constexpr unsigned span_of(Swizzle swizzle) {
  return swizzle == Swizzle::none ? 16 : 256u >> static_cast<unsigned>(swizzle);
}
/// A swizzle repeats after that many bytes; what is swizzled starts at a multiple of them.
constexpr unsigned period_of(Swizzle swizzle) {
  return swizzle == Swizzle::none ? 128 : 8 * span_of(swizzle);
}

/// Which index of an operand runs along neighbours in shared memory: k, or the row of A and column of B.
enum class Major { k, mn };

/// A tensor in global memory and the box of it that is copied at once; dimension 0 is the innermost.
struct TensorLayout {
  unsigned rank;
  std::array<std::uint64_t, 5> sizes;
  std::array<std::uint64_t, 5> strides;  // in bytes; the first is that of an element
  std::array<std::uint32_t, 5> box;
  std::array<std::uint32_t, 5> steps{1, 1, 1, 1, 1};  // every how many elements one is taken from the box
};

/// Dense pictures (N, H, W, C), C innermost, and the columns of pixels that are copied at once ("Tensors:
/// im2col mode"). Pixels are counted along W, then H, then N: in each direction every `steps`-th from `lower`
/// on, up to size - 1 + `upper`. So a convolution's pixels of y each have one of x, that of its first tap,
/// with lower = -padding and upper = padding - dilation * (taps - 1).
struct PixelLayout {
  std::array<std::uint64_t, 4> sizes;  // C, W, H, N
  std::array<int, 2> lower, upper;     // W, H; -128 to 127
  std::array<std::uint32_t, 2> steps;  // W, H; 1 to 8
  std::uint32_t channels, pixels;      // of a column; at most 256 and 1024
};

/// What becomes of floats on the way to shared memory: nothing, or they are rounded to TF32, to nearest even
/// ("Tensors: Tensor Dimension, size and format").
enum class Rounding { none, tf32 };

/// In shared memory, 8 bytes. A phase ends when `count` arrivals and all the bytes they announced have come.
struct alignas(8) Barrier {
  std::uint64_t state;
};

}  // namespace grapnel::device

#if !defined(__CUDACC__)
#include "cuda_host/hopper.h"
#else

#include <cuda.h>

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GRAPNEL_HOPPER_ASM(...) __trap()
#else
#define GRAPNEL_HOPPER_ASM(...) asm volatile(__VA_ARGS__)
#endif

#include "grapnel/kernels/common/wgmma.cuh"

namespace grapnel::device {

/// One lane of the warp, all of whose lanes come: "elect.sync".
GRAPNEL_DEVICE bool elect_one() {
  std::uint32_t elected = 0;
  GRAPNEL_HOPPER_ASM("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(elected));
  return elected != 0;
}

/// Before others use the barrier: a fence_barrier_init by this thread, then sync_block.
GRAPNEL_DEVICE void init_barrier(Shared<Barrier> barrier, unsigned count) {
  GRAPNEL_HOPPER_ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier.address()), "r"(count)
                     : "memory");
}
/// Makes barriers known to the copies that will arrive at them.
GRAPNEL_DEVICE void fence_barrier_init() {
  GRAPNEL_HOPPER_ASM("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/// What this thread stored to shared memory can be read by tensor maps and products once their thread has
/// met this one.
GRAPNEL_DEVICE void fence_proxy_async() {
  GRAPNEL_HOPPER_ASM("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Whoever waits for the phase knows all that this thread did before.
GRAPNEL_DEVICE void arrive(Shared<Barrier> barrier) {
  GRAPNEL_HOPPER_ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier.address()) : "memory");
}
/// Arrives, and announces bytes that load_tile will bring in this phase.
GRAPNEL_DEVICE void arrive_expecting(Shared<Barrier> barrier, unsigned bytes) {
  GRAPNEL_HOPPER_ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier.address()),
                     "r"(bytes)
                     : "memory");
}
/// True once the phase of this parity has ended: phases count from 0, and the one before the first has ended.
/// The next phase must not end before all who care have seen this one.
GRAPNEL_DEVICE bool try_wait(Shared<Barrier> barrier, unsigned parity) {
  std::uint32_t ended = 0;
  GRAPNEL_HOPPER_ASM(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
      : "=r"(ended)
      : "r"(barrier.address()), "r"(parity)
      : "memory");
  return ended != 0;
}
GRAPNEL_DEVICE void wait(Shared<Barrier> barrier, unsigned parity) {
  while (!try_wait(barrier, parity)) {
  }
}

/// How a kernel takes a tensor map, or what holds one: by value, and in place.
#define GRAPNEL_IN_PLACE const __grid_constant__

struct TensorMap {
  CUtensorMap encoded;
};

/// A function of the driver, which nothing is linked to.
template <class Function>
Function* driver_entry(const char* name) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &entry, 12000, cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess)
    throw kernels::DeviceFault(std::string("the driver has no ") + name);
  return reinterpret_cast<Function*>(entry);
}

template <class T>
CUtensorMapDataType type_of_elements(Rounding rounding) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, BFloat16>);
  if (std::is_same_v<T, BFloat16>) return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return rounding == Rounding::tf32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
}
inline CUtensorMapSwizzle encoded(Swizzle swizzle) {
  constexpr CUtensorMapSwizzle kSwizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                              CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_32B};
  return kSwizzles[static_cast<unsigned>(swizzle)];
}
inline void check_encoding(CUresult result, const char* name) {
  if (result != CUDA_SUCCESS)
    throw kernels::DeviceFault(std::string(name) + ": error " + std::to_string(static_cast<int>(result)));
}

/// For elements float or BFloat16. Throws DeviceFault where the layout breaks a rule of
/// cuTensorMapEncodeTiled.
template <class T>
TensorMap make_tensor_map(const T* data, const TensorLayout& layout, Swizzle swizzle,
                          Rounding rounding = Rounding::none) {
  static auto* const encode = driver_entry<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  TensorMap map;
  check_encoding(encode(&map.encoded, type_of_elements<T>(rounding), layout.rank, const_cast<T*>(data),
                        layout.sizes.data(), layout.strides.data() + 1, layout.box.data(),
                        layout.steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, encoded(swizzle),
                        CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                 "cuTensorMapEncodeTiled");
  return map;
}

/// The same for columns of pixels, by cuTensorMapEncodeIm2col, which takes corners in the order of the sizes.
template <class T>
TensorMap make_pixel_map(const T* data, const PixelLayout& layout, Swizzle swizzle,
                         Rounding rounding = Rounding::none) {
  static auto* const encode = driver_entry<decltype(cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const std::uint64_t pixel = layout.sizes[0] * sizeof(T), row = pixel * layout.sizes[1];
  const std::array<std::uint64_t, 3> strides{pixel, row, row * layout.sizes[2]};
  const std::array<std::uint32_t, 4> steps{1, layout.steps[0], layout.steps[1], 1};
  TensorMap map;
  check_encoding(
      encode(&map.encoded, type_of_elements<T>(rounding), 4, const_cast<T*>(data), layout.sizes.data(),
             strides.data(), layout.lower.data(), layout.upper.data(), layout.channels, layout.pixels,
             steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, encoded(swizzle),
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
      "cuTensorMapEncodeIm2col");
  return map;
}

/// Fetches the map itself, which is no part of global memory that a launch could write.
GRAPNEL_DEVICE void prefetch_map(const TensorMap& map) {
  GRAPNEL_HOPPER_ASM("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Starts to copy the box whose first element is at `at`, zeros where it leaves the tensor, to shared memory,
/// packed and swizzled. Its bytes, zeros too, are counted by the barrier's phase: nobody may touch the place
/// before he has waited for that. One thread calls this ("cp.async.bulk.tensor").
template <class T, std::size_t rank>
GRAPNEL_DEVICE void load_tile(Shared<T> to, const TensorMap& map, const std::array<int, rank>& at,
                              Shared<Barrier> barrier) {
  static_assert(rank >= 1 && rank <= 5);
#define GRAPNEL_LOAD(dimensions, places, ...)                                                        \
  GRAPNEL_HOPPER_ASM("cp.async.bulk.tensor." dimensions                                              \
                     ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {" places \
                     "}], [%2];" ::"r"(to.address()),                                                \
                     "l"(&map), "r"(barrier.address()), __VA_ARGS__                                  \
                     : "memory")
  if constexpr (rank == 1)
    GRAPNEL_LOAD("1d", "%3", "r"(at[0]));
  else if constexpr (rank == 2)
    GRAPNEL_LOAD("2d", "%3, %4", "r"(at[0]), "r"(at[1]));
  else if constexpr (rank == 3)
    GRAPNEL_LOAD("3d", "%3, %4, %5", "r"(at[0]), "r"(at[1]), "r"(at[2]));
  else if constexpr (rank == 4)
    GRAPNEL_LOAD("4d", "%3, %4, %5, %6", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
  else
    GRAPNEL_LOAD("5d", "%3, %4, %5, %6, %7", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]));
#undef GRAPNEL_LOAD
}

/// The same for a column of pixels, from channel, w, h and n of `at` on, as its PixelLayout counts them; each
/// is read `offset` (w, h; 0 to 255) further on, as another tap of a convolution reads it. Pixels and
/// channels outside of the pictures are zeros.
template <class T>
GRAPNEL_DEVICE void load_pixels(Shared<T> to, const TensorMap& map, const std::array<int, 4>& at,
                                const std::array<int, 2>& offset, Shared<Barrier> barrier) {
  GRAPNEL_HOPPER_ASM(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5, %6}], [%2], {%7, %8};" ::"r"(to.address()),
      "l"(&map), "r"(barrier.address()), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]),
      "h"(static_cast<std::uint16_t>(offset[0])), "h"(static_cast<std::uint16_t>(offset[1]))
      : "memory");
}

/// The way back; what leaves the tensor is not written. What threads stored to `from` needs
/// fence_proxy_async.
template <class T, std::size_t rank>
GRAPNEL_DEVICE void store_tile(const TensorMap& map, const std::array<int, rank>& at, Shared<T> from) {
  static_assert(rank >= 1 && rank <= 5);
#define GRAPNEL_STORE(dimensions, places, ...)                                                              \
  GRAPNEL_HOPPER_ASM("cp.async.bulk.tensor." dimensions ".global.shared::cta.tile.bulk_group [%1, {" places \
                     "}], [%0];" ::"r"(from.address()),                                                     \
                     "l"(&map), __VA_ARGS__                                                                 \
                     : "memory")
  if constexpr (rank == 1)
    GRAPNEL_STORE("1d", "%2", "r"(at[0]));
  else if constexpr (rank == 2)
    GRAPNEL_STORE("2d", "%2, %3", "r"(at[0]), "r"(at[1]));
  else if constexpr (rank == 3)
    GRAPNEL_STORE("3d", "%2, %3, %4", "r"(at[0]), "r"(at[1]), "r"(at[2]));
  else if constexpr (rank == 4)
    GRAPNEL_STORE("4d", "%2, %3, %4, %5", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
  else
    GRAPNEL_STORE("5d", "%2, %3, %4, %5, %6", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]));
#undef GRAPNEL_STORE
}
GRAPNEL_DEVICE void commit_stores() {
  GRAPNEL_HOPPER_ASM("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until at most `left` groups of this thread's have yet to read shared memory; it must not end before.
template <int left>
GRAPNEL_DEVICE void wait_for_stores_read() {
  GRAPNEL_HOPPER_ASM("cp.async.bulk.wait_group.read %0;" ::"n"(left) : "memory");
}
/// Until at most `left` of them have yet to write global memory.
template <int left>
GRAPNEL_DEVICE void wait_for_stores() {
  GRAPNEL_HOPPER_ASM("cp.async.bulk.wait_group %0;" ::"n"(left) : "memory");
}

/// All warps of a warpgroup: from now on, at most `count` registers a thread, 24 to 256 in steps of 8
/// ("setmaxnreg"). What one warpgroup gives back, another may ask for.
template <int count>
GRAPNEL_DEVICE void give_back_registers() {
  static_assert(count >= 24 && count <= 256 && count % 8 == 0);
  GRAPNEL_HOPPER_ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
GRAPNEL_DEVICE void ask_for_registers() {
  static_assert(count >= 24 && count <= 256 && count % 8 == 0);
  GRAPNEL_HOPPER_ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

}  // namespace grapnel::device

#endif
