// Requests for gradients: what is asked is checked, turned into roots and targets, and given to a pass.
// Read next: pass.cpp, the traversal.
#include "grapnel/engine/backward.h"

#include <exception>
#include <thread>

#include "grapnel/engine/backend.h"
#include "grapnel/engine/function_node.h"
#include "grapnel/engine/ops.h"
#include "grapnel/engine/pass.h"
#include "grapnel/engine/thread_modes.h"

namespace grapnel {
namespace {

/// Runs a pass; every so many levels of passes inside hooks or backward functions, on a new thread, so that
/// no depth of them exhausts the stack.
void run_pass(const Tensors& outputs, Tensors starts, bool retain_graph, bool create_graph, Targets targets) {
  constexpr int kLevelsPerStack = 32;
  thread_local int depth = 0;
  const auto run = [&] {
    GradMode mode(create_graph);
    Pass(retain_graph || create_graph, std::move(targets)).run(gradient_edges(outputs), std::move(starts));
  };
  struct Level {
    Level() { ++depth; }
    ~Level() { --depth; }
  } level;
  if (depth <= kLevelsPerStack) return run();
  std::exception_ptr error;
  std::thread([&, modes = thread_modes()] {
    thread_modes() = modes;
    try {
      run();
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

/// The gradients the pass starts with. Throws before anything ran.
Tensors root_gradients(const char* operation, const Tensors& outputs, const Tensors& gradients) {
  if (!gradients.empty() && gradients.size() != outputs.size())
    throw AutogradError(std::string(operation) + ": " + std::to_string(gradients.size()) + " gradients for " +
                        std::to_string(outputs.size()) + " outputs");
  Tensors result;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& output = outputs[i];
    if (!output.requires_grad())
      throw AutogradError(std::string(operation) + ": output " + std::to_string(i) + " of shape " +
                          to_string(output.shape()) + " does not require a gradient and has no history");
    Tensor gradient = i < gradients.size() ? gradients[i] : Tensor();
    if (!gradient.defined()) {
      if (output.numel() != 1)
        throw AutogradError(std::string(operation) + ": output " + std::to_string(i) + " has shape " +
                            to_string(output.shape()) +
                            "; give its gradient, or reduce it to one element first");
      gradient = output.new_ones(output.shape());
    } else if (gradient.shape() != output.shape()) {
      throw ShapeError(std::string(operation) + ": the gradient of output " + std::to_string(i) +
                       " has shape " + to_string(gradient.shape()) + ", the output " +
                       to_string(output.shape()));
    }
    check_same_type(operation, output, gradient);
    result.push_back(std::move(gradient));
  }
  return result;
}

}  // namespace

void backward(const Tensors& outputs, const Tensors& gradients, const BackwardOptions& options) {
  Tensors starts = root_gradients("backward", outputs, gradients);
  if (options.inputs && options.inputs->empty())
    throw AutogradError("backward: the list of inputs is empty; leave it out to reach every leaf");
  const Tensors inputs = options.inputs.value_or(Tensors());
  const PoolVector<Edge> wanted = gradient_edges(inputs);
  Targets targets;
  Tensors captured(inputs.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i].node)
      throw AutogradError("backward: input " + std::to_string(i) + " does not require a gradient");
    Target& target = targets[wanted[i].node.get()];
    if (inputs[i].is_leaf())
      target.runs = true;
    else
      target.captures.push_back({wanted[i].output, &captured[i]});
  }
  run_pass(outputs, std::move(starts), options.retain_graph, options.create_graph, std::move(targets));
  for (std::size_t i = 0; i < captured.size(); ++i) {
    const Tensor& input = inputs[i];
    if (captured[i].defined() && !input.retains_grad())
      input.set_grad(input.grad().defined() ? input.grad() + captured[i] : captured[i]);
  }
}

Tensors grad(const Tensors& outputs, const Tensors& inputs, const Tensors& gradients,
             const GradOptions& options) {
  if (inputs.empty()) throw AutogradError("grad: no inputs given");
  Tensors starts = root_gradients("grad", outputs, gradients);
  const PoolVector<Edge> wanted = gradient_edges(inputs);
  Targets targets;
  Tensors result(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (wanted[i].node)
      targets[wanted[i].node.get()].captures.push_back({wanted[i].output, &result[i]});
    else if (!options.allow_unused)
      throw AutogradError("grad: input " + std::to_string(i) + " of shape " + to_string(inputs[i].shape()) +
                          " does not require a gradient");
  }
  run_pass(outputs, std::move(starts), options.retain_graph, options.create_graph, std::move(targets));
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!result[i].defined() && !options.allow_unused)
      throw AutogradError("grad: the outputs do not depend on input " + std::to_string(i) + " of shape " +
                          to_string(inputs[i].shape()) + "; pass allow_unused to get an unset tensor for it");
  return result;
}

}  // namespace grapnel
