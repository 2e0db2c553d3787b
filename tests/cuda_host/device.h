// What kernels/common/device.cuh stands for in tests: the same names, carried out by the model and checked.
#pragma once

#include <atomic>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "cuda_host/capture.h"
#include "cuda_host/model.h"
#include "grapnel/kernels/copy/convert.h"

namespace grapnel::device {

using cuda_host::Dim;
using cuda_host::Site;

/// A kernel is a function; here an ordinary one.
#define GRAPNEL_KERNEL(...) [[maybe_unused]] static void
#define GRAPNEL_DEVICE inline
#define GRAPNEL_UNROLL
#define GRAPNEL_UNROLL_TWICE

inline Dim thread() {
  return cuda_host::thread_index();
}
inline Dim block() {
  return cuda_host::block_index();
}
inline Dim block_size() {
  return cuda_host::block_dim();
}
inline Dim grid_size() {
  return cuda_host::grid_dim();
}
inline unsigned lane() {
  return cuda_host::lane();
}

inline void wait_for_previous() {
  cuda_host::wait_for_previous();
}
inline void launch_next(const Site& site = Site::current()) {
  cuda_host::launch_next(site);
}
inline void after_previous(const Site& site = Site::current()) {
  wait_for_previous();
  launch_next(site);
}

template <class T>
struct Global {
  T* data;
  Global(T* pointer) : data(pointer) {}
  Global operator+(std::int64_t elements) const { return data + elements; }
};

template <class T>
struct Shared {
  std::uint32_t at;
  Shared operator+(std::int64_t elements) const {
    return {static_cast<std::uint32_t>(at + elements * static_cast<std::int64_t>(sizeof(T)))};
  }
};

template <class T, int count>
struct alignas(sizeof(T) * count) Vector {
  T values[count];
  T& operator[](int i) { return values[i]; }
  const T& operator[](int i) const { return values[i]; }
};

namespace host {

template <class T>
cuda_host::Space space(Global<T>) {
  return cuda_host::Space::global;
}
template <class T>
cuda_host::Space space(Shared<T>) {
  return cuda_host::Space::shared;
}
template <class T>
std::uintptr_t address(Global<T> p) {
  return reinterpret_cast<std::uintptr_t>(p.data);
}
template <class T>
std::uintptr_t address(Shared<T> p) {
  return p.at;
}

template <class Value, class Place>
Value read(Place p, const Site& site) {
  Value value;
  std::memcpy(
      &value,
      cuda_host::reach(space(p), address(p), sizeof value, alignof(Value), cuda_host::Access::read, site),
      sizeof value);
  return value;
}
template <class Value, class Place>
void write(Place p, const Value& value, const Site& site) {
  std::memcpy(
      cuda_host::reach(space(p), address(p), sizeof value, alignof(Value), cuda_host::Access::write, site),
      &value, sizeof value);
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  static_assert(sizeof(T) <= cuda_host::kMostGiven);
  return std::as_bytes(std::span(&value, 1));
}

/// A value of each lane in `mask`; what the others would have is unset.
template <class T>
std::array<T, cuda_host::kWarpSize> exchange(std::uint32_t mask, const T& mine, const Site& site) {
  const auto& given = cuda_host::exchange(mask, bytes_of(mine), site);
  std::array<T, cuda_host::kWarpSize> all{};
  for (unsigned l = 0; l < cuda_host::kWarpSize; ++l)
    if (mask >> l & 1) std::memcpy(&all[l], given[l].data(), sizeof(T));
  return all;
}

}  // namespace host

template <template <class> class Place, class T>
std::remove_const_t<T> load(Place<T> p, std::int64_t i = 0, const Site& site = Site::current()) {
  return host::read<std::remove_const_t<T>>(p + i, site);
}
template <template <class> class Place, class T>
void store(Place<T> p, std::int64_t i, std::type_identity_t<T> value, const Site& site = Site::current()) {
  host::write(p + i, value, site);
}
template <int count, template <class> class Place, class T>
auto load_vector(Place<T> p, std::int64_t i = 0, const Site& site = Site::current()) {
  return host::read<Vector<std::remove_const_t<T>, count>>(p + i, site);
}
template <template <class> class Place, class T, int count>
void store_vector(Place<T> p, std::int64_t i, const Vector<T, count>& value,
                  const Site& site = Site::current()) {
  host::write(p + i, value, site);
}

template <class T>
Shared<T> shared_memory(std::size_t byte = 0) {
  return {static_cast<std::uint32_t>(byte)};
}

template <class T>
T atomic_add(Global<T> p, std::int64_t i, std::type_identity_t<T> value, const Site& site = Site::current()) {
  static_assert(std::is_integral_v<T>, "sums of floats would depend on the order of threads");
  auto* place = static_cast<T*>(cuda_host::reach(cuda_host::Space::global, host::address(p + i), sizeof(T),
                                                 sizeof(T), cuda_host::Access::atomic, site));
  return std::atomic_ref(*place).fetch_add(value, std::memory_order_relaxed);
}

inline void sync_block(const Site& site = Site::current()) {
  cuda_host::wait_for_block(site);
}
inline void sync_named(unsigned barrier, unsigned threads, const Site& site = Site::current()) {
  cuda_host::wait_for_named(barrier, threads, site);
}
inline void sync_warp(std::uint32_t mask, const Site& site = Site::current()) {
  cuda_host::exchange(mask, {}, site);
}

template <class T>
T shuffle(std::uint32_t mask, T value, unsigned from, const Site& site = Site::current()) {
  if (from >= cuda_host::kWarpSize || !(mask >> from & 1))
    cuda_host::fault("shuffle: reads lane " + std::to_string(from) + ", which takes no part", site);
  const auto& given = cuda_host::exchange(mask, host::bytes_of(value), site);
  std::memcpy(&value, given[from].data(), sizeof(T));
  return value;
}
template <class T>
T shuffle_xor(std::uint32_t mask, T value, unsigned distance, const Site& site = Site::current()) {
  return shuffle(mask, value, lane() ^ distance, site);
}
inline std::uint32_t ballot(std::uint32_t mask, bool vote, const Site& site = Site::current()) {
  const auto votes = host::exchange<std::uint8_t>(mask, vote, site);
  std::uint32_t result = 0;
  for (unsigned l = 0; l < cuda_host::kWarpSize; ++l) result |= static_cast<std::uint32_t>(votes[l]) << l;
  return result;
}

/// `count` elements, 4, 8 or 16 bytes together.
template <int count, class T>
void copy_async(Shared<T> to, std::type_identity_t<Global<const T>> from, bool zeros = false,
                const Site& site = Site::current()) {
  cuda_host::copy_async(to.at, host::address(from), count * sizeof(T), zeros, site);
}
inline void commit_copies() {
  cuda_host::commit_copies();
}
template <int left>
void wait_for_copies() {
  cuda_host::wait_for_copies(left);
}

using kernels::BFloat16, kernels::Float16;

inline float widened(Float16 half) {
  return kernels::to_float(half);
}

/// Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. Of each, a lane gets row
/// lane / 4, elements 2 (lane % 4) and the next, which may be one of 32 bits; transposed, of column lane / 4.
template <bool transposed, class T>
std::array<std::uint32_t, 4> load_matrices(Shared<T> row, const Site& site = Site::current()) {
  static_assert(sizeof(T) == 2 || !transposed);
  const auto rows =
      host::exchange(cuda_host::kAllLanes, host::read<Vector<std::uint16_t, 8>>(row, site), site);
  std::array<std::uint32_t, 4> result{};
  const int group = static_cast<int>(lane() / 4), pair = static_cast<int>(lane() % 4 * 2);
  for (int m = 0; m < 4; ++m) {
    const auto element = [&](int i, int j) {
      return std::uint32_t{rows[static_cast<std::size_t>(8 * m + i)][j]};
    };
    result[static_cast<std::size_t>(m)] = transposed ? element(pair, group) | element(pair + 1, group) << 16
                                                     : element(group, pair) | element(group, pair + 1) << 16;
  }
  return result;
}

namespace host {

/// What a tensor core sees of a float given as TF32: 10 bits of fraction.
inline double tf32(std::uint32_t bits) {
  bits &= ~0x1fffu;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline double bf16(std::uint32_t bits) {
  bits <<= 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// What a tensor core makes of an exact sum: the bits that a float has no room for are dropped.
inline float toward_zero(double sum) {
  const auto nearest = static_cast<float>(sum);
  return std::abs(nearest) > std::abs(sum) && std::isfinite(nearest) ? std::nextafter(nearest, 0.0f)
                                                                     : nearest;
}

/// D = A B + C of one warp, 16x8, `depth` deep.
template <int depth, class Element>
std::array<float, 4> multiply(const std::array<std::uint32_t, 4>& a, const std::array<std::uint32_t, 2>& b,
                              const std::array<float, 4>& c, const Element& element, const Site& site) {
  const auto all_a = exchange(cuda_host::kAllLanes, a, site);
  const auto all_b = exchange(cuda_host::kAllLanes, b, site);
  const unsigned group = lane() / 4, pair = lane() % 4 * 2;
  std::array<float, 4> d;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = group + i / 2 * 8, column = pair + i % 2;
    double sum = c[i];
    for (unsigned k = 0; k < depth; ++k)
      sum += element(all_a, row, k, true) * element(all_b, column, k, false);
    d[i] = toward_zero(sum);
  }
  return d;
}

}  // namespace host

/// m16n8k8, TF32. Lane l = 4 g + t holds of A (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); of B (t, g), (t
/// + 4, g); of C and D (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
inline std::array<float, 4> multiply_tf32(const std::array<std::uint32_t, 4>& a,
                                          const std::array<std::uint32_t, 2>& b,
                                          const std::array<float, 4>& c, const Site& site = Site::current()) {
  return host::multiply<8>(
      a, b, c,
      [](const auto& lanes, unsigned line, unsigned k, bool is_a) {
        const auto& of = lanes[line % 8 * 4 + k % 4];
        return host::tf32(of[is_a ? line / 8 + k / 4 * 2 : k / 4]);
      },
      site);
}

/// m16n8k16, bfloat16 in pairs, the lower k in the lower half. Lane l = 4 g + t holds of A rows g and g + 8
/// at k = 2t, then both at k = 2t + 8; of B column g at k = 2t and 2t + 8; C and D as above.
inline std::array<float, 4> multiply_bf16(const std::array<std::uint32_t, 4>& a,
                                          const std::array<std::uint32_t, 2>& b,
                                          const std::array<float, 4>& c, const Site& site = Site::current()) {
  return host::multiply<16>(
      a, b, c,
      [](const auto& lanes, unsigned line, unsigned k, bool is_a) {
        const auto& of = lanes[line % 8 * 4 + k % 8 / 2];
        const std::uint32_t both = of[is_a ? line / 8 + k / 8 * 2 : k / 8];
        return host::bf16(both >> k % 2 * 16 & 0xffff);
      },
      site);
}

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

/// Runs `kernel` over the grid, after everything launched before it, or records that. Throws Fault.
template <class... Parameters, class... Arguments>
cuda_host::Traffic launch(const char* name, Dim grid, Dim block, std::size_t shared_bytes,
                          void (*kernel)(Parameters...), const Arguments&... arguments) {
  const auto run = [=] {
    return cuda_host::run(name, grid, block, shared_bytes, [&] { kernel(Parameters(arguments)...); });
  };
  if (!cuda_host::recording()) return run();
  cuda_host::do_or_record(run);
  return {};
}

}  // namespace grapnel::device
