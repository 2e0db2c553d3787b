// Which pictures a command is about, and how they are prepared.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "grapnel/viz/transforms.h"

namespace grapnel::tools {

/// How pictures are prepared, as far as the command line says it.
struct PictureOptions {
  std::optional<int> resize, crop;
  bool stretch = false;

  /// What is not said is as the network wants it.
  viz::Preprocess applied_to(viz::Preprocess preprocess) const;
};

/// --resize, --crop and --stretch; `defaults` says in the help where unsaid sizes come from.
void add_picture_options(CLI::App& command, PictureOptions& options,
                         const std::string& defaults = "as the network was trained, else 224");

/// Files as given; of a folder its .png, .jpg and .jpeg files, sorted by name. Throws FileError for a folder
/// without any.
std::vector<std::filesystem::path> find_pictures(const std::vector<std::string>& arguments);

/// Reads each of several pictures once, so that a bad one among them is known before work begins. Throws
/// FileError that lists all bad ones.
void check_pictures(const std::vector<std::filesystem::path>& pictures);

/// The file names without extension, made different from each other by "-2", "-3", ...
std::vector<std::string> unique_stems(const std::vector<std::filesystem::path>& pictures);

}  // namespace grapnel::tools
