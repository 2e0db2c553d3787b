// Weight files in and out: torch.save's two containers and safetensors are read natively, safetensors is
// written.
//
// Nothing in a file is ever executed, and a file is either read completely or refused. Read next: README.md
// (what the formats look like and which file holds which step), then weights.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "grapnel/engine/tensor.h"

namespace grapnel::weights {

/// Name -> tensor, in the file's order; the same shape as nn::NamedTensors.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// What a file may ask for. Together they bound the time and the memory that a hostile file can cost before
/// it is refused.
struct Limits {
  std::uint64_t json_bytes = 16 << 20;    ///< header of a safetensors file
  std::uint64_t pickle_bytes = 16 << 20;  ///< one pickle
  std::uint64_t pickle_memory = 8 << 20;  ///< values made from one pickle
  std::uint64_t pickle_opcodes = 1'000'000;
  std::size_t pickle_memo = 100'000;        ///< remembered values
  std::size_t depth = 64;                   ///< containers inside containers
  std::size_t entries = 65'536;             ///< tensors, metadata strings, zip entries
  std::size_t rank = Dims::kMax;            ///< dimensions of a tensor, never more than Dims::kMax
  std::uint64_t repeated_bytes = 64 << 20;  ///< dense copies of tensors with stride 0, beyond their storages
};

struct ReadOptions {
  Limits limits = {};
  /// Takes the tensors from a `state_dict` or `model` dictionary inside the file, however nested, and removes
  /// a `module.` prefix that every name has. Without it such a dictionary is refused, and prefixes stay.
  bool unwrap = false;
  /// Reads the whole file, once it is found to be right, into memory of this process: the file may then be
  /// changed or truncated in place, and large pages make what streams through the weights faster.
  bool in_memory = false;
};

/// What a file holds. float16, bfloat16, float32, float64, int64, uint8 and bool keep their type; the other
/// integers become int64. Tensors that shared a storage still do, and strides are the file's.
struct StateFile {
  NamedTensors tensors;
  /// Of safetensors: its own. Of a .pth: the numbers and texts beside the tensors.
  std::map<std::string, std::string> metadata;
  std::string format;  ///< "torch zip", "torch legacy" or "safetensors"
};

/// Reads a weight file of any of the three formats, recognised by its first bytes.
///
/// Tensors see the file's memory map wherever type and alignment allow: reading is lazy unless `in_memory`,
/// and writing to a tensor changes this process's copy, never the file. Without `in_memory`, do not truncate
/// or overwrite a file in place while its tensors live; replacing it by a rename is fine. Throws FileError,
/// "FILE: entry E, offset O: what came, what was expected" (offset from the start of the file).
StateFile read(const std::string& path, const ReadOptions& options = {});

/// The same of a file's bytes in memory, which are copied; `name` stands for the file in messages.
StateFile read(std::span<const std::byte> bytes, const std::string& name, const ReadOptions& options = {});

/// The network that comes with the library, in safetensors: builtin/README.md. Its metadata says what it is.
std::span<const std::byte> builtin_model();

/// Writes a safetensors file: tensors are listed in the given order, their data is aligned for mapping, and
/// equal input gives equal bytes. The file appears complete or not at all. Tensors that share memory are
/// written one by one. Throws NameError for a repeated or reserved name, TypeError for an unset tensor or one
/// not on the CPU, FileError if it cannot write.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace grapnel::weights
