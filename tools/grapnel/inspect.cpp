// grapnel inspect: what a weight file holds, and which network it fits.
#include <iomanip>
#include <iostream>

#include "commands.h"
#include "model.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct InspectOptions {
  std::string file;
  bool unwrap = false, json = false;
};

/// What is to be told about a file, gathered once for both forms of output.
struct Findings {
  weights::StateFile file;
  std::optional<std::string> model;
  std::int64_t elements = 0, bytes = 0;
};

Findings look(const InspectOptions& options) {
  Findings findings;
  findings.file = weights::read(options.file, {.limits = {}, .unwrap = options.unwrap});
  findings.model = recognise(findings.file.tensors);
  for (const auto& [name, tensor] : findings.file.tensors) {
    findings.elements += tensor.numel();
    findings.bytes += tensor.numel() * static_cast<std::int64_t>(item_size(tensor.dtype()));
  }
  return findings;
}

void print_json(const std::string& path, const Findings& findings) {
  Json tensors = Json::array();
  for (const auto& [name, tensor] : findings.file.tensors)
    tensors.push_back(
        {{"name", name}, {"dtype", grapnel::name(tensor.dtype())}, {"shape", to_json(tensor.shape())}});
  Json report{{"file", path}, {"format", findings.file.format}};
  report["model"] = findings.model ? Json(*findings.model) : Json();
  if (findings.model) report["classes"] = nn::num_classes_of(*findings.model, findings.file.tensors);
  report["elements"] = findings.elements;
  report["bytes"] = findings.bytes;
  report["metadata"] = findings.file.metadata;
  report["tensors"] = tensors;
  print(report);
}

void print_text(const std::string& path, const Findings& findings) {
  std::size_t width = 0;
  for (const auto& entry : findings.file.tensors) width = std::max(width, entry.first.size());
  for (const auto& [name, tensor] : findings.file.tensors)
    std::cout << std::left << std::setw(static_cast<int>(width)) << name << "  " << std::setw(8)
              << grapnel::name(tensor.dtype()) << "  " << to_string(tensor.shape()) << '\n';
  for (const auto& [key, value] : findings.file.metadata) std::cout << key << " = " << value << '\n';
  std::cout << path << ": " << findings.file.format << ", " << findings.file.tensors.size() << " tensors, "
            << findings.elements << " elements, " << findings.bytes << " bytes; ";
  if (findings.model)
    std::cout << "a " << *findings.model << " with "
              << nn::num_classes_of(*findings.model, findings.file.tensors) << " classes\n";
  else
    std::cout << "fits none of the networks\n";
}

void inspect(const InspectOptions& options) {
  const Findings findings = look(options);
  options.json ? print_json(options.file, findings) : print_text(options.file, findings);
}

}  // namespace

void add_inspect(CLI::App& program) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App& command = *program.add_subcommand("inspect", "What a weight file holds, and what it fits");
  command.add_option("file", options->file, "a .pth or .safetensors file")->required()->type_name("FILE");
  command.add_flag("--unwrap", options->unwrap,
                   "look inside a checkpoint: its state_dict, without the prefix `module.`");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer("Example: grapnel inspect resnet18-f37072fd.pth");
  command.callback([options] { inspect(*options); });
}

}  // namespace grapnel::tools
