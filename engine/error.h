// Every exception the library throws. A message names the operation, what came, what was expected, what to
// do.
#pragma once

#include <stdexcept>
#include <string>

namespace grapnel {

/// Base of all errors thrown by Grapnel.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Sizes, ranks or dimensions that do not fit an operation.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// An element type an operation does not take.
class TypeError : public Error {
 public:
  using Error::Error;
};

/// A misuse of the graph: no gradient to compute, values already freed, changed in place, and the like.
class AutogradError : public Error {
 public:
  using Error::Error;
};

/// A name (module, parameter, layer, device, kernel) that does not exist.
class NameError : public Error {
 public:
  using Error::Error;
};

/// A device that cannot be used, is out of memory, or reports that something went wrong; tensors on
/// different devices.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// A file that cannot be read or written, or whose content is refused.
class FileError : public Error {
 public:
  using Error::Error;
};

}  // namespace grapnel
