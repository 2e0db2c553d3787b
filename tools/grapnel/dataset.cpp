// Both forms are brought to "class -> its files", and listed from there.
#include "dataset.h"

#include <algorithm>
#include <cctype>
#include <system_error>

#include "grapnel/engine/error.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/file.h"
#include "tar.h"

namespace grapnel::tools {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) {
  return std::any_of(path.begin(), path.end(), [](const fs::path& part) { return part.native()[0] == '.'; });
}

/// The entries of a folder but the hidden ones.
std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (!hidden(entry->path().filename())) entries.push_back(*entry);
  if (error) throw FileError(folder.string() + ": cannot be read: " + error.message());
  return entries;
}

using Parts = std::vector<std::string>;

Parts parts_of(const fs::path& path) {
  Parts parts;
  for (const fs::path& part : path) parts.push_back(part.string());
  return parts;
}

/// The folders above the class folders that all pictures lie in: {"train"} for train/cat/1.jpg and
/// train/dog/2.jpg.
Parts common_folders(const std::vector<Parts>& pictures) {
  Parts common;
  const auto share_another = [&](const Parts& parts) {
    const std::size_t depth = common.size();
    return parts.size() >= depth + 3 && parts[depth] == pictures[0][depth];
  };
  while (!pictures.empty() && std::all_of(pictures.begin(), pictures.end(), share_another))
    common.push_back(pictures[0][common.size()]);
  return common;
}

}  // namespace

bool has_picture_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

PictureSet PictureSet::open(const fs::path& path) {
  PictureSet set;
  set.path_ = path;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) throw FileError(path.string() + ": there is no such folder or file");
  const bool folder = fs::is_directory(path, ignored);
  if (!folder && !fs::is_regular_file(path, ignored))
    throw FileError(path.string() + ": is neither a folder nor a file");
  set.add(folder ? set.list_folder() : set.list_tar());
  return set;
}

PictureSet::Classes PictureSet::list_folder() {
  Classes classes;
  for (const fs::directory_entry& entry : entries_of(path_)) {
    std::error_code error;  // such as of a link that goes round in circles
    if (!entry.is_directory(error)) {
      ++ignored_;
      continue;
    }
    auto& files = classes[entry.path().filename().string()];
    for (const fs::directory_entry& file : entries_of(entry.path())) {
      if (file.is_directory(error)) continue;
      if (has_picture_extension(file.path()))
        files[file.path().filename().string()];
      else
        ++ignored_;
    }
  }
  return classes;
}

PictureSet::Classes PictureSet::list_tar() {
  tar_ = std::make_shared<const TarFile>(path_);
  std::vector<Parts> pictures;
  for (const TarFile::Entry& entry : tar_->entries())
    if (!entry.folder && !hidden(entry.path) && has_picture_extension(entry.path))
      pictures.push_back(parts_of(entry.path));
  const Parts common = common_folders(pictures);

  Classes classes;
  for (const TarFile::Entry& entry : tar_->entries()) {
    if (hidden(entry.path)) continue;
    Parts parts = parts_of(entry.path);
    const bool inside =
        parts.size() > common.size() && std::equal(common.begin(), common.end(), parts.begin());
    if (inside) parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(common.size()));
    if (entry.folder) {
      if (inside && parts.size() == 1) classes[parts[0]];
    } else if (inside && parts.size() == 2 && has_picture_extension(parts[1])) {
      classes[parts[0]][parts[1]] = {entry.offset, entry.bytes};
    } else if (!inside || parts.size() <= 2) {
      ++ignored_;
    }
  }
  return classes;
}

void PictureSet::add(const Classes& classes) {
  if (classes.empty())
    throw FileError(path_.string() + ": has no class folders; expected CLASS/PICTURE inside");
  if (classes.size() == 1)
    throw FileError(path_.string() + ": has only one class folder, \"" + classes.begin()->first +
                    "\"; expected at least two");
  for (const auto& [name, files] : classes) {
    if (files.empty())
      throw FileError((path_ / name).string() +
                      ": the class folder holds no picture (.png, .jpg or .jpeg); fill or remove it");
    for (const auto& [file, place] : files)
      pictures_.push_back({file, static_cast<int>(class_names_.size()), place});
    class_names_.push_back(name);
  }
}

std::string PictureSet::name(std::size_t i) const {
  const Picture& picture = pictures_[i];
  return (path_ / class_names_[static_cast<std::size_t>(picture.label)] / picture.file).string();
}

std::vector<std::uint8_t> PictureSet::read(std::size_t i) const {
  const std::size_t limit = viz::ImageLimits().file_bytes;
  if (!tar_) return viz::read_file(name(i), limit);
  const Place& place = pictures_[i].place;
  if (place.bytes > limit)
    throw FileError(name(i) + ": holds " + std::to_string(place.bytes) + " bytes, the limit is " +
                    std::to_string(limit));
  return tar_->read(place.offset, place.bytes);
}

}  // namespace grapnel::tools
