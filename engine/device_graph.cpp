#include "grapnel/engine/device_graph.h"

#include "grapnel/engine/backend.h"
#include "grapnel/engine/device_memory.h"
#include "grapnel/engine/recipe.h"
#include "grapnel/engine/thread_modes.h"

namespace grapnel {
namespace {

/// Says that nothing is computed, to the end of a scope.
class Capturing {
 public:
  Capturing() { thread_modes().capturing = true; }
  ~Capturing() { thread_modes().capturing = false; }
  Capturing(const Capturing&) = delete;
  Capturing& operator=(const Capturing&) = delete;
};

}  // namespace

DeviceGraph::DeviceGraph(Device device, const std::function<Tensor()>& work) : device_(device) {
  on_device("graph", [&] {
    const kernels::Accelerator& accelerator = use(device);
    run_all_waiting();  // under a Fusion: none of it is the graph's
    graph_.reset(accelerator.make_graph(device.index));
    accelerator.begin_graph(graph_.get(), kernels::GraphPhase::rehearsal);
    work().raw_data();
    accelerator.end_graph(graph_.get());
    const Capturing capturing;
    accelerator.begin_graph(graph_.get(), kernels::GraphPhase::capture);
    result_ = work();
    result_.raw_data();
    accelerator.end_graph(graph_.get());
  });
}

void DeviceGraph::replay() const {
  on_device("graph", [&] { use(device_).replay_graph(graph_.get()); });
}

void DeviceGraph::Free::operator()(kernels::Graph* graph) const noexcept {
  kernels::cuda_accelerator()->free_graph(graph);
}

}  // namespace grapnel
