// Element types as files have them, and how a stretch of a file becomes a Storage.
#pragma once

#include <cstdint>
#include <memory>

#include "grapnel/engine/dtype.h"
#include "grapnel/engine/shape.h"
#include "grapnel/engine/storage.h"
#include "grapnel/weights/mapped_file.h"

namespace grapnel::weights {

enum class Stored : std::uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  int64,
  int32,
  int16,
  int8,
  uint32,
  uint16,
  uint8,
  boolean
};

/// Bytes of one element in the file.
std::uint64_t item_size(Stored type);

/// The type after reading: the integers that the engine does not have become int64.
DType read_as(Stored type);

/// `count` elements at `begin` of the file, which must hold them. The storage sees the mapped file where type
/// and alignment allow; otherwise it holds a converted or aligned copy.
std::shared_ptr<Storage> load(const FilePtr& file, std::uint64_t begin, std::uint64_t count, Stored type);

/// Sets `result` to the product of the sizes, none of them negative. False if the product, leaving zeros out,
/// is too large for its bytes to be counted in 63 bits.
bool checked_numel(const Shape& shape, std::uint64_t& result);

}  // namespace grapnel::weights
