// grapnel classify: the most probable classes of pictures.
#include <cstdio>
#include <iostream>

#include "commands.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/viz/codec.h"
#include "model.h"
#include "output.h"
#include "pictures.h"

namespace grapnel::tools {
namespace {

struct ClassifyOptions {
  ModelOptions model;
  PictureOptions prepare;
  std::vector<std::string> pictures;
  int top = 5;
  bool json = false;
};

void print_text(const std::string& picture, const std::vector<Prediction>& top,
                const viz::ClassNames& names) {
  std::cout << picture << '\n';
  for (const Prediction& prediction : top) {
    char probability[16];
    std::snprintf(probability, sizeof probability, "  %.4f  ", prediction.probability);
    std::cout << probability << names.unique_name(prediction.index) << '\n';
  }
}

void classify(const ClassifyOptions& options) {
  const auto pictures = find_pictures(options.pictures);
  check_pictures(pictures);
  const Model model = load_model(options.model);
  const viz::ClassNames names = class_names(options.model, model);
  const viz::Preprocess preprocess = options.prepare.applied_to(model.preprocess);

  Json report{{"model", model.name}, {"weights", model.weights}, {"pictures", Json::array()}};
  const InferenceMode inference;
  Progress progress(pictures.size());
  for (const auto& picture : pictures) {
    progress.step(picture.string());
    const viz::Image image = viz::read_image(picture);
    std::vector<Prediction> top = ranked((*model.net)(viz::preprocess(image, preprocess)));
    top.resize(std::min(top.size(), static_cast<std::size_t>(options.top)));
    if (!options.json) {
      progress.clear();
      print_text(picture.string(), top, names);
      continue;
    }
    Json predictions = Json::array();
    for (const Prediction& prediction : top) predictions.push_back(to_json(prediction, names));
    report["pictures"].push_back({{"picture", picture.string()},
                                  {"size", {{"height", image.height()}, {"width", image.width()}}},
                                  {"predictions", predictions}});
  }
  if (options.json) print(report);
}

}  // namespace

void add_classify(CLI::App& program) {
  const auto options = std::make_shared<ClassifyOptions>();
  CLI::App& command = *program.add_subcommand("classify", "The most probable classes of pictures");
  command.add_option("pictures", options->pictures, "PNG or JPEG files, or folders of them")
      ->required()
      ->type_name("PICTURE");
  add_model_options(command, options->model);
  add_class_names_option(command, options->model);
  command.add_option("--top", options->top, "how many classes to tell")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("K")
      ->capture_default_str();
  add_picture_options(command, options->prepare);
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer(
      "All pictures are looked at first: if one cannot be read, nothing is classified.\n"
      "Example: grapnel classify dog.jpg --model resnet18 --weights resnet18-f37072fd.pth --top 3");
  command.callback([options] { classify(*options); });
}

}  // namespace grapnel::tools
