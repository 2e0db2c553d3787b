// grapnel convert: a weight file of any format as safetensors.
#include <filesystem>
#include <iostream>

#include "commands.h"
#include "grapnel/engine/error.h"
#include "grapnel/weights/weights.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct ConvertOptions {
  std::string input, output;
  bool unwrap = false, json = false;
};

void convert(const ConvertOptions& options) {
  if (std::filesystem::path(options.output).extension() != ".safetensors")
    throw FileError(options.output + ": only safetensors files are written; end the name in .safetensors");
  check_output(options.output);
  const weights::StateFile file = weights::read(options.input, {.limits = {}, .unwrap = options.unwrap});
  weights::write_safetensors(options.output, file.tensors, file.metadata);
  if (options.json)
    print({{"input", options.input},
           {"format", file.format},
           {"output", options.output},
           {"tensors", file.tensors.size()}});
  else
    std::cout << options.output << ": " << file.tensors.size() << " tensors from a " << file.format
              << " file\n";
}

}  // namespace

void add_convert(CLI::App& program) {
  const auto options = std::make_shared<ConvertOptions>();
  CLI::App& command = *program.add_subcommand("convert", "A weight file as safetensors");
  command.add_option("input", options->input, "a .pth or .safetensors file")->required()->type_name("IN");
  command.add_option("output", options->output, "the file to write")
      ->required()
      ->type_name("OUT.safetensors");
  command.add_flag("--unwrap", options->unwrap,
                   "take the state_dict out of a checkpoint and remove the prefix `module.`");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer("Example: grapnel convert resnet18-f37072fd.pth resnet18.safetensors");
  command.callback([options] { convert(*options); });
}

}  // namespace grapnel::tools
