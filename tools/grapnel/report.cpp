// grapnel report: everything about a picture on one page.
#include "grapnel/viz/report.h"

#include <cstdio>
#include <iostream>

#include "commands.h"
#include "explain_files.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/features.h"
#include "grapnel/viz/file.h"
#include "grapnel/viz/grid.h"
#include "model.h"
#include "pictures.h"

namespace grapnel::tools {
namespace {

struct ReportOptions {
  ModelOptions model;
  PictureOptions prepare;
  std::vector<std::string> pictures, layers;
  std::string out, target = "top1";
  bool json = false;
};

constexpr int kShownWidth = 224;  ///< of a picture on the page

viz::ReportSection prediction(const std::string& file, const viz::Image& seen,
                              const std::vector<Prediction>& ranked, const viz::ClassNames& names) {
  viz::ReportSection section{file,
                             "What the network gets to see, and the classes it finds most probable.",
                             {{seen, file, to_string(seen)}},
                             {},
                             kShownWidth};
  for (std::size_t i = 0; i < std::min<std::size_t>(5, ranked.size()); ++i)
    section.bars.push_back({names.unique_name(ranked[i].index), ranked[i].probability});
  return section;
}

/// Every method that applies to this network; the others say in a sentence why not.
viz::ReportSection explanations(nn::Module& net, const Tensor& x, const viz::Image& seen, int target,
                                const std::string& layer, const viz::ClassNames& names) {
  viz::ReportSection section{
      "Where it looked for \"" + names.unique_name(target) + "\"",
      "Red is where the class's evidence is; class activation maps are those of " + layer + ".",
      {},
      {},
      kShownWidth};
  const auto methods = viz::all_methods();
  viz::Observation observation(net, x, viz::observe_for(methods, {layer}));
  for (const viz::Method method : methods) {
    try {
      for (const viz::Explanation& found : viz::explain(observation, method, target)) {
        const std::string name(viz::name(method));
        section.pictures.push_back({viz::overlay(seen, found.heat, viz::Colormap::jet, {}), name,
                                    found.heat.flat ? "flat: nothing to see" : ""});
        if (found.gradient.defined())
          section.pictures.push_back({viz::gradient_picture(found.gradient), name, "the gradient itself"});
      }
    } catch (const Error& error) {
      section.text +=
          std::string(" ") + std::string(viz::name(method)) + " does not apply: " + error.what() + ".";
    }
  }
  return section;
}

viz::ReportSection features(nn::Module& net, const Tensor& x, const std::vector<std::string>& layers) {
  viz::ReportSection section{"What its layers make of the picture",
                             "Every channel is one small map, bright where it is high.",
                             {},
                             {},
                             2 * kShownWidth};
  for (const viz::FeatureMaps& maps : viz::capture_features(net, x, layers))
    if (maps.activation.rank() == 4)
      section.pictures.push_back(
          {viz::feature_grid(maps.activation, {}), maps.layer, to_string(maps.activation.shape())});
  return section;
}

void report(const ReportOptions& options) {
  check_output(options.out);
  const auto pictures = find_pictures(options.pictures);
  check_pictures(pictures);
  const Model model = load_model(options.model);
  const viz::ClassNames names = class_names(options.model, model);
  const viz::Preprocess preprocess = options.prepare.applied_to(model.preprocess);
  const std::string cam_layer = nn::default_cam_layer(model.name);

  std::vector<std::string> layers = options.layers;
  if (const auto convolutions = viz::all_convolutions(*model.net); layers.empty())
    layers = {convolutions.front(), convolutions[convolutions.size() / 4]};

  std::vector<viz::ReportSection> sections;
  Json found = Json::array();
  Progress progress(pictures.size());
  for (const auto& picture : pictures) {
    progress.step(picture.string());
    const viz::Image seen = viz::preprocess_image(viz::read_image(picture), preprocess);
    const Tensor x = viz::normalize(seen, preprocess);
    const Tensor logits = [&] {
      const NoGrad no_grad;
      return (*model.net)(x);
    }();
    const std::vector<Prediction> classes = ranked(logits);
    sections.push_back(prediction(picture.filename().string(), seen, classes, names));
    for (const int target : viz::resolve_targets(options.target, logits, &names))
      sections.push_back(explanations(*model.net, x, seen, target, cam_layer, names));
    sections.push_back(features(*model.net, x, layers));
    found.push_back({{"picture", picture.string()}, {"best", to_json(classes.front(), names)}});
  }
  const std::string page = viz::html_report("What " + model.name + " sees, and where", sections);
  viz::write_file(options.out, page);
  progress.clear();
  if (options.json)
    print({{"model", model.name}, {"weights", model.weights}, {"page", options.out}, {"pictures", found}});
  else
    std::cout << options.out << '\n';
}

}  // namespace

void add_report(CLI::App& program) {
  const auto options = std::make_shared<ReportOptions>();
  CLI::App& command = *program.add_subcommand("report", "Everything about pictures on one HTML page");
  command.add_option("pictures", options->pictures, "PNG or JPEG files, or folders of them")
      ->required()
      ->type_name("PICTURE");
  add_model_options(command, options->model);
  add_class_names_option(command, options->model);
  command.add_option("--target", options->target, "class number, WordNet id or label, top1..topN")
      ->type_name("CLASS")
      ->capture_default_str();
  command
      .add_option("--layer", options->layers,
                  "whose feature maps to show; by default the first convolution and one behind it")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME");
  command.add_option("--out", options->out, "the page, with all pictures inside")
      ->required()
      ->type_name("PAGE.html");
  add_picture_options(command, options->prepare);
  command.add_flag("--json", options->json, "one JSON object instead of the page's name");
  command.footer("Example: grapnel report cat.jpg --out cat.html");
  command.callback([options] { report(*options); });
}

}  // namespace grapnel::tools
