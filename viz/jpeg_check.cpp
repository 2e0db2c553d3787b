// JPEG: markers, frame header and scans (ITU-T T.81, annex B).
#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>

#include "grapnel/engine/error.h"
#include "grapnel/viz/picture_check.h"

namespace grapnel::viz {
namespace {

using Bytes = std::span<const std::uint8_t>;

enum Marker : std::uint8_t {
  kSOF0 = 0xc0,  // baseline
  kSOF2 = 0xc2,  // progressive
  kDHT = 0xc4,
  kJPG = 0xc8,
  kDAC = 0xcc,
  kSOF15 = 0xcf,
  kRST0 = 0xd0,
  kRST7 = 0xd7,
  kSOI = 0xd8,
  kEOI = 0xd9,
  kSOS = 0xda,
  kDQT = 0xdb,
  kAPP14 = 0xee,
  kTEM = 0x01,
};

bool is_frame(std::uint8_t marker) {
  return marker >= kSOF0 && marker <= kSOF15 && marker != kDHT && marker != kJPG && marker != kDAC;
}

/// One walk over a file.
class JpegCheck {
 public:
  JpegCheck(Bytes file, const std::string& name, const ImageLimits& limits)
      : file_(file), name_(name), limits_(limits) {}

  PictureInfo run() {
    at_ = 2;
    for (std::uint8_t marker = next_marker(); marker != kEOI; marker = next_marker()) {
      if (marker == kTEM || (marker >= kRST0 && marker <= kRST7)) continue;
      if (marker == kSOI) fail("holds a second start marker");
      const Bytes segment = next_segment();
      if (is_frame(marker)) {
        read_frame(marker, segment);
      } else if (marker == kSOS) {
        read_scan(segment);
      } else if (marker == kDHT) {
        read_code_tables(segment);
      } else if (marker == kDQT) {
        read_quantization_tables(segment);
      } else if (marker == kAPP14) {
        adobe_ =
            adobe_ || (segment.size() >= 12 && std::equal(segment.begin(), segment.begin() + 5, "Adobe"));
      }
    }
    return finish();
  }

 private:
  struct Component {
    std::uint8_t id;
    std::size_t h, v;
    std::size_t quantization;  ///< number of its table
    bool seen;                 ///< some scan brings its first (DC) coefficients
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw FileError(name_ + ": the JPEG file " + what);
  }

  std::uint8_t next_marker() {
    // Some writers leave stray bytes between segments; decoders skip to the next 0xff.
    while (at_ < file_.size() && file_[at_] != 0xff) ++at_;
    while (at_ < file_.size() && file_[at_] == 0xff) ++at_;
    if (at_ >= file_.size()) fail("ends early: it has no end marker");
    return file_[at_++];
  }

  Bytes next_segment() {
    if (file_.size() - at_ < 2) fail("ends early, at byte " + std::to_string(at_));
    const std::size_t length = read_u16(file_, at_);
    if (length < 2 || length > file_.size() - at_)
      fail("has a segment at byte " + std::to_string(at_) + " that ends beyond the file");
    const Bytes segment = file_.subspan(at_ + 2, length - 2);
    at_ += length;
    return segment;
  }

  void read_frame(std::uint8_t marker, Bytes frame) {
    if (count_ != 0) fail("has a second frame header");
    if (marker > kSOF2)
      fail("is lossless, hierarchical or arithmetic-coded; only baseline and progressive ones are read");
    if (frame.size() < 6) fail("has a frame header of " + std::to_string(frame.size()) + " bytes");
    if (frame[0] != 8) fail("has " + std::to_string(frame[0]) + " bits a sample; only 8 are read");
    progressive_ = marker == kSOF2;
    height_ = read_u16(frame, 1);
    width_ = read_u16(frame, 3);
    count_ = frame[5];
    if (count_ != 1 && count_ != 3 && count_ != 4)
      fail("has " + std::to_string(count_) + " components; expected 1, 3 or 4");
    if (frame.size() != 6 + 3 * count_) fail("has a frame header of a wrong size");
    check_size(name_, static_cast<std::int64_t>(height_), static_cast<std::int64_t>(width_),
               count_ == 1 ? 1 : 3, limits_);
    for (std::size_t i = 0; i < count_; ++i) {
      const std::uint8_t sampling = frame[7 + 3 * i];
      components_[i] = {frame[6 + 3 * i], static_cast<std::size_t>(sampling >> 4), sampling & 15u,
                        frame[8 + 3 * i], false};
      const Component& c = components_[i];
      if (c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4) fail("has sampling factors outside 1..4");
      if (c.quantization > 3) fail("has a quantization table beyond the fourth");
    }
  }

  /// Huffman tables: class and number, how many codes of 1..16 bits, their values. More than 256 codes, or a
  /// DC size beyond 15 bits, would make stb_image 2.27 write and read outside its tables.
  void read_code_tables(Bytes data) {
    while (!data.empty()) {
      if (data.size() < 17) fail("has a Huffman table that ends early");
      const std::size_t kind = data[0] >> 4, number = data[0] & 15;
      const std::size_t codes = std::accumulate(data.begin() + 1, data.begin() + 17, std::size_t{0});
      if (kind > 1 || number > 3 || codes > 256 || codes > data.size() - 17)
        fail("has a damaged Huffman table");
      const Bytes values = data.subspan(17, codes);
      if (kind == 0 && std::any_of(values.begin(), values.end(), [](int size) { return size > 15; }))
        fail("has a Huffman table with sizes beyond 15 bits");
      code_tables_[kind][number] = true;
      data = data.subspan(17 + codes);
    }
  }

  void read_quantization_tables(Bytes data) {
    while (!data.empty()) {
      const std::size_t wide = data[0] >> 4, number = data[0] & 15, size = 1 + 64 * (wide + 1);
      if (wide > 1 || number > 3 || data.size() < size) fail("has a damaged quantization table");
      quantization_tables_[number] = true;
      data = data.subspan(size);
    }
  }

  void read_scan(Bytes scan) {
    if (count_ == 0) fail("has a scan before its frame header");
    if (++scans_ > limits_.jpeg_scans) fail("has more than " + std::to_string(limits_.jpeg_scans) + " scans");
    const std::size_t parts = scan.empty() ? 0 : scan[0];
    if (parts < 1 || parts > count_ || scan.size() != 4 + 2 * parts) fail("has a damaged scan header");
    const std::uint8_t first = scan[1 + 2 * parts], last = scan[2 + 2 * parts],
                       high = scan[3 + 2 * parts] >> 4;
    for (std::size_t part = 0; part < parts; ++part) {
      const std::uint8_t id = scan[1 + 2 * part], tables = scan[2 + 2 * part];
      const auto component = std::find_if(components_.begin(), components_.begin() + count_,
                                          [&](const Component& c) { return c.id == id; });
      if (component == components_.begin() + count_) fail("has a scan of a component that it does not have");
      // Progressive scans bring either DC (whose refinements have no codes) or AC coefficients.
      const bool needs_dc = first == 0 && high == 0, needs_ac = !progressive_ || last > 0;
      const std::size_t dc = tables >> 4, ac = tables & 15;
      if (dc > 3 || ac > 3 || (needs_dc && !code_tables_[0][dc]) || (needs_ac && !code_tables_[1][ac]) ||
          !quantization_tables_[component->quantization])
        fail("has a scan whose tables are missing");
      component->seen |= first == 0;
    }

    // Coded data ends at the first marker that is neither a stuffed zero nor a restart nor a fill byte.
    const std::size_t start = at_;
    for (; at_ + 1 < file_.size(); ++at_) {
      if (file_[at_] != 0xff) continue;
      const std::uint8_t next = file_[at_ + 1];
      if (next != 0 && next != 0xff && !(next >= kRST0 && next <= kRST7)) break;
    }
    coded_bytes_ += at_ - start;
  }

  PictureInfo finish() const {
    if (count_ == 0) fail("has no frame header");
    if (count_ == 4 && !adobe_)
      fail("has four components without Adobe's marker, so its colours are unknown; convert it to RGB first");
    std::size_t h_max = 1, v_max = 1;
    for (std::size_t i = 0; i < count_; ++i) {
      if (!components_[i].seen)
        fail("has no data for component " + std::to_string(i + 1) + " of " + std::to_string(count_));
      h_max = std::max(h_max, components_[i].h);
      v_max = std::max(v_max, components_[i].v);
    }

    // Decoders work on whole units of h_max x v_max blocks.
    const std::size_t units =
        ((width_ + 8 * h_max - 1) / (8 * h_max)) * ((height_ + 8 * v_max - 1) / (8 * v_max));
    std::size_t blocks = 0, least_blocks = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const Component& c = components_[i];
      blocks += units * c.h * c.v;
      least_blocks += ((width_ * c.h / h_max) / 8) * ((height_ * c.v / v_max) / 8);
    }
    // The shortest Huffman code is one bit, and each block has at least one.
    if (least_blocks / 8 > coded_bytes_)
      fail("ends early: " + std::to_string(coded_bytes_) + " bytes of data cannot hold " +
           std::to_string(height_) + "x" + std::to_string(width_) + " pixels");
    const std::size_t samples = 64 * blocks;
    return {static_cast<int>(height_), static_cast<int>(width_),
            samples * (progressive_ ? 3 : 1) + 4 * height_ * width_ + (std::size_t{1} << 20), false};
  }

  Bytes file_;
  const std::string& name_;
  const ImageLimits& limits_;
  std::size_t at_ = 0, height_ = 0, width_ = 0, count_ = 0, coded_bytes_ = 0;
  int scans_ = 0;
  bool progressive_ = false, adobe_ = false;
  bool code_tables_[2][4] = {};  ///< DC and AC: which are there
  bool quantization_tables_[4] = {};
  std::array<Component, 4> components_{};
};

}  // namespace

bool is_jpeg(Bytes bytes) {
  return bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == kSOI && bytes[2] == 0xff;
}

PictureInfo check_jpeg(Bytes bytes, const std::string& name, const ImageLimits& limits) {
  return JpegCheck(bytes, name, limits).run();
}

}  // namespace grapnel::viz
