// What an exception in a hook looks like to the caller.
#include "grapnel/engine/hooks.h"

#include <exception>

#include "grapnel/engine/error.h"

namespace grapnel {

std::string hook_title(const std::string& kind, const std::string& name, const std::string& owner) {
  return kind + (name.empty() ? "" : " \"" + name + "\"") + (owner.empty() ? "" : " of " + owner);
}

void rethrow_from_hook(const std::string& hook) {
  const std::string where = hook + ": ";
  try {
    throw;
  } catch (const ShapeError& error) {
    std::throw_with_nested(ShapeError(where + error.what()));
  } catch (const TypeError& error) {
    std::throw_with_nested(TypeError(where + error.what()));
  } catch (const AutogradError& error) {
    std::throw_with_nested(AutogradError(where + error.what()));
  } catch (const NameError& error) {
    std::throw_with_nested(NameError(where + error.what()));
  } catch (const FileError& error) {
    std::throw_with_nested(FileError(where + error.what()));
  } catch (const std::exception& error) {
    std::throw_with_nested(Error(where + error.what()));
  }
}

}  // namespace grapnel
