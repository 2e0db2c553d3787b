// The files that `grapnel explain` writes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "grapnel/viz/class_names.h"
#include "grapnel/viz/explain.h"
#include "grapnel/viz/overlay.h"
#include "output.h"

namespace grapnel::tools {

struct ExplanationStyle {
  viz::Colormap colormap;
  viz::Blend blend;
  std::vector<std::pair<std::string, viz::GradientPart>> gradients;
};

/// Throws NameError for an unknown colour map or part of a gradient.
ExplanationStyle parse_style(const std::string& colormap, const std::vector<double>& blend,
                             const std::vector<std::string>& gradients);

/// Makes the folder, and removes the result.json of an earlier run, which would pass for this one's.
void clear_result(const std::filesystem::path& folder);
/// result.json.
void write_result(const std::filesystem::path& folder, const Json& result);

/// Writes overlay, heat map, raw map and gradient pictures of one explanation and tells what they are.
/// `with_layer` puts the layer into the names.
Json write_explanation(const std::filesystem::path& folder, const std::string& stem,
                       const viz::Explanation& explanation, const viz::Image& picture,
                       const viz::ClassNames& names, bool with_layer, const ExplanationStyle& style);

/// One line for a person about what write_explanation returned.
void print_explanation(const std::filesystem::path& folder, const Json& entry);

}  // namespace grapnel::tools
