// What the values of a torch pickle mean: a dictionary of tensors, each a strided view of a storage.
#pragma once

#include "grapnel/weights/pickle.h"
#include "grapnel/weights/torch_storages.h"
#include "grapnel/weights/weights.h"

namespace grapnel::weights {

/// Checks all tensors, then makes them; the container must have found every storage. Tensors that shared a
/// storage share it again. Throws FileError before any tensor is made.
StateFile read_torch_state(const Pickle& pickle, TorchStorages& storages, const ReadOptions& options,
                           std::string format);

}  // namespace grapnel::weights
