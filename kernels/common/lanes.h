// Vectors as wide as the registers of the instruction set a file is compiled for, through the vector
// extensions that GCC and Clang share: arithmetic, comparisons (all ones or zero) and `mask ? a : b` work
// lane by lane. For the loops that compilers leave scalar.
//
// In an anonymous namespace, because every file that includes this may mean other types.
#pragma once

#include <cstdint>

namespace grapnel::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / 4;

typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t Ints __attribute__((vector_size(kVectorBytes)));
typedef std::uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef std::uint16_t Shorts __attribute__((vector_size(kVectorBytes / 2)));
typedef std::uint8_t Bytes __attribute__((vector_size(kVectorBytes / 4)));  // as many as Floats

/// All lanes, or with kWhole false the first `count` (the others are zero, and not stored).
template <bool kWhole = true, class Vector, class T>
inline void load(Vector& vector, const T* source, std::int64_t count = 0) {
  if (!kWhole) vector = Vector{};
  __builtin_memcpy(&vector, source, kWhole ? sizeof(Vector) : count * sizeof(T));
}

template <bool kWhole = true, class Vector, class T>
inline void store(T* target, const Vector& vector, std::int64_t count = 0) {
  __builtin_memcpy(target, &vector, kWhole ? sizeof(Vector) : count * sizeof(T));
}

// Between bytes and integers in two steps: GCC turns a conversion of four times the width into scalar code.
inline void widen(Ints& wide, const Bytes& bytes) {
  wide = (Ints) __builtin_convertvector(__builtin_convertvector(bytes, Shorts), Words);
}

inline void narrow(Bytes& bytes, const Ints& wide) {
  bytes = __builtin_convertvector(__builtin_convertvector((Words)wide, Shorts), Bytes);
}

}  // namespace
}  // namespace grapnel::kernels
