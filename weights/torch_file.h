// The two containers of torch.save: a zip archive (since torch 1.6), and before that pickles and data in one
// stream.
#pragma once

#include "grapnel/weights/mapped_file.h"
#include "grapnel/weights/weights.h"

namespace grapnel::weights {

/// Whether the file begins like a zip archive.
bool is_zip(const MappedFile& file);
/// ROOT/data.pkl, ROOT/data/KEY for each storage, ROOT/byteorder. Refuses TorchScript archives, which hold
/// code. Throws FileError.
StateFile read_torch_zip(const FilePtr& file, const ReadOptions& options);

/// Whether the file begins with the pickle of torch.save's magic number.
bool is_torch_legacy(const MappedFile& file);
/// Pickles of the magic number, the protocol version, facts about the system, the object and the list of
/// storage keys; then for each key a 64-bit count of elements and the data. Throws FileError.
StateFile read_torch_legacy(const FilePtr& file, const ReadOptions& options);

}  // namespace grapnel::weights
