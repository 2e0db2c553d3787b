// The built-in network's file, inside the library. The assembler copies it in: as text it would take the
// compiler minutes.
#include "grapnel/weights/weights.h"

// GRAPNEL_BUILTIN_MODEL, from CMake, is the path of the file.
asm(".pushsection .rodata\n"
    ".balign 64\n"
    ".hidden grapnel_builtin_model\n"
    ".global grapnel_builtin_model\n"
    "grapnel_builtin_model:\n"
    ".incbin \"" GRAPNEL_BUILTIN_MODEL
    "\"\n"
    ".hidden grapnel_builtin_model_end\n"
    ".global grapnel_builtin_model_end\n"
    "grapnel_builtin_model_end:\n"
    ".popsection\n");

extern "C" const std::byte grapnel_builtin_model[], grapnel_builtin_model_end[];

namespace grapnel::weights {

std::span<const std::byte> builtin_model() {
  return {grapnel_builtin_model, grapnel_builtin_model_end};
}

}  // namespace grapnel::weights
