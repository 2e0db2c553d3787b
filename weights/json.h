// Strict JSON (RFC 8259), read front to back without building a tree: what a safetensors header needs, and no
// more.
//
// The caller says what comes next, so input of another form, however deeply nested, is refused where it
// begins.
#pragma once

#include <cstdint>
#include <string>

#include "grapnel/weights/mapped_file.h"

namespace grapnel::weights {

class JsonReader {
 public:
  explicit JsonReader(const Section& section) : section_(section), text_(section.bytes(0, section.size())) {}

  /// Reads an object; `member(name, at)` is called for each name and must read its value.
  template <class Member>
  void object(Member&& member) {
    take('{', "an object");
    if (take_if('}')) return;
    do {
      const std::uint64_t place = skip_space();
      std::string name = string();
      take(':', "':'");
      member(std::move(name), place);
    } while (take_if(','));
    take('}', "',' or '}'");
  }

  /// Reads an array; `element(at)` is called for each element and must read it.
  template <class Element>
  void array(Element&& element) {
    take('[', "an array");
    if (take_if(']')) return;
    do {
      element(skip_space());
    } while (take_if(','));
    take(']', "',' or ']'");
  }

  /// Reads a string, as UTF-8.
  std::string string();
  /// Reads a number without sign, fraction or exponent.
  std::uint64_t whole_number();
  /// Refuses anything but white space up to the end.
  void end();

  /// Where the next token begins.
  std::uint64_t skip_space();
  [[noreturn]] void refuse(std::uint64_t at, const std::string& message) const {
    section_.refuse(at, message);
  }

 private:
  void take(char wanted, const char* expected);
  bool take_if(char wanted);
  void escape(std::string& result);
  unsigned hex4();
  [[noreturn]] void refuse_here(const std::string& expected) const;

  const Section& section_;
  std::string_view text_;
  std::uint64_t at_ = 0;
};

}  // namespace grapnel::weights
