// What a weight file tells of its network, in the strings beside the tensors of a safetensors file: enough to
// use it with nothing but --weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "grapnel/viz/transforms.h"

namespace grapnel::tools {

using Metadata = std::map<std::string, std::string>;

/// What `grapnel train` writes: `model`, `width`, `input_size`, `resize`, `mean`, `std` and `classes`, lists
/// as JSON. A file of another origin has none of them, and every member keeps its default.
struct Card {
  std::string model;                 ///< resnet18, ...; empty if unknown
  viz::Preprocess preprocess;        ///< how its pictures are prepared
  std::vector<std::string> classes;  ///< the outputs' names; empty if unknown
};

void write_card(Metadata& metadata, const Card& card);

/// Throws FileError, naming the entry, for one that holds something else than it should.
Card read_card(const Metadata& metadata);

}  // namespace grapnel::tools
