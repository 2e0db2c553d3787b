// grapnel evaluate: how many pictures of a folder of class folders a network gets right.
#include <cstdio>
#include <iostream>

#include "commands.h"
#include "evaluation.h"
#include "model.h"
#include "pictures.h"

namespace grapnel::tools {
namespace {

struct EvaluateOptions {
  ModelOptions model;
  PictureOptions prepare;
  std::string folder;
  int batch = 64, workers = 1;
  bool skip_bad = false, json = false;
};

/// The classes of the folder must be the network's: their names are compared where the file tells them.
void check_classes(const std::string& folder, const PictureSet& set, const Model& model) {
  if (static_cast<std::int64_t>(set.class_names().size()) != model.num_classes)
    throw NameError(folder + ": has " + std::to_string(set.class_names().size()) +
                    " class folders, but the network " + std::to_string(model.num_classes) + " outputs");
  if (model.class_names.empty()) return;
  for (std::size_t i = 0; i < model.class_names.size(); ++i)
    if (set.class_names()[i] != model.class_names[i])
      throw NameError(folder + ": class " + std::to_string(i) + " is the folder \"" + set.class_names()[i] +
                      "\", but the network's is \"" + model.class_names[i] + "\"");
}

void evaluate_folder(const EvaluateOptions& options) {
  const PictureSet set = PictureSet::open(options.folder);
  const Model model = load_model(options.model);
  check_classes(options.folder, set, model);
  const viz::Preprocess preprocess = options.prepare.applied_to(model.preprocess);
  Loader loader(set, {.batch = options.batch,
                      .augment = {},
                      .preprocess = preprocess,
                      .workers = options.workers,
                      .skip_bad = options.skip_bad});
  Progress progress(loader.batches());
  const Evaluation found =
      evaluate(*model.net, loader, set.class_names().size(), [&] { progress.step("batches"); });
  progress.clear();

  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  if (options.json) {
    Json report{{"model", model.name},
                {"weights", model.weights},
                {"folder", options.folder},
                {"pictures", found.pictures()},
                {"skipped", loader.skipped().size()},
                {"accuracy", found.accuracy()},
                {"top5_accuracy", share(found.among_five, found.pictures())},
                {"loss", found.loss()},
                {"classes", Json::array()}};
    for (std::size_t i = 0; i < found.seen.size(); ++i)
      report["classes"].push_back({{"name", set.class_names()[i]},
                                   {"pictures", found.seen[i]},
                                   {"accuracy", share(found.correct[i], found.seen[i])}});
    print(report);
    return;
  }
  const auto line = [](const std::string& name, double accuracy, std::int64_t pictures) {
    char text[64];
    std::snprintf(text, sizeof text, "%7.2f %%  of %7lld  ", 100 * accuracy,
                  static_cast<long long>(pictures));
    std::cout << text << name << '\n';
  };
  for (std::size_t i = 0; i < found.seen.size(); ++i)
    line(set.class_names()[i], share(found.correct[i], found.seen[i]), found.seen[i]);
  line("all, loss " + Json(static_cast<float>(found.loss())).dump(), found.accuracy(), found.pictures());
  if (!loader.skipped().empty()) std::cout << loader.skipped().size() << " broken pictures skipped\n";
}

}  // namespace

void add_evaluate(CLI::App& program) {
  const auto options = std::make_shared<EvaluateOptions>();
  CLI::App& command = *program.add_subcommand("evaluate", "Accuracy on a folder of class folders");
  command
      .add_option("folder", options->folder,
                  "a folder, or a .tar, with one folder of pictures for each class")
      ->required()
      ->type_name("DIR");
  add_model_options(command, options->model);
  add_picture_options(command, options->prepare);
  command.add_option("--batch", options->batch, "pictures at once")
      ->check(CLI::Range(1, 65536))
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--workers", options->workers, "threads that read and prepare pictures")
      ->check(CLI::Range(1, 256))
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--skip-bad", options->skip_bad, "leave out pictures that cannot be read, and count them");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer(
      "The folders, sorted by name, are the network's outputs in order.\n"
      "Example: grapnel evaluate test --weights model.safetensors");
  command.callback([options] { evaluate_folder(*options); });
}

}  // namespace grapnel::tools
