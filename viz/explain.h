// Where a net looked: class activation maps and gradients of one class's score.
//
//   Observation seen(net, x, observe_for({Method::gradcam}, {"layer4"}));
//   for (int target : resolve_targets("top3", seen.logits()))
//     for (const Explanation& found : explain(seen, Method::gradcam, target))
//       write_image("where.png", overlay(picture, found.heat));
//
// A method is one row in explain/methods.cpp and one function in explain/. Read next: explain/README.md.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grapnel/viz/class_names.h"
#include "grapnel/viz/image.h"
#include "grapnel/viz/observation.h"

namespace grapnel::viz {

enum class Method {
  cam,
  gradcam,
  gradcam_plus_plus,
  xgradcam,
  hirescam,
  elementwise,
  layercam,
  guided,
  deconvnet,
  guided_gradcam,
  saliency,
};

/// Every method, in the order above.
std::span<const Method> all_methods();
/// "cam", "gradcam", "gradcam++", "guided-gradcam", ...
std::string_view name(Method method);
/// Throws NameError listing the names.
Method parse_method(std::string_view name);
/// Whether the method explains layers (one explanation each) rather than the input alone.
bool needs_layers(Method method);

/// What to observe so that all these methods can be had from one run. Throws NameError if one of them needs a
/// layer and none is given.
ObserveOptions observe_for(std::span<const Method> methods, std::vector<std::string> layers);

struct ExplainOptions {
  /// CAM only: the first CAM script's tail, which quantises the map to 8 bits at the layer's size and resizes
  /// that, instead of resizing first.
  bool classic_tail = false;
};

struct Explanation {
  Method method;
  int target = 0;
  double score = 0;        ///< logit of the target
  double probability = 0;  ///< softmax of the logits at the target
  std::string layer;       ///< empty for methods that explain the input alone
  FloatMap raw;            ///< the method's values at the layer's size, before resizing and scaling
  Heatmap heat;            ///< in 0..1 at the input's size; an all-zero map stays zero and is flagged flat
  /// (1,3,H,W) for guided, deconvnet, guided_gradcam and saliency, unset for the others. `raw` then is its
  /// largest absolute value over the channels.
  Tensor gradient;
};

/// One explanation for each observed layer, or one for a method without layers. Class activation maps are
/// rectified where the method says so, resized bilinearly to the input (align_corners=false) and brought to
/// 0..1 by min_max. Throws what Observation throws, and Error if it did not observe what the method needs.
std::vector<Explanation> explain(Observation& seen, Method method, int target,
                                 const ExplainOptions& options = {});

/// The classes meant by "281" (an index), a label or WordNet id of `names`, "top3" (the three most likely,
/// best first) or "top2..top4" (those ranks). logits (1,classes). Throws NameError saying what would do.
std::vector<int> resolve_targets(std::string_view text, const Tensor& logits,
                                 const ClassNames* names = nullptr);

/// Which part of a gradient a picture shows.
enum class GradientPart {
  both,      ///< zero is mid-grey: 0.5 + 0.1 (g - mean) / std over all values, as pytorch-grad-cam's pictures
  positive,  ///< max(g, 0) / max g
  negative,  ///< max(-g, 0) / max(-g)
  absolute,  ///< |g| / max |g|
};

/// A gradient (1,3,H,W) as an RGB picture; one without the asked part is black (`both`: mid-grey). Throws
/// ShapeError for another shape and Error for NaN or infinity.
Image gradient_picture(const Tensor& gradient, GradientPart part = GradientPart::both);

}  // namespace grapnel::viz
