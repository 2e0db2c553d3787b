// What kernels/common/hopper.cuh stands for in tests: the same names, carried out by the model and checked.
#pragma once

#include <span>
#include <type_traits>

#include "cuda_host/device.h"

namespace grapnel::device {

/// How a kernel takes a tensor map, or what holds one: by value, and in place.
#define GRAPNEL_IN_PLACE const

/// Of columns of pixels, a box is one of `channels` and of `pixels`.
struct TensorMap {
  std::uintptr_t data;
  unsigned element_bytes;
  Rounding rounding;
  TensorLayout layout;
  Swizzle swizzle;
  bool of_pixels = false;
  std::array<int, 2> lower{}, upper{};  // W, H
};

/// An operand in shared memory, as a matrix descriptor.
struct Matrix {
  std::uint64_t descriptor;
  Matrix operator+(unsigned bytes) const { return {descriptor + (bytes >> 4)}; }
};

}  // namespace grapnel::device

namespace grapnel::cuda_host {

/// While one exists, the model says that it is a Hopper; otherwise that it is an older GPU.
class WithHopper {
 public:
  WithHopper() { ++count_; }
  ~WithHopper() { --count_; }
  WithHopper(const WithHopper&) = delete;
  WithHopper& operator=(const WithHopper&) = delete;
  static bool on() { return count_ > 0; }

 private:
  static inline int count_ = 0;
};

/// How many were ever made, which tells whether a kernel for Hopper ran.
inline std::atomic<std::uint64_t> tensor_maps_made = 0;
void check_tensor_map(const device::TensorMap& map);

void init_barrier(std::uintptr_t at, unsigned count, const Site& site);
void fence_barrier_init();
void fence_proxy_async();
void arrive(std::uintptr_t at, unsigned expected_bytes, const Site& site);
bool try_wait(std::uintptr_t at, unsigned parity, const Site& site);
void wait(std::uintptr_t at, unsigned parity, const Site& site);

void load_tile(std::uintptr_t shared, const device::TensorMap& map, std::span<const int> at,
               std::uintptr_t barrier, const Site& site);
void load_pixels(std::uintptr_t shared, const device::TensorMap& map, const std::array<int, 4>& at,
                 const std::array<int, 2>& offset, std::uintptr_t barrier, const Site& site);
void store_tile(const device::TensorMap& map, std::span<const int> at, std::uintptr_t shared,
                const Site& site);
void commit_stores();
/// Until at most `left` groups have yet to read shared memory, or to write global memory too.
void wait_for_stores(unsigned left, bool written);

/// The sums of one thread, and what it has done with them.
struct SumsState {
  bool set = false, fenced = false;
  unsigned group = 0;    // of the last products that add to them
  unsigned settled = 0;  // the last group that a wait has given them back from
};
struct Product {
  bool tf32, a_in_registers, transposed_a, transposed_b;
  unsigned columns;
  std::uint64_t a, b;
  bool add;
  std::array<std::uint32_t, 4> registers;
};
void multiply_async(const Product& product, float* sums, SumsState& state, const Site& site);
void fence_products(SumsState& state);
void commit_products();
void wait_for_products(unsigned left);
void settle(SumsState& state);
/// The running thread reads or writes its sums.
void touch(SumsState& state, const Site& site);

void change_registers(unsigned count, bool more, const Site& site);

}  // namespace grapnel::cuda_host

namespace grapnel::device {

inline bool elect_one(const Site& site = Site::current()) {
  cuda_host::exchange(cuda_host::kAllLanes, {}, site);
  return lane() == 0;
}

inline void init_barrier(Shared<Barrier> barrier, unsigned count, const Site& site = Site::current()) {
  cuda_host::init_barrier(barrier.at, count, site);
}
inline void fence_barrier_init() {
  cuda_host::fence_barrier_init();
}
inline void fence_proxy_async() {
  cuda_host::fence_proxy_async();
}
inline void prefetch_map(const TensorMap&) {}
inline void arrive(Shared<Barrier> barrier, const Site& site = Site::current()) {
  cuda_host::arrive(barrier.at, 0, site);
}
inline void arrive_expecting(Shared<Barrier> barrier, unsigned bytes, const Site& site = Site::current()) {
  cuda_host::arrive(barrier.at, bytes, site);
}
inline bool try_wait(Shared<Barrier> barrier, unsigned parity, const Site& site = Site::current()) {
  return cuda_host::try_wait(barrier.at, parity, site);
}
inline void wait(Shared<Barrier> barrier, unsigned parity, const Site& site = Site::current()) {
  cuda_host::wait(barrier.at, parity, site);
}

template <class T>
TensorMap make_tensor_map(const T* data, const TensorLayout& layout, Swizzle swizzle,
                          Rounding rounding = Rounding::none) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, BFloat16>);
  const TensorMap map{reinterpret_cast<std::uintptr_t>(data), sizeof(T), rounding, layout, swizzle};
  cuda_host::check_tensor_map(map);
  return map;
}
template <class T>
TensorMap make_pixel_map(const T* data, const PixelLayout& layout, Swizzle swizzle,
                         Rounding rounding = Rounding::none) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, BFloat16>);
  const auto& [c, w, h, n] = layout.sizes;
  const TensorMap map{.data = reinterpret_cast<std::uintptr_t>(data),
                      .element_bytes = sizeof(T),
                      .rounding = rounding,
                      .layout = {4,
                                 {c, w, h, n},
                                 {sizeof(T), c * sizeof(T), w * c * sizeof(T), h * w * c * sizeof(T)},
                                 {layout.channels, layout.pixels},
                                 {1, layout.steps[0], layout.steps[1], 1, 1}},
                      .swizzle = swizzle,
                      .of_pixels = true,
                      .lower = layout.lower,
                      .upper = layout.upper};
  cuda_host::check_tensor_map(map);
  return map;
}
template <class T, std::size_t rank>
void load_tile(Shared<T> to, const TensorMap& map, const std::array<int, rank>& at, Shared<Barrier> barrier,
               const Site& site = Site::current()) {
  cuda_host::load_tile(to.at, map, at, barrier.at, site);
}
template <class T>
void load_pixels(Shared<T> to, const TensorMap& map, const std::array<int, 4>& at,
                 const std::array<int, 2>& offset, Shared<Barrier> barrier,
                 const Site& site = Site::current()) {
  cuda_host::load_pixels(to.at, map, at, offset, barrier.at, site);
}
template <class T, std::size_t rank>
void store_tile(const TensorMap& map, const std::array<int, rank>& at, Shared<T> from,
                const Site& site = Site::current()) {
  cuda_host::store_tile(map, at, from.at, site);
}
inline void commit_stores() {
  cuda_host::commit_stores();
}
template <int left>
void wait_for_stores_read() {
  cuda_host::wait_for_stores(left, false);
}
template <int left>
void wait_for_stores() {
  cuda_host::wait_for_stores(left, true);
}

template <class T>
Matrix matrix(Shared<T> at, Swizzle swizzle, unsigned leading, unsigned stride) {
  const auto encode = [](unsigned x) { return static_cast<std::uint64_t>((x & 0x3ffff) >> 4); };
  return {encode(at.at) | encode(leading) << 16 | encode(stride) << 32 |
          static_cast<std::uint64_t>(swizzle) << 62};
}

/// An index, and where it was written.
struct Index {
  Index(int index, const Site& at = Site::current()) : value(index), site(at) {}
  int value;
  Site site;
};

template <int columns>
class Sums {
 public:
  static_assert(columns >= 8 && columns <= 256 && columns % 8 == 0);
  static constexpr int kCount = columns / 2;
  Sums() {}
  Sums(const Sums&) = delete;
  float& operator[](const Index& i) {
    cuda_host::touch(state, i.site);
    return values.at(static_cast<std::size_t>(i.value));
  }

  cuda_host::SumsState state;
  std::array<float, kCount> values;
};

namespace host {

template <int columns>
cuda_host::SumsState* state_of(Sums<columns>& sums) {
  return &sums.state;
}
inline cuda_host::SumsState* state_of(std::array<std::uint32_t, 4>&) {
  return nullptr;
}

}  // namespace host

template <class... Operands>
void fence_products(Operands&... operands) {
  for (cuda_host::SumsState* state : {host::state_of(operands)...})
    if (state) cuda_host::fence_products(*state);
}
inline void commit_products() {
  cuda_host::commit_products();
}
template <int left, int... columns>
void wait_for_products(Sums<columns>&... sums) {
  cuda_host::wait_for_products(left);
  (cuda_host::settle(sums.state), ...);
}

template <class T, Major major_a = Major::k, Major major_b = Major::k, int columns>
void multiply_async(Sums<columns>& sums, Matrix a, Matrix b, bool add, const Site& site = Site::current()) {
  constexpr bool kTf32 = std::is_same_v<T, float>;
  static_assert(kTf32 || std::is_same_v<T, BFloat16>);
  static_assert(!kTf32 || (major_a == Major::k && major_b == Major::k), "TF32 is k-major only");
  cuda_host::multiply_async({kTf32,
                             false,
                             major_a == Major::mn,
                             major_b == Major::mn,
                             columns,
                             a.descriptor,
                             b.descriptor,
                             add,
                             {}},
                            sums.values.data(), sums.state, site);
}
template <class T, Major major_b = Major::k, int columns>
void multiply_async(Sums<columns>& sums, std::array<std::uint32_t, 4>& a, Matrix b, bool add,
                    const Site& site = Site::current()) {
  constexpr bool kTf32 = std::is_same_v<T, float>;
  static_assert(kTf32 || std::is_same_v<T, BFloat16>);
  static_assert(!kTf32 || major_b == Major::k, "TF32 is k-major only");
  cuda_host::multiply_async({kTf32, true, false, major_b == Major::mn, columns, 0, b.descriptor, add, a},
                            sums.values.data(), sums.state, site);
}

template <int count>
void give_back_registers(const Site& site = Site::current()) {
  static_assert(count >= 24 && count <= 256 && count % 8 == 0);
  cuda_host::change_registers(count, false, site);
}
template <int count>
void ask_for_registers(const Site& site = Site::current()) {
  static_assert(count >= 24 && count <= 256 && count % 8 == 0);
  cuda_host::change_registers(count, true, site);
}

}  // namespace grapnel::device
