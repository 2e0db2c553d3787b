// grapnel preprocess: the tensor a network gets to see for a picture.
#include <iostream>

#include "commands.h"
#include "grapnel/viz/codec.h"
#include "grapnel/viz/npy.h"
#include "output.h"
#include "pictures.h"

namespace grapnel::tools {
namespace {

struct PreprocessOptions {
  PictureOptions prepare;
  std::string picture, output;
  bool json = false;
};

void preprocess(const PreprocessOptions& options) {
  check_output(options.output);
  const Tensor input = viz::preprocess(viz::read_image(options.picture), options.prepare.applied_to({}));
  viz::write_npy(options.output, input);
  if (options.json)
    print({{"picture", options.picture}, {"output", options.output}, {"shape", to_json(input.shape())}});
  else
    std::cout << options.output << ": float32 " << to_string(input.shape()) << '\n';
}

}  // namespace

void add_preprocess(CLI::App& program) {
  const auto options = std::make_shared<PreprocessOptions>();
  CLI::App& command = *program.add_subcommand("preprocess", "A picture as the network's input, a .npy file");
  command.add_option("picture", options->picture, "a PNG or JPEG file")->required()->type_name("PICTURE");
  command.add_option("--output", options->output, "where the (1,3,H,W) float32 array goes")
      ->required()
      ->type_name("FILE.npy");
  add_picture_options(command, options->prepare, "224");
  command.add_flag("--json", options->json, "one JSON object instead of text");
  command.footer(
      "Resized as by Pillow, centre crop, divided by 255, ImageNet's mean and standard deviation.\n"
      "Example: grapnel preprocess dog.jpg --output dog.npy");
  command.callback([options] { preprocess(*options); });
}

}  // namespace grapnel::tools
