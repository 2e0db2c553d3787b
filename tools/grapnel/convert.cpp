// grapnel convert: a weight file of any format as safetensors.
#include <cmath>
#include <filesystem>
#include <iostream>
#include <map>

#include "commands.h"
#include "grapnel/engine/ops.h"
#include "grapnel/weights/weights.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct ConvertOptions {
  std::string input, output, dtype;
  bool unwrap = false, json = false;
};

const std::map<std::string, DType> kTypes{
    {"float32", DType::float32}, {"float16", DType::float16}, {"bfloat16", DType::bfloat16}};

/// Throws Error if a value is too large for the type.
Tensor to_finite(const std::string& name, const Tensor& tensor, DType type) {
  const Tensor result = tensor.to(type);
  const auto largest = [](const Tensor& x) {
    return x.numel() == 0 ? 0 : amax(abs(x.to(DType::float64))).item();
  };
  if (std::isinf(largest(result)) && !std::isinf(largest(tensor)))
    throw Error(name + ": holds " + Json(static_cast<float>(largest(tensor))).dump() +
                ", too large for the type asked for");
  return result;
}

void convert(const ConvertOptions& options) {
  if (std::filesystem::path(options.output).extension() != ".safetensors")
    throw FileError(options.output + ": only safetensors files are written; end the name in .safetensors");
  check_output(options.output);
  weights::StateFile file = weights::read(options.input, {.limits = {}, .unwrap = options.unwrap});
  if (!options.dtype.empty())
    for (auto& [name, tensor] : file.tensors)
      if (is_floating(tensor.dtype())) tensor = to_finite(name, tensor, kTypes.at(options.dtype));
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
  command.add_option("--dtype", options->dtype, "store all floating numbers as float32, float16 or bfloat16")
      ->check(CLI::IsMember(kTypes))
      ->type_name("TYPE");
  command.add_flag("--unwrap", options->unwrap,
                   "take the state_dict out of a checkpoint and remove the prefix `module.`");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer("Example: grapnel convert resnet18-f37072fd.pth resnet18.safetensors");
  command.callback([options] { convert(*options); });
}

}  // namespace grapnel::tools
