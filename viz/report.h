// A page that shows pictures: one HTML file with everything inside, to be looked at in any browser or sent to
// somebody.
#pragma once

#include <string>
#include <vector>

#include "grapnel/viz/image.h"

namespace grapnel::viz {

struct ReportPicture {
  Image image;
  std::string title, text;  ///< `text` may be empty
};

/// A share of 1 that is drawn as a bar.
struct ReportBar {
  std::string label;
  double share;
};

struct ReportSection {
  std::string title, text;
  std::vector<ReportPicture> pictures;
  std::vector<ReportBar> bars;
  int picture_width = 224;  ///< on the page, in CSS pixels
};

/// The page. All texts are shown as they are, whatever they hold; pictures are embedded as PNG.
std::string html_report(const std::string& title, const std::vector<ReportSection>& sections);

}  // namespace grapnel::viz
