#include "explain_files.h"

#include <cstdio>
#include <iostream>

#include "grapnel/viz/codec.h"
#include "grapnel/viz/file.h"
#include "grapnel/viz/npy.h"
#include "model.h"

namespace grapnel::tools {
namespace {

namespace fs = std::filesystem;

viz::GradientPart parse_part(const std::string& text) {
  if (text == "both") return viz::GradientPart::both;
  if (text == "positive") return viz::GradientPart::positive;
  if (text == "negative") return viz::GradientPart::negative;
  if (text == "absolute") return viz::GradientPart::absolute;
  throw NameError("no part of a gradient is called \"" + text +
                  "\"; there are both, positive, negative, absolute");
}

Json entry_of(const viz::Explanation& explanation, const viz::ClassNames& names) {
  const Prediction target{explanation.target, explanation.probability, explanation.score};
  return {{"method", viz::name(explanation.method)},
          {"layer", explanation.layer.empty() ? Json() : Json(explanation.layer)},
          {"target", to_json(target, names)},
          {"flat", explanation.heat.flat}};
}

}  // namespace

ExplanationStyle parse_style(const std::string& colormap, const std::vector<double>& blend,
                             const std::vector<std::string>& gradients) {
  ExplanationStyle style{viz::parse_colormap(colormap), {blend.at(0), blend.at(1)}, {}};
  for (const std::string& text : gradients) style.gradients.emplace_back(text, parse_part(text));
  return style;
}

void clear_result(const fs::path& folder) {
  make_folder(folder);
  const fs::path result = folder / "result.json";
  check_output(result);
  std::error_code error;
  fs::remove(result, error);
  if (error) throw FileError(result.string() + ": cannot be replaced: " + error.message());
}

void write_result(const fs::path& folder, const Json& result) {
  const std::string text = to_text(result);
  viz::write_file(folder / "result.json", text);
}

Json write_explanation(const fs::path& folder, const std::string& stem, const viz::Explanation& explanation,
                       const viz::Image& picture, const viz::ClassNames& names, bool with_layer,
                       const ExplanationStyle& style) {
  std::string base = stem + "." + file_name_part(viz::name(explanation.method)) + "." +
                     std::to_string(explanation.target) + "-" +
                     file_name_part(names.name(explanation.target));
  if (with_layer && !explanation.layer.empty()) base += "." + file_name_part(explanation.layer);

  Json files;
  const auto write_picture = [&](const std::string& kind, const viz::Image& image) {
    files[kind] = base + "." + kind + ".png";
    viz::write_image(folder / files[kind].get<std::string>(), image);
  };
  const viz::Heatmap& heat = explanation.heat;
  write_picture("overlay", viz::overlay(picture, heat, style.colormap, style.blend));
  write_picture("heatmap", heat.flat ? viz::Image(heat.map.height, heat.map.width, 3)
                                     : viz::colorize(heat.map, style.colormap));
  if (explanation.gradient.defined())
    for (const auto& [part, which] : style.gradients)
      write_picture(which == viz::GradientPart::both ? "gradient" : "gradient-" + part,
                    viz::gradient_picture(explanation.gradient, which));
  files["map"] = base + ".npy";
  viz::write_npy(folder / files["map"].get<std::string>(), heat.map);

  Json entry = entry_of(explanation, names);
  entry["files"] = files;
  return entry;
}

void print_explanation(const fs::path& folder, const Json& entry) {
  const Json& target = entry["target"];
  char probability[16];
  std::snprintf(probability, sizeof probability, "%.4f", target["probability"].get<double>());
  std::cout << (folder / entry["files"]["overlay"].get<std::string>()).string() << ": "
            << entry["method"].get<std::string>();
  if (!entry["layer"].is_null()) std::cout << " at " << entry["layer"].get<std::string>();
  std::cout << ", " << target["label"].get<std::string>() << " " << probability
            << (entry["flat"].get<bool>() ? ", flat: nothing to see" : "") << '\n';
}

}  // namespace grapnel::tools
