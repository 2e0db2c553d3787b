// The commands of `grapnel`: each function adds one to the program, with its options, help and action.
#pragma once

#include <CLI/CLI.hpp>

namespace grapnel::tools {

void add_classify(CLI::App& program);
void add_explain(CLI::App& program);
void add_features(CLI::App& program);
void add_preprocess(CLI::App& program);
void add_run(CLI::App& program);
void add_inspect(CLI::App& program);
void add_convert(CLI::App& program);
void add_summary(CLI::App& program);
void add_bench(CLI::App& program);
void add_graph(CLI::App& program);
void add_train(CLI::App& program);
void add_evaluate(CLI::App& program);
void add_report(CLI::App& program);
void add_pointing_game(CLI::App& program);
void add_tune(CLI::App& program);

}  // namespace grapnel::tools
