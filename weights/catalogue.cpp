// Addresses and checksums of torchvision's files. tools/get_weights.sh repeats them, and a test compares the
// two.
#include "grapnel/weights/catalogue.h"

#include <array>

namespace grapnel::weights {

std::span<const CatalogueEntry> catalogue() {
  static constexpr std::array<CatalogueEntry, 3> kEntries{{
      {"resnet18", "resnet18-f37072fd.pth", "https://download.pytorch.org/models/resnet18-f37072fd.pth",
       "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 46'830'571, 11'689'512},
      {"resnet34", "resnet34-b627a593.pth", "https://download.pytorch.org/models/resnet34-b627a593.pth",
       "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f", 87'319'819, 21'797'672},
      {"vgg16", "vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth",
       "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", 553'433'881, 138'357'544},
  }};
  return kEntries;
}

}  // namespace grapnel::weights
