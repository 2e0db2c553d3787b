// What a network's outputs are called, and how a person may call them.
//
// ImageNet's labels are not unique: "crane" is the bird (134) and the machine (517), "maillot" is 638 and
// 639. (Newer torchvisions call two of them "crane bird" and "maillot tank suit", and so do we; older lists
// do not.) So a class is an index, its WordNet id ("n02012849") is its unique name, and a label that could
// mean two is refused with both.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace grapnel::viz {

class ClassNames {
 public:
  /// `wordnet_ids` is empty or as long as `names`. Throws ShapeError otherwise.
  explicit ClassNames(std::vector<std::string> names, std::vector<std::string> wordnet_ids = {});

  /// The 1,000 classes of ILSVRC-2012, with the names torchvision uses.
  static const ClassNames& imagenet();

  /// Reads one name a line (UTF-8); a line may open with a WordNet id and a blank, as in synset_words.txt.
  /// Also reads a JSON or Python list of names, and a dictionary from index to name or to [WordNet id, name].
  /// Throws FileError naming the file, the place and the reason.
  static ClassNames from_file(const std::filesystem::path& path);

  int size() const { return static_cast<int>(names_.size()); }
  /// The label of a class. Throws NameError outside 0..size-1.
  const std::string& name(int index) const;
  /// "n02012849"; empty if the list has no WordNet ids.
  std::string wordnet_id(int index) const;
  /// The label, with the WordNet id or the index behind it where another class has the same: "crane
  /// (n02012849)".
  std::string unique_name(int index) const;

  /// The class meant by an index ("207"), a WordNet id or a label. Case does not matter, "_" stands for a
  /// blank, and of a label with commas each part counts ("tench, Tinca tinca"). Throws NameError that lists
  /// similar labels, or all classes with that label if there are several.
  int find(std::string_view text) const;

 private:
  std::vector<int> with_label(std::string_view label) const;
  std::vector<int> similar_to(std::string_view label) const;
  /// `"crane" (517, n03126707), ...`
  std::string list(const std::vector<int>& classes) const;

  std::vector<std::string> names_, wordnet_ids_;
  std::vector<std::pair<int, std::string>> former_names_;
};

}  // namespace grapnel::viz
