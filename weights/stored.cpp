// Views where possible, copies where not.
#include "grapnel/weights/stored.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace grapnel::weights {
namespace {

template <class From, class To>
std::shared_ptr<Storage> convert(const std::byte* source, std::uint64_t count) {
  auto storage = std::make_shared<Storage>(count * sizeof(To));
  auto* target = static_cast<To*>(storage->data());
  for (std::uint64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, source + i * sizeof(From), sizeof(From));
    target[i] = static_cast<To>(value);
  }
  return storage;
}

}  // namespace

std::uint64_t item_size(Stored type) {
  switch (type) {
    case Stored::float64:
    case Stored::int64:
      return 8;
    case Stored::float32:
    case Stored::int32:
    case Stored::uint32:
      return 4;
    case Stored::float16:
    case Stored::bfloat16:
    case Stored::int16:
    case Stored::uint16:
      return 2;
    case Stored::int8:
    case Stored::uint8:
    case Stored::boolean:
      return 1;
  }
  return 0;
}

DType read_as(Stored type) {
  switch (type) {
    case Stored::float64:
      return DType::float64;
    case Stored::float32:
      return DType::float32;
    case Stored::float16:
      return DType::float16;
    case Stored::bfloat16:
      return DType::bfloat16;
    case Stored::uint8:
      return DType::uint8;
    case Stored::boolean:
      return DType::boolean;
    default:
      return DType::int64;
  }
}

std::shared_ptr<Storage> load(const FilePtr& file, std::uint64_t begin, std::uint64_t count, Stored type) {
  std::byte* const source = file->data() + begin;
  switch (type) {
    case Stored::int32:
      return convert<std::int32_t, std::int64_t>(source, count);
    case Stored::int16:
      return convert<std::int16_t, std::int64_t>(source, count);
    case Stored::int8:
      return convert<std::int8_t, std::int64_t>(source, count);
    case Stored::uint32:
      return convert<std::uint32_t, std::int64_t>(source, count);
    case Stored::uint16:
      return convert<std::uint16_t, std::int64_t>(source, count);
    // Any byte may be in the file, but a C++ bool other than 0 and 1 is undefined behaviour.
    case Stored::boolean:
      return convert<std::uint8_t, bool>(source, count);
    default:
      break;
  }
  const std::uint64_t bytes = count * item_size(type);
  if (begin % item_size(type) == 0) return std::make_shared<Storage>(source, bytes, [file] {});
  auto copy = std::make_shared<Storage>(bytes);
  std::memcpy(copy->data(), source, bytes);
  return copy;
}

bool checked_numel(const Shape& shape, std::uint64_t& result) {
  // The strides of an empty tensor are products of the other sizes, so these must not overflow either.
  std::uint64_t product = 1;
  bool empty = false;
  for (std::int64_t size : shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1)),
                               &product))
      return false;
  }
  result = empty ? 0 : product;
  return product <= std::numeric_limits<std::int64_t>::max() / sizeof(double);
}

}  // namespace grapnel::weights
