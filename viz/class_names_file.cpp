// Reading a list of class names: lines, or a JSON/Python list or dictionary.
#include <algorithm>
#include <charconv>
#include <limits>
#include <map>

#include "grapnel/engine/error.h"
#include "grapnel/viz/class_names.h"
#include "grapnel/viz/file.h"

namespace grapnel::viz {
namespace {

constexpr std::size_t kLargestFile = std::size_t{16} << 20;

struct Entry {
  std::string wordnet_id, name;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// "n" and eight digits.
bool is_wordnet_id(std::string_view text) {
  return text.size() == 9 && text[0] == 'n' && std::all_of(text.begin() + 1, text.end(), is_digit);
}

std::vector<Entry> read_lines(std::string_view text, const std::string& file) {
  std::vector<Entry> entries;
  text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
    if (line.empty())
      throw FileError(file + ", line " + std::to_string(entries.size() + 1) +
                      ": is blank, but every line is a class");
    const bool has_id =
        line.size() > 10 && is_wordnet_id(line.substr(0, 9)) && (line[9] == ' ' || line[9] == '\t');
    entries.push_back(
        {std::string(has_id ? line.substr(0, 9) : ""), std::string(has_id ? line.substr(10) : line)});
  }
  return entries;
}

/// ["a", ...], {"0": "a", ...}, {"0": ["n01440764", "a"], ...}; also with '...' strings and bare numbers as
/// keys.
class Literal {
 public:
  Literal(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  std::vector<Entry> run() {
    std::vector<Entry> entries = accept('[') ? list() : dictionary();
    if (next() != '\0') fail("the end of the file");
    return entries;
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw FileError(file_ + ", byte " + std::to_string(at_) + ": expected " + expected);
  }

  /// The next character that is not blank; zero at the end.
  char next() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (next() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("'") + c + "'");
  }
  char take() {
    if (at_ == text_.size()) fail("the end of a string");
    return text_[at_++];
  }

  std::vector<Entry> list() {
    std::vector<Entry> entries;
    while (!accept(']')) {
      entries.push_back({{}, string()});
      if (!accept(',')) {
        expect(']');
        break;
      }
    }
    return entries;
  }

  std::vector<Entry> dictionary() {
    std::map<std::size_t, Entry> by_index;
    expect('{');
    while (!accept('}')) {
      const std::size_t index = key();
      expect(':');
      if (!by_index.emplace(index, value()).second)
        fail("each index once, not " + std::to_string(index) + " again");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    std::vector<Entry> entries;
    for (auto& [index, entry] : by_index) {
      if (index != entries.size()) fail("a name for index " + std::to_string(entries.size()));
      entries.push_back(std::move(entry));
    }
    return entries;
  }

  std::size_t key() {
    const char first = next();
    const std::size_t start = at_;
    std::string digits;
    if (first == '"' || first == '\'')
      digits = string();
    else
      while (is_digit(at_ < text_.size() ? text_[at_] : '\0')) digits += text_[at_++];
    std::size_t index = 0;
    const char* end = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, index);
    if (digits.empty() || error != std::errc() || rest != end) {
      at_ = start;
      fail("a class index");
    }
    return index;
  }

  Entry value() {
    if (!accept('[')) return {{}, string()};
    Entry entry;
    entry.wordnet_id = string();
    expect(',');
    entry.name = string();
    expect(']');
    return entry;
  }

  std::string string() {
    const char quote = next();
    if (quote != '"' && quote != '\'') fail("a string");
    ++at_;
    std::string out;
    for (char c = take(); c != quote; c = take()) {
      if (c == '\\')
        append_escape(out);
      else
        out += c;
    }
    return out;
  }

  void append_escape(std::string& out) {
    constexpr std::string_view kLetters = "bfnrt", kMeanings = "\b\f\n\r\t";
    const char c = take();
    if (c == 'u') return append_utf8(out, code_point());
    const std::size_t letter = kLetters.find(c);
    out += letter == std::string_view::npos ? c : kMeanings[letter];
  }

  std::uint32_t four_digits() {
    std::uint32_t value = 0;
    if (text_.size() - at_ < 4) fail("four hexadecimal digits");
    const auto [rest, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, value, 16);
    if (error != std::errc() || rest != text_.data() + at_ + 4) fail("four hexadecimal digits");
    at_ += 4;
    return value;
  }

  /// UTF-16: characters beyond 0xffff come as a high and a low surrogate.
  std::uint32_t code_point() {
    const std::uint32_t high = four_digits();
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || text_.substr(at_, 2) != "\\u") fail("a pair of surrogates");
    at_ += 2;
    const std::uint32_t low = four_digits();
    if (low < 0xdc00 || low > 0xdfff) fail("a pair of surrogates");
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }

  static void append_utf8(std::string& out, std::uint32_t code) {
    const auto add = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) return add(code);
    if (code < 0x800) {
      add(0xc0 | code >> 6);
    } else if (code < 0x10000) {
      add(0xe0 | code >> 12);
      add(0x80 | (code >> 6 & 0x3f));
    } else {
      add(0xf0 | code >> 18);
      add(0x80 | (code >> 12 & 0x3f));
      add(0x80 | (code >> 6 & 0x3f));
    }
    add(0x80 | (code & 0x3f));
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;
};

}  // namespace

ClassNames ClassNames::from_file(const std::filesystem::path& path) {
  const std::string file = path.string();
  const std::vector<std::uint8_t> bytes = read_file(path, kLargestFile);
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (text.find('\0') != std::string_view::npos)
    throw FileError(file + ": is no text, so no list of class names");

  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) throw FileError(file + ": holds no class names");
  const bool literal = text[first] == '[' || text[first] == '{';
  std::vector<Entry> entries = literal ? Literal(text, file).run() : read_lines(text, file);
  if (entries.empty()) throw FileError(file + ": holds no class names");

  const bool has_ids =
      std::all_of(entries.begin(), entries.end(), [](const Entry& e) { return !e.wordnet_id.empty(); });
  std::vector<std::string> names, ids;
  for (Entry& entry : entries) {
    names.push_back(std::move(entry.name));
    if (has_ids) ids.push_back(std::move(entry.wordnet_id));
  }
  return ClassNames(std::move(names), std::move(ids));
}

}  // namespace grapnel::viz
