// grapnel graph: the recorded graph of one forward pass, as a picture or in Graphviz's language.
#include "grapnel/engine/graph.h"

#include "commands.h"
#include "graphviz.h"
#include "grapnel/engine/node.h"
#include "grapnel/engine/ops.h"
#include "grapnel/viz/file.h"
#include "model.h"
#include "output.h"

namespace grapnel::tools {
namespace {

struct GraphOptions {
  ModelOptions model;
  nn::NetOptions size;
  std::int64_t input_size = 64;
  bool train = false;
  std::string out;
};

/// Which module recorded an operation: notes, around each call, how far the numbering of operations is.
class ModuleTrace {
 public:
  ModuleTrace()
      : before_(nn::register_global_forward_pre_hook([this](nn::Module&, const Tensors&) {
          open_.push_back(now());
          return std::nullopt;
        })),
        after_(nn::register_global_forward_hook([this](nn::Module& module, const Tensors&, const Tensors&) {
          calls_.push_back({open_.back(), now(), module.path()});
          open_.pop_back();
          return std::nullopt;
        })) {}

  /// The innermost module's path; "" if it was none.
  std::string module_of(std::uint64_t sequence) const {
    for (const Call& call : calls_)  // calls end from the inside out
      if (call.begin < sequence && sequence < call.end) return call.path;
    return "";
  }

 private:
  struct Call {
    std::uint64_t begin, end;
    std::string path;
  };

  static std::uint64_t now() {
    const Tensor leaf = Tensor::scalar(0).set_requires_grad();
    return (leaf + 0.0).grad_fn()->sequence();
  }

  std::vector<std::uint64_t> open_;
  std::vector<Call> calls_;
  ScopedHook before_, after_;
};

Graph graph_of(nn::Module& net, std::int64_t input_size) {
  Generator generator(0);
  const ModuleTrace trace;
  const Tensor logits = net(Tensor::randn({1, 3, input_size, input_size}, generator));
  Graph graph = describe_graph({logits}, net.named_parameters());
  for (GraphNode& node : graph.nodes)
    node.module = node.leaf ? node.name.substr(0, node.name.rfind('.')) : trace.module_of(node.sequence);
  return graph;
}

void draw(const GraphOptions& options) {
  const std::filesystem::path path = options.out;
  if (path.extension() != ".svg" && path.extension() != ".dot")
    throw FileError(options.out + ": expected a name that ends with .svg or .dot");
  check_output(path);
  const Model model = load_or_init_model(options.model, options.size);
  model.net->train(options.train);
  const std::string dot = to_dot(graph_of(*model.net, options.input_size));
  const std::string text = path.extension() == ".svg" ? draw_svg(dot) : dot;
  viz::write_file(path, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

}  // namespace

void add_graph(CLI::App& program) {
  const auto options = std::make_shared<GraphOptions>();
  CLI::App& command =
      *program.add_subcommand("graph", "The autograd graph of one forward pass, as a picture");
  add_model_options(command, options->model);
  add_size_options(command, options->size);
  command.add_option("--input-size", options->input_size, "height and width of the input")
      ->check(CLI::Range(1, 8192))
      ->type_name("PIXELS")
      ->capture_default_str();
  command.add_flag("--train", options->train, "train mode: batch statistics, dropout");
  command.add_option("--out", options->out, "a .svg, which needs Graphviz, or a .dot")
      ->required()
      ->type_name("FILE");
  command.footer(
      "Inputs are at the top. Each operation tells its output's shape and what it keeps for the backward "
      "pass.\n"
      "Needs no weights.\nExample: grapnel graph --model resnet18 --out resnet18.svg");
  command.callback([options] { draw(*options); });
}

}  // namespace grapnel::tools
