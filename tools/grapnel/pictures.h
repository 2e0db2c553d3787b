// Which pictures a command is about, and how they are prepared.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "grapnel/viz/transforms.h"

namespace grapnel::tools {

/// --resize, --crop and --stretch.
void add_picture_options(CLI::App& command, viz::Preprocess& options);

/// Files as given; of a folder its .png, .jpg and .jpeg files, sorted by name. Throws FileError for a folder
/// without any.
std::vector<std::filesystem::path> find_pictures(const std::vector<std::string>& arguments);

/// Reads each of several pictures once, so that a bad one among them is known before work begins. Throws
/// FileError that lists all bad ones.
void check_pictures(const std::vector<std::filesystem::path>& pictures);

/// The file names without extension, made different from each other by "-2", "-3", ...
std::vector<std::string> unique_stems(const std::vector<std::filesystem::path>& pictures);

}  // namespace grapnel::tools
