#include "card.h"

#include <cmath>

#include "grapnel/engine/error.h"
#include "output.h"

namespace grapnel::tools {
namespace {

/// Reads the entry as JSON into `value` if there is one; it must be of that type and pass `fits`.
template <class T, class Fits>
void read_entry(const Metadata& metadata, const char* key, T& value, const char* expected, const Fits& fits) {
  const auto entry = metadata.find(key);
  if (entry == metadata.end()) return;
  try {
    T found = Json::parse(entry->second).get<T>();
    if (fits(found)) {
      value = std::move(found);
      return;
    }
  } catch (const Json::exception&) {
  }
  throw FileError("metadata entry \"" + std::string(key) + "\": expected " + expected);
}

}  // namespace

void write_card(Metadata& metadata, const Card& card) {
  metadata["model"] = card.model;
  metadata["input_size"] = std::to_string(card.preprocess.crop);
  metadata["resize"] = std::to_string(card.preprocess.resize);
  metadata["mean"] = Json(card.preprocess.mean).dump();
  metadata["std"] = Json(card.preprocess.std).dump();
  metadata["classes"] = Json(card.classes).dump();
}

Card read_card(const Metadata& metadata) {
  Card card;
  if (const auto model = metadata.find("model"); model != metadata.end()) card.model = model->second;
  const auto is_size = [](int size) { return size >= 1 && size <= 8192; };
  read_entry(metadata, "input_size", card.preprocess.crop, "a number of pixels", is_size);
  read_entry(metadata, "resize", card.preprocess.resize, "a number of pixels", is_size);
  read_entry(metadata, "mean", card.preprocess.mean, "three numbers",
             [](const auto& mean) { return std::isfinite(mean[0] + mean[1] + mean[2]); });
  read_entry(metadata, "std", card.preprocess.std, "three positive numbers", [](const auto& std) {
    return std[0] > 0 && std[1] > 0 && std[2] > 0 && std::isfinite(std[0] + std[1] + std[2]);
  });
  read_entry(metadata, "classes", card.classes, "a list of names", [](const auto&) { return true; });
  return card;
}

}  // namespace grapnel::tools
