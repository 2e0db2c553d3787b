// Which reader a file needs, and the unwrapping of names that all formats share.
#include "grapnel/weights/weights.h"

#include <algorithm>
#include <memory>
#include <string_view>

#include "grapnel/engine/error.h"
#include "grapnel/weights/safetensors.h"
#include "grapnel/weights/torch_file.h"

namespace grapnel::weights {
namespace {

/// Whether the file is a tar archive, which is what torch 0.1 wrote.
bool is_tar(const MappedFile& file) {
  constexpr std::uint64_t kAt = 257;
  constexpr std::string_view kMagic = "ustar";
  return file.size() >= kAt + kMagic.size() &&
         std::string_view(reinterpret_cast<const char*>(file.data() + kAt), kMagic.size()) == kMagic;
}

StateFile read_by_content(const FilePtr& file, const ReadOptions& options) {
  if (is_zip(*file)) return read_torch_zip(file, options);
  if (is_torch_legacy(*file)) return read_torch_legacy(file, options);
  const Section whole(file, "beginning");
  if (is_tar(*file))
    whole.refuse(0,
                 "a tar archive, as torch 0.1 wrote them, expected a newer format: in Python, "
                 "torch.save(torch.load(FILE, weights_only=False), NEW)");
  if (is_safetensors(*file)) return read_safetensors(file, options.limits);
  whole.refuse(0, "unknown format, the file begins with " +
                      quoted(whole.bytes(0, std::min<std::uint64_t>(file->size(), 16))) +
                      ", expected torch.save's zip or legacy format or safetensors");
}

/// Data-parallel training puts "module." before every name.
void strip_prefix(NamedTensors& tensors) {
  constexpr std::string_view kPrefix = "module.";
  const bool everywhere = std::all_of(tensors.begin(), tensors.end(),
                                      [&](const auto& entry) { return entry.first.starts_with(kPrefix); });
  if (!everywhere) return;
  for (auto& [name, tensor] : tensors) name.erase(0, kPrefix.size());
}

StateFile read_unwrapped(const FilePtr& file, const ReadOptions& options) {
  StateFile result = read_by_content(file, options);
  if (options.unwrap) strip_prefix(result.tensors);
  return result;
}

}  // namespace

StateFile read(const std::string& path, const ReadOptions& options) {
  const auto file = std::make_shared<MappedFile>(path);
  StateFile result = read_unwrapped(file, options);
  if (options.in_memory) file->read_into_memory();
  return result;
}

StateFile read(std::span<const std::byte> bytes, const std::string& name, const ReadOptions& options) {
  return read_unwrapped(std::make_shared<MappedFile>(name, bytes), options);
}

}  // namespace grapnel::weights
