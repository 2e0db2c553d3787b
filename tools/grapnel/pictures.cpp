#include "pictures.h"

#include <algorithm>
#include <set>

#include "dataset.h"
#include "grapnel/engine/error.h"
#include "grapnel/viz/codec.h"
#include "output.h"

namespace grapnel::tools {
namespace {

namespace fs = std::filesystem;

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

viz::Preprocess PictureOptions::applied_to(viz::Preprocess preprocess) const {
  preprocess.resize = resize.value_or(preprocess.resize);
  preprocess.crop = crop.value_or(preprocess.crop);
  preprocess.stretch |= stretch;
  return preprocess;
}

void add_picture_options(CLI::App& command, PictureOptions& options, const std::string& defaults) {
  const CLI::Range size(1, 8192);
  command
      .add_option("--resize", options.resize,
                  "length of the shorter side; 256 is torchvision's preset; by default " + defaults)
      ->check(size)
      ->type_name("PIXELS");
  command
      .add_option("--crop", options.crop, "side of the square cut from the centre; by default " + defaults)
      ->check(size)
      ->type_name("PIXELS");
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
