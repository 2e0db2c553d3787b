// grapnel pointing-game: do heat maps point at the right one of four pictures?
//
// Four pictures of different classes, each classified rightly and with confidence when it is alone, make a
// 2x2 mosaic. One of the four classes is asked for; the share of the heat that falls into its cell is the
// score (the grid pointing game of Boehle, Fritz and Schiele, CVPR 2021). A map that knows nothing scores 25
// %.
#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>

#include "commands.h"
#include "grapnel/engine/grad_mode.h"
#include "grapnel/engine/ops.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/explain.h"
#include "loader.h"
#include "model.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct GameOptions {
  ModelOptions model;
  std::string folder;
  std::vector<std::string> methods{"gradcam"}, layers;
  int mosaics = 250;
  double confidence = 0.9;
  std::uint64_t seed = 0;
  bool json = false;
};

using Mosaic = std::array<std::size_t, 4>;  // pictures: upper left, upper right, lower left, lower right

viz::Image picture_of(const PictureSet& set, std::size_t i, const Model& model) {
  return viz::preprocess_image(viz::decode_image(set.read(i), set.name(i)), model.preprocess);
}

bool is_sure(const Model& model, const viz::Image& picture, int label, double confidence) {
  const NoGrad no_grad;
  const Prediction best = ranked((*model.net)(viz::normalize(picture, model.preprocess))).front();
  return best.index == label && best.probability >= confidence;
}

/// Draws pictures until every mosaic has four of different classes. Throws Error if the set has not enough.
std::vector<Mosaic> draw_mosaics(const PictureSet& set, const Model& model, const GameOptions& options) {
  std::vector<std::size_t> order(set.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  Generator generator(options.seed);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[generator.bits() % i]);

  std::vector<Mosaic> mosaics;
  std::vector<std::size_t> waiting;
  Progress progress(static_cast<std::size_t>(options.mosaics));
  for (const std::size_t i : order) {
    const bool repeats =
        std::ranges::any_of(waiting, [&](std::size_t j) { return set.label(j) == set.label(i); });
    if (repeats || !is_sure(model, picture_of(set, i, model), set.label(i), options.confidence)) continue;
    waiting.push_back(i);
    if (waiting.size() < 4) continue;
    mosaics.push_back({waiting[0], waiting[1], waiting[2], waiting[3]});
    waiting.clear();
    progress.step("mosaics drawn");
    if (mosaics.size() == static_cast<std::size_t>(options.mosaics)) return mosaics;
  }
  throw Error(options.folder + ": has confidently classified pictures for " + std::to_string(mosaics.size()) +
              " mosaics, not for " + std::to_string(options.mosaics) + "; lower --mosaics or --confidence");
}

viz::Image assemble(const std::array<viz::Image, 4>& cells) {
  const int side = cells[0].height();
  viz::Image mosaic(2 * side, 2 * side, 3);
  for (int cell = 0; cell < 4; ++cell)
    for (int y = 0; y < side; ++y)
      std::ranges::copy_n(cells[static_cast<std::size_t>(cell)].row(y), 3 * side,
                          mosaic.row(cell / 2 * side + y) + cell % 2 * 3 * side);
  return mosaic;
}

/// Of the positive part of the map, at its full size; a flat map knows nothing.
double share_in_cell(const viz::Explanation& found, int cell) {
  const viz::FloatMap map = viz::resize(found.raw, found.heat.map.height, found.heat.map.width);
  double inside = 0, all = 0;
  for (int y = 0; y < map.height; ++y)
    for (int x = 0; x < map.width; ++x) {
      const double heat = std::max(0.0f, map.at(y, x));
      all += heat;
      if (2 * y / map.height == cell / 2 && 2 * x / map.width == cell % 2) inside += heat;
    }
  return all > 0 ? inside / all : 0.25;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void play(const GameOptions& options) {
  const PictureSet set = PictureSet::open(options.folder);
  const Model model = load_model(options.model);
  if (static_cast<std::int64_t>(set.class_names().size()) != model.num_classes ||
      set.class_names().size() < 4)
    throw NameError(options.folder + ": has " + std::to_string(set.class_names().size()) +
                    " class folders, expected the network's " + std::to_string(model.num_classes) +
                    ", at least 4");
  std::vector<viz::Method> methods;
  for (const std::string& name : options.methods) methods.push_back(viz::parse_method(name));
  const std::vector<std::string> layers =
      options.layers.empty() ? std::vector{nn::default_cam_layer(model.name)} : options.layers;

  const std::vector<Mosaic> mosaics = draw_mosaics(set, model, options);
  std::vector<std::vector<double>> shares(methods.size());
  Progress progress(mosaics.size());
  for (std::size_t i = 0; i < mosaics.size(); ++i) {
    progress.step("mosaics");
    std::array<viz::Image, 4> cells;
    for (std::size_t cell = 0; cell < 4; ++cell) cells[cell] = picture_of(set, mosaics[i][cell], model);
    const int asked = static_cast<int>(i % 4);
    viz::Observation seen(*model.net, viz::normalize(assemble(cells), model.preprocess),
                          viz::observe_for(methods, layers));
    for (std::size_t m = 0; m < methods.size(); ++m)
      for (const auto& found :
           viz::explain(seen, methods[m], set.label(mosaics[i][static_cast<std::size_t>(asked)])))
        shares[m].push_back(share_in_cell(found, asked));
  }
  progress.clear();

  Json report{
      {"model", model.name}, {"weights", model.weights}, {"mosaics", mosaics.size()}, {"random", 0.25}};
  for (std::size_t m = 0; m < methods.size(); ++m) {
    double sum = 0;
    for (const double share : shares[m]) sum += share;
    const double mean = sum / static_cast<double>(shares[m].size());
    const std::string name(viz::name(methods[m]));
    report["methods"].push_back(
        {{"method", name}, {"mean_share", mean}, {"median_share", median(shares[m])}});
    if (options.json) continue;
    char line[120];
    std::snprintf(line, sizeof line,
                  "%-16s %5.1f %% of the heat in the right cell (median %.1f %%, random 25 %%)\n",
                  name.c_str(), 100 * mean, 100 * median(shares[m]));
    std::cout << line;
  }
  if (options.json) print(report);
}

}  // namespace

void add_pointing_game(CLI::App& program) {
  const auto options = std::make_shared<GameOptions>();
  CLI::App& command =
      *program.add_subcommand("pointing-game", "Do heat maps point at the right one of four pictures?");
  command
      .add_option("folder", options->folder,
                  "a folder, or a .tar, with one folder of pictures for each class")
      ->required()
      ->type_name("DIR");
  add_model_options(command, options->model);
  command.add_option("--method", options->methods, "several by comma, as in `grapnel explain`")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("LIST")
      ->capture_default_str();
  command.add_option("--layer", options->layers, "by default the last maps (layer4, features.29)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME");
  command.add_option("--mosaics", options->mosaics, "how many to make")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--confidence", options->confidence, "least probability of a picture's own class")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P")
      ->capture_default_str();
  command.add_option("--seed", options->seed, "of the choice of pictures")
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer("Example: grapnel pointing-game test --weights model.safetensors --method gradcam,layercam");
  command.callback([options] { play(*options); });
}

}  // namespace grapnel::tools
