// Finding a class by what a person types. Reading lists of names is in class_names_file.cpp.
#include "grapnel/viz/class_names.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "grapnel/engine/error.h"

namespace grapnel::viz {
namespace {

struct Entry {
  const char *wordnet_id, *name;
};
constexpr Entry kImagenet[] = {
#include "grapnel/viz/imagenet_names.inc"
};

/// Lower case, "_" as a blank, no blanks at the ends: the form in which labels are compared.
std::string folded(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c == '_' ? ' ' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const std::size_t first = out.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return {};
  return out.substr(first, out.find_last_not_of(" \t\r\n") - first + 1);
}

/// Whether `part` stands in `text` between ends, blanks or commas.
bool has_words(std::string_view text, std::string_view part) {
  const auto is_border = [](char c) { return c == ' ' || c == ',' || c == '-'; };
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) {
    const std::size_t end = at + part.size();
    if ((at == 0 || is_border(text[at - 1])) && (end == text.size() || is_border(text[end]))) return true;
  }
  return false;
}

/// Whether `label` is the whole name or one of its parts between commas; both folded.
bool names_class(std::string_view name, std::string_view label) {
  if (name == label) return true;
  while (!name.empty()) {
    const std::size_t comma = std::min(name.find(','), name.size());
    if (folded(name.substr(0, comma)) == label) return true;
    name.remove_prefix(std::min(comma + 1, name.size()));
  }
  return false;
}

/// Insertions, deletions and replacements that turn one text into the other (Levenshtein).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

ClassNames::ClassNames(std::vector<std::string> names, std::vector<std::string> wordnet_ids)
    : names_(std::move(names)), wordnet_ids_(std::move(wordnet_ids)) {
  if (!wordnet_ids_.empty() && wordnet_ids_.size() != names_.size())
    throw ShapeError("ClassNames: got " + std::to_string(names_.size()) + " names and " +
                     std::to_string(wordnet_ids_.size()) + " WordNet ids");
}

const ClassNames& ClassNames::imagenet() {
  static const ClassNames list = [] {
    std::vector<std::string> names, ids;
    for (const Entry& entry : kImagenet) {
      names.emplace_back(entry.name);
      ids.emplace_back(entry.wordnet_id);
    }
    ClassNames made(std::move(names), std::move(ids));
    made.former_names_ = {{134, "crane"}, {639, "maillot"}};
    return made;
  }();
  return list;
}

const std::string& ClassNames::name(int index) const {
  if (index < 0 || index >= size())
    throw NameError("there is no class " + std::to_string(index) + "; classes go from 0 to " +
                    std::to_string(size() - 1));
  return names_[static_cast<std::size_t>(index)];
}

std::string ClassNames::wordnet_id(int index) const {
  name(index);
  return wordnet_ids_.empty() ? std::string() : wordnet_ids_[static_cast<std::size_t>(index)];
}

std::string ClassNames::unique_name(int index) const {
  const std::string& label = name(index);
  if (std::count(names_.begin(), names_.end(), label) == 1) return label;
  return label + " (" + (wordnet_ids_.empty() ? std::to_string(index) : wordnet_id(index)) + ")";
}

int ClassNames::find(std::string_view text) const {
  const std::string wanted = folded(text);
  int index = -1;
  const auto [end, error] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), index);
  if (error == std::errc() && end == wanted.data() + wanted.size()) {
    name(index);
    return index;
  }
  const auto id = std::find(wordnet_ids_.begin(), wordnet_ids_.end(), wanted);
  if (id != wordnet_ids_.end()) return static_cast<int>(id - wordnet_ids_.begin());

  const std::vector<int> classes = with_label(wanted);
  if (classes.size() == 1) return classes.front();
  std::string quoted(1, '"');
  quoted.append(text).append(1, '"');
  if (classes.size() > 1)
    throw NameError(quoted + " could be " + list(classes) + "; give the number" +
                    (wordnet_ids_.empty() ? "" : " or the WordNet id"));
  const std::vector<int> similar = similar_to(wanted);
  throw NameError("there is no class " + quoted + " among " + std::to_string(size()) +
                  (similar.empty() ? "; give a label or a number from 0 to " + std::to_string(size() - 1)
                                   : "; did you mean " + list(similar) + "?"));
}

std::vector<int> ClassNames::with_label(std::string_view label) const {
  std::vector<int> found;
  for (int i = 0; i < size(); ++i)
    if (names_class(folded(names_[static_cast<std::size_t>(i)]), label)) found.push_back(i);
  for (const auto& [index, former] : former_names_)
    if (former == label) found.push_back(index);
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<int> ClassNames::similar_to(std::string_view label) const {
  constexpr std::size_t kMost = 5;
  if (label.empty()) return {};
  std::vector<std::pair<std::size_t, int>> ranked;
  for (int i = 0; i < size(); ++i) {
    const std::string name = folded(names_[static_cast<std::size_t>(i)]);
    // A label that holds the whole word is as good as one that is a letter off.
    const std::size_t distance = has_words(name, label) ? 1 : edit_distance(name, label);
    if (distance <= 1 + label.size() / 4) ranked.emplace_back(distance, i);
  }
  std::sort(ranked.begin(), ranked.end());
  ranked.resize(std::min(ranked.size(), kMost));
  std::vector<int> classes;
  for (const auto& [distance, index] : ranked) classes.push_back(index);
  return classes;
}

std::string ClassNames::list(const std::vector<int>& classes) const {
  std::string text;
  for (int index : classes) {
    text += (text.empty() ? "\"" : ", \"") + name(index) + "\" (" + std::to_string(index);
    if (!wordnet_ids_.empty()) text += ", " + wordnet_id(index);
    text += ")";
  }
  return text;
}

}  // namespace grapnel::viz
