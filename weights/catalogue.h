// The published ImageNet weights that fit the networks of this library. tools/get_weights.sh fetches them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace grapnel::weights {

struct CatalogueEntry {
  std::string_view name;  ///< of the network: "resnet18"
  std::string_view file;  ///< as published; begins its SHA-256 after the dash
  std::string_view url;
  std::string_view sha256;
  std::uint64_t bytes;      ///< of the file
  std::int64_t parameters;  ///< of the network, with 1000 classes
};

/// torchvision's resnet18, resnet34 and vgg16.
std::span<const CatalogueEntry> catalogue();

}  // namespace grapnel::weights
