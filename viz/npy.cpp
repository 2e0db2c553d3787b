// Format: magic, version, length of the header, the header (a Python dictionary, padded to 64 bytes), the raw
// values.
#include "grapnel/viz/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>

#include "grapnel/engine/error.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/viz/file.h"

namespace grapnel::viz {
namespace {

using Bytes = std::span<const std::uint8_t>;
static_assert(std::endian::native == std::endian::little, "npy: data is copied as it lies in the file");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLargestHeader = 64 * 1024;
constexpr std::int64_t kLargestCount = std::int64_t{1} << 48;

struct Type {
  std::string_view text;
  DType type;
};
constexpr Type kTypes[] = {{"<f4", DType::float32}, {"<f8", DType::float64}, {"<i8", DType::int64}};

struct Header {
  DType type = DType::float32;
  bool fortran_order = false;
  Shape shape;
};

/// Reads the Python dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } and nothing more
/// general.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  Header run() {
    Header header;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string();
      expect(':');
      if (key == "descr" && !descr) {
        header.type = type();
        descr = true;
      } else if (key == "fortran_order" && !order) {
        header.fortran_order = boolean();
        order = true;
      } else if (key == "shape" && !shape) {
        header.shape = sizes();
        shape = true;
      } else {
        fail("has an unexpected key \"" + std::string(key) + "\"");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (!text_.empty()) fail("goes on after its end");
    if (!descr || !order || !shape) fail("lacks descr, fortran_order or shape");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw FileError(name_ + ": the npy header " + what);
  }

  void skip_blanks() { text_.remove_prefix(std::min(text_.find_first_not_of(" \n"), text_.size())); }
  bool accept(char c) {
    skip_blanks();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  bool accept(std::string_view word) {
    skip_blanks();
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }
  void expect(char c) {
    if (!accept(c))
      fail(std::string("is damaged: expected '") + c + "' before \"" + std::string(text_.substr(0, 20)) +
           "\"");
  }
  std::string_view string() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const std::size_t end = text_.find(quote);
    if (end == std::string_view::npos) fail("has a string without end");
    const std::string_view value = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return value;
  }
  DType type() {
    if (accept('[')) fail("describes records; only plain arrays are read");
    const std::string_view descr = string();
    for (const Type& known : kTypes)
      if (descr == known.text) return known.type;
    fail("says type \"" + std::string(descr) +
         "\"; float32, float64 and int64 in little-endian order are read: convert with numpy's astype");
  }
  bool boolean() {
    if (accept("True")) return true;
    if (!accept("False")) fail("has a fortran_order that is neither True nor False");
    return false;
  }
  std::int64_t size() {
    skip_blanks();
    std::int64_t value = 0;
    const char* end = text_.data() + text_.size();
    const auto [rest, error] = std::from_chars(text_.data(), end, value);
    if (error != std::errc() || value < 0) fail("has a shape that is not a tuple of sizes");
    text_.remove_prefix(static_cast<std::size_t>(rest - text_.data()));
    accept('L');  // written by Python 2
    return value;
  }
  Shape sizes() {
    Shape shape;
    std::int64_t product = 1;
    expect('(');
    while (!accept(')')) {
      if (shape.size() == Shape::kMax) fail("has more than 8 dimensions");
      shape.push_back(size());
      const std::int64_t factor = std::max<std::int64_t>(1, shape.back());
      if (factor > kLargestCount / product) fail("has a shape that is too large");
      product *= factor;
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
  const std::string& name_;
};

/// Where the header's text lies: its offset and length.
std::pair<std::size_t, std::size_t> find_header(Bytes bytes, const std::string& name) {
  if (bytes.size() < 12 || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    throw FileError(name + ": is no npy file (it does not open with \\x93NUMPY)");
  const int version = bytes[6];
  if (version < 1 || version > 3)
    throw FileError(name + ": is of npy format " + std::to_string(version) + "; formats 1 to 3 are read");
  const std::size_t start = version == 1 ? 10 : 12;
  std::size_t length = bytes[8] | std::size_t{bytes[9]} << 8;
  if (version > 1) length |= std::size_t{bytes[10]} << 16 | std::size_t{bytes[11]} << 24;
  if (length > kLargestHeader || length > bytes.size() - start)
    throw FileError(name + ": the npy header of " + std::to_string(length) +
                    " bytes ends beyond the file or is too large");
  return {start, length};
}

void write_header(std::vector<std::uint8_t>& out, const Tensor& tensor) {
  const auto type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                 [&](const Type& known) { return known.type == tensor.dtype(); });
  if (type == std::end(kTypes))
    throw TypeError("write_npy: got " + std::string(name(tensor.dtype())) +
                    ", expected float32, float64 or int64");
  std::string text = "{'descr': '" + std::string(type->text) + "', 'fortran_order': False, 'shape': (";
  for (std::int64_t size : tensor.shape()) text += std::to_string(size) + ", ";
  if (tensor.rank() > 1) text.resize(text.size() - 2);
  if (tensor.rank() == 1) text.pop_back();
  text += "), }";
  text.append(kAlignment - 1 - (kMagic.size() + 4 + text.size()) % kAlignment, ' ');
  text += '\n';

  out.insert(out.end(), kMagic.begin(), kMagic.end());
  const auto length = static_cast<std::uint16_t>(text.size());
  for (int byte : {1, 0, length & 0xff, length >> 8}) out.push_back(static_cast<std::uint8_t>(byte));
  out.insert(out.end(), text.begin(), text.end());
}

}  // namespace

Tensor decode_npy(Bytes bytes, const std::string& name) {
  const auto [start, length] = find_header(bytes, name);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + start, length);
  const Header header = HeaderParser(text, name).run();

  const Bytes data = bytes.subspan(start + length);
  const std::size_t expected = static_cast<std::size_t>(numel(header.shape)) * item_size(header.type);
  if (expected != data.size())
    throw FileError(name + ": shape " + to_string(header.shape) + " of " +
                    std::string(grapnel::name(header.type)) + " takes " + std::to_string(expected) +
                    " bytes, but " + std::to_string(data.size()) + " lie behind the header");

  // Fortran order is row-major order of the transposed array.
  Shape stored = header.shape;
  if (header.fortran_order) std::reverse(stored.begin(), stored.end());
  const Tensor tensor = Tensor::empty(stored, header.type, MemoryFormat::contiguous, Device::cpu());
  if (!data.empty()) std::memcpy(tensor.raw_data(), data.data(), data.size());
  if (!header.fortran_order || stored.size() < 2) return tensor;
  Dims reversed;
  for (std::size_t i = stored.size(); i-- > 0;) reversed.push_back(static_cast<std::int64_t>(i));
  const NoGrad guard;
  return permute(tensor, reversed).contiguous();
}

Tensor read_npy(const std::filesystem::path& path) {
  return decode_npy(read_file(path, std::numeric_limits<std::size_t>::max()), path.string());
}

std::vector<std::uint8_t> encode_npy(const Tensor& tensor) {
  const NoGrad guard;
  const Tensor dense = tensor.to(Device::cpu()).contiguous();
  const std::size_t size = static_cast<std::size_t>(dense.numel()) * item_size(dense.dtype());
  std::vector<std::uint8_t> out;
  write_header(out, dense);
  const auto* data = static_cast<const std::uint8_t*>(dense.raw_data());
  out.insert(out.end(), data, data + size);
  return out;
}

void write_npy(const std::filesystem::path& path, const Tensor& tensor) {
  write_file(path, encode_npy(tensor));
}

void write_npy(const std::filesystem::path& path, const FloatMap& map) {
  write_npy(path, Tensor::from(std::span<const float>(map.values), {map.height, map.width}, Device::cpu()));
}

}  // namespace grapnel::viz
