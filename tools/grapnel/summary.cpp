// grapnel summary: the layers of a network, their output shapes, parameters and multiply-adds.
#include "grapnel/nn/summary.h"

#include <iostream>

#include "commands.h"
#include "grapnel/nn/init.h"
#include "model.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct SummaryOptions {
  ModelOptions model;
  nn::NetOptions size;
  std::int64_t picture = 224, batch = 1;
  bool json = false;
};

void summarize(const SummaryOptions& options) {
  const nn::SkipInit shapes_are_enough;
  const Model model = load_or_init_model(options.model, options.size);
  const nn::Summary summary = nn::summarize(*model.net, {options.batch, 3, options.picture, options.picture});
  if (!options.json) {
    std::cout << nn::to_string(summary);
    return;
  }
  Json layers = Json::array();
  for (const nn::LayerSummary& layer : summary.layers)
    layers.push_back({{"name", layer.name},
                      {"type", layer.type},
                      {"settings", layer.settings},
                      {"output", to_json(layer.output)},
                      {"parameters", layer.parameters},
                      {"multiply_adds", layer.multiply_adds}});
  print({{"model", model.name},
         {"classes", model.num_classes},
         {"parameters", summary.parameters},
         {"multiply_adds", summary.multiply_adds},
         {"layers", layers}});
}

}  // namespace

void add_summary(CLI::App& program) {
  const auto options = std::make_shared<SummaryOptions>();
  CLI::App& command = *program.add_subcommand("summary", "Layers, shapes, parameters and multiply-adds");
  add_model_options(command, options->model);
  add_size_options(command, options->size);
  command.add_option("--size", options->picture, "height and width of the input")
      ->check(CLI::Range(1, 8192))
      ->type_name("PIXELS")
      ->capture_default_str();
  command.add_option("--batch", options->batch, "pictures at once")
      ->check(CLI::Range(1, 65536))
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer("Needs no weights.\nExample: grapnel summary --model resnet34 --size 224");
  command.callback([options] { summarize(*options); });
}

}  // namespace grapnel::tools
