// Pictures of graphs, drawn by Graphviz's `dot` if that is installed.
#pragma once

#include <string>

namespace grapnel::tools {

/// The SVG that `dot` makes of a graph in its language. Throws Error if it is not installed or fails.
std::string draw_svg(const std::string& dot);

}  // namespace grapnel::tools
