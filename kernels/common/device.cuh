// Everything kernels ask of the hardware, under one roof: nvcc makes instructions of it, and tests on
// machines without a GPU compile the same kernels against a model that checks every access (tests/cuda_host).
// Nothing else in a .cu file may name CUDA.
//
// Memory is reached through Global<T> and Shared<T>, by load and store, so that the model sees it. All shared
// memory is given at the launch; a kernel lays it out itself. The instructions are those of the PTX ISA
// manual, 8.0.
#pragma once

#if !defined(__CUDACC__)
#include "cuda_host/device.h"
#else

#include <array>
#include <cstdint>
#include <string>
#include <type_traits>

#include "grapnel/kernels/accelerator.h"

namespace grapnel::device {

/// A kernel of blocks of at most so many threads (and, second, how many blocks a multiprocessor should hold
/// at least), and a function it calls.
#define GRAPNEL_KERNEL(...) static __global__ __launch_bounds__(__VA_ARGS__) void
#define GRAPNEL_DEVICE __device__ __forceinline__
/// Before a loop whose every turn shall have code of its own, so that its arrays stay in registers.
#define GRAPNEL_UNROLL _Pragma("unroll")
/// Before a loop whose operands would else be fetched too far ahead for its registers.
#define GRAPNEL_UNROLL_TWICE _Pragma("unroll 2")

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

/// The stream of this host thread, on its current device.
cudaStream_t current_stream();
/// Memory of one operation; it goes back, for what is launched later, when this is gone. 0 bytes: null.
class Workspace {
 public:
  /// Throws DeviceFault.
  explicit Workspace(std::size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* of() const {
    return static_cast<T*>(data_);
  }

 private:
  std::size_t bytes_;
  void* data_;
};

/// Whether launches on this host thread's device may overlap: a Hopper, code for it, CUDA 12.3, and
/// GRAPNEL_DEPENDENT_LAUNCHES is not 0. Throws DeviceFault.
bool launches_overlap();

/// Runs `kernel` over the grid, after everything started before it. Throws DeviceFault if it cannot start.
///
/// On Hopper its blocks may start while the launch before ends ("programmatic dependent launch"), and their
/// threads wait in wait_for_previous() until that has ended and what it wrote can be seen. Each thread of
/// each kernel calls that before it touches global memory, and before launch_next(). So, by induction, a
/// launch has only ended when all before it have, and when a launch starts, all but the last one before it
/// have:
///   - copies, events and whatever else is no kernel wait for the end of the launch before, as ever, and
///     launches for theirs: only a kernel can let what follows it start early;
///   - memory that is given back and taken again in the stream's order is touched by its next user only after
///     his wait_for_previous(), when the last launch that used it has ended;
///   - in a graph, an edge from a kernel to a kernel becomes a programmatic one, and all others stay whole.
/// Code for older GPUs does not wait: on Hopper it would have to be launched without overlap (and is).
template <class... Parameters, class... Arguments>
void launch(const char* name, Dim grid, Dim block, std::size_t shared_bytes, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 48 * 1024)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  if (error == cudaSuccess) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(grid.x, grid.y, grid.z);
    config.blockDim = dim3(block.x, block.y, block.z);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = current_stream();
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &overlap;
    config.numAttrs = launches_overlap() ? 1 : 0;
    error = cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
  }
  if (error != cudaSuccess) throw kernels::DeviceFault(std::string(name) + ": " + cudaGetErrorString(error));
}

GRAPNEL_DEVICE Dim thread() {
  return {threadIdx.x, threadIdx.y, threadIdx.z};
}
GRAPNEL_DEVICE Dim block() {
  return {blockIdx.x, blockIdx.y, blockIdx.z};
}
GRAPNEL_DEVICE Dim block_size() {
  return {blockDim.x, blockDim.y, blockDim.z};
}
GRAPNEL_DEVICE Dim grid_size() {
  return {gridDim.x, gridDim.y, gridDim.z};
}
/// Of a block that is a line of threads.
GRAPNEL_DEVICE unsigned lane() {
  return threadIdx.x % 32;
}

/// Until the launch before has ended, and all that it wrote can be read ("griddepcontrol").
GRAPNEL_DEVICE void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The next launch may start when every block has called this, by any thread, or ended. Where blocks take a
/// whole multiprocessor, they call it late: the next launch's blocks would crowd on those that are idle.
GRAPNEL_DEVICE void launch_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// How short kernels begin.
GRAPNEL_DEVICE void after_previous() {
  wait_for_previous();
  launch_next();
}

template <class T>
struct Global {
  T* data;
  __host__ __device__ Global(T* pointer) : data(pointer) {}
  GRAPNEL_DEVICE Global operator+(std::int64_t elements) const { return data + elements; }
};

template <class T>
struct Shared {
  T* data;
  GRAPNEL_DEVICE Shared operator+(std::int64_t elements) const { return {data + elements}; }
  GRAPNEL_DEVICE std::uint32_t address() const {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(data));
  }
};

/// `count` elements that are read or written at once, at an address that is a multiple of their size.
template <class T, int count>
struct alignas(sizeof(T) * count) Vector {
  T values[count];
  GRAPNEL_DEVICE T& operator[](int i) { return values[i]; }
  GRAPNEL_DEVICE const T& operator[](int i) const { return values[i]; }
};

template <template <class> class Place, class T>
GRAPNEL_DEVICE std::remove_const_t<T> load(Place<T> p, std::int64_t i = 0) {
  return p.data[i];
}
template <template <class> class Place, class T>
GRAPNEL_DEVICE void store(Place<T> p, std::int64_t i, std::type_identity_t<T> value) {
  p.data[i] = value;
}
template <int count, template <class> class Place, class T>
GRAPNEL_DEVICE auto load_vector(Place<T> p, std::int64_t i = 0) {
  return *reinterpret_cast<const Vector<std::remove_const_t<T>, count>*>(p.data + i);
}
template <template <class> class Place, class T, int count>
GRAPNEL_DEVICE void store_vector(Place<T> p, std::int64_t i, const Vector<T, count>& value) {
  *reinterpret_cast<Vector<T, count>*>(p.data + i) = value;
}

/// The block's shared memory from a byte on; it starts at a multiple of 1024.
template <class T>
GRAPNEL_DEVICE Shared<T> shared_memory(std::size_t byte = 0) {
  extern __shared__ __align__(1024) unsigned char memory[];
  return {reinterpret_cast<T*>(memory + byte)};
}

/// The value before. Of integers only: sums of floats would depend on the order of threads.
template <class T>
GRAPNEL_DEVICE T atomic_add(Global<T> p, std::int64_t i, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>);
  return atomicAdd(p.data + i, value);
}

GRAPNEL_DEVICE void sync_block() {
  __syncthreads();
}
/// `threads` of the block, whole warps, at one of the barriers 1 to 15.
GRAPNEL_DEVICE void sync_named(unsigned barrier, unsigned threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
GRAPNEL_DEVICE void sync_warp(std::uint32_t mask) {
  __syncwarp(mask);
}

/// What lane `from` has as `value`, among the lanes in `mask`.
template <class T>
GRAPNEL_DEVICE T shuffle(std::uint32_t mask, T value, unsigned from) {
  return __shfl_sync(mask, value, static_cast<int>(from));
}
template <class T>
GRAPNEL_DEVICE T shuffle_xor(std::uint32_t mask, T value, unsigned distance) {
  return __shfl_xor_sync(mask, value, static_cast<int>(distance));
}
GRAPNEL_DEVICE std::uint32_t ballot(std::uint32_t mask, bool vote) {
  return __ballot_sync(mask, vote);
}

/// Starts to copy `count` elements, 4, 8 or 16 bytes together, or zeros in their place, wherever `from`
/// points then. They are there when the group they were committed to has been waited for, and others may read
/// them after a barrier.
template <int count, class T>
GRAPNEL_DEVICE void copy_async(Shared<T> to, std::type_identity_t<Global<const T> > from,
                               bool zeros = false) {
  constexpr int kBytes = count * sizeof(T);
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.address()), "l"(from.data),
                 "r"(zeros ? 0 : kBytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to.address()), "l"(from.data),
                 "n"(kBytes), "r"(zeros ? 0 : kBytes)
                 : "memory");
  }
}
GRAPNEL_DEVICE void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Until at most `left` groups of this thread's are under way.
template <int left>
GRAPNEL_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

using kernels::BFloat16, kernels::Float16;

/// The same number.
GRAPNEL_DEVICE float widened(Float16 half) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half.bits));
  return value;
}

/// Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. Of each, a lane gets row
/// lane / 4, elements 2 (lane % 4) and the next, which may be one of 32 bits; transposed, of column lane / 4.
template <bool transposed, class T>
GRAPNEL_DEVICE std::array<std::uint32_t, 4> load_matrices(Shared<T> row) {
  static_assert(sizeof(T) == 2 || !transposed);
  std::uint32_t a, b, c, d;
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(row.address())
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(row.address())
                 : "memory");
  }
  return {a, b, c, d};
}

/// D = A B + C of a warp, m16n8k8, TF32. Lane l = 4 g + t holds of A (g, t), (g + 8, t), (g, t + 4), (g + 8,
/// t + 4); of B (t, g), (t + 4, g); of C and D (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
GRAPNEL_DEVICE std::array<float, 4> multiply_tf32(const std::array<std::uint32_t, 4>& a,
                                                  const std::array<std::uint32_t, 2>& b,
                                                  const std::array<float, 4>& c) {
  float d0, d1, d2, d3;
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, "
      "%12, %13};"
      : "=f"(d0), "=f"(d1), "=f"(d2), "=f"(d3)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]),
        "f"(c[3]));
  return {d0, d1, d2, d3};
}

/// The same m16n8k16, bfloat16 in pairs, the lower k in the lower half. Lane l = 4 g + t holds of A rows g
/// and g + 8 at k = 2t, then both at k = 2t + 8; of B column g at k = 2t and 2t + 8.
GRAPNEL_DEVICE std::array<float, 4> multiply_bf16(const std::array<std::uint32_t, 4>& a,
                                                  const std::array<std::uint32_t, 2>& b,
                                                  const std::array<float, 4>& c) {
  float d0, d1, d2, d3;
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, "
      "%12, %13};"
      : "=f"(d0), "=f"(d1), "=f"(d2), "=f"(d3)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]),
        "f"(c[3]));
  return {d0, d1, d2, d3};
}

}  // namespace grapnel::device

#endif
