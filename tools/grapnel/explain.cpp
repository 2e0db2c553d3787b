// grapnel explain: heat maps and gradient pictures that show what the network looked at.
#include "grapnel/viz/explain.h"

#include <algorithm>
#include <iostream>

#include "commands.h"
#include "explain_files.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/features.h"
#include "model.h"
#include "output.h"
#include "pictures.h"

namespace grapnel::tools {
namespace {

struct ExplainCommand {
  ModelOptions model;
  PictureOptions prepare;
  std::vector<std::string> pictures, methods{"gradcam"}, layers, targets{"top1"}, gradients{"both"};
  std::vector<double> blend{0.3, 0.5};
  std::string out, colormap = "jet";
  bool classic_tail = false, json = false;
};

std::vector<viz::Method> parse_methods(const std::vector<std::string>& texts) {
  std::vector<viz::Method> methods;
  const auto add = [&methods](viz::Method method) {
    if (std::ranges::count(methods, method) == 0) methods.push_back(method);
  };
  for (const std::string& text : texts) {
    if (text == "all")
      std::ranges::for_each(viz::all_methods(), add);
    else
      add(viz::parse_method(text));
  }
  return methods;
}

/// The layers by name; "features.*" stands for all children of "features".
std::vector<std::string> find_layers(const ExplainCommand& options, const Model& model) {
  if (options.layers.empty()) return {nn::default_cam_layer(model.name)};
  std::vector<std::string> layers;
  for (const std::string& layer : options.layers) {
    if (layer.ends_with(".*")) {
      const auto children = viz::children_of(*model.net, layer.substr(0, layer.size() - 2));
      layers.insert(layers.end(), children.begin(), children.end());
    } else {
      layers.push_back(layer);
    }
  }
  return layers;
}

/// What each --target means for one picture, without repetitions. A label may itself hold a comma, so the
/// whole text is tried before its parts.
std::vector<int> find_targets(const std::vector<std::string>& texts, const Tensor& logits,
                              const viz::ClassNames& names) {
  std::vector<int> targets;
  const auto add = [&](const std::string& text) {
    for (int target : viz::resolve_targets(text, logits, &names))
      if (std::ranges::count(targets, target) == 0) targets.push_back(target);
  };
  for (const std::string& text : texts) {
    try {
      add(text);
    } catch (const NameError&) {
      if (text.find(',') == std::string::npos) throw;
      for (const std::string& part : CLI::detail::split(text, ',')) add(part);
    }
  }
  return targets;
}

Json settings(const ExplainCommand& options, const std::vector<std::string>& layers,
              const viz::Preprocess& preprocess) {
  return {{"methods", options.methods},
          {"layers", layers},
          {"targets", options.targets},
          {"colormap", options.colormap},
          {"blend", options.blend},
          {"gradients", options.gradients},
          {"classic_tail", options.classic_tail},
          {"resize", preprocess.resize},
          {"crop", preprocess.crop},
          {"stretch", preprocess.stretch}};
}

void explain(const ExplainCommand& options) {
  const std::vector<viz::Method> methods = parse_methods(options.methods);
  const ExplanationStyle style = parse_style(options.colormap, options.blend, options.gradients);
  const auto pictures = find_pictures(options.pictures);
  const auto stems = unique_stems(pictures);
  check_pictures(pictures);
  const Model model = load_model(options.model);
  const viz::ClassNames names = class_names(options.model, model);
  const viz::Preprocess preprocess = options.prepare.applied_to(model.preprocess);
  const auto layers = find_layers(options, model);
  const viz::ObserveOptions observe = viz::observe_for(methods, layers);

  Json explanations = Json::array();
  Progress progress(pictures.size());
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    progress.step(pictures[i].string());
    const viz::Image seen_picture = viz::preprocess_image(viz::read_image(pictures[i]), preprocess);
    viz::Observation seen(*model.net, viz::normalize(seen_picture, preprocess), observe);
    std::vector<viz::Explanation> found;  // all of a picture before its first file: a method may not apply
    for (const int target : find_targets(options.targets, seen.logits(), names))
      for (const viz::Method method : methods)
        for (auto& explanation : viz::explain(seen, method, target, {options.classic_tail}))
          found.push_back(std::move(explanation));

    if (i == 0) clear_result(options.out);
    for (const viz::Explanation& explanation : found) {
      Json entry{{"picture", pictures[i].string()}};
      entry.update(write_explanation(options.out, stems[i], explanation, seen_picture, names,
                                     layers.size() > 1, style));
      explanations.push_back(entry);
      if (options.json) continue;
      progress.clear();
      print_explanation(options.out, entry);
    }
  }
  const Json result{{"version", GRAPNEL_VERSION},
                    {"model", model.name},
                    {"weights", model.weights},
                    {"settings", settings(options, layers, preprocess)},
                    {"explanations", explanations}};
  write_result(options.out, result);
  if (options.json) print(result);
}

}  // namespace

void add_explain(CLI::App& program) {
  const auto options = std::make_shared<ExplainCommand>();
  CLI::App& command = *program.add_subcommand("explain", "Heat maps: where the network looked");
  const auto list = [&command](const char* name, std::vector<std::string>& values, const std::string& help) {
    return command.add_option(name, values, help)->allow_extra_args(false)->capture_default_str();
  };
  command.add_option("pictures", options->pictures, "PNG or JPEG files, or folders of them")
      ->required()
      ->type_name("PICTURE|FOLDER");
  add_model_options(command, options->model);
  add_class_names_option(command, options->model);
  std::string methods;
  for (const viz::Method method : viz::all_methods())
    methods += (methods.empty() ? "" : ", ") + std::string(viz::name(method));
  list("--method", options->methods, "all, or several by comma: " + methods)
      ->delimiter(',')
      ->type_name("LIST");
  list("--layer", options->layers,
       "several by comma; `features.*` is all inside. Default: the last maps (layer4, features.29)")
      ->delimiter(',')
      ->type_name("NAME");
  list("--target", options->targets, "class number, WordNet id or label, top1..topN; several by comma")
      ->type_name("CLASS");
  command.add_option("--out", options->out, "the folder for the results")->required()->type_name("DIR");
  command.add_option("--colormap", options->colormap, "jet, viridis, inferno, turbo or gray")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--blend", options->blend, "weights of heat map and picture in the overlay")
      ->delimiter(',')
      ->expected(2)
      ->check(CLI::Range(0.0, 100.0))
      ->type_name("H,I")
      ->capture_default_str();
  list("--gradient", options->gradients,
       "of guided, deconvnet, guided-gradcam, saliency: both, positive, negative, absolute; several by comma")
      ->delimiter(',')
      ->type_name("PART");
  command.add_flag(
      "--classic-tail", options->classic_tail,
      "cam only: make the map 8-bit at the layer's size before resizing, as the first script did");
  add_picture_options(command, options->prepare);
  command.add_flag("--json", options->json, "print what result.json holds instead of text");
  command.footer(
      "For each picture, method and target: PICTURE.METHOD.CLASS.overlay.png, .heatmap.png, .npy (float32 "
      "map\n"
      "(H,W) in 0..1) and, where there is one, .gradient.png. result.json lists them and is written last.\n"
      "All pictures are looked at first: if one cannot be read, nothing is written. A flat map (nothing to\n"
      "see) is flagged and not painted.\n"
      "Example: grapnel explain dog.jpg --model resnet18 --method gradcam,guided --target top2 --out out");
  command.callback([options] { explain(*options); });
}

}  // namespace grapnel::tools
