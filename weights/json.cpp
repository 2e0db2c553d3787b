// The tokens of JSON.
#include "grapnel/weights/json.h"

namespace grapnel::weights {
namespace {

void append_utf8(std::string& text, unsigned code) {
  const auto tail = [&](unsigned shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xe0 | code >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xf0 | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

}  // namespace

std::uint64_t JsonReader::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
    ++at_;
  return at_;
}

bool JsonReader::take_if(char wanted) {
  skip_space();
  if (at_ >= text_.size() || text_[at_] != wanted) return false;
  ++at_;
  return true;
}

void JsonReader::take(char wanted, const char* expected) {
  if (!take_if(wanted)) refuse_here(expected);
}

void JsonReader::refuse_here(const std::string& expected) const {
  const std::string came = at_ < text_.size() ? quoted(text_.substr(at_, 1)) : "the end";
  refuse(at_, "the JSON has " + came + ", expected " + expected);
}

std::string JsonReader::string() {
  take('"', "a string");
  const std::uint64_t begin = at_;
  std::string result;
  while (true) {
    const std::uint64_t run = at_;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
           static_cast<unsigned char>(text_[at_]) >= 0x20)
      ++at_;
    result += text_.substr(run, at_ - run);
    if (at_ >= text_.size() || static_cast<unsigned char>(text_[at_]) < 0x20)
      refuse_here("the end of a string");
    if (text_[at_++] == '"') break;
    escape(result);
  }
  if (!is_utf8(result)) refuse(begin, "string " + quoted(result) + " is not UTF-8");
  return result;
}

/// What follows a backslash.
void JsonReader::escape(std::string& result) {
  constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  const std::uint64_t begin = at_;
  const char letter = at_ < text_.size() ? text_[at_++] : '\0';
  if (const auto known = kLetters.find(letter); letter != '\0' && known != kLetters.npos) {
    result += kMeanings[known];
    return;
  }
  if (letter != 'u') refuse(begin, "the JSON has an unknown escape");
  unsigned code = hex4();
  if (code >= 0xd800 && code < 0xe000) {
    const bool pair = code < 0xdc00 && text_.substr(at_, 2) == "\\u";
    if (pair) at_ += 2;
    const unsigned low = pair ? hex4() : 0;
    if (low < 0xdc00 || low >= 0xe000) refuse(begin, "the JSON has half of a surrogate pair");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  append_utf8(result, code);
}

unsigned JsonReader::hex4() {
  unsigned value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    value *= 16;
    if (c >= '0' && c <= '9')
      value += static_cast<unsigned>(c - '0');
    else if ((c | 32) >= 'a' && (c | 32) <= 'f')
      value += static_cast<unsigned>((c | 32) - 'a') + 10;
    else
      refuse_here("four hexadecimal digits");
  }
  return value;
}

std::uint64_t JsonReader::whole_number() {
  const std::uint64_t begin = skip_space();
  std::uint64_t value = 0;
  for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
    if (__builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
        __builtin_add_overflow(value, static_cast<std::uint64_t>(text_[at_] - '0'), &value))
      refuse(begin, "a number beyond 64 bits");
  const bool leading_zero = at_ - begin > 1 && text_[begin] == '0';
  const bool more = at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E');
  if (at_ == begin || leading_zero || more)
    refuse_here("a whole number without sign, leading zeros, fraction or exponent");
  return value;
}

void JsonReader::end() {
  if (skip_space() != text_.size()) refuse_here("nothing after the object but spaces");
}

}  // namespace grapnel::weights
