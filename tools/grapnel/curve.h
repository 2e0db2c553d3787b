// The course of a training run as a picture.
#pragma once

#include <filesystem>
#include <vector>

#include "output.h"

namespace grapnel::tools {

/// Loss and accuracy by epoch, in training and, where the lines have them, in validation, as an SVG file.
/// `lines` are those of the log.
void write_curve(const std::filesystem::path& path, const std::vector<Json>& lines);

}  // namespace grapnel::tools
