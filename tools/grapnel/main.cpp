// The program `grapnel`: gathers the commands and turns every error into one line and exit code 2.
//
// Read next: a command, such as classify.cpp; model.h, pictures.h and output.h are what they share.
#include <algorithm>
#include <iostream>
#include <new>
#include <optional>
#include <string>

#include "commands.h"
#include "grapnel/engine/error.h"
#include "grapnel/engine/fusion.h"
#include "grapnel/nn/tune.h"
#include "grapnel/viz/file.h"
#include "output.h"

namespace {

constexpr int kFailed = 2, kInterrupted = 130;

/// "grapnel classify: message", on one line whatever the message holds.
int fail(const CLI::App& program, std::string message, int code = kFailed) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  const auto chosen = program.get_subcommands();
  std::cerr << "grapnel" << (chosen.empty() ? "" : " " + chosen.front()->get_name()) << ": " << message
            << '\n';
  return code;
}

void use_choices(const std::string& path) {
  const auto bytes = grapnel::viz::read_file(path, 1 << 20);
  try {
    grapnel::use_conv_choices({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } catch (const grapnel::Error& error) {
    throw grapnel::FileError(path + ": " + error.what());
  }
}

int run(CLI::App& program, int argc, char** argv) {
  try {
    program.parse(argc, argv);
    if (!std::cout.flush()) throw grapnel::FileError("standard output: cannot be written");
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return program.exit(error);  // --help, --version
    return fail(program, error.what() + std::string("; --help tells the options"));
  } catch (const grapnel::tools::Interrupted& error) {
    return fail(program, error.what(), kInterrupted);
  } catch (const std::bad_alloc&) {
    return fail(program, "out of memory");
  } catch (const std::exception& error) {
    return fail(program, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App program("Classifies pictures with a ResNet or VGG and shows where the network looked.", "grapnel");
  program.set_version_flag("--version", "grapnel " GRAPNEL_VERSION);
  program.require_subcommand(1);
  program.footer(
      "`grapnel COMMAND --help` tells a command's options. Exit code: 0, or 2 for anything wrong.");
  for (const auto add :
       {grapnel::tools::add_classify, grapnel::tools::add_explain, grapnel::tools::add_features,
        grapnel::tools::add_preprocess, grapnel::tools::add_run, grapnel::tools::add_inspect,
        grapnel::tools::add_convert, grapnel::tools::add_summary, grapnel::tools::add_bench,
        grapnel::tools::add_graph, grapnel::tools::add_train, grapnel::tools::add_evaluate,
        grapnel::tools::add_report, grapnel::tools::add_pointing_game, grapnel::tools::add_tune})
    add(program);
  // All that runs a network runs fused unless told otherwise.
  std::optional<grapnel::Fusion> fusion(std::in_place);
  for (CLI::App* command : program.get_subcommands({})) {
    if (!command->get_option_no_throw("--threads")) continue;
    command->add_flag_callback(
        "--eager", [&fusion] { fusion.reset(); },
        "compute each layer on its own, not together with what follows it");
    command
        ->add_option_function<std::string>("--choices", use_choices,
                                           "how convolutions are computed, a file that `grapnel tune` wrote")
        ->type_name("FILE");
  }
  return run(program, argc, argv);
}
