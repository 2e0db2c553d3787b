// grapnel features: what layers make of a picture, every channel a small picture on one sheet.
#include "grapnel/viz/features.h"

#include <cstdio>
#include <iostream>

#include "commands.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/grid.h"
#include "model.h"
#include "output.h"
#include "pictures.h"

namespace grapnel::tools {
namespace {

struct FeaturesOptions {
  ModelOptions model;
  PictureOptions prepare;
  std::string picture, out, colormap, scale = "each";
  std::vector<std::string> layers;
  bool all_convs = false, json = false;
};

/// "04_layer1.0.conv2.png": sorted by name, the files are in the order of execution.
std::string file_name(std::size_t number, const std::string& layer) {
  char prefix[24];
  std::snprintf(prefix, sizeof prefix, "%02zu_", number);
  return prefix + file_name_part(layer.empty() ? "output" : layer) + ".png";
}

viz::FeatureGridOptions grid_options(const FeaturesOptions& options) {
  viz::FeatureGridOptions grid;
  grid.grid.scale = options.scale == "each" ? viz::GridScale::each : viz::GridScale::together;
  if (!options.colormap.empty()) grid.colormap = viz::parse_colormap(options.colormap);
  return grid;
}

void features(const FeaturesOptions& options) {
  const viz::FeatureGridOptions grid = grid_options(options);
  const viz::Image picture = viz::read_image(options.picture);
  const Model model = load_model(options.model);
  const Tensor x = viz::preprocess(picture, options.prepare.applied_to(model.preprocess));
  const auto layers = options.all_convs ? viz::all_convolutions(*model.net) : options.layers;
  const auto captured = viz::capture_features(*model.net, x, layers);

  std::vector<viz::Image> sheets;  // all of them before the first is written: a layer may have no maps
  for (const viz::FeatureMaps& maps : captured) {
    if (maps.activation.rank() != 4)
      throw ShapeError(maps.layer + " returns " + to_string(maps.activation.shape()) +
                       ", which are not maps (1,K,h,w)");
    sheets.push_back(viz::feature_grid(maps.activation, grid));
  }
  make_folder(options.out);
  Json report{{"model", model.name}, {"weights", model.weights}, {"picture", options.picture}};
  report["layers"] = Json::array();
  Progress progress(sheets.size());
  for (std::size_t i = 0; i < sheets.size(); ++i) {
    const std::filesystem::path file =
        std::filesystem::path(options.out) / file_name(i + 1, captured[i].layer);
    progress.step(file.string());
    viz::write_image(file, sheets[i]);
    report["layers"].push_back({{"layer", captured[i].layer},
                                {"shape", to_json(captured[i].activation.shape())},
                                {"file", file.string()}});
    if (options.json) continue;
    progress.clear();
    std::cout << file.string() << ": " << to_string(captured[i].activation.shape()) << '\n';
  }
  if (options.json) print(report);
}

}  // namespace

void add_features(CLI::App& program) {
  const auto options = std::make_shared<FeaturesOptions>();
  CLI::App& command = *program.add_subcommand("features", "Feature maps of layers as grids");
  command.add_option("picture", options->picture, "a PNG or JPEG file")->required()->type_name("PICTURE");
  add_model_options(command, options->model);
  CLI::Option_group& which = *command.add_option_group("layers");
  which.add_option("--layer", options->layers, "dotted name, as in PyTorch; several by comma or repetition")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME");
  which.add_flag("--all-convs", options->all_convs, "every convolution");
  which.require_option(1);
  command.add_option("--out", options->out, "the folder for NN_layer.name.png, NN in order of execution")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--scale", options->scale,
                  "each: every map by its own range; together: all maps of a layer by one range")
      ->check(CLI::IsMember({"each", "together"}))
      ->type_name("HOW")
      ->capture_default_str();
  command
      .add_option("--colormap", options->colormap,
                  "jet, viridis, inferno, turbo or gray; rounded grey without")
      ->type_name("NAME");
  add_picture_options(command, options->prepare);
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer(
      "`grapnel summary` lists the layers.\n"
      "Example: grapnel features dog.jpg --model resnet34 --all-convs --out maps");
  command.callback([options] { features(*options); });
}

}  // namespace grapnel::tools
