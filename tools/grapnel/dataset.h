// Labelled pictures on disk: a folder of class folders, or a tar of them.
//
// Only names and places are held; read() brings the bytes of one file. Order depends on the names alone:
// classes sorted, and the files in each. Read next: loader.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace grapnel::tools {

class TarFile;

/// Whether the extension is .png, .jpg or .jpeg, in small or capital letters.
bool has_picture_extension(const std::filesystem::path& path);

class PictureSet {
 public:
  /// Lists PATH/CLASS/PICTURE, or the same inside of an uncompressed tar, where folders that all its pictures
  /// share are skipped.
  /// Folders inside a class folder and names with a leading dot are passed over. Throws FileError, among
  /// others for less than two classes and for a class without pictures.
  static PictureSet open(const std::filesystem::path& path);

  const std::vector<std::string>& class_names() const { return class_names_; }
  std::size_t size() const { return pictures_.size(); }
  /// Which of class_names() picture i belongs to.
  int label(std::size_t i) const { return pictures_[i].label; }
  /// "PATH/CLASS/FILE", for messages and for the folder's file.
  std::string name(std::size_t i) const;
  /// The file's bytes, not decoded. Safe from several threads. Throws FileError.
  std::vector<std::uint8_t> read(std::size_t i) const;
  /// Files that were passed over because their extension is no picture's or because they lie outside a class.
  std::size_t ignored() const { return ignored_; }

 private:
  /// Where a tar keeps the bytes; unused for a folder.
  struct Place {
    std::uint64_t offset = 0, bytes = 0;
  };
  struct Picture {
    std::string file;
    int label;
    Place place;
  };
  using Classes = std::map<std::string, std::map<std::string, Place>>;  // class -> file -> place, sorted

  Classes list_folder();
  Classes list_tar();
  void add(const Classes& classes);

  std::filesystem::path path_;
  std::shared_ptr<const TarFile> tar_;  // null for a folder
  std::vector<std::string> class_names_;
  std::vector<Picture> pictures_;
  std::size_t ignored_ = 0;
};

}  // namespace grapnel::tools
