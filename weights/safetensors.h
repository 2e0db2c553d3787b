// Reading safetensors: a JSON header that places every tensor in the rest of the file. The writer is declared
// in weights.h.
#pragma once

#include "grapnel/weights/mapped_file.h"
#include "grapnel/weights/weights.h"

namespace grapnel::weights {

/// Whether the file begins like safetensors: eight bytes of header length, then '{'.
bool is_safetensors(const MappedFile& file);

/// Reads and checks the header: no repeated names, and ranges that fit the shapes and cover the data exactly,
/// without holes. Throws FileError.
StateFile read_safetensors(const FilePtr& file, const Limits& limits);

}  // namespace grapnel::weights
