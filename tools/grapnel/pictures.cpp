#include "pictures.h"

#include <algorithm>
#include <set>

#include "grapnel/engine/error.h"
#include "grapnel/viz/codec.h"
#include "output.h"

namespace grapnel::tools {
namespace {

namespace fs = std::filesystem;

bool has_picture_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

std::vector<fs::path> pictures_of_folder(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (has_picture_extension(entry->path()) && !entry->is_directory()) found.push_back(entry->path());
  if (error) throw FileError(folder.string() + ": cannot be read: " + error.message());
  if (found.empty()) throw FileError(folder.string() + ": has no .png, .jpg or .jpeg file");
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

void add_picture_options(CLI::App& command, viz::Preprocess& options) {
  const CLI::Range size(1, 8192);
  command.add_option("--resize", options.resize, "length of the shorter side; 256 is torchvision's preset")
      ->check(size)
      ->type_name("PIXELS")
      ->capture_default_str();
  command.add_option("--crop", options.crop, "side of the square cut from the centre")
      ->check(size)
      ->type_name("PIXELS")
      ->capture_default_str();
  command.add_flag("--stretch", options.stretch, "resize both sides to --resize, whatever the proportions");
}

std::vector<fs::path> find_pictures(const std::vector<std::string>& arguments) {
  std::vector<fs::path> pictures;
  for (const std::string& argument : arguments) {
    std::error_code ignored;
    if (fs::is_directory(argument, ignored)) {
      const std::vector<fs::path> inside = pictures_of_folder(argument);
      pictures.insert(pictures.end(), inside.begin(), inside.end());
    } else {
      pictures.emplace_back(argument);
    }
  }
  return pictures;
}

void check_pictures(const std::vector<fs::path>& pictures) {
  if (pictures.size() < 2) return;
  Progress progress(pictures.size());
  std::string wrong;
  std::size_t count = 0;
  for (const fs::path& picture : pictures) {
    progress.step("checking " + picture.string());
    try {
      viz::read_image(picture);
    } catch (const FileError& error) {
      wrong += (count++ ? "; " : "") + std::string(error.what());
    }
  }
  if (count == 1) throw FileError(wrong);
  if (count > 1)
    throw FileError(std::to_string(count) + " of " + std::to_string(pictures.size()) +
                    " pictures cannot be read: " + wrong);
}

std::vector<std::string> unique_stems(const std::vector<fs::path>& pictures) {
  std::set<std::string> taken;
  std::vector<std::string> stems;
  for (const fs::path& picture : pictures) {
    const std::string stem = file_name_part(picture.stem().string());
    std::string name = stem;
    for (int i = 2; !taken.insert(name).second; ++i) name = stem + "-" + std::to_string(i);
    stems.push_back(name);
  }
  return stems;
}

}  // namespace grapnel::tools
