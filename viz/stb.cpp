// The one place that compiles stb_image and stb_image_write, with memory, assertions and limits of our own.
#include "grapnel/viz/stb.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <new>

#include "grapnel/engine/error.h"

namespace grapnel::viz::stb {
namespace {

/// The memory of one call into stb: bounded, set to zero (so that no old memory can ever show up in a
/// picture), and given back as a whole at the end, whatever stb forgot or an exception cut short.
class Arena {
 public:
  explicit Arena(std::size_t budget) : left_(budget), previous_(current_) { current_ = this; }
  ~Arena() {
    current_ = previous_;
    while (first_.next != &first_) release(first_.next + 1);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// The innermost one on this thread.
  static Arena& current() { return *current_; }

  /// Null beyond the budget.
  void* allocate(std::size_t size) {
    if (size > left_) return nullptr;
    Block* block = static_cast<Block*>(std::calloc(1, sizeof(Block) + size));
    if (!block) return nullptr;
    link(block, size);
    return block + 1;
  }
  void* reallocate(void* memory, std::size_t size) {
    if (!memory) return allocate(size);
    Block* block = static_cast<Block*>(memory) - 1;
    const std::size_t former = block->size;
    if (size > former && size - former > left_) return nullptr;
    unlink(block);
    Block* moved = static_cast<Block*>(std::realloc(block, sizeof(Block) + size));
    link(moved ? moved : block, moved ? size : former);
    return moved ? moved + 1 : nullptr;
  }
  void release(void* memory) {
    if (!memory) return;
    Block* block = static_cast<Block*>(memory) - 1;
    unlink(block);
    std::free(block);
  }

 private:
  struct alignas(std::max_align_t) Block {
    Block* previous;
    Block* next;
    std::size_t size;
  };

  void link(Block* block, std::size_t size) {
    *block = {first_.previous, &first_, size};
    first_.previous->next = block;
    first_.previous = block;
    left_ -= size;
  }
  void unlink(Block* block) {
    block->previous->next = block->next;
    block->next->previous = block->previous;
    left_ += block->size;
  }

  std::size_t left_;
  Block first_{&first_, &first_, 0};
  Arena* previous_;
  static thread_local Arena* current_;
};

thread_local Arena* Arena::current_ = nullptr;

/// stb_image_write does not look at what it got.
void* or_throw(void* memory) {
  if (!memory) throw std::bad_alloc();
  return memory;
}

void require(bool holds) {
  if (!holds) throw FileError("stb: an internal check failed");
}

}  // namespace
}  // namespace grapnel::viz::stb

// Both libraries become private functions of this file. Their warnings are theirs.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS 65535
#define STBI_ASSERT(x) grapnel::viz::stb::require(x)
#define STBI_MALLOC(size) grapnel::viz::stb::Arena::current().allocate(size)
#define STBI_REALLOC(memory, size) grapnel::viz::stb::Arena::current().reallocate(memory, size)
#define STBI_FREE(memory) grapnel::viz::stb::Arena::current().release(memory)
#include <stb_image.h>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#define STBIW_ASSERT(x) grapnel::viz::stb::require(x)
#define STBIW_MALLOC(size) grapnel::viz::stb::or_throw(grapnel::viz::stb::Arena::current().allocate(size))
#define STBIW_REALLOC(memory, size) \
  grapnel::viz::stb::or_throw(grapnel::viz::stb::Arena::current().reallocate(memory, size))
#define STBIW_FREE(memory) grapnel::viz::stb::Arena::current().release(memory)
#include <stb_image_write.h>

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

namespace grapnel::viz::stb {
namespace {

/// stb counts bytes in int, and pads every row.
void require_writable(const char* operation, const Image& image) {
  const std::size_t rows = static_cast<std::size_t>(image.height());
  if (image.empty() || (image.row_bytes() + 1) * rows > INT_MAX / 4)
    throw ShapeError(std::string(operation) + ": cannot write a picture of " + to_string(image));
}

void append(void* context, void* data, int size) {
  auto& out = *static_cast<std::vector<std::uint8_t>*>(context);
  const auto* first = static_cast<const std::uint8_t*>(data);
  out.insert(out.end(), first, first + size);
}

}  // namespace

Image decode(std::span<const std::uint8_t> bytes, const std::string& name, std::size_t budget) {
  Arena arena(budget);
  int height = 0, width = 0, channels = 0;
  if (bytes.size() > INT_MAX) throw FileError(name + ": is too large");
  const stbi_uc* pixels =
      stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height, &channels, 0);
  if (!pixels) throw FileError(name + ": cannot be decoded (" + stbi_failure_reason() + ")");

  // `channels` tells what the file has; for four-component JPEGs stb gives three.
  const bool jpeg = bytes[0] == 0xff;
  const int step = jpeg ? std::min(channels, 3) : channels;
  const bool grey = step < 3;
  Image image(height, width, 3);
  const std::size_t count = image.pixels().size() / 3;
  std::uint8_t* out = image.pixels().data();
  if (step == 3)
    std::memcpy(out, pixels, 3 * count);
  else
    for (std::size_t i = 0; i < count; ++i, pixels += step, out += 3) {
      out[0] = pixels[0];
      out[1] = pixels[grey ? 0 : 1];
      out[2] = pixels[grey ? 0 : 2];
    }
  return image;
}

std::vector<std::uint8_t> encode_png(const Image& image) {
  require_writable("encode_png", image);
  Arena arena(SIZE_MAX);
  int size = 0;
  const unsigned char* png = stbi_write_png_to_mem(image.pixels().data(), static_cast<int>(image.row_bytes()),
                                                   image.width(), image.height(), image.channels(), &size);
  require(png != nullptr);
  return {png, png + size};
}

std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality) {
  require_writable("encode_jpeg", image);
  Arena arena(SIZE_MAX);
  std::vector<std::uint8_t> out;
  require(stbi_write_jpg_to_func(append, &out, image.width(), image.height(), image.channels(),
                                 image.pixels().data(), quality) != 0);
  return out;
}

}  // namespace grapnel::viz::stb
