// What is kept with a storage because it was computed from it: valid for one version, of all it came from.
#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/storage.h"
#include "support/formula.h"

using namespace grapnel;

namespace {

/// Derives one float and counts how often it is computed.
struct Derivation {
  int fills = 0;

  float of(Storage& storage, const std::string& key, float value, std::uint64_t others = 0) {
    const auto fill = [&](void* buffer) {
      ++fills;
      std::memcpy(buffer, &value, sizeof value);
    };
    float result = 0;
    std::memcpy(&result, storage.derived(key, sizeof value, std::ref(fill), others)->read(), sizeof result);
    return result;
  }
};

}  // namespace

TEST_CASE("derived: kept from the second time on, until the content or another's changes") {
  Storage storage(256);
  Derivation derivation;
  for (const float value : {1.0f, 2.0f, 3.0f}) derivation.of(storage, "key", value);
  CHECK_EQ(derivation.fills, 2);
  CHECK_EQ(derivation.of(storage, "key", 4), 2);
  CHECK_EQ(derivation.of(storage, "other", 5), 5);
  storage.bump_version();
  CHECK_EQ(derivation.of(storage, "key", 6), 6);
  CHECK_EQ(derivation.of(storage, "key", 7), 7);
  CHECK_EQ(derivation.of(storage, "key", 8), 7);
  CHECK_EQ(derivation.of(storage, "key", 9, 1), 9);
  CHECK_EQ(derivation.of(storage, "key", 10, 1), 10);
  CHECK_EQ(derivation.of(storage, "other", 11), 11);  // two that depend on different others do not mind
  CHECK_EQ(derivation.of(storage, "key", 12, 1), 10);
}

TEST_CASE("derived: the oldest goes where there are too many") {
  Storage storage(256);
  Derivation derivation;
  for (int round = 0; round < 2; ++round)
    for (int i = 0; i < 33; ++i) derivation.of(storage, std::to_string(i), static_cast<float>(i));
  CHECK_EQ(derivation.fills, 66);  // each had gone when it was asked for again
  CHECK_EQ(derivation.of(storage, "32", -1), -1);
  CHECK_EQ(derivation.of(storage, "32", -2), -1);
}

TEST_CASE("derived: no two storages have the same id, though one may lie where another lay") {
  std::uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const auto storage = std::make_unique<Storage>(256);
    CHECK_GT(storage->id(), last);
    last = storage->id();
    CHECK_EQ(storage->id(), last);
  }
}

TEST_CASE("derived: batch norm in evaluation follows each of its vectors, and another in its place") {
  const Tensor x = testing::reals("x", {2, 3, 4, 5}, 1);
  const auto vector = [](int i) { return testing::reals("vector " + std::to_string(i), {3}, 1); };
  Tensor vectors[] = {vector(0), vector(1), vector(2), abs(vector(3)) + 0.5};
  const auto got = [&] {
    return batch_norm(x, vectors[0], vectors[1], vectors[2], vectors[3], false, 0.1, 1e-5);
  };
  const auto wanted = [&] {
    const auto along = [&](int i) { return reshape(vectors[i], {1, 3, 1, 1}); };
    return (x - along(2)) * pow(along(3) + 1e-5, -0.5) * along(0) + along(1);
  };
  const auto check = [&] {
    for (int i = 0; i < 3; ++i) CHECK_LT(amax(abs(got() - wanted())).item(), 1e-5);
  };
  check();
  for (const Tensor& changed : vectors) {
    changed.copy_(changed * 2);
    check();
  }
  for (int round = 0; round < 20; ++round)
    for (int i = 0; i < 3; ++i) {
      vectors[i] = Tensor();  // its memory serves the next one
      vectors[i] = vector(10 + 3 * round + i);
      check();
    }
}
