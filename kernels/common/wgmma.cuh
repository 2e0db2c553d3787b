// Matrix products of a warpgroup, "wgmma.mma_async", as instructions; included by hopper.cuh, which says what
// device code may use. Macros, because the registers of an instruction are part of its text.
#pragma once

#include "grapnel/kernels/common/hopper.cuh"

namespace grapnel::device {

/// An operand in shared memory ("Matrix Descriptor Format"). Pieces of 16 bytes of neighbours lie, in rows of
/// one swizzle span, 8 rows after one another; such blocks are `stride` bytes apart. Without a swizzle, the
/// two pieces of a k-major row are `leading` apart, and so are the two halves of 8 k each of an mn-major
/// operand; with one, `leading` is what lies between spans along mn, and k-major does not use it.
struct Matrix {
  std::uint64_t descriptor;
  /// The same `bytes` further on, within a row or by whole periods of the swizzle.
  GRAPNEL_DEVICE Matrix operator+(unsigned bytes) const { return {descriptor + (bytes >> 4)}; }
};

template <class T>
GRAPNEL_DEVICE Matrix matrix(Shared<T> at, Swizzle swizzle, unsigned leading, unsigned stride) {
  const auto encode = [](unsigned x) { return static_cast<std::uint64_t>((x & 0x3ffff) >> 4); };
  return {encode(at.address()) | encode(leading) << 16 | encode(stride) << 32 |
          static_cast<std::uint64_t>(swizzle) << 62};
}

/// What a thread has of 64 rows of sums: with t = thread % 128, element i is row t / 32 * 16 + t % 32 / 4 +
/// i / 2 % 2 * 8, column i / 4 * 8 + t % 4 * 2 + i % 2 ("Register Fragments": accumulator D). While products
/// are under way nobody may touch them. They stay in registers if each index is known to the compiler.
template <int columns>
class Sums {
 public:
  static_assert(columns >= 8 && columns <= 256 && columns % 8 == 0);
  static constexpr int kCount = columns / 2;
  GRAPNEL_DEVICE Sums() {}
  Sums(const Sums&) = delete;
  GRAPNEL_DEVICE float& operator[](int i) { return values_[i]; }
  GRAPNEL_DEVICE float* registers() { return values_; }

 private:
  float values_[kCount];
};

/// Keeps the compiler from moving what is done with registers across a fence or a wait, which do not name
/// them.
template <int columns>
GRAPNEL_DEVICE void pin(Sums<columns>& sums) {
  GRAPNEL_UNROLL
  for (int i = 0; i < columns / 2; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}
GRAPNEL_DEVICE void pin(std::array<std::uint32_t, 4>& a) {
  asm volatile("" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
}

/// After the thread has touched these sums, or registers of A, and before products use them; also before the
/// first ("wgmma.fence").
template <class... Operands>
GRAPNEL_DEVICE void fence_products(Operands&... operands) {
  (pin(operands), ...);
  GRAPNEL_HOPPER_ASM("wgmma.fence.sync.aligned;" ::: "memory");
}
GRAPNEL_DEVICE void commit_products() {
  GRAPNEL_HOPPER_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Until at most `left` groups of the warpgroup's are under way. After it, the sums that it is given may be
/// touched, if theirs are not among those.
template <int left, int... columns>
GRAPNEL_DEVICE void wait_for_products(Sums<columns>&... sums) {
  GRAPNEL_HOPPER_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory");
  (pin(sums), ...);
}

// clang-format off
// %0 to %3 are A, a descriptor in two halves or four registers, %4 the descriptor of B, %5 whether to add;
// then the sums. All are given as written to, because what is written to has the lower numbers.

#define GRAPNEL_NAMES_1 "%6, %7, %8, %9"
#define GRAPNEL_NAMES_2 GRAPNEL_NAMES_1 ", %10, %11, %12, %13"
#define GRAPNEL_NAMES_3 GRAPNEL_NAMES_2 ", %14, %15, %16, %17"
#define GRAPNEL_NAMES_4 GRAPNEL_NAMES_3 ", %18, %19, %20, %21"
#define GRAPNEL_NAMES_5 GRAPNEL_NAMES_4 ", %22, %23, %24, %25"
#define GRAPNEL_NAMES_6 GRAPNEL_NAMES_5 ", %26, %27, %28, %29"
#define GRAPNEL_NAMES_7 GRAPNEL_NAMES_6 ", %30, %31, %32, %33"
#define GRAPNEL_NAMES_8 GRAPNEL_NAMES_7 ", %34, %35, %36, %37"
#define GRAPNEL_NAMES_9 GRAPNEL_NAMES_8 ", %38, %39, %40, %41"
#define GRAPNEL_NAMES_10 GRAPNEL_NAMES_9 ", %42, %43, %44, %45"
#define GRAPNEL_NAMES_11 GRAPNEL_NAMES_10 ", %46, %47, %48, %49"
#define GRAPNEL_NAMES_12 GRAPNEL_NAMES_11 ", %50, %51, %52, %53"
#define GRAPNEL_NAMES_13 GRAPNEL_NAMES_12 ", %54, %55, %56, %57"
#define GRAPNEL_NAMES_14 GRAPNEL_NAMES_13 ", %58, %59, %60, %61"
#define GRAPNEL_NAMES_15 GRAPNEL_NAMES_14 ", %62, %63, %64, %65"
#define GRAPNEL_NAMES_16 GRAPNEL_NAMES_15 ", %66, %67, %68, %69"
#define GRAPNEL_NAMES_17 GRAPNEL_NAMES_16 ", %70, %71, %72, %73"
#define GRAPNEL_NAMES_18 GRAPNEL_NAMES_17 ", %74, %75, %76, %77"
#define GRAPNEL_NAMES_19 GRAPNEL_NAMES_18 ", %78, %79, %80, %81"
#define GRAPNEL_NAMES_20 GRAPNEL_NAMES_19 ", %82, %83, %84, %85"
#define GRAPNEL_NAMES_21 GRAPNEL_NAMES_20 ", %86, %87, %88, %89"
#define GRAPNEL_NAMES_22 GRAPNEL_NAMES_21 ", %90, %91, %92, %93"
#define GRAPNEL_NAMES_23 GRAPNEL_NAMES_22 ", %94, %95, %96, %97"
#define GRAPNEL_NAMES_24 GRAPNEL_NAMES_23 ", %98, %99, %100, %101"
#define GRAPNEL_NAMES_25 GRAPNEL_NAMES_24 ", %102, %103, %104, %105"
#define GRAPNEL_NAMES_26 GRAPNEL_NAMES_25 ", %106, %107, %108, %109"
#define GRAPNEL_NAMES_27 GRAPNEL_NAMES_26 ", %110, %111, %112, %113"
#define GRAPNEL_NAMES_28 GRAPNEL_NAMES_27 ", %114, %115, %116, %117"
#define GRAPNEL_NAMES_29 GRAPNEL_NAMES_28 ", %118, %119, %120, %121"
#define GRAPNEL_NAMES_30 GRAPNEL_NAMES_29 ", %122, %123, %124, %125"
#define GRAPNEL_NAMES_31 GRAPNEL_NAMES_30 ", %126, %127, %128, %129"
#define GRAPNEL_NAMES_32 GRAPNEL_NAMES_31 ", %130, %131, %132, %133"
#define GRAPNEL_FOUR(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define GRAPNEL_SUMS_1 GRAPNEL_FOUR(0)
#define GRAPNEL_SUMS_2 GRAPNEL_SUMS_1, GRAPNEL_FOUR(4)
#define GRAPNEL_SUMS_3 GRAPNEL_SUMS_2, GRAPNEL_FOUR(8)
#define GRAPNEL_SUMS_4 GRAPNEL_SUMS_3, GRAPNEL_FOUR(12)
#define GRAPNEL_SUMS_5 GRAPNEL_SUMS_4, GRAPNEL_FOUR(16)
#define GRAPNEL_SUMS_6 GRAPNEL_SUMS_5, GRAPNEL_FOUR(20)
#define GRAPNEL_SUMS_7 GRAPNEL_SUMS_6, GRAPNEL_FOUR(24)
#define GRAPNEL_SUMS_8 GRAPNEL_SUMS_7, GRAPNEL_FOUR(28)
#define GRAPNEL_SUMS_9 GRAPNEL_SUMS_8, GRAPNEL_FOUR(32)
#define GRAPNEL_SUMS_10 GRAPNEL_SUMS_9, GRAPNEL_FOUR(36)
#define GRAPNEL_SUMS_11 GRAPNEL_SUMS_10, GRAPNEL_FOUR(40)
#define GRAPNEL_SUMS_12 GRAPNEL_SUMS_11, GRAPNEL_FOUR(44)
#define GRAPNEL_SUMS_13 GRAPNEL_SUMS_12, GRAPNEL_FOUR(48)
#define GRAPNEL_SUMS_14 GRAPNEL_SUMS_13, GRAPNEL_FOUR(52)
#define GRAPNEL_SUMS_15 GRAPNEL_SUMS_14, GRAPNEL_FOUR(56)
#define GRAPNEL_SUMS_16 GRAPNEL_SUMS_15, GRAPNEL_FOUR(60)
#define GRAPNEL_SUMS_17 GRAPNEL_SUMS_16, GRAPNEL_FOUR(64)
#define GRAPNEL_SUMS_18 GRAPNEL_SUMS_17, GRAPNEL_FOUR(68)
#define GRAPNEL_SUMS_19 GRAPNEL_SUMS_18, GRAPNEL_FOUR(72)
#define GRAPNEL_SUMS_20 GRAPNEL_SUMS_19, GRAPNEL_FOUR(76)
#define GRAPNEL_SUMS_21 GRAPNEL_SUMS_20, GRAPNEL_FOUR(80)
#define GRAPNEL_SUMS_22 GRAPNEL_SUMS_21, GRAPNEL_FOUR(84)
#define GRAPNEL_SUMS_23 GRAPNEL_SUMS_22, GRAPNEL_FOUR(88)
#define GRAPNEL_SUMS_24 GRAPNEL_SUMS_23, GRAPNEL_FOUR(92)
#define GRAPNEL_SUMS_25 GRAPNEL_SUMS_24, GRAPNEL_FOUR(96)
#define GRAPNEL_SUMS_26 GRAPNEL_SUMS_25, GRAPNEL_FOUR(100)
#define GRAPNEL_SUMS_27 GRAPNEL_SUMS_26, GRAPNEL_FOUR(104)
#define GRAPNEL_SUMS_28 GRAPNEL_SUMS_27, GRAPNEL_FOUR(108)
#define GRAPNEL_SUMS_29 GRAPNEL_SUMS_28, GRAPNEL_FOUR(112)
#define GRAPNEL_SUMS_30 GRAPNEL_SUMS_29, GRAPNEL_FOUR(116)
#define GRAPNEL_SUMS_31 GRAPNEL_SUMS_30, GRAPNEL_FOUR(120)
#define GRAPNEL_SUMS_32 GRAPNEL_SUMS_31, GRAPNEL_FOUR(124)
#define GRAPNEL_PRODUCT(k, width, kind, a_text, tail)                                                    \
  if constexpr (columns == width)                                                                         \
    GRAPNEL_HOPPER_ASM("{\n.reg .pred add;\n.reg .b64 a;\nsetp.ne.b32 add, %5, 0;\nmov.b64 a, {%0, %1};\n" \
                       "wgmma.mma_async.sync.aligned.m64n" #width kind " {" GRAPNEL_NAMES_##k "}, " a_text  \
                       ", %4, add, " tail ";\n}"                                                          \
                       : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3]), "+l"(b), "+r"(add),              \
                         GRAPNEL_SUMS_##k);
#define GRAPNEL_PRODUCTS(...) \
  GRAPNEL_PRODUCT(1, 8, __VA_ARGS__) GRAPNEL_PRODUCT(2, 16, __VA_ARGS__) GRAPNEL_PRODUCT(3, 24, __VA_ARGS__) GRAPNEL_PRODUCT(4, 32, __VA_ARGS__) \
  GRAPNEL_PRODUCT(5, 40, __VA_ARGS__) GRAPNEL_PRODUCT(6, 48, __VA_ARGS__) GRAPNEL_PRODUCT(7, 56, __VA_ARGS__) GRAPNEL_PRODUCT(8, 64, __VA_ARGS__) \
  GRAPNEL_PRODUCT(9, 72, __VA_ARGS__) GRAPNEL_PRODUCT(10, 80, __VA_ARGS__) GRAPNEL_PRODUCT(11, 88, __VA_ARGS__) GRAPNEL_PRODUCT(12, 96, __VA_ARGS__) \
  GRAPNEL_PRODUCT(13, 104, __VA_ARGS__) GRAPNEL_PRODUCT(14, 112, __VA_ARGS__) GRAPNEL_PRODUCT(15, 120, __VA_ARGS__) GRAPNEL_PRODUCT(16, 128, __VA_ARGS__) \
  GRAPNEL_PRODUCT(17, 136, __VA_ARGS__) GRAPNEL_PRODUCT(18, 144, __VA_ARGS__) GRAPNEL_PRODUCT(19, 152, __VA_ARGS__) GRAPNEL_PRODUCT(20, 160, __VA_ARGS__) \
  GRAPNEL_PRODUCT(21, 168, __VA_ARGS__) GRAPNEL_PRODUCT(22, 176, __VA_ARGS__) GRAPNEL_PRODUCT(23, 184, __VA_ARGS__) GRAPNEL_PRODUCT(24, 192, __VA_ARGS__) \
  GRAPNEL_PRODUCT(25, 200, __VA_ARGS__) GRAPNEL_PRODUCT(26, 208, __VA_ARGS__) GRAPNEL_PRODUCT(27, 216, __VA_ARGS__) GRAPNEL_PRODUCT(28, 224, __VA_ARGS__) \
  GRAPNEL_PRODUCT(29, 232, __VA_ARGS__) GRAPNEL_PRODUCT(30, 240, __VA_ARGS__) GRAPNEL_PRODUCT(31, 248, __VA_ARGS__) GRAPNEL_PRODUCT(32, 256, __VA_ARGS__)
#define GRAPNEL_TF32(a_text) GRAPNEL_PRODUCTS("k8.f32.tf32.tf32", a_text, "1, 1")
#define GRAPNEL_BF16(a_text, transposed) GRAPNEL_PRODUCTS("k16.f32.bf16.bf16", a_text, "1, 1, " transposed)
// clang-format on

/// A is described by the first two of `a`, or is all four. Float is multiplied as TF32.
template <class T, bool a_in_registers, Major major_a, Major major_b, int columns>
GRAPNEL_DEVICE void issue_product(float* d, std::uint32_t* a, std::uint64_t b, std::uint32_t add) {
  constexpr bool kTf32 = std::is_same_v<T, float>;
  static_assert(kTf32 || std::is_same_v<T, BFloat16>);
  static_assert(!kTf32 || (major_a == Major::k && major_b == Major::k), "TF32 is k-major only");
  if constexpr (kTf32 && a_in_registers) {
    GRAPNEL_TF32("{%0, %1, %2, %3}")
  } else if constexpr (kTf32) {
    GRAPNEL_TF32("a")
  } else if constexpr (a_in_registers && major_b == Major::k) {
    GRAPNEL_BF16("{%0, %1, %2, %3}", "0")
  } else if constexpr (a_in_registers) {
    GRAPNEL_BF16("{%0, %1, %2, %3}", "1")
  } else if constexpr (major_a == Major::k && major_b == Major::k) {
    GRAPNEL_BF16("a", "0, 0")
  } else if constexpr (major_a == Major::k) {
    GRAPNEL_BF16("a", "0, 1")
  } else if constexpr (major_b == Major::k) {
    GRAPNEL_BF16("a", "1, 0")
  } else {
    GRAPNEL_BF16("a", "1, 1")
  }
}

/// Starts sums = A B, or += if `add`, of 64 rows and 32 bytes of k: 8 floats, as TF32, or 16 BFloat16. All
/// threads of the warpgroup come with the same operands.
template <class T, Major major_a = Major::k, Major major_b = Major::k, int columns>
GRAPNEL_DEVICE void multiply_async(Sums<columns>& sums, Matrix a, Matrix b, bool add) {
  std::uint32_t halves[4] = {static_cast<std::uint32_t>(a.descriptor),
                             static_cast<std::uint32_t>(a.descriptor >> 32), 0, 0};
  issue_product<T, false, major_a, major_b, columns>(sums.registers(), halves, b.descriptor, add);
}
/// A from registers, held as multiply_tf32 and multiply_bf16 hold it, 16 rows a warp.
template <class T, Major major_b = Major::k, int columns>
GRAPNEL_DEVICE void multiply_async(Sums<columns>& sums, std::array<std::uint32_t, 4>& a, Matrix b, bool add) {
  issue_product<T, true, Major::k, major_b, columns>(sums.registers(), a.data(), b.descriptor, add);
}

}  // namespace grapnel::device
